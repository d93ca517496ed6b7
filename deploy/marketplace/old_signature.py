"""The form of signature before Standard Webhooks: accepted for one release, then to be deleted (docs/decisions/0067).

``Goodfaith-Signature`` is ``v2=`` and the hex HMAC-SHA256 of ``<timestamp>.POST.<path>.<body>`` under the shared
secret. ``Goodfaith-Timestamp`` is in Unix seconds, ``Idempotency-Key`` the command's id.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shared.marketplace import BadSignature

IDEMPOTENCY_KEY: Final = "idempotency-key"
TIMESTAMP: Final = "goodfaith-timestamp"
SIGNATURE: Final = "goodfaith-signature"
TOLERANCE_S: Final = 300


class _Named(msgspec.Struct):
    command: Any = None


def sign(secret: str, timestamp: int, path: str, body: bytes) -> str:
    """The signature of a POST."""
    signed = f"{timestamp}.POST.{path}.".encode() + body
    return "v2=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def check(secret: str, headers: Mapping[str, str], path: str, body: bytes, now: float) -> None:
    """Check the signature of a POST to ``path``, and that it names the command; ``now`` in Unix seconds.

    Raises:
        BadSignature: missing, wrong, out of tolerance or for another command.
    """
    timestamp, signature = headers.get(TIMESTAMP), headers.get(SIGNATURE)
    if timestamp is None or signature is None:
        raise BadSignature("not signed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("the timestamp is not a number of Unix seconds")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature(f"the timestamp is more than {TOLERANCE_S} seconds off")
    # bytes, because compare_digest raises an error for non-ASCII text
    if not hmac.compare_digest(sign(secret, int(timestamp), path, body).encode(), signature.encode()):
        raise BadSignature("the signature does not match path and body")
    try:
        named = msgspec.json.decode(body, type=_Named)
    except msgspec.DecodeError:
        return
    if named.command != headers.get(IDEMPOTENCY_KEY):
        raise BadSignature(f"{IDEMPOTENCY_KEY} is not the command's id")
