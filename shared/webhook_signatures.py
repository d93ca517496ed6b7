"""Signed requests, as the Standard Webhooks specification defines them: webhooks, and commands to the marketplace.

A signature covers the message's id, the time of the call and the body. A receiver refuses a request whose time is more
than five minutes off, and recognises a repeated one by its id.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"


class BadSignature(ValueError):
    """Not signed with the shared secret, or more than five minutes off."""


def signed_headers(id: str, body: bytes, secrets: Sequence[str | bytes], at: dt.datetime) -> dict[str, str]:
    """Headers of a request made ``at`` (wall time, UTC), signed with each secret.

    Args:
        secrets: as text (``whsec_`` and base64) or as the key's bytes.

    Raises:
        ValueError: a secret is malformed, or the body is not UTF-8.
    """
    text = body.decode()
    return {
        ID: id,
        TIMESTAMP: str(int(at.timestamp())),
        SIGNATURE: " ".join(Webhook(secret).sign(id, at, text) for secret in secrets),
    }


def check(secret: str | bytes, headers: Mapping[str, str], body: bytes) -> str:
    """Check a request's signature; returns its id.

    Raises:
        BadSignature: missing, wrong or out of tolerance.
    """
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        # malformed headers or bodies make the library raise a ValueError
        raise BadSignature(str(error) if isinstance(error, WebhookVerificationError) else "malformed") from error
    return next(value for name, value in headers.items() if name.lower() == ID)
