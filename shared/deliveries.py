"""What notification's internal API tells intake about messages and their delivery: structures only."""

from __future__ import annotations

import datetime as dt

from msgspec import Struct


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a channel did with a message.

    ``state`` is one of sent, relayed, delayed, delivered, bounced, refused, gave_up, failed.
    """

    channel: str
    state: str
    reason: str | None = None
    """Enhanced mail status (``5.1.1``), HTTP status, or a word."""
    at: dt.datetime


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message to one party, and how it was delivered. Times are business time, except ``queued_at`` (wall time)."""

    message: str
    kind: str
    claim: str | None = None
    state: str
    """queued, sending, sent, delivered, failed."""
    channel: str | None = None
    """The last channel it was sent by."""
    failed_channels: tuple[str, ...] = ()
    queued_at: dt.datetime
    sent_at: dt.datetime | None = None
    delivered_at: dt.datetime | None = None
    read_at: dt.datetime | None = None
    window_began_at: dt.datetime | None = None
    window_begun_by: str | None = None
    attempts: int = 0
    repeats: int = 0
    """Times it was sent again because nobody knew whether the mail server had accepted it."""
    digest: str | None = None
    """SHA-256 of the message as last sent (for mail: before it was signed), hex."""
    steps: tuple[Step, ...] = ()
