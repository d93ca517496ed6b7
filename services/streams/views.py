"""What a view is: a pure fold of events into one small state a key, and totals of these states that are only kept in memory.

The runtime decodes records, finds each view's key, folds a batch key by key, writes the states that changed, and moves the
totals. Nothing here knows of Faust, Kafka or a clock.

- A fold is idempotent and does not mind the order of events: repeats and reorderings end in the same state.
- Sums are never stored. They are made of the states in the table, so a crash between two writes cannot bring them apart.
- All times in states are whole microseconds since 1970 (``us``), so that sums of them are exact; 0 means none.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

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
    """Base of a view's states: what is kept of one key. Fields are added at the end, with a default."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What is known of an event beside its data.

    Attributes:
        id: event id, ``<worker>.<partition>.<sequence>`` for events of our own services.
        at: business time of the envelope.
        wall: the record's timestamp.
    """

    id: str
    at: dt.datetime
    wall: dt.datetime


class Histogram:
    """Counts by upper edge (seconds, inclusive) and the exact sum, of durations in microseconds."""

    __slots__ = ("_edges", "buckets", "total")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self._edges = [edge * SECOND for edge in edges]
        self.buckets = [0] * (len(edges) + 1)
        """One for each edge, and one for what is above the last."""
        self.total = 0
        """Microseconds."""

    def add(self, micros: int, sign: int) -> None:
        """Put a duration in (1) or take it out (-1)."""
        self.buckets[bisect_left(self._edges, micros)] += sign
        self.total += sign * micros

    def copy(self) -> Histogram:
        """One that stays as this is now."""
        made = Histogram(())
        made._edges, made.buckets, made.total = self._edges, list(self.buckets), self.total
        return made


class Totals(Protocol):
    """Sums over the states of one view on one partition. Made empty, filled with ``move(key, None, state)``."""

    def move(self, key: str, old: Any, new: Any) -> None:
        """Take the old state's part out and put the new one's in; None: there is (was) no state. Cheap: no scan."""

    def figures(self, now: dt.datetime) -> Any:
        """Sums as of business time ``now``, for the collector: copies. Milliseconds, whatever the number of states."""

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Sums under the names of the view's query in ``reconcile``, to be compared with the database; zeros left out."""


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        name: of its table.
        reads: topics, all with the same key, so that a partition of each belongs together.
        state: type of its states (encode and decode with msgspec).
        key: key of an event in the table; None: the event means nothing to the view.
        fold: the state after an event; the same object when it tells nothing new. None comes in before the first event, and
            out when that means nothing.
        totals: makes empty totals; one for each partition.
    """

    name: str
    reads: tuple[Topic, ...]
    state: type[State]
    key: Callable[[Data], str | None]
    fold: Callable[[Any, Data, Meta], Any]
    totals: Callable[[], Totals]


class Tables(Protocol):
    """What the query API and the reconciliation see of the tables of one process. The runtime implements it."""

    def get(self, view: str, key: str) -> Any:
        """The state of a key that this process has (of whatever partition that it owns); None: it has none."""

    def owned(self) -> Mapping[int, Mapping[str, Totals]]:
        """By partition that is recovered and owned, the totals of each view."""


def position_of(id: str) -> tuple[str, int, int] | None:
    """(worker, partition of its log, sequence) of an event's id; None for an event that is not out of a log of ours."""
    worker, _, rest = id.partition(".")
    partition, _, sequence = rest.partition(".")
    # a longer one is no number of 64 bits, as logs have and tables take
    if worker and partition.isdecimal() and len(partition) < 10 and sequence.isdecimal() and len(sequence) < 19:
        return worker, int(partition), int(sequence)
    return None
