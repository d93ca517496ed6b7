"""When a webhook delivery is retried, and what an answer means. Pure."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from msgspec import Struct

_S = dt.timedelta(seconds=1)
PAUSES: Final = (
    5 * _S,
    300 * _S,
    1_800 * _S,
    7_200 * _S,
    18_000 * _S,
    36_000 * _S,
    50_400 * _S,
    72_000 * _S,
    86_400 * _S,
)
"""Pauses after the first try, the second, and so on: the example schedule of the Standard Webhooks specification."""
LONGEST_WAIT: Final = dt.timedelta(days=1)
"""A longer ``Retry-After`` is cut to this."""

CallOutcome = Literal["delivered", "failed", "unknown", "wait", "gone"]
"""``unknown``: it may have been accepted. ``wait``: the webhook asks to retry later. ``gone``: 410, never retried."""


class Answer(Struct, frozen=True):
    """The result of a call.

    Attributes:
        status: HTTP status; None: no answer.
        error: why there was no answer, in a word of ours.
        wait: the wait that ``Retry-After`` asks for.
        ms: how long the call took.
    """

    status: int | None = None
    error: str | None = None
    sent: bool = True
    """Whether it may have been accepted although there is no status."""
    wait: dt.timedelta | None = None
    ms: int = 0

    @property
    def outcome(self) -> CallOutcome:
        """How to treat the delivery."""
        if self.status is None:
            return "unknown" if self.sent else "failed"
        if 200 <= self.status < 300:
            return "delivered"
        if self.status == 410:
            return "gone"
        return "wait" if self.wait is not None or self.status == 429 else "failed"

    @property
    def reason(self) -> str:
        """The status, or else the error."""
        return str(self.status) if self.status is not None else self.error or "failed"


def wait_of(header: str | None, now: dt.datetime) -> dt.timedelta | None:
    """The wait that ``Retry-After`` asks for, between a second and a day; None if there is none or it is malformed."""
    text = (header or "").strip()
    if not text or len(text) > 40 or not text.isascii():
        return None
    if text.isdigit():
        wait = dt.timedelta(seconds=min(int(text), LONGEST_WAIT.total_seconds()))
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        wait = (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)) - now
    return min(max(wait, _S), LONGEST_WAIT)


def next_try(
    tries: int,
    began: dt.datetime,
    now: dt.datetime,
    lasts: dt.timedelta,
    chance: float,
    wait: dt.timedelta | None = None,
) -> dt.datetime | None:
    """When to try again after ``tries`` tries, the first of them at ``began``; None: never.

    ``chance`` (0 to 1) varies the pause by up to 10 % either way. The last try is due at ``began + lasts``; the
    circuit delays it if the webhook asked to wait longer.
    """
    end = began + lasts
    if now >= end:
        return None
    pause = PAUSES[min(max(tries, 1), len(PAUSES)) - 1] * (0.9 + 0.2 * chance)
    return min(now + max(pause, wait or pause), end)
