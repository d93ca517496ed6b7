"""What a service and the runtime say to each other."""

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


@dataclass(slots=True)
class Incoming:
    """One thing to decide on: a record of a topic, a row of the service's own queue, or a parked record run again.

    Attributes:
        topic: topic name without prefix; ``@queue`` for a row of the service's own tables.
        offset: offset in the topic; the row's id for a queue row.
        key: partition key; order holds, and a poison record parks its successors, by key.
        id: event id: applied at most once.
        wall: when the record was written (the broker's or producer's clock), for lag; None for queue rows.
        link: the log that an event of ours comes from, and ``seq``, its number there: known to be the next one. None: its id tells
            whether it was applied before.
        traced: whether it is traced; ``parent``: the context that it came with, None where its trace begins here.
        trace: of a traced one, the context that what it causes carries: the runtime sets it before ``Service.open``, and on
            ``Outgoing`` by itself; a service keeps it in its own tables where its work goes on elsewhere.
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
        partition: partition of the log, owned by this worker: the one of the record that caused it.
        topic: where it goes; the partition there is the log's own for topics keyed as the input is, else by ``key``.
        time: business time at which it happened (a timer's: when it was due).
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
    """A timer that is due: what the service needs to fire it."""

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
        watermarks: for each of them, up to which business time all commands are known.
        parked: keys that wait behind a poison record: their timers stand still.
    """

    connection: sa.Connection
    now: dt.datetime
    wall: dt.datetime
    partitions: Sequence[int]
    watermarks: dict[int, dt.datetime]
    parked: frozenset[str]
    counts: dict[tuple[Counter, tuple[str, ...]], int] = field(default_factory=dict)

    def count(self, counter: Counter, *labels: str) -> None:
        """Count one, once the transaction is committed: a batch that is rolled back and run again counts once."""
        key = (counter, labels)
        self.counts[key] = self.counts.get(key, 0) + 1

    def counted(self) -> None:
        """Bring the counters up to date; called by the worker after the commit."""
        for (counter, labels), count in self.counts.items():
            (counter.labels(*labels) if labels else counter).inc(count)


class DeadLetter(Data, frozen=True, kw_only=True):
    """A record that could not be processed, as copied to the dead-letter topic.

    ``value`` and ``key`` are base64. The row in the service's ``parked`` table is the original; this is for eyes.
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

    ``apply`` and ``fire`` must change the batch's own state only once nothing can go wrong any more: when they raise, the
    runtime parks the record (or the timer's key) and goes on with the batch as it was.
    """

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Decide on one record."""

    def due(self, limit: int) -> Sequence[Due]:
        """Timers that are due now and not of a parked key; asked after all records are applied."""

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Fire one timer, as of its due time."""

    def save(self) -> None:
        """Write all changed state. An error here makes the runtime run the batch's records one by one."""

    def marks(self) -> dict[int, dt.datetime]:
        """Watermarks to publish once this transaction's events are on the topic (intake only; else empty)."""


class Service(Protocol):
    """What one kind of worker is to the runtime."""

    @property
    def name(self) -> str:
        """Worker name: consumer group, source of event ids, metric label."""

    @property
    def schema(self) -> str:
        """The service's schema."""

    @property
    def prefix(self) -> str:
        """Prefix of the runtime's tables in the schema; a service with two kinds of worker gives the second one its own."""

    @property
    def reads(self) -> Sequence[Topic]:
        """Topics, all with the same partition count and keying."""

    @property
    def keyed_like(self) -> frozenset[str]:
        """Topics it writes that are keyed as its inputs are: an event keeps its log's partition there."""

    @property
    def queue(self) -> str:
        """Table of its own that ``pull`` takes rows from: looked at often, and a transaction begun when it has any.

        Empty: ``pull`` is asked in every transaction, but none is begun for its sake.
        """

    @property
    def raw(self) -> bool:
        """Whether records are handed over undecoded, because the service answers for what it cannot read.

        ``Incoming.raw`` has them; their id and key are made of topic, partition and offset.
        """

    @property
    def keeps_time(self) -> bool:
        """Whether business time goes on by this service's transactions: then one is made every ``watermark_ms``."""

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Take up to ``room`` rows of the service's own queue; they are applied in this very transaction."""

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load the states that the batch needs, in one query for all."""


@dataclass(slots=True)
class Sent:
    """Rows of the event log as they go to the producer (topic, key, value, partition, context of the trace if there is one),
    and by partition the last sequence number."""

    rows: list[tuple[str, str, bytes, int, str | None]] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)
    since: float = 0.0
    """Wall time at which the oldest of them was logged; 0: just now."""
    tails: dict[tuple[int, str, int], int] = field(default_factory=dict)
    """Number of the last of them by log partition, full topic and target partition."""
