"""The answers of claims, items, commands and messages, as parties and staff read them."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from services.intake.kernel.judged import ListingContent, PictureComparison, RightDetails
from shared.events import Lane, RightType, Triage
from shared.paging import Page


class ClaimOut(Struct, kw_only=True):
    """A claim, with the number of items in each state."""

    id: str
    complainant: str
    principal: str
    right: str
    right_type: RightType
    reason: str
    profile: str
    lane: Lane
    size: int
    accepted_at: dt.datetime
    states: dict[str, int]
    via: str | None = None
    """The upstream's account that filed it for the complainant."""


class ItemOut(Struct, kw_only=True):
    """An item. ``revision`` 0: accepted, not yet taken up by verification."""

    id: str
    claim: str
    listing: str
    on_site: bool
    link: str
    complainant: str
    principal: str
    seller: str | None
    right: str
    right_type: RightType
    reason: str
    lane: Lane
    state: str
    revision: int
    accepted_at: dt.datetime
    changed_at: dt.datetime
    held: bool = False
    upheld: bool = False
    settled: bool = False
    code: str | None = None
    cure: str | None = None
    """For a refused item: how to cure it, in the reader's language."""
    missing: list[str] = []
    original: str | None = None
    recurs: str | None = None
    """The upheld item whose listing has come back as this one."""
    noticed_at: dt.datetime | None = None
    due: dt.datetime | None = None
    sla_due: dt.datetime | None = None
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    counter_round: int = 0
    triage: Triage | None = None
    """For reviewers and operators only: what the triage rules found."""
    why_person: list[str] = []
    """Why a person decides it and no rule did at once, in the reader's language; for the holder's side and staff."""
    right_details: RightDetails | None = None
    listing_content: ListingContent | None = None
    """Only in the answer about one item; in lists it is null."""
    pictures: PictureComparison | None = None
    """For the holder's side and staff, in the answer about one item: the right's pictures in those of the listing. Null:
    the right has none, or this installation compares none."""


class ChangeOut(Struct, kw_only=True):
    """One change of one item."""

    item: str
    listing: str
    revision: int
    type: str
    state: str
    by: str
    code: str | None
    at: dt.datetime


class TextOut(Struct, kw_only=True):
    """What a party said in its own words, as far as the life cycle has released it to the caller."""

    id: str
    """Of the claim or item that it explains, or of the first of the commands that it came with."""
    kind: Literal["explanation", "counter", "response", "complaint"]
    part: Literal["holder", "seller"]
    """Whose words they are."""
    at: dt.datetime
    items: list[str]
    """Items that it is about; empty: the whole claim."""
    text: str | None
    """As it was written: show it as plain text. Null: its author was erased, or has removed its data."""


class CommandOut(Struct, kw_only=True):
    """A command and what became of it; ``detail`` says why it was refused and how to cure it."""

    id: str
    claim: str
    item: str
    kind: str
    role: str
    accepted_at: dt.datetime
    status: Literal["accepted", "applied", "refused"]
    code: str | None
    detail: str | None
    via: str | None = None
    """The upstream's account that filed it for the party."""


class ContactOut(Struct, kw_only=True):
    """Contact data of a counterpart, released by the life cycle (rows 7 and 12)."""

    account: str
    part: Literal["complainant", "principal", "seller"]
    name: str
    address: str
    email: str


class MessageOut(Struct, kw_only=True):
    """A message as sent: template, version and digest instead of its text."""

    id: str
    claim: str | None
    """Null: it is about the account itself."""
    about: str | None
    """The right, authorisation or document that a message without a claim is about."""
    kind: str
    items: list[str]
    channel: str
    template: str
    version: int
    digest: str
    sent_at: dt.datetime
    read_at: dt.datetime | None
    """When the party said that it had read the message."""
    contacts: list[ContactOut]


class Inbox(Page[MessageOut], frozen=True, kw_only=True):
    """A page of messages. ``unread``: unread messages in the whole inbox, counted up to 1,000."""

    unread: int


class MessageRead(Struct, kw_only=True):
    """The receipt of a message. ``read_at`` is when it was first read."""

    message: str
    read_at: dt.datetime


class ClaimFacts(Struct, kw_only=True):
    """Internal: what a message says about a claim."""

    claim: str
    complainant: str
    principal: str
    right: str
    right_type: RightType
    right_number: str | None
    reason: str
    profile: str
    size: int
    accepted_at: dt.datetime


class ClaimsFacts(Struct, kw_only=True):
    """Internal: facts about claims. Unknown claims are missing."""

    claims: dict[str, ClaimFacts]
