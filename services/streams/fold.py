"""One partition of every view: folds batches of events, keeps totals, and counts at an exact position.

Pure except for locks. The runtime passes a batch and a function that looks up states. It gets back one change per
state that the batch changed, and writes these. If the write fails, the partition is discarded and reloaded from the
tables.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from services.streams.views import Meta, State, Totals, View, position_of
from shared.events import Data

POSITIONS: Final = "positions"
"""Table that records how far each source is folded; written with every batch."""
_encode: Final = msgspec.msgpack.Encoder().encode


class Position(State, frozen=True, array_like=True, omit_defaults=True):
    """How far a source is folded: the highest sequence number of a log, or the highest offset of a topic."""

    upto: int = -1


@dataclass(frozen=True, slots=True)
class Record:
    """An event read from a topic (name without prefix). ``data`` None: an unknown type; only its position counts."""

    topic: str
    offset: int
    data: Data | None
    meta: Meta
    counts: bool = True
    """``offset`` is the topic's. False: the event came another way and does not show how far the topic is folded."""


@dataclass(frozen=True, slots=True)
class Change:
    """A state to write: table, key, state."""

    table: str
    key: str
    state: Any


@dataclass(frozen=True, slots=True)
class FoldFailure:
    """An event that a view could not fold."""

    record: Record
    view: str
    error: Exception


class PositionPassed(Exception):
    """The requested position has been passed."""


@dataclass(frozen=True, slots=True)
class _Stop:
    source: str
    upto: int
    view: str
    now: dt.datetime
    told: asyncio.Future[dict[str, int]]


def log_source(worker: str, partition: int, topic: str) -> str:
    """A worker's event log for one topic as a source; positions are sequence numbers."""
    return f"{worker}.{partition}@{topic}"


def topic_source(topic: str) -> str:
    """A topic as a source; positions are offsets."""
    return f"@{topic}"


class Partition:
    """One partition. Hold ``lock`` while a batch is folded and written, or to keep the partition still."""

    def __init__(self, number: int, views: Sequence[View]) -> None:
        self.number = number
        self.lock = asyncio.Lock()
        self.totals: dict[str, Totals] = {view.name: view.totals() for view in views}
        self.positions: dict[str, int] = {}
        self._by_topic: dict[str, list[View]] = {}
        for view in views:
            for topic in view.reads:
                self._by_topic.setdefault(topic.name, []).append(view)
        self._stops: list[_Stop] = []
        self._guard = threading.Lock()
        """Protects totals: scrapes come from another thread."""

    def load(self, table: str, states: Iterable[tuple[str, Any]]) -> None:
        """Load all states of a table for this partition, before the first batch. ``POSITIONS`` is a table too."""
        if table == POSITIONS:
            self.positions.update({key.partition("/")[2]: state.upto for key, state in states})
            return
        move = self.totals[table].move
        with self._guard:
            for key, state in states:
                move(key, None, state)

    def figures(self, now: dt.datetime) -> dict[str, Any]:
        """By view, its figures as of ``now``. Safe from any thread."""
        with self._guard:
            return {name: totals.figures(now) for name, totals in self.totals.items()}

    def look(self, view: str, what: Callable[[Any], Any]) -> Any:
        """Call ``what`` with a view's totals while they cannot change. Safe from any thread."""
        with self._guard:
            return what(self.totals[view])

    def fold(
        self, records: Sequence[Record], get: Callable[[str, str], Any], only: str | None = None
    ) -> tuple[list[Change], list[FoldFailure]]:
        """Fold a batch in order; returns the changes to write, one per state, and the failures.

        If a view's fold raises, the event does not change that view, and the batch continues.

        Args:
            get: returns the stored state of (table, key), or None.
            only: fold only the view with this name.
        """
        batch = _Batch(self, get, only)
        begin = 0
        if self._stops:
            for index, record in enumerate(records):
                sources = _sources(record)
                due = [stop for stop in self._stops if sources.get(stop.source, -1) > stop.upto]
                if due:
                    batch.fold(records[begin:index])
                    begin = index
                    for stop in due:
                        self._count(stop)
        batch.fold(records[begin:])
        for stop in [stop for stop in self._stops if self.positions.get(stop.source, -1) == stop.upto]:
            self._count(stop)
        return batch.changes(), batch.failures

    def counts_at(self, view: str, source: str, upto: int, now: dt.datetime) -> asyncio.Future[dict[str, int]]:
        """The view's counts when a source is folded exactly up to ``upto``. Call this with the lock held.

        The future fails with ``PositionPassed`` if that position has been passed, and is cancelled if the partition is closed.
        """
        told: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        stop = _Stop(source, upto, view, now, told)
        self._stops.append(stop)
        at = self.positions.get(source, -1)
        if at >= upto:
            self._count(stop)
        return told

    def close(self) -> None:
        """Cancel all pending counts."""
        for stop in self._stops:
            stop.told.cancel()
        self._stops.clear()

    def _count(self, stop: _Stop) -> None:
        self._stops.remove(stop)
        if stop.told.done():
            return
        if self.positions.get(stop.source, -1) > stop.upto:
            stop.told.set_exception(PositionPassed(f"{stop.source} {stop.upto}"))
        else:
            with self._guard:
                counts = self.totals[stop.view].counts(stop.now)
            stop.told.set_result(counts)

    def views_of(self, topic: str) -> Sequence[View]:
        """The views that read a topic."""
        return self._by_topic.get(topic, ())


