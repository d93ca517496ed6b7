"""The answers to accepted claims and commands."""

from __future__ import annotations

import datetime as dt

from msgspec import Struct

from shared.events import Lane


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
