"""What notification tells the door of messages and what became of them: structures only."""

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
    """A message to one party, and its way. Times are business time, but ``queued_at``, which is the wall's."""

    message: str
    kind: str
    claim: str | None = None
    state: str
    """queued, sending, sent, delivered, failed."""
    channel: str | None = None
    """The last by which it was sent."""
    failed_channels: tuple[str, ...] = ()
    queued_at: dt.datetime
    sent_at: dt.datetime | None = None
    delivered_at: dt.datetime | None = None
    read_at: dt.datetime | None = None
    window_began_at: dt.datetime | None = None
    window_begun_by: str | None = None
    attempts: int = 0
    repeats: int = 0
    """Sent again because nobody knew whether the mail server had accepted it."""
    digest: str | None = None
    """SHA-256 of the message as sent last (of mail: before it was signed), hex."""
    steps: tuple[Step, ...] = ()
