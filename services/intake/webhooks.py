"""Webhooks of an account: secrets, and what of them signs when. Pure."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct

SECRET_BYTES: Final = 32
"""Within the 24 to 64 bytes of the Standard Webhooks specification."""
SECRETS_MOST: Final = 3
"""Secrets that sign at one time: who rotates twice in a hurry is not locked out by it."""


class Secret(Struct, frozen=True):
    """A secret, and until when it signs (wall time); None: until another follows it."""

    secret: str
    until: dt.datetime | None = None


class Sealed(Struct, frozen=True):
    """What is encrypted of a webhook."""

    url: str
    secrets: tuple[Secret, ...]
    """The newest first."""


def new_secret(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A secret as the specification spells it: ``whsec_`` and base64."""
    return "whsec_" + base64.b64encode(random(SECRET_BYTES)).decode()


def signing(sealed: Sealed, now: dt.datetime) -> tuple[str, ...]:
    """The secrets that sign at a moment (wall time), the newest first."""
    return tuple(one.secret for one in sealed.secrets if one.until is None or one.until > now)


def rotated(sealed: Sealed, secret: str, now: dt.datetime, beside: dt.timedelta) -> Sealed:
    """The webhook with a new secret; the one before signs ``beside`` it for a time, others to their own end."""
    kept = [
        Secret(one.secret, now + beside if one.until is None else one.until)
        for one in sealed.secrets
        if one.until is None or one.until > now
    ]
    return Sealed(sealed.url, (Secret(secret), *kept[: SECRETS_MOST - 1]))
