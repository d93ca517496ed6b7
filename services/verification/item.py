"""The state of a claim item, the facts it is judged on, and the outcome of a judgement. Data only.

Times are business time, as timezone-aware UTC datetimes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from shared.events import ENDED as ENDED
from shared.events import SETTLED as SETTLED
from shared.events import UPHELD as UPHELD
from shared.events import (
    Audit,
    BrakeReason,
    CommandRefused,
    Id,
    ItemChanged,
    Lane,
    Listing,
    Moment,
    Record,
    RightType,
    Role,
    State,
    Triage,
)

TimerKind = Literal[
    "sla",  # row 5: the 24 hours
    "lookup",  # ask again for an unknown listing
    "lookup_give_up",
    "needs_info",  # row 4
    "window",  # row 9
    "counter_check",  # row 12
    "holder_response",  # row 15
    "restore_by",  # row 15
    "platform_review",  # row 17: escalate
    "platform_grace",  # row 17: then decide
    "reminder",  # row 16
    "appeal_review",  # row 19: escalate
    "suspended",  # row 22
]
Notice = Literal["seller_notice", "counter_forwarded", "counter_defect", "info_request"]

INTERNAL: Final = frozenset({"lookup", "lookup_give_up"})
"""Timers that are nobody's deadline: not published as ``due``."""

OPEN: Final = frozenset(State) - SETTLED


class Timer(Struct, frozen=True, array_like=True):
    """A deadline of an item."""

    kind: TimerKind
    due: dt.datetime


class Frame(Struct, frozen=True, omit_defaults=True):
    """A state to which the item may return, as it was left."""

    state: State
    visit: int
    until: int
    """Last revision of that visit."""
    awaits: tuple[Notice, ...] = ()
    timers: tuple[Timer, ...] = ()
    held: bool = False
    upheld: bool = False
    counter_due: dt.datetime | None = None
    stopped_at: dt.datetime | None = None
    """When its timers were stopped; None: they run on."""
    code: Id | None = None
    missing: tuple[Id, ...] = ()
    entered: int = 0


