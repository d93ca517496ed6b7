"""An item on its way from one state to the next. Pure.

A ``Draft`` starts with the values of the item's changeable fields; guards read them, effects change them, and
``finish`` makes the next item from them.
"""

from __future__ import annotations

import datetime as dt
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from services.verification.item import ENDED, SETTLED, UPHELD, Facts, Frame, Item, Lapse, Notice, Timer, TimerKind
from shared.calendars import Calendar, calendar
from shared.events import Audit, State, Triage
from shared.policy import Policy, Span

PAUSING: Final = frozenset({State.NEEDS_INFO, State.SUSPENDED})
"""States that pause the 24-hour clock."""
DECIDED: Final = frozenset({State.DUPLICATE, State.LINK_INVALID, State.REJECTED, State.LAPSED})
"""First decisions that need no receipt (docs/explanation/domain.md, "Handled")."""
AUDITING: Final = frozenset({State.UNDER_REVIEW, State.APPEALED, State.LITIGATION, State.SUSPENDED})
"""States in which an audit waits for its answer, or for the item's return."""
AGAINST: Final = {
    **dict.fromkeys((State.REJECTED, State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.RESTORED), "holder"),
    **dict.fromkeys(UPHELD, "seller"),
}
"""Decisions open to complaint, and the side that each goes against."""


class _Carried:
    """Fields that a draft takes over from its item, and the next item from the draft."""

    identity_verified: bool
    authority: Literal["owner", "authorised", "missing"]
    right_status: str
    materials: tuple[str, ...]
    seller: str | None
    title_digest: str | None
    content: str | None
    state: State
    visit: int
    entered: int
    timers: tuple[Timer, ...]
    awaits: tuple[Notice, ...]
    stack: tuple[Frame, ...]
    lapse: Lapse | None
    code: str | None
    missing: tuple[str, ...]
    original: str | None
    held: bool
    upheld: bool
    notice_seen: dt.datetime | None
    unreached: bool
    counter_round: int
    counter_due: dt.datetime | None
    counter_at: dt.datetime | None
    late_counters: int
    refiles: int
    flagged: bool
    right_ended: bool
    handled_at: dt.datetime | None
    sla: Literal["met", "missed"] | None
    sla_due: dt.datetime
    paused_at: dt.datetime | None
    picture_match: float | None
    triage: Triage | None
    audit: Audit | None
    decided_at: dt.datetime | None
    appealed: tuple[Literal["holder", "seller", "platform"], ...]
    appeals: int
    deciders: tuple[str, ...]


CARRIED: Final = tuple(_Carried.__annotations__)
_carried: Final = attrgetter(*CARRIED)


