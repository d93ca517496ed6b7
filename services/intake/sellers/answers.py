"""The answers about sellers and sanctions."""

from __future__ import annotations

import datetime as dt

from msgspec import Struct

from shared.standing import Sanction


class Lifted(Struct, kw_only=True):
    """An operator's request to lift a sanction."""

    by: str
    reason: str
    note: str | None
    at: dt.datetime


class SellerSanction(Struct, kw_only=True):
    """A sanction as staff sees it."""

    sanction: Sanction
    lift: Lifted | None = None


class LiftAccepted(Struct, kw_only=True):
    """The request is durable. Enforcement lifts the sanction when it receives it; the `state` then says so."""

    command: str
    sanction: str
    accepted_at: dt.datetime


class OwnSanction(Struct, kw_only=True):
    """A sanction as the seller sees it."""

    sanction: Sanction
    why: str
    """In the reader's language."""
    undone: list[str]
    """How it ends or is undone, in the reader's language."""
