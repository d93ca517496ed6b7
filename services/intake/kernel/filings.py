"""A request as the group commit takes it, what it adds to the tables, and its result."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from services.intake.kernel import requests
from services.intake.kernel.domain import Account
from services.intake.kernel.listings import ListingRef
from shared import events, policy
from shared.events import BrakeReason, Lane, RightType

if TYPE_CHECKING:
    from services.intake.evidence.domain import Document
    from services.intake.review.domain import AcceptedDecision


TextKind = Literal["explanation", "counter", "response", "complaint"]
"""What a party's text belongs to."""


@dataclass(slots=True)
class Filing:
    """One request, its form already checked.

    Attributes:
        key: idempotency key, if the client gave one.
        scope: account that the key belongs to (an upstream's, when it files for another).
        digest: SHA-256 of kind, target and body.
        item, claim: what a command is about; one of the two.
        listing: limits a command to the claim's item of this listing.
        sellers: whose shops a claim names.
        over_quota: the account has filed more than its quota in 24 hours.
        accepted_at: time of right, if not by intake's own clock (an upstream's record).
        recurs: upheld item that the claim's listing is a near copy of (row 20).
        trace: the request's trace context, if it is traced.
        explained: what the claim says about single listings, by listing.
    """

    account: Account
    key: str | None
    scope: str
    digest: bytes
    kind: str
    body: requests.In
    channel: str
    listings: Sequence[ListingRef] = ()
    sellers: tuple[str, ...] = ()
    rules: policy.Policy | None = None
    item: str | None = None
    claim: str | None = None
    listing: str | None = None
    over_quota: bool = False
    accepted_at: dt.datetime | None = None
    recurs: str | None = None
    trace: str | None = None
    explained: Mapping[str, str] | None = None

    @property
    def via(self) -> str | None:
        """The upstream's account that filed it for another."""
        return None if self.scope == self.account.id else self.scope


class ClaimRow(NamedTuple):
    """A row of ``claims``, in the order in which ``filing/store.py`` writes its columns."""

    id: str
    complainant: str
    principal: str
    right_id: str
    right_type: RightType
    reason: str
    profile: str
    lane: Lane
    size: int
    channel: str
    accepted_at: dt.datetime
    terms: str


class ItemRow(NamedTuple):
    """An item of an accepted claim: what ``items`` and the admission queue hold of it."""

    id: str
    claim: str
    listing: str
    on_site: bool
    link: str
    lane: Lane
    complainant: str
    accepted_at: dt.datetime


class TextRow(NamedTuple):
    """A row of ``texts``: what a party said, sealed under its key. In the order of its columns."""

    id: str
    claim: str
    account: str
    kind: TextKind
    sealed: bytes


@dataclass(slots=True)
class Rows:
    """What one accepted request adds to the tables. ``filing/store.py`` turns these into columns.

    Attributes:
        resource: id of what was made, by which a request without an idempotency key is stored.
        commands, command_kind: of a command: one for each item that it is about, and its name.
        decisions: of a reviewer's decision: what is kept of it.
        documents: evidence that the request names, to tie to the claim.
        held: the items wait for the end of a suspension before they enter the admission queue.
        brake: why only a person decides the claim's items.
        texts: what the party says in its own words. That of commands is found by the first one's id.
    """

    resource: str
    answer: dict[str, Any]
    claim: ClaimRow | None = None
    items: list[ItemRow] = field(default_factory=list)
    commands: list[events.Command] = field(default_factory=list)
    command_kind: str = ""
    decisions: list[AcceptedDecision] = field(default_factory=list)
    documents: Sequence[Document] = ()
    held: bool = False
    brake: BrakeReason | None = None
    texts: Sequence[TextRow] = ()


@dataclass(slots=True)
class Filed:
    """An accepted request: the answer as JSON, and whether it repeats an earlier one."""

    answer: bytes
    replayed: bool = False
    rows: Rows | None = None


def digest(kind: str, target: str, body: bytes) -> bytes:
    """Digest of the request's kind, target and body, which a reused idempotency key is compared by."""
    return hashlib.sha256(f"{kind}\n{target}\n".encode() + body).digest()