class _Batch:
    def __init__(self, partition: Partition, get: Callable[[str, str], Any], only: str | None) -> None:
        self._partition = partition
        self._get = get
        self._only = only
        self.failures: list[FoldFailure] = []
        self._states: dict[tuple[str, str], Any] = {}
        """Current states."""
        self._changed: dict[tuple[str, str], Any] = {}
        self._positions: dict[str, int] = {}

    def fold(self, records: Sequence[Record]) -> None:
        """Fold records, then update totals and positions."""
        before: dict[tuple[str, str], Any] = {}
        states, get = self._states, self._get
        positions: dict[str, int] = {}
        for record in records:
            data = record.data
            for view in self._partition.views_of(record.topic):
                if data is None:
                    break
                if self._only is not None and view.name != self._only:
                    continue
                try:
                    key = view.key(data)
                    if key is None:
                        continue
                    key.encode()
                except Exception as error:
                    self.failures.append(FoldFailure(record, view.name, error))
                    continue
                slot = (view.name, key)
                if slot in states:
                    old = states[slot]
                else:
                    old = states[slot] = get(*slot)
                try:
                    new = view.fold(old, data, record.meta)
                    if new is not old:
                        _encode(new)  # a state that cannot be encoded is a failure of this event, not of the batch
                except Exception as error:
                    self.failures.append(FoldFailure(record, view.name, error))
                    continue
                if new is not old:
                    before.setdefault(slot, old)
                    states[slot] = new
            for source, upto in _sources(record).items():
                if upto > positions.get(source, -1):
                    positions[source] = upto
        with self._partition._guard:
            for slot, old in before.items():
                self._partition.totals[slot[0]].move(slot[1], old, states[slot])
        self._changed.update({slot: states[slot] for slot in before})
        known = self._partition.positions
        for source, upto in positions.items():
            if upto > known.get(source, -1):
                known[source] = self._positions[source] = upto

    def changes(self) -> list[Change]:
        """Everything to write."""
        found = [Change(table, key, state) for (table, key), state in self._changed.items()]
        number = self._partition.number
        return found + [Change(POSITIONS, f"{number}/{s}", Position(upto)) for s, upto in self._positions.items()]


def _sources(record: Record) -> dict[str, int]:
    sources = {topic_source(record.topic): record.offset} if record.counts else {}
    logged = position_of(record.meta.id)
    if logged is not None:
        sources[log_source(logged.worker, logged.partition, record.topic)] = logged.sequence
    return sources
