"""The state of a claim item, the facts it is judged on, and what a judgement brings about. Data only.

Times are aware UTC datetimes of business time.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from msgspec import Struct

from shared.events import ENDED as ENDED
from shared.events import SETTLED as SETTLED
from shared.events import UPHELD as UPHELD
from shared.events import (
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
"""Timers that are no deadline of anybody: not published as ``due``."""

OPEN: Final = frozenset(State) - SETTLED


class Timer(Struct, frozen=True, array_like=True):
    """A deadline of an item."""

    kind: TimerKind
    due: dt.datetime


class Frame(Struct, frozen=True, omit_defaults=True):
    """A state that the item may come back to, as it was left."""

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
    """Since when its timers stand still; None: they run on."""
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
    """The whole state of an item. The first group is what was filed and does not change."""

    item: Id
    claim: Id
    claim_size: int
    listing: Id
    on_site: bool = True
    complainant: Id
    principal: Id
    right: Id
    right_type: RightType
    reason: Id
    severity: Literal["general", "serious"] = "general"
    profile: Id
    policy: Id
    lane: Lane = "standard"
    good_faith: bool = False
    received_at: dt.datetime

    # proof on file (rows 4, 5) and the listing as it was when it was first known (row 1)
    identity_verified: bool = False
    authority: Literal["owner", "authorised", "missing"] = "missing"
    right_status: str = "active"
    materials: tuple[Id, ...] = ()
    seller: Id | None = None
    title_digest: str | None = None
    abroad: bool = False
    mark: str | None = None
    record: Record | None = None
    recurs: Id | None = None
    """The upheld item whose listing has returned (row 20)."""
    canary: bool = False
    """Filed by a canary: no figure counts it, and nothing recurs from it."""

    state: State = State.RECEIVED
    revision: int = 0
    visit: int = 0
    """Revision at which the present state was entered."""
    entered: int = 0
    """The same, but for a state that was come back to: revision of the return, while ``visit`` goes on."""
    timers: tuple[Timer, ...] = ()
    """Deadlines that run, earliest first."""
    awaits: tuple[Notice, ...] = ()
    """Notices whose sending will begin a window of the present state."""
    stack: tuple[Frame, ...] = ()
    """States to come back to, innermost last."""
    lapse: Lapse | None = None

    code: Id | None = None
    missing: tuple[Id, ...] = ()
    original: Id | None = None
    held: bool = False
    upheld: bool = False
    taken_down: bool = False
    """Its listing was down by it at some time."""
    noticed_at: dt.datetime | None = None
    notice_seen: dt.datetime | None = None
    """A seller's notice that is not published yet as ``noticed_at``; the next change does."""
    counter_round: int = 0
    counter_due: dt.datetime | None = None
    """Until when a counter is in time; None: its window has not begun."""
    counter_at: dt.datetime | None = None
    """When the latest counter was accepted."""
    late_counters: int = 0
    refiles: int = 0
    """Windows prolonged after a defective counter, since the last complete one."""
    flagged: bool = False
    """The look-up was given up: only a person may uphold."""
    right_ended: bool = False
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    sla_due: dt.datetime
    paused_at: dt.datetime | None = None
    """Since when the 24 hours stand still."""

    triage: Triage | None = None
    """What the rules made of it when it last came to review."""
    decided_at: dt.datetime | None = None
    """When the present settled state was entered, or the last one: the time to complain runs from here."""
    appealed: tuple[Literal["holder", "seller", "platform"], ...] = ()
    """Sides that have complained about that decision."""
    appeals: int = 0
    """Complaints of all its life."""
    deciders: tuple[Id, ...] = ()
    """Reviewers who have decided about it."""

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
        """No timer will change it by itself; where no window runs, a takedown that the seller was notified of."""
        return self.state in SETTLED or (self.state is State.NOTIFIED and self.upheld)

    @property
    def open(self) -> bool:
        """In the sense of the table's "any open"."""
        return self.state in OPEN

    @property
    def blocks(self) -> bool:
        """Open or upheld: a further claim of the same listing, right and reason duplicates this item (row 2).

        One whose end is complained of has ended, until the complaint is decided.
        """
        return self.state not in ENDED and not (self.state is State.APPEALED and self.stack[-1].state in ENDED)

    def change(
        self,
        *,
        previous: State | None,
        via: tuple[State, ...],
        rule: str,
        command: Id | None = None,
        by: Role = "system",
        begun_by: Moment | None = None,
    ) -> ItemChanged:
        """The published form of this state, after a change."""
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
            begun_by=begun_by,
            recurs=self.recurs,
            abroad=self.abroad,
            canary=self.canary,
        )


class Facts(Struct, frozen=True):
    """What the item does not know itself."""

    listing: Listing | None = None
    """What the marketplace says; None: nothing yet."""
    original: Id | None = None
    """An item of the same listing, right and reason, other than this one, that is open or upheld (``Item.blocks``)."""
    failed_before: int = 0
    """Items of the same listing, right and reason that were refused or restored."""
    upheld_here: int = 0
    """Other items that the listing is down for."""
    seller_violations: int | None = None
    """Claims upheld against the seller or its business, as far as they are looked at."""
    ours: bool = False
    """The listing is down by a hold of ours: another item holds it, or its last hold's lifting is not receipted yet."""


class Reopened(Struct, frozen=True, kw_only=True):
    """Row 2: the original of a duplicate ended without a takedown. Raised by the owner of the listing."""

    item: Id
    original: Id


class Change(Struct, frozen=True):
    """One event to publish: ``goodfaith.item.<kind>.v1``, effective ``at``."""

    kind: str
    at: dt.datetime
    data: ItemChanged


class Outcome(Struct, frozen=True):
    """What a judgement brings about. Save ``item`` whenever it is another object than before, changes or not."""

    item: Item | None
    changes: tuple[Change, ...] = ()
    refused: CommandRefused | None = None
    lookup: bool = False
    """Ask the marketplace for the listing."""
    released: bool = False
    """The item ended without a takedown: its oldest duplicate may reopen."""
    ignored: str | None = None
    """Why nothing came of a stale or irrelevant event."""
