"""The state of a claim item in the independent model (`item_model.py`): what is kept of it, and how states change.

It knows states, deadlines, holds and the 24-hour target. Which state follows is the model's to say.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from shared.calendars import calendar
from shared.events import ItemSubmitted, Listing
from shared.policy import Policy, Span

LIVE: Final = frozenset(
    {"RECEIVED", "NEEDS_INFO", "UNDER_REVIEW", "NOTIFIED", "COUNTERED", "HOLDER_RESPONSE", "PLATFORM_REVIEW"}
)
UPHELD: Final = frozenset({"UPHELD", "UPHELD_BY_DEFAULT", "UPHELD_AFTER_COUNTER"})
UNHEARD: Final = frozenset({"REJECTED", "DUPLICATE", "LINK_INVALID", "LAPSED"})
ENDED: Final = UNHEARD | {"RESTORED", "WITHDRAWN"}
ASIDE: Final = frozenset({"LITIGATION", "SUSPENDED", "APPEALED"})
AFTER_NOTICE: Final = UPHELD | ASIDE | {"COUNTERED", "HOLDER_RESPONSE", "PLATFORM_REVIEW"}
FINAL: Final = frozenset({"WITHDRAWN"})
"""States that nothing leaves."""
ZERO: Final = dt.timedelta()
TIMERS: Final = {
    "lapse": "needs_info",
    "window": "window",
    "check": "counter_check",
    "silence": "holder_response",
    "restore_by": "restore_by",
    "review": "platform_review",
    "grace": "platform_grace",
    "reminder": "reminder",
    "appeal": "appeal_review",
    "end": "suspended",
    "give_up": "lookup_give_up",
    "sla": "sla",
}
"""The deadlines' names in stored items."""


class Move(NamedTuple):
    """A change of state: when it takes effect, and the states entered, the new one last."""

    at: dt.datetime
    path: tuple[str, ...]


class Deadline(NamedTuple):
    """A running deadline, by its name in the model."""

    due: dt.datetime
    name: str


class PassedDeadline(NamedTuple):
    """The deadline that passed last, and everything as it was before."""

    due: dt.datetime
    before: dict[str, Any]


class SavedState(NamedTuple):
    """A state that the item may return to. ``stopped``: since when its deadlines stand still; None: they run."""

    state: str
    deadline: Mapping[str, dt.datetime]
    waiting: frozenset[str]
    counter_until: dt.datetime | None
    stopped: dt.datetime | None
    held: bool
    upheld: bool
    answered: bool
    entered: int


class Proof(NamedTuple):
    """The proof on file."""

    identity: bool
    authority: str
    right: str
    materials: frozenset[str]


class Filed(NamedTuple):
    """What was filed, as far as the life cycle depends on it. It never changes."""

    item: str = "i"
    reason: str = ""
    right_type: str = ""
    parties: tuple[str, ...] = ()
    on_site: bool = True
    good_faith: bool = False
    abroad: bool = False
    recurs: bool = False
    canary: bool = False
    brake: bool = False
    sellers: frozenset[str] = frozenset()
    registered: bool = True

    @classmethod
    def of(cls, data: ItemSubmitted) -> Filed:
        """Take it from the event."""
        return cls(
            item=data.item,
            reason=data.reason,
            right_type=data.right_type,
            parties=(data.complainant, data.principal),
            on_site=data.on_site,
            good_faith=data.good_faith,
            abroad=data.abroad,
            recurs=data.recurs is not None,
            canary=data.canary,
            brake=data.brake is not None,
            sellers=frozenset(data.sellers),
            registered=data.right_registered,
        )


