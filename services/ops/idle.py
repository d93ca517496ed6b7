"""Tells from the database and the broker whether anything is still in progress.

For `verify`, replays, benchmarks and tests. Only the operator's code reads across the services' schemas; the services
never do.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa
from kafka import TopicPartition

from services.enforcement.ledger import EnforcementLedger
from services.enforcement.worker import Enforcement
from services.intake.worker import Intake
from services.notification.worker import Notification
from services.verification.worker import Verification
from shared import access, clock, kafka_links, topics
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Reader:
    """A kind of worker: the schema and prefix of its runtime tables, and the topics that it reads."""

    name: str
    schema: str
    prefix: str
    reads: tuple[topics.Topic, ...]

    @property
    def tables(self) -> str:
        """Schema and prefix of its runtime tables: the start of their names."""
        return f"{self.schema}.{self.prefix}"


def _reader(service: type[Any]) -> Reader:
    return Reader(service.name, service.schema, service.prefix, tuple(service.reads))


DEMO: Final = "marketplace"
"""Schema of the demo marketplace, whose worker is not part of an installation."""
READERS: Final = (
    *map(_reader, (Intake, Verification, Enforcement, EnforcementLedger, Notification)),
    Reader(DEMO, DEMO, "", access.READS[DEMO][DEMO]),
)
INBOUND: Final = Reader("intake-inbound", "intake", "inbound_", ())
"""Reads the topics of upstreams. It has tables even if there are none."""


def writers(settings: Settings) -> tuple[Reader, ...]:
    """Every kind of worker that may have written an event log in this installation."""
    return (*READERS, replace(INBOUND, reads=tuple(topics.inbound(name) for name in settings.upstreams)))


def readers(settings: Settings) -> tuple[Reader, ...]:
    """Every kind of worker of this installation."""
    return tuple(worker for worker in writers(settings) if worker.reads)


def present(connection: sa.Connection, candidates: Iterable[Reader], *, table: str = "cursors") -> tuple[Reader, ...]:
    """The candidates that work on this database.

    Migrations create the demo marketplace's tables in every installation. It counts as ours only if one of its workers
    has ever taken a partition. Otherwise `marketplace.*` are another system's topics, which we do not check, wait for
    or recreate.

    Args:
        table: runtime table that a worker must have.
    """
    there = set(connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars())
    ours = (
        f"{DEMO}.partitions" in there
        and connection.exec_driver_sql(f"select exists (select from {DEMO}.partitions)").scalar_one()
    )
    return tuple(one for one in candidates if f"{one.tables}{table}" in there and (ours or one.schema != DEMO))


@dataclass(slots=True)
class Pending:
    """Counts of what is in progress, by name. False when the system is idle."""

    counts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.counts.items() if count) or "idle"


# name -> SQL that counts what waits in the services' own queues
QUEUES: Final = {
    "admission_queue": "select count(*) from (select from intake.admission_queue where kind <> 'filing' limit 1000) t",
    "filings": "select count(*) from (select from intake.admission_queue where kind = 'filing' limit 1000) t",
    "held": "select count(*) from intake.held_items h join intake.accounts a on a.id = h.complainant where a.misuse <> 'suspension'",
    "rights": "select count(*) from (select from intake.right_jobs limit 1000) t",
    "messages": "select count(*) from (select from notification.messages where state in ('queued', 'sending') limit 1000) t",
    "untold items": "select count(*) from (select from notification.message_items where message is null limit 1000) t",
    "announcements": "select count(*) from (select from notification.announcements limit 1000) t",
    "commands": "select count(*) from (select from enforcement.listings where resend_at is not null limit 1000) t",
    "links": "select (select count(*) from (select from enforcement.entity_work limit 1000) t)"
    " + (select count(*) from (select from enforcement.relinked where seller not in"
    " (select key from enforcement.ledger_dead_letters where state <> 'done') limit 1000) t)",
    "seller commands": "select count(*) from (select from enforcement.standings where resend_at is not null limit 1000) t",
    "statements": "select count(*) from (select from enforcement.statements where state = 'waiting' limit 1000) t",
    "marketplace queue": "select count(*) from (select from marketplace.queue limit 1000) t",
}


_INSTANT: Final = dt.timedelta(microseconds=1)


class Watch:
    """Looks repeatedly for work in progress on one installation.

    Args:
        engine: an administrator's.
        ignore: names of ``QUEUES`` not to wait for (``messages`` and ``untold items`` where no sender runs; ``filings``
            where a version that does not know them runs), or ``sanctions``: ends of sanctions and entries, which the
            ledger's worker looks for once a second.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, *, ignore: frozenset[str] = frozenset()) -> None:
        self._engine = engine
        self._settings = settings
        # without an address to send them to, statements wait forever
        self._ignore = ignore if settings.statements_url else ignore | {"statements"}
        self._consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
        self._partitions: list[Any] | None = None
        self._readers: list[Reader] = []
        self._names: list[str] = []
        self._counted: sa.TextClause | None = None
        self._cursors: sa.TextClause | None = None

    def close(self) -> None:
        """Close the connection to the broker."""
        self._consumer.close()

    def _find(self, connection: sa.Connection) -> None:
        self._readers = list(present(connection, readers(self._settings)))
        names = {self._settings.topic_prefix + topic.name for reader in self._readers for topic in reader.reads}
        names &= self._consumer.topics()  # under the previous version, topics of this one are not there yet
        self._partitions = [TopicPartition(name, p) for name in sorted(names) for p in range(self._settings.partitions)]
        # one statement, built once: a replay looks many times per second
        counts = list(self._counts())
        self._names = [name for name, _ in counts]
        self._counted = sa.text(f"select {', '.join(f'({sql})' for _, sql in counts)}")
        self._cursors = sa.text(
            " union all ".join(
                f"select '{reader.name}', topic, partition, next_offset from {reader.tables}cursors"
                for reader in self._readers
            )
        )

    def _counts(self) -> Iterator[tuple[str, str]]:
        """Names and SQL of all work in progress that the database knows of.

        ``:upto``, as in ``pending``, is for what watermarks decide. ``:now``, just after it, is for what workers
        decide by the clock: to them a moment has passed as soon as it is reached.
        """
        for name, sql in QUEUES.items():
            if name not in self._ignore:
                yield name, sql
        for reader in self._readers:
            yield (
                f"outbox of {reader.name}",
                f"select coalesce(sum(seq - published_upto), 0) from {reader.tables}partitions",
            )
        yield "watermarks", "select count(*) from verification.partitions where watermark is null or watermark < :upto"
        yield (
            "beginnings",
            "select count(*) from (select from notification.messages where begun_at is null and deemed_at <= :now"
            " and state not in ('queued', 'sending', 'failed') limit 1000) t",
        )
        # when the business day changes, intake judges good faith and notifies accounts
        yield (
            "good faith",
            "select (select count(*) from (select from intake.good_faith_due limit 1000) t) + (select count(*) from intake.good_faith_run"
            " where day is null or day < cast(:now at time zone 'UTC' as date))",
        )
        yield (
            "deadlines",
            "select count(*) from (select from verification.items where next_due <= :upto and listing not in"
            " (select key from verification.dead_letters where state <> 'done') limit 1000) t",
        )
        yield (
            "entities",
            "select count(*) from (select from enforcement.entities where next_change <= :now limit 1000) t",
        )
        if "sanctions" not in self._ignore:
            yield (
                "sanctions",
                "select count(*) from (select from enforcement.standings where due_at <= :now and seller not in"
                " (select key from enforcement.ledger_dead_letters where state <> 'done') limit 1000) t",
            )

    def now(self) -> dt.datetime:
        """Business time."""
        with self._engine.connect() as connection:
            return clock.read(connection)[0]

    def pending(self, upto: dt.datetime) -> Pending:
        """Look once. Cheap: one statement; only when the database is idle, a second one and a request to the broker.

        Args:
            upto: business time that watermarks must have reached, and up to which no deadline may be open.
        """
        found = Pending()
        prefix = self._settings.topic_prefix
        # counts and cursors of one moment: between two, a worker could read a record and not yet have shown what it causes
        with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            if self._partitions is None:
                self._find(connection)
            assert self._counted is not None
            assert self._cursors is not None
            row = connection.execute(self._counted, {"upto": upto, "now": upto + _INSTANT}).one()
            found.counts.update(zip(self._names, map(int, row), strict=True))
            if found:
                return found
            cursors = {
                (name, topic, partition): offset for name, topic, partition, offset in connection.execute(self._cursors)
            }
        # read the ends after the cursors: one that has grown since shows as pending, never the reverse
        ends = self._consumer.end_offsets(self._partitions)
        for reader in self._readers:
            behind = 0
            for topic in reader.reads:
                for partition in range(self._settings.partitions):
                    if (end := ends.get(TopicPartition(prefix + topic.name, partition))) is None:
                        continue
                    # a cursor beyond the end is of a topic that was recreated: none of it has been read yet
                    behind += abs(end - cursors.get((reader.name, topic.name, partition), 0))
            found.counts[f"unread by {reader.name}"] = behind
        return found

    def wait(
        self, *, timeout_s: float, poll_s: float = 0.02, looks: int = 1, tell: Callable[[Pending], None] | None = None
    ) -> None:
        """Wait until ``looks`` looks in a row find nothing in progress.

        Raises:
            TimeoutError: something still is; the message names it.
        """
        deadline = time.monotonic() + timeout_s
        # while the clock stands still, more may be accepted at this moment: watermarks end just before it
        upto = self.now() - _INSTANT
        calm = 0
        while True:
            pending = self.pending(upto)
            calm = 0 if pending else calm + 1
            if calm >= looks:
                return
            if tell is not None:
                tell(pending)
            if time.monotonic() > deadline:
                raise TimeoutError(f"still under way after {timeout_s:g} s: {pending}")
            time.sleep(poll_s)