class Lapse(Struct, frozen=True, omit_defaults=True):
    """The state that a timer ended. A command accepted by ``due`` is judged on it, however late it is read."""

    due: dt.datetime
    frame: Frame
    stack: tuple[Frame, ...] = ()
    counter_round: int = 0
    refiles: int = 0


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The complete state of an item. The first group of fields is what was filed and never changes."""

    item: Id
    claim: Id
    claim_size: int
    listing: Id
    on_site: bool = True
    complainant: Id
    principal: Id
    right: Id
    right_type: RightType
    right_registered: bool = True
    reason: Id
    severity: Literal["general", "serious"] = "general"
    profile: Id
    policy: Id
    lane: Lane = "standard"
    good_faith: bool = False
    received_at: dt.datetime

    # proof on file (rows 4, 5) and the listing as first known (row 1)
    identity_verified: bool = False
    authority: Literal["owner", "authorised", "missing"] = "missing"
    right_status: str = "active"
    materials: tuple[Id, ...] = ()
    seller: Id | None = None
    title_digest: str | None = None
    content: str | None = None
    """Digest of what the listing showed then (``shared.content``); the content itself is the listing's."""
    abroad: bool = False
    mark: str | None = None
    record: Record | None = None
    recurs: Id | None = None
    """The upheld item whose listing has returned (row 20)."""
    canary: bool = False
    """Filed by a canary: no figure counts it, and nothing recurs from it."""
    brake: BrakeReason | None = None
    """Why only a person decides, by what its complainant filed."""
    sellers: tuple[Id, ...] = ()
    """Sellers whose shops the claim names."""

    state: State = State.RECEIVED
    revision: int = 0
    visit: int = 0
    """Revision at which the present state was entered."""
    entered: int = 0
    """Like ``visit``, but after a return to a state the revision of the return, while ``visit`` keeps its value."""
    timers: tuple[Timer, ...] = ()
    """Running deadlines, earliest first."""
    awaits: tuple[Notice, ...] = ()
    """Notices that begin a window of the present state once they are sent."""
    stack: tuple[Frame, ...] = ()
    """States to return to, innermost last."""
    lapse: Lapse | None = None

    code: Id | None = None
    missing: tuple[Id, ...] = ()
    original: Id | None = None
    held: bool = False
    upheld: bool = False
    taken_down: bool = False
    """At some time it took its listing down."""
    noticed_at: dt.datetime | None = None
    notice_seen: dt.datetime | None = None
    """When the seller was notified, until the next published change copies it to ``noticed_at``."""
    unreached: bool = False
    """The seller's notice lies in an inbox that nobody owns."""
    counter_round: int = 0
    counter_due: dt.datetime | None = None
    """Latest time at which a counter is in time; None: its window has not begun."""
    counter_at: dt.datetime | None = None
    """When the latest counter was accepted."""
    late_counters: int = 0
    refiles: int = 0
    """Windows extended after a defective counter, since the last complete counter."""
    flagged: bool = False
    """The look-up of the listing was given up: only a person may uphold the item."""
    right_ended: bool = False
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    sla_due: dt.datetime
    paused_at: dt.datetime | None = None
    """When the 24-hour clock was paused."""

    picture_match: float | None = None
    """How surely the right's pictures are in those on which it is judged; None: not known."""
    triage: Triage | None = None
    """Result of triage when the item last came to review."""
    audit: Audit | None = None
    """The audit under way, or the one that a person has ended."""
    decided_at: dt.datetime | None = None
    """When the present or last settled state was entered: the time to complain runs from here."""
    appealed: tuple[Literal["holder", "seller", "platform"], ...] = ()
    """Sides that have complained about that decision."""
    appeals: int = 0
    """Complaints over its whole life."""
    deciders: tuple[Id, ...] = ()
    """Reviewers who have decided on it."""

    @property
    def next_due(self) -> dt.datetime | None:
        """The earliest deadline: when ``fire`` has something to do."""
        return self.timers[0].due if self.timers else None

    @property
    def due(self) -> dt.datetime | None:
        """The earliest deadline of a party or of the operator, as published."""
        for timer in self.timers:
            if timer.kind not in INTERNAL:
                return timer.due
        return None

    @property
    def settled(self) -> bool:
        """Whether no timer will change it by itself.

        Where no window runs, that includes a takedown of which the seller was notified.
        """
        return self.state in SETTLED or (self.state is State.NOTIFIED and self.upheld)

    @property
    def open(self) -> bool:
        """Whether its state is one of the table's "any open"."""
        return self.state in OPEN

    @property
    def blocks(self) -> bool:
        """Whether it is open or upheld: another claim for the same listing, right and reason duplicates it (row 2).

        An item whose end is under complaint counts as ended until the complaint is decided.
        """
        return self.state not in ENDED and not (self.state is State.APPEALED and self.stack[-1].state in ENDED)

    @property
    def other_seller(self) -> bool:
        """Whether its claim names shops, and its listing is of none of them."""
        return self.seller is not None and not self.means(self.seller)

    def means(self, seller: Id | None) -> bool:
        """Whether its claim may mean a seller's listing: it names no shops, or the seller's."""
        return not self.sellers or seller in self.sellers

    @property
    def waits(self) -> bool:
        """Whether it waits for the marketplace's answer about its listing (row 3)."""
        if self.state is State.UNDER_REVIEW:
            # the look-up was given up, and may still be answered
            return self.flagged and self.seller is None
        return self.on_site and self.state is State.RECEIVED

    def change(
        self,
        *,
        previous: State | None,
        via: tuple[State, ...],
        rule: str,
        command: Id | None = None,
        by: Role = "system",
        begun_by: Moment | None = None,
        content: str | None = None,
    ) -> ItemChanged:
        """The event that publishes this state after a change."""
        return ItemChanged(
            item=self.item,
            claim=self.claim,
            claim_size=self.claim_size,
            listing=self.listing,
            seller=self.seller,
            complainant=self.complainant,
            principal=self.principal,
            right=self.right,
            right_type=self.right_type,
            reason=self.reason,
            severity=self.severity,
            profile=self.profile,
            policy=self.policy,
            lane=self.lane,
            revision=self.revision,
            state=self.state,
            previous=previous,
            via=via,
            rule=rule,
            command=command,
            by=by,
            code=self.code,
            missing=self.missing,
            original=self.original,
            held=self.held,
            upheld=self.upheld,
            settled=self.settled,
            received_at=self.received_at,
            noticed_at=self.noticed_at,
            due=self.due,
            sla_due=self.sla_due,
            handled_at=self.handled_at,
            sla=self.sla,
            counter_round=self.counter_round,
            triage=self.triage if State.UNDER_REVIEW in (self.state, *via) else None,
            audit=self.audit,
            begun_by=begun_by,
            recurs=self.recurs,
            abroad=self.abroad,
            canary=self.canary,
            brake=self.brake,
            other_seller=self.other_seller,
            content=content,
            unreached=self.unreached,
        )