class ItemState:
    """One item, as far as the model keeps it.

    Attributes are replaced, never changed in place, so a shallow copy is a snapshot.

    Attributes:
        listing, original, ours, band: given from outside.
        revision: the item's revision, as given from outside; a decision on a state that was left since is stale.
        moves: what has happened since the list was last emptied.
        when: the time of right: when the present event counts.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.timers = policy.timers
        self.filed = Filed()
        self.state = ""
        self.deadline: Mapping[str, dt.datetime] = {}
        self.waiting: frozenset[str] = frozenset()
        self.kept: tuple[SavedState, ...] = ()
        self.undo: PassedDeadline | None = None
        self.listing: Listing | None = None
        self.original = False
        self.ours = False
        self.band = "review"
        self.proof = Proof(False, "missing", "active", frozenset())
        self.seller: str | None = None
        self.given_up = False
        self.right_gone = False
        self.rounds = 0
        self.late = 0
        self.refiled = 0
        self.noticed: dt.datetime | None = None
        self.unreached = False
        self.counter_until: dt.datetime | None = None
        self.countered: dt.datetime | None = None
        self.decided: dt.datetime | None = None
        self.complained: frozenset[str] = frozenset()
        self.complaints = 0
        self.deciders: frozenset[str] = frozenset()
        self.audit: tuple[str, str | None] | None = None
        """The outcome that a person looks at, blind, and what they found."""
        self.answered = False
        self.held = False
        self.upheld = False
        self.handled: dt.datetime | None = None
        self.sla: str | None = None
        self.sla_due = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
        self.paused: dt.datetime | None = None
        self.now = self.sla_due
        self.when = self.sla_due
        self.revision = 0
        self.entered = 0
        self.path: tuple[str, ...] = ()
        self.moves: tuple[Move, ...] = ()

    def end(self, span: Span, start: dt.datetime) -> dt.datetime:
        """When a duration ends that begins at ``start``."""
        return span.after(start, calendar(self.policy.calendar))

    def at(self, now: dt.datetime, when: dt.datetime | None = None) -> None:
        """Begin an event."""
        self.now, self.when, self.path = now, now if when is None else when, ()

    def done(self) -> None:
        """End the event: update the 24-hour target, drop an audit that will not be answered, and note a move."""
        if self.audit is not None and self.audit[1] is None and self.state not in ASIDE | {"UNDER_REVIEW"}:
            self.audit = None
        self._count()
        if self.path:
            self.moves = (*self.moves, Move(self.now, self.path))

    def go(self, state: str, **deadlines: dt.datetime) -> None:
        """Enter a state."""
        self.state, self.deadline, self.waiting, self.undo = state, deadlines, frozenset(), None
        self.path = (*self.path, state)
        self.entered = self.revision + 1
        self.answered = False
        if state in UPHELD | ENDED:
            self.kept, self.right_gone = (), False
            self.decided, self.complained = self.now, frozenset()
        if state in UPHELD:
            self.held = self.upheld = True
        elif state in ENDED:
            self.held = False
            self.upheld = self.upheld and state == "WITHDRAWN"
        if state == "UPHELD_AFTER_COUNTER":
            self.counter_until = self.end(self.timers.round_window, self.now)

    def keep(self, stopped: dt.datetime | None) -> None:
        """Save the present state, and since when its deadlines stand still."""
        self.kept = (*self.kept, self._present(stopped))

    def _present(self, stopped: dt.datetime | None) -> SavedState:
        return SavedState(
            state=self.state,
            deadline=self.deadline,
            waiting=self.waiting,
            counter_until=self.counter_until,
            stopped=stopped,
            held=self.held,
            upheld=self.upheld,
            answered=self.answered,
            entered=self.entered,
        )

    def back(self) -> None:
        """Return to the state saved last."""
        *rest, was = self.kept
        self.kept = tuple(rest)
        shift = self.now - was.stopped if was.stopped else ZERO
        self.state, self.waiting, self.undo = was.state, was.waiting, None
        self.path = (*self.path, was.state)
        self.entered = self.revision + 1
        self.deadline = {name: due + shift for name, due in was.deadline.items()}
        self.counter_until = was.counter_until + shift if was.counter_until else None
        self.held, self.upheld, self.answered = was.held, was.upheld, was.answered

    def wait(self, *without: str, **deadlines: dt.datetime) -> None:
        """Set some deadlines and drop others, without leaving the state."""
        self.deadline = {name: due for name, due in self.deadline.items() if name not in without} | deadlines

    def copy(self) -> dict[str, Any]:
        """A snapshot of everything."""
        return self.__dict__.copy()

    @property
    def blocks(self) -> bool:
        """Whether a further claim for the same listing, right and reason is a duplicate of this item."""
        return self.state not in ENDED and not (self.state == "APPEALED" and self.kept[-1].state in ENDED)

    @property
    def next_due(self) -> dt.datetime | None:
        """The earliest deadline of a party or the operator, without that of a look-up."""
        return min((due for due, name in self.running() if name != "give_up"), default=None)

    def running(self) -> list[Deadline]:
        """Running deadlines, in the order in which they pass."""
        running = [Deadline(due, name) for name, due in self.deadline.items()]
        if self.sla is None and self.paused is None and self.state not in ENDED:
            running.append(Deadline(self.sla_due, "sla"))
        if len(running) > 1:
            # two at the same moment pass in the order of their names in stored items
            running.sort(key=lambda one: (one.due, TIMERS[one.name]))
        return running

    def _count(self) -> None:
        """Count the 24 hours, from receipt to handled. They stand still in NEEDS_INFO and SUSPENDED."""
        if self.handled is None and (self.state in UNHEARD or (self.state == "NOTIFIED" and not self.held)):
            self.handled = self.now
        stands = self.state in ("NEEDS_INFO", "SUSPENDED")
        if self.paused is not None and (self.handled is not None or not stands):
            self.sla_due += max((self.handled or self.when) - self.paused, ZERO)
            self.paused = None
        if self.sla is None and self.handled is not None:
            self.sla = "missed" if self.handled > self.sla_due else "met"
        if self.sla is None and self.state in ENDED and self.now > self.sla_due:
            self.sla = "missed"
        if stands and self.paused is None and self.sla is None:
            self.paused = self.when
