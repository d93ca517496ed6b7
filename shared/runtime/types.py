"""The interface between a service and the runtime."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from prometheus_client import Counter

from shared.events import Data, Envelope
from shared.runtime.links import Link
from shared.topics import Topic


class Unacceptable(ValueError):
    """Raised for a record from outside that no replay would make acceptable: it is refused and noted, and blocks nothing.

    Its text names the field, and the cure.
    """


@dataclass(slots=True)
class Incoming:
    """One thing to decide on: a topic's record, a row of the service's own queue, or a dead letter run again.

    Attributes:
        topic: topic name without prefix; ``@queue`` for a row of the service's own tables.
        offset: offset in the topic; the row's id for a queue row.
        key: partition key. Order holds per key, and a dead letter makes later records of its key wait.
        id: event id; applied at most once.
        wall: when the record was written (the broker's or producer's clock), for lag; None for queue rows.
        link: the log that an event of ours comes from; ``seq`` is its number there, known to be the next one. None:
            the id tells whether it was applied before.
        traced: whether it is traced; ``parent`` is the context it came with, or None if its trace begins here.
        trace: if traced, the context for everything it causes. The runtime sets it before ``Service.open``, and on
            ``Outgoing``; a service stores it in its own tables if the work continues elsewhere.
    """

    topic: str
    partition: int
    offset: int
    key: str
    id: str
    type: str
    data: Data
    envelope: Envelope | None = None
    wall: dt.datetime | None = None
    raw: bytes = b""
    traced: bool = False
    parent: str | None = None
    trace: str | None = None
    link: Link | None = None
    seq: int = 0


@dataclass(slots=True)
class Outgoing:
    """One event for the log and its topic.

    Attributes:
        partition: partition of the log, owned by this worker: that of the record that caused it.
        topic: where it goes; in topics keyed like the input to the log's partition, else to that of ``key``.
        time: business time at which it happened (for a timer: when it was due).
    """

    partition: int
    topic: Topic
    key: str
    type: str
    data: Data
    subject: str
    time: dt.datetime
    correlation: str | None = None
    causation: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A due timer: what the service needs to fire it."""

    partition: int
    key: str
    subject: str
    at: dt.datetime


@dataclass(slots=True)
class Tx:
    """One batch's transaction, as a service sees it.

    Attributes:
        now: business time, read once in this transaction.
        wall: the database's wall time.
        partitions: partitions that this worker owns and has locked in this transaction.
        watermarks: for each of them, the business time up to which all commands are known.
        blocked: keys that wait for a dead letter; their timers do not fire.
    """

    connection: sa.Connection
    now: dt.datetime
    wall: dt.datetime
    partitions: Sequence[int]
    watermarks: dict[int, dt.datetime]
    blocked: frozenset[str]
    counts: dict[tuple[Counter, tuple[str, ...]], int] = field(default_factory=dict)

    def count(self, counter: Counter, *labels: str, by: int = 1) -> None:
        """Count when the transaction commits, so a batch that is rolled back and run again counts once."""
        key = (counter, labels)
        self.counts[key] = self.counts.get(key, 0) + by

    def counted(self) -> None:
        """Update the counters; called by the worker after the commit."""
        for (counter, labels), count in self.counts.items():
            (counter.labels(*labels) if labels else counter).inc(count)


class DeadLetter(Data, frozen=True, kw_only=True):
    """A record that could not be processed, as copied to the dead-letter topic.

    ``value`` and ``key`` are base64. This copy is for people to look at; the original is in the service's table
    ``dead_letters``.
    """

    worker: str
    topic: str
    partition: int
    offset: int
    key: str
    value: str
    error: str


class Batch(Protocol):
    """A service's work on one transaction.

    ``apply`` and ``fire`` must not change the batch's own state until nothing can fail any more: if they raise, the
    runtime sets the record (or timer) aside as a dead letter and continues with the batch as it was.
    """

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Decide on one record."""

    def due(self, limit: int) -> Sequence[Due]:
        """Timers due now whose keys do not wait for a dead letter; called after all records are applied."""

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Fire one timer, as of its due time."""

    def save(self) -> None:
        """Write all changed state. If this fails, the runtime runs the batch's records one by one."""

    def marks(self) -> dict[int, dt.datetime]:
        """Watermarks to publish once this transaction's events are on the topic (only intake has any)."""


class Service(Protocol):
    """One kind of worker, as the runtime sees it."""

    @property
    def name(self) -> str:
        """Worker name: consumer group, source of event ids, metric label."""

    @property
    def schema(self) -> str:
        """The service's database schema."""

    @property
    def prefix(self) -> str:
        """Prefix of the runtime's tables in the schema; a service's second kind of worker has a prefix of its own."""

    @property
    def reads(self) -> Sequence[Topic]:
        """Topics it reads, all with the same partition count and keying."""

    @property
    def keyed_like(self) -> frozenset[str]:
        """Topics it writes that are keyed like its inputs: there an event keeps its log's partition."""

    @property
    def queue(self) -> str:
        """The service's table from which ``pull`` takes rows. It is checked often; rows in it start a transaction.

        Empty: ``pull`` is called in every transaction, but no transaction starts for its sake.
        """

    @property
    def raw(self) -> bool:
        """Whether the service gets records undecoded, because it answers unreadable ones itself.

        ``Incoming.raw`` has the bytes; id and key are made from topic, partition and offset.
        """

    @property
    def keeps_time(self) -> bool:
        """Whether this service's transactions advance the watermark: then there is one every ``watermark_ms``."""

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Take up to ``room`` rows from the service's own queue; they are applied in this transaction."""

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load all states that the batch needs, in one query."""


@dataclass(slots=True)
class Sent:
    """Event log rows for the producer, as (topic, key, value, partition, trace context), and their last numbers."""

    rows: list[tuple[str, str, bytes, int, str | None]] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)
    since: float = 0.0
    """Wall time at which the oldest row was logged; 0: just now."""
    tails: dict[tuple[int, str, int], int] = field(default_factory=dict)
    """Number of the last row by log partition, full topic and target partition."""