class Bounds(Struct, frozen=True):
    """Where the value of a signal was when an item was weighed, as far as the rules that fired tell."""

    low: float
    high: float
    known: bool
    """Whether a rule about it fired; if not, it may have been unknown."""


class Facts(Struct, frozen=True):
    """What a judgement needs beyond the item itself."""

    listing: Listing | None = None
    """What the marketplace last said about the listing; None: nothing yet."""
    original: Id | None = None
    """An item of the same listing, right and reason, other than this one, that is open or upheld (``Item.blocks``)."""
    failed_before: int = 0
    """Items of the same listing, right and reason that were refused or restored."""
    upheld_here: int = 0
    """Other upheld items of the listing."""
    seller_violations: int | None = None
    """Claims upheld against the seller or its entity, as far as they are counted."""
    title_similarity: Bounds | None = None
    """In a backtest, what was recorded: versions before compared otherwise."""
    ours: bool = False
    """The listing is down by our hold: another item holds it, or the lifting of its last hold has no receipt yet."""
    content: str | None = None
    """Digest of what the listing shows; None: the marketplace has not said."""


class Reopened(Struct, frozen=True, kw_only=True):
    """Row 2: the original of a duplicate ended without a takedown. Raised by the worker that owns the listing."""

    item: Id
    original: Id


class Change(Struct, frozen=True):
    """One event to publish: ``goodfaith.item.<kind>.v1``, effective ``at``."""

    kind: str
    at: dt.datetime
    data: ItemChanged


class Outcome(Struct, frozen=True):
    """The outcome of a judgement. Save ``item`` whenever it is a different object, even without ``changes``."""

    item: Item | None
    changes: tuple[Change, ...] = ()
    refused: CommandRefused | None = None
    lookup: bool = False
    """Ask the marketplace for the listing."""
    released: bool = False
    """The item ended without a takedown: its oldest duplicate may reopen."""
    ignored: str | None = None
    """Why a stale or irrelevant event had no effect."""


class PastDecision(NamedTuple):
    """A decision about an item of a listing. Not ``upheld``: refused or restored."""

    listing: Id
    right: Id
    reason: Id
    item: Id
    upheld: bool


def past_of(decisions: Iterable[PastDecision], right: Id, reason: Id, item: Id) -> tuple[int, int]:
    """``Facts.failed_before`` and ``Facts.upheld_here`` of an item, from the decisions about its listing."""
    failed = upheld = 0
    for past in decisions:
        if past.item != item:
            upheld += past.upheld
            failed += not past.upheld and (past.right, past.reason) == (right, reason)
    return failed, upheld
