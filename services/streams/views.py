"""What a view is: a pure fold of events into one small state per key, with totals of these states kept only in memory.

The runtime decodes records, finds each view's key, folds a batch key by key, writes the changed states and updates
the totals. Nothing here depends on Faust, Kafka or a clock.

- A fold is idempotent and independent of the order of events: repeats and reorderings end in the same state.
- Sums are never stored. They are computed from the states in the table, so a crash between two writes cannot make
  them disagree.
- All times in states are whole microseconds since 1970 (``us``), so sums of them are exact; 0 means none.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from shared.events import Data
from shared.topics import Topic

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)
SECOND: Final = 1_000_000
"""Microseconds."""


def us(at: dt.datetime | None) -> int:
    """Microseconds since 1970; 0 for None."""
    return 0 if at is None else (at - _EPOCH) // _US


def at_of(micros: int) -> dt.datetime | None:
    """The inverse of ``us``."""
    return _EPOCH + dt.timedelta(microseconds=micros) if micros else None


class State(Struct, frozen=True, array_like=True, omit_defaults=True):
    """Base of a view's states: what is kept per key. Add new fields at the end, with a default."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What is known about an event in addition to its data.

    Attributes:
        id: event id, ``<worker>.<partition>.<sequence>`` for events of our own services.
        at: business time of the envelope.
        wall: the record's timestamp.
    """

    id: str
    at: dt.datetime
    wall: dt.datetime


class Histogram:
    """Durations in microseconds: counts by upper bound (seconds, inclusive) and their exact sum."""

    __slots__ = ("_edges", "buckets", "total")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self._edges = [edge * SECOND for edge in edges]
        self.buckets = [0] * (len(edges) + 1)
        """One per edge, and one for durations above the last edge."""
        self.total = 0
        """Microseconds."""

    def add(self, micros: int, sign: int) -> None:
        """Add (1) or remove (-1) a duration."""
        self.buckets[bisect_left(self._edges, micros)] += sign
        self.total += sign * micros

    def copy(self) -> Histogram:
        """A copy that later changes do not affect."""
        made = Histogram(())
        made._edges, made.buckets, made.total = self._edges, list(self.buckets), self.total
        return made


class Totals(Protocol):
    """Sums over the states of one view on one partition. Starts empty; ``move(key, None, state)`` fills it."""

    def move(self, key: str, old: Any, new: Any) -> None:
        """Replace the old state's share with the new one's; None: no state. Must be cheap: no scan."""

    def figures(self, now: dt.datetime) -> Any:
        """Copies of the sums as of business time ``now``, for the collector. Milliseconds for any number of states."""

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Sums under the names used in ``reconcile``, to compare with the database; without zeros."""


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        name: name of its table.
        reads: topics, all with the same key, so that equal partitions belong together.
        state: type of its states (msgspec).
        key: the event's key in the table; None: the view ignores the event.
        fold: the state after an event; the same object if nothing changes. Takes None before the first event, and may
            return it.
        totals: creates empty totals; called once per partition.
    """

    name: str
    reads: tuple[Topic, ...]
    state: type[State]
    key: Callable[[Data], str | None]
    fold: Callable[[Any, Data, Meta], Any]
    totals: Callable[[], Totals]


class Tables(Protocol):
    """The tables of one process, as the query API and the reconciliation see them. The runtime implements it."""

    def get(self, view: str, key: str) -> Any:
        """The state of a key, from any partition that this process owns; None if there is none."""

    def owned(self) -> Mapping[int, Mapping[str, Totals]]:
        """By recovered and owned partition, the totals of each view."""


class LogPosition(NamedTuple):
    """The position of an event in a worker's event log."""

    worker: str
    partition: int
    sequence: int


def position_of(id: str) -> LogPosition | None:
    """The position that an event's id names; None if the event is not from one of our logs."""
    worker, _, rest = id.partition(".")
    partition, _, sequence = rest.partition(".")
    # a longer number does not fit into 64 bits, which logs and tables use
    if worker and partition.isdecimal() and len(partition) < 10 and sequence.isdecimal() and len(sequence) < 19:
        return LogPosition(worker, int(partition), int(sequence))
    return None
