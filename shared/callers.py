"""Which services may call an internal API. Each caller has its own credential, and each API knows whom it answers.

An API knows only digests (``internal_callers``), so it cannot impersonate its callers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import SecretStr

Api = Literal["intake", "verification", "enforcement", "notification", "streams", "marketplace"]
Caller = Literal[
    "intake-api", "intake-pictures", "notification-sender", "notification-webhooks", "streams", "status", "operator"
]
CALLERS: Final[tuple[Caller, ...]] = get_args(Caller)
ANSWERS: Final[dict[Api, frozenset[Caller]]] = {
    "intake": frozenset({"notification-sender", "notification-webhooks", "operator"}),
    "verification": frozenset({"intake-api", "intake-pictures", "operator"}),
    "enforcement": frozenset({"intake-api", "operator"}),
    "notification": frozenset({"intake-api", "operator"}),
    "streams": frozenset({"streams", "status", "operator"}),
    "marketplace": frozenset({"operator"}),
}
"""The callers that each API answers. ``operator`` is the command line."""

AT_A_TIME: Final = 4
"""Most tokens of one caller that are valid at the same time."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SUCH_AS: Final = f'must be a JSON object such as {{"intake-api": "<SHA-256 of its internal_token, in hex>"}}; callers: {", ".join(CALLERS)}'


def digest(token: str) -> str:
    """What an API keeps of a caller's token: its SHA-256, hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read(text: str) -> dict[Caller, tuple[str, ...]]:
    """Read a setting: digests by caller.

    Raises:
        ValueError: it does not have the form that ``written`` gives it.
    """
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ValueError(_SUCH_AS)
    found: dict[Caller, tuple[str, ...]] = {}
    for name, value in given.items():
        digests = tuple(value) if isinstance(value, list) else (value,)
        whole = all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in digests)
        if name not in CALLERS or not whole or not 1 <= len(digests) <= AT_A_TIME:
            raise ValueError(_SUCH_AS)
        found[name] = digests
    return found


def written(tokens: Mapping[Caller, str]) -> str:
    """The setting that makes these tokens known to an API."""
    return json.dumps({caller: digest(token) for caller, token in tokens.items()})


class Callers:
    """The callers that an API answers.

    Raises:
        ValueError: ``internal_callers`` is not set.
    """

    def __init__(self, setting: SecretStr | None, api: Api) -> None:
        if setting is None:
            raise ValueError("GOODFAITH_INTERNAL_CALLERS is needed")
        known = read(setting.get_secret_value())
        self._digests = [(name, one) for name, digests in known.items() if name in ANSWERS[api] for one in digests]

    def who(self, authorization: str | None) -> Caller | None:
        """The caller whose bearer token this is; None if this API does not answer it."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer" or not token:
            return None
        given = digest(token)
        found: Caller | None = None
        for name, one in self._digests:
            if hmac.compare_digest(given, one):
                found = name
        return found


def trust(url: str, authorities: Path | None) -> ssl.SSLContext | bool:
    """Which authorities a client of this URL trusts: the given ones (``internal_ca``), else the system's."""
    if url.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; saves reading the system's authorities
    return True if authorities is None else ssl.create_default_context(cafile=authorities)
