"""Webhooks of an account: which secrets sign when, and the code with which the owner confirms a webhook. Pure."""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from services.intake.accounts import domain as accounts
from shared.languages import mark
from shared.refusals import Refused

SECRET_BYTES: Final = 32
"""Within the 24 to 64 bytes of the Standard Webhooks specification."""
SECRETS_MOST: Final = 3
"""Secrets that sign at a time, so that two quick rotations do not lock the owner out."""
PAUSES: Final = (dt.timedelta(minutes=5), dt.timedelta(minutes=30))
"""Pauses after the first and second call with a code; the third is the last. Longer than any call takes."""
CODE_TRIES: Final = 5
"""Wrong codes after which a new one must be requested."""
ASK_PAUSE: Final = dt.timedelta(seconds=60)
"""Pause between two codes for a webhook."""
DAY: Final = dt.timedelta(days=1)
HOUR: Final = dt.timedelta(hours=1)
KEPT: Final = dt.timedelta(days=7)
"""How long an unconfirmed webhook is kept after its code has expired."""


class Secret(Struct, frozen=True):
    """A secret, and until when it signs (wall time); None: until it is replaced."""

    secret: str
    until: dt.datetime | None = None


class Sealed(Struct, frozen=True):
    """The encrypted part of a webhook."""

    url: str
    secrets: tuple[Secret, ...]
    """Newest first."""
    code: str | None = None
    """Sent to the URL for its owner to confirm."""


def new_secret(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Make a secret in the specification's format: ``whsec_`` and base64."""
    return "whsec_" + base64.b64encode(random(SECRET_BYTES)).decode()


def signing(sealed: Sealed, now: dt.datetime) -> tuple[str, ...]:
    """The secrets that sign at ``now`` (wall time), newest first."""
    return tuple(one.secret for one in sealed.secrets if one.until is None or one.until > now)


def rotated(sealed: Sealed, secret: str, now: dt.datetime, overlap: dt.timedelta) -> Sealed:
    """The webhook with a new secret. The former one signs for ``overlap`` longer, older ones until their own end."""
    kept = [
        Secret(one.secret, now + overlap if one.until is None else one.until)
        for one in sealed.secrets
        if one.until is None or one.until > now
    ]
    return msgspec.structs.replace(sealed, secrets=(Secret(secret), *kept[: SECRETS_MOST - 1]))


# ----------------------------------------------------------------------------------------------------- who owns the URL


@dataclass(frozen=True, slots=True)
class CodeRequests:
    """Codes requested so far. Times are wall times.

    Attributes:
        account: by the account in the last 24 hours.
        account_first: the first of these.
        host: by anyone for this host in the last hour.
        host_first: the first of these.
    """

    account: int = 0
    account_first: dt.datetime | None = None
    host: int = 0
    host_first: dt.datetime | None = None


def host_mark(key: str, host: str) -> bytes:
    """Digest by which codes for a host are counted. Without the key it does not reveal the host."""
    return hmac.digest(key.encode(), f"webhook host {host.lower()}".encode(), "sha256")


def check_asking(asked: CodeRequests, now: dt.datetime, a_day: int, host_an_hour: int) -> None:
    """Check that another code may be sent.

    Args:
        host_an_hour: 0: no limit.

    Raises:
        Refused: 429; the account, or all accounts together for this host, reached the limit.
    """
    if asked.account >= a_day:
        raise Refused(
            429,
            "challenges_used",
            f"An account has at most {a_day} codes sent to webhooks in 24 hours.",
            field="url",
            cure="Send the request again after the seconds in Retry-After.",
            retry_after=_until((asked.account_first or now) + DAY, now),
        )
    if host_an_hour and asked.host >= host_an_hour:
        raise Refused(
            429,
            "host_challenges_used",
            "Too many codes were sent to this host in the last hour.",
            field="url",
            cure="Send the request again after the seconds in Retry-After.",
            retry_after=_until((asked.host_first or now) + HOUR, now),
        )


def check_again(asked_at: dt.datetime, now: dt.datetime) -> None:
    """Check that another code for the same webhook may already be requested.

    Raises:
        Refused: 429, too soon.
    """
    if now < asked_at + ASK_PAUSE:
        raise Refused(
            429,
            "challenge_too_soon",
            f"A code was requested less than {int(ASK_PAUSE.total_seconds())} s ago.",
            cure="Wait for the message.",
            retry_after=_until(asked_at + ASK_PAUSE, now),
        )


def _until(then: dt.datetime, now: dt.datetime) -> int:
    return max(math.ceil((then - now).total_seconds()), 1)


def confirmed_already() -> Refused:
    """There is nothing to confirm."""
    return Refused(422, "confirmed_already", "The webhook is confirmed.", cure="Nothing to do.")


def check_code(
    id: str, known: str | None, code: str, expires: dt.datetime, tries: int, now: dt.datetime
) -> Refused | None:
    """Return why a code does not confirm a webhook; None if it does.

    The caller counts the try even when the code is refused.

    Args:
        known: the code sent to the URL.
        tries: wrong codes given before.
    """
    return accounts.code_refused(
        None if known is None else accounts.code_digest(id, known),
        accounts.code_digest(id, code),
        expires,
        tries,
        now,
        CODE_TRIES,
        again=mark("Have a new code sent: POST /v1/webhooks/{webhook_id}/challenge."),
        wrong=mark("Copy it from the last message to the URL."),
    )