class Draft(_Carried):
    """An item's next state. Timers exclude the 24-hour clock, which ``finish`` adds.

    Args:
        at: when the change takes effect.
        when: the time of right, by which the event is judged; ``at`` if missing.
    """

    def __init__(
        self, item: Item, event: Any, facts: Facts, policy: Policy, at: dt.datetime, when: dt.datetime | None = None
    ) -> None:
        self.__dict__.update(zip(CARRIED, _carried(item), strict=True))
        self.timers = tuple([timer for timer in item.timers if timer.kind != "sla"])
        self.item = item
        self.event = event
        self.facts = facts
        self.policy = policy
        self.at = at
        self.when = at if when is None else when
        self.calendar: Calendar = calendar(policy.calendar)
        self.revision = item.revision + 1
        self.path: list[State] = []
        """States entered, in order."""
        self.lookup = False
        """Ask the marketplace for the listing."""
        self.left_missing: tuple[str, ...] = ()
        """What was missing in the state that was left by ``back``."""
        self.weighed: Triage | None = None
        """Result of triage in this change."""

    def after(self, span: Span, start: dt.datetime | None = None) -> dt.datetime:
        """The end of ``span`` from ``start``, by default from ``at``."""
        return span.after(self.at if start is None else start, self.calendar)

    def start(self, kind: TimerKind, due: dt.datetime) -> None:
        """Start a timer, or restart it."""
        self.timers = (*[timer for timer in self.timers if timer.kind != kind], Timer(kind, due))

    def frame(self, *, stopped: bool) -> Frame:
        """The present state, as a frame to return to."""
        return Frame(
            self.state,
            self.visit,
            self.revision - 1,
            self.awaits,
            self.timers,
            self.held,
            self.upheld,
            self.counter_due,
            self.when if stopped else None,
            self.code,
            self.missing,
            self.entered,
        )

    def enter(self, state: State) -> None:
        """Leave the present state, which drops its timers, and enter a new one."""
        self.state = state
        self.path.append(state)
        self.visit = self.entered = self.revision
        self.timers = ()
        self.awaits = ()
        self.lapse = None
        self.code = None
        self.missing = ()
        if state in AGAINST:
            self.decided_at = self.at
            self.appealed = ()
        if state in UPHELD:
            self.held = self.upheld = True
            self.stack = ()
            self.right_ended = False  # row 22 is about open items
        elif state in ENDED:
            self.held = False
            if state is not State.WITHDRAWN:
                self.upheld = False
            self.stack = ()

    def back(self) -> None:
        """Return to the innermost state on the stack."""
        frame = self.stack[-1]
        self.stack = self.stack[:-1]
        self.state = frame.state
        self.path.append(frame.state)
        # the visit continues: a notice already on its way may still begin its window
        self.visit = frame.visit
        self.entered = self.revision
        self.awaits = frame.awaits
        self.timers = frame.timers
        self.counter_due = frame.counter_due
        self.held = frame.held
        self.upheld = frame.upheld
        self.lapse = None
        self.left_missing = self.missing
        self.code = frame.code
        self.missing = frame.missing
        if frame.stopped_at is not None:
            stood = self.at - frame.stopped_at
            self.timers = tuple([Timer(timer.kind, timer.due + stood) for timer in frame.timers])
            if self.counter_due is not None:
                self.counter_due += stood
        if frame.state in SETTLED:
            self.right_ended = False

    def finish(self, *, published: bool) -> Item:
        """The resulting item; ``published`` if a change announces it."""
        item = self.item
        if self.audit is not None and self.audit.found is None and self.state not in AUDITING:
            self.audit = None  # it took another way before the person's answer
        self._rest()
        self._clock()
        if self.sla is None and self.paused_at is None and self.state not in ENDED:
            self.timers = (*self.timers, Timer("sla", self.sla_due))
        if len(self.timers) > 1:
            self.timers = tuple(sorted(self.timers, key=_order))
        noticed_at = item.noticed_at
        if published and noticed_at is None:
            noticed_at = self.notice_seen
        return msgspec.structs.replace(
            item,
            **dict(zip(CARRIED, _carried(self), strict=True)),
            revision=self.revision if published else item.revision,
            taken_down=item.taken_down or self.held,
            noticed_at=noticed_at,
        )

    def _rest(self) -> None:
        """Have an item that stays in RECEIVED wait for its listing."""
        if self.state is State.RECEIVED and not any(timer.kind == "lookup_give_up" for timer in self.timers):
            self.lookup = True
            self.start("lookup", self.after(self.policy.timers.lookup_retry))
            self.start("lookup_give_up", self.after(self.policy.timers.lookup_give_up))

    def _clock(self) -> None:
        """Pause or resume the 24-hour clock, and note once per item whether the target was met or missed."""
        pausing = self.state in PAUSING
        if self.handled_at is None and (
            self.state in DECIDED or (self.state is State.NOTIFIED and not self.held)  # no hold, no receipt to wait for
        ):
            self.handled_at = self.at
        if self.paused_at is not None and (self.handled_at is not None or not pausing):
            # up to when the information was accepted, not when we read it
            self.sla_due += max((self.handled_at or self.when) - self.paused_at, dt.timedelta())
            self.paused_at = None
        if self.sla is None:
            if self.handled_at is not None:
                self.sla = "met" if self.handled_at <= self.sla_due else "missed"
            elif self.state in ENDED and self.at > self.sla_due:
                self.sla = "missed"  # withdrawn or restored, unhandled and late; in time, no target is left to meet
        if pausing and self.paused_at is None and self.sla is None:
            self.paused_at = self.when


def _order(timer: Timer) -> tuple[dt.datetime, str]:
    return timer.due, timer.kind
