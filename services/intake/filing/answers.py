"""The answers to accepted claims and commands."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from shared.events import BrakeReason, Lane


class ItemAccepted(Struct, kw_only=True):
    """An item of an accepted claim."""

    item: str
    listing: str


class ClaimAccepted(Struct, kw_only=True):
    """An accepted claim. It can be read from now on."""

    claim: str
    accepted_at: dt.datetime
    lane: Lane
    items: list[ItemAccepted]
    held_until: dt.date | None = None
    """Only while the processing of the account's claims is suspended: the day (UTC) on which this claim's begins."""
    brake: BrakeReason | None = None
    """Only if a person decides all of its items, because of what the account filed: see `GET /v1/brake`."""


class CommandAccepted(Struct, kw_only=True):
    """A command and the item that it is about."""

    command: str
    item: str


class CommandsAccepted(Struct, kw_only=True):
    """Accepted commands. ``/v1/commands/{id}`` says whether each was applied or refused."""

    claim: str
    accepted_at: dt.datetime
    commands: list[CommandAccepted]
    proposed: list[str] = []
    """Items whose decision needs a second person's look first."""


class BrakeOut(Struct, kw_only=True):
    """How much of what an account files rules may decide, by what it used to file. Days are business days, UTC.

    ``state``: ``probation``, too few of its items are settled: beyond a few items a day a person decides; ``rate``, it
    filed much more than it used to: a person decides everything until the brake ends.
    """

    state: Literal["none", "probation", "rate"]
    why: str | None
    """In the reader's language."""
    since: dt.datetime | None
    """When a brake for the rate was put on."""
    until: dt.date | None
    """First day on which it does not stand."""
    ends: str | None
    """What ends it, in the reader's language."""
    decided_by_rules_today: int
    """Items filed today that rules may decide."""
    held_back_today: int
    """Items filed today that only a person decides."""
    most_today: int
    """Items a day that rules may decide."""
    best_day: int
    """Most items on an earlier day that counts, without those that were held back."""
    settled: int
    """Items that were settled, as last judged."""
    complaint: Literal["none", "open", "confirmed", "released"]
    released_until: dt.date | None
    """A person has released the account up to this day, not included."""


class BrakeComplaint(Struct, kw_only=True):
    """An undecided complaint about what holds an account's claims back."""

    account: str
    since: dt.datetime
    complained_at: dt.datetime
