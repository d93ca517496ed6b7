"""Compares a view with the database at a common position.

The owner of the data writes (or reads) a log or topic in the same transaction as its tables, and a partition's fold
is at some position in it. While the fold is paused for a moment, a snapshot of the database (REPEATABLE READ) yields
that log's position and the counts by SQL. Then the fold resumes, and its counts are taken when it reaches exactly
that position. So the two must agree at any moment, under any load; a difference is an error in one of them, not lag.

This is the only place where a service reads another's tables. It uses a role of its own that may read only these
columns.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
import structlog

from services.streams import filings as filings_
from services.streams import sellers
from services.streams.fold import Partition, PositionPassed, log_source, topic_source
from shared import clock, concentration, db, topics
from shared.settings import Settings

log = structlog.get_logger(__name__)

TIMEOUT_MS: Final = 4_000
"""Timeout of one query."""
PATIENCE_S: Final = 2.0
"""Seconds that a fold waits for a database that lags behind it."""
HOLD_S: Final = 5.0
"""Most seconds that a fold is paused: a rebalance waits for it (``worker.LAST_S``)."""
CATCH_UP_S: Final = 60.0
"""Seconds within which a fold must reach the database's position."""
SHOWN: Final = 10

_LOG: Final = "select seq from {log} where partition = %(partition)s and topic = %(topic)s order by seq desc limit 1"
_CURSOR: Final = """
    select next_offset - 1 from enforcement.ledger_cursors where partition = %(partition)s and topic = %(topic)s"""
ACCOUNT_TYPES: Final = (
    "goodfaith.account.notice.v1",
    "goodfaith.account.channels.v1",
    "goodfaith.message.read.v1",
    "goodfaith.account.erased.v1",
    "goodfaith.sanction.lift.v1",
)
"""All types in the topic of accounts, as in the index ``event_log_accounts``."""
# a change of standing is in the log once the worker has taken its notice from the admission queue: until then there is
# no position. Filters by type to use its own index: millions of rows may follow the last one on an account
_QUEUE: Final = f"""
    select case when exists (select from intake.admission_queue where partition = %(partition)s and type = 'goodfaith.account.notice.v1')
        then -2 else (select seq from intake.event_log where partition = %(partition)s and type in {ACCOUNT_TYPES}
            order by seq desc limit 1) end"""
# by type for the same reason
_FILED: Final = """
    select seq from intake.event_log where partition = %(partition)s and type = 'goodfaith.claim.filed.v1'
    order by seq desc limit 1"""
_ACCOUNTS: Final = """
    select account, case when state = 'out' then 'barred' else state end from intake.good_faith_standings
    where state <> 'out' or barred_until is not null"""
# a filing in the admission queue is not in the log yet; it moves from one to the other in one transaction
_FILINGS: Final = """
    select c.complainant, count(*), sum(c.size) from intake.claims c
    where c.told_partition = %(partition)s and c.accepted_at >= %(since)s and c.channel <> all(%(left_out)s)
        and c.id not in (select d.claim from intake.admission_queue d where d.kind = 'filing' and d.partition = %(partition)s)
    group by c.complainant"""
_ITEMS: Final = """
    with i as materialized (
        select state, reason, body::jsonb as b from verification.items where partition = %s)
    select state, reason, b ->> 'right_type', coalesce(b ->> 'lane', 'standard'), coalesce(b ->> 'sla', ''),
        b ? 'handled_at', coalesce((b ->> 'held')::bool, false), coalesce((b ->> 'taken_down')::bool, false),
        concat_ws('/', b -> 'audit' ->> 'outcome', b -> 'audit' ->> 'size',
            case when b ? 'audit' then coalesce(b -> 'audit' ->> 'found', 'waiting') end), count(*)
    from i where not coalesce((b ->> 'canary')::bool, false) group by 1, 2, 3, 4, 5, 6, 7, 8, 9"""
_VIOLATIONS: Final = """
    select v.seller, count(*), count(*) filter (where v.severity = 'serious'), count(*) filter (where v.at + %(within)s > %(now)s)
    from enforcement.violations v join enforcement.standings s using (seller)
    where s.partition = %(partition)s and v.in_force group by v.seller"""
_VIOLATION_ITEMS: Final = """
    select count(*) from enforcement.violation_items i join enforcement.standings s using (seller)
    where s.partition = %s and i.in_force"""
_STANDINGS: Final = """
    select violations, count(*), sum(general_points), sum(serious_strikes) from enforcement.standings
    where partition = %s group by violations"""
_SANCTIONS: Final = """
    select a.ledger, a.level, count(*) from enforcement.sanctions a join enforcement.standings s using (seller)
    where s.partition = %s and a.state = 'in_force' group by 1, 2"""


def items(connection: sa.Connection, partition: int, _: dt.datetime, __: int) -> dict[str, int]:
    """Counts of view ``items`` from verification's table."""
    found: Counter[str] = Counter()
    for state, reason, right, tier, sla, handled, held, taken, audit, count in connection.exec_driver_sql(
        _ITEMS, (partition,)
    ):
        found[f"state/{state}"] += count
        if audit:
            found[f"audit/{audit}"] += count
        if sla:
            found[f"sla/{sla}/{tier}"] += count
        if handled:
            if state not in ("DUPLICATE", "LINK_INVALID"):
                found[f"takedown/{'taken_down' if taken else 'declined'}/{right}/{reason}"] += count
            continue
        if state in ("LAPSED", "REJECTED", "RESTORED", "WITHDRAWN"):
            continue  # ended without being handled
        stands_still = state in ("NEEDS_INFO", "SUSPENDED")
        if stands_still:
            waits_for = "complainant"
        elif held:
            waits_for = "enforcement"
        else:
            people = ("UNDER_REVIEW", "COUNTERED", "PLATFORM_REVIEW", "APPEALED")
            waits_for = "review" if state in people else "verification"
        found[f"open/{waits_for}/{tier}"] += count
        if stands_still and not sla:
            found[f"paused/{state}"] += count
    return dict(found)


def violations(connection: sa.Connection, partition: int, now: dt.datetime, _: int) -> dict[str, int]:
    """Counts of view ``violations`` from the ledger's tables."""
    found: Counter[str] = Counter()
    given = {"partition": partition, "now": now, "within": sellers.rules().within.exact}
    for _, in_force, serious, recent in connection.exec_driver_sql(_VIOLATIONS, given):
        found["in_force"] += in_force
        found["serious"] += serious
        if recent:
            found[f"sellers/{recent}"] += 1
    found["items"] = connection.exec_driver_sql(_VIOLATION_ITEMS, (partition,)).scalar_one()
    return dict(found)


def standings(connection: sa.Connection, partition: int, _: dt.datetime, __: int) -> dict[str, int]:
    """Counts of view ``standings`` from the ledger's tables."""
    found: Counter[str] = Counter()
    for many, count, points, strikes in connection.exec_driver_sql(_STANDINGS, (partition,)):
        found["general_points"] += int(points)
        found["serious_strikes"] += int(strikes)
        if many:
            found[f"sellers/{many}"] += count
    for ledger, level, count in connection.exec_driver_sql(_SANCTIONS, (partition,)):
        found[f"sanctions/{ledger}/{level}"] += count
    return dict(found)


def accounts(connection: sa.Connection, partition: int, _: dt.datetime, partitions: int) -> dict[str, int]:
    """Counts of view ``accounts`` from intake's standings, which have no partition column."""
    rows = connection.exec_driver_sql(_ACCOUNTS)
    return dict(Counter(state for account, state in rows if topics.partition_of(account, partitions) == partition))


def filings(connection: sa.Connection, partition: int, now: dt.datetime, _: int) -> dict[str, int]:
    """Counts of view ``filings`` from intake's claims that were announced; older claims have no event."""
    given = {
        "partition": partition,
        "since": concentration.since(now),
        "left_out": [filings_.BY_SYSTEM, filings_.CANARY],
    }
    rows = connection.exec_driver_sql(_FILINGS, given).all()
    return filings_.counts_of(sum(claims for _, claims, _ in rows), [int(items) for _, _, items in rows])


@dataclass(frozen=True)
class Truth:
    """What a view is compared with.

    Attributes:
        source: for a partition, the source whose positions are compared.
        position: SQL for the database's position, by partition and topic; below -1: no comparable position.
        topic: the topic that the view reads.
        counts: computes counts from (snapshot connection, partition, business time, number of partitions).
        prefixed: the database uses the topic's full name.
    """

    source: Callable[[int], str]
    position: str
    topic: topics.Topic
    counts: Callable[[sa.Connection, int, dt.datetime, int], dict[str, int]]
    prefixed: bool = True


TRUTHS: Final[Mapping[str, Truth]] = {
    "items": Truth(
        lambda partition: log_source("verification", partition, topics.VERIFICATION.name),
        _LOG.format(log="verification.event_log"),
        topics.VERIFICATION,
        items,
    ),
    "violations": Truth(
        lambda _: topic_source(topics.VIOLATIONS.name), _CURSOR, topics.VIOLATIONS, violations, prefixed=False
    ),
    "standings": Truth(
        lambda partition: log_source("enforcement-ledger", partition, topics.LEDGER.name),
        _LOG.format(log="enforcement.ledger_event_log"),
        topics.LEDGER,
        standings,
    ),
    "accounts": Truth(
        lambda partition: log_source("intake", partition, topics.ACCOUNTS.name), _QUEUE, topics.ACCOUNTS, accounts
    ),
    "filings": Truth(
        lambda partition: log_source("intake", partition, topics.FILINGS.name), _FILED, topics.FILINGS, filings
    ),
}
"""By view. Violations are compared at the ledger worker's position in the topic that both read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The database's counts as of a position and a business time."""

    upto: int
    now: dt.datetime
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison. ``differing``: by count, the view's value and the database's."""

    view: str
    partition: int
    upto: int
    difference: int
    differing: dict[str, tuple[int, int]] = field(default_factory=dict)


def compare(view: str, partition: int, folded: Mapping[str, int], truth: Snapshot) -> Comparison:
    """Compare counts; a missing count is 0."""
    differing = {
        name: (folded.get(name, 0), truth.counts.get(name, 0))
        for name in sorted({*folded, *truth.counts})
        if folded.get(name, 0) != truth.counts.get(name, 0)
    }
    return Comparison(
        view, partition, truth.upto, sum(abs(ours - theirs) for ours, theirs in differing.values()), differing
    )


class Database:
    """Reads what views are compared with. Blocking."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._partitions = settings.partitions
        self.engine = db.connect(
            settings.present("database"), schema="platform", name=f"streams-{settings.instance}", pool_size=2
        )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one consistent snapshot."""
        with (
            self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
        ):
            connection.exec_driver_sql(f"set local statement_timeout = {TIMEOUT_MS}")
            yield connection

    def position(self, view: str, partition: int) -> int:
        """The database's position; -1: at the beginning."""
        with self.reading() as connection:
            return self._position(connection, view, partition)

    def _position(self, connection: sa.Connection, view: str, partition: int) -> int:
        truth = TRUTHS[view]
        topic = self._prefix * truth.prefixed + truth.topic.name
        found = connection.exec_driver_sql(truth.position, {"partition": partition, "topic": topic}).scalar()
        return -1 if found is None else int(found)

    def snapshot(self, view: str, partition: int) -> Snapshot:
        """Position and counts at one moment."""
        with self.reading() as connection:
            upto = self._position(connection, view, partition)
            now, _ = clock.read(connection)
            return Snapshot(upto, now, TRUTHS[view].counts(connection, partition, now, self._partitions))

    def clock(self) -> tuple[clock.Anchor, dt.datetime]:
        """The current anchor of business time, and the database's wall time now."""
        with self.reading() as connection:
            return clock.anchor(connection)

    def close(self) -> None:
        """Close connections."""
        self.engine.dispose()


async def reconcile(view: str, partition: Partition, database: Any) -> Comparison | None:
    """Compare a view on one partition; None if the database lagged too far or the fold did not reach it in time.

    Args:
        database: a ``Database``.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be read.
        asyncio.CancelledError: the partition was closed in the meantime, or this task was cancelled.
    """
    source = TRUTHS[view].source(partition.number)
    until = time.monotonic() + PATIENCE_S
    try:
        async with partition.lock, asyncio.timeout(HOLD_S):
            at = partition.positions.get(source, -1)
            while await asyncio.to_thread(database.position, view, partition.number) < at:
                if time.monotonic() > until:
                    return None
                await asyncio.sleep(0.1)
            truth: Snapshot = await asyncio.to_thread(database.snapshot, view, partition.number)
            told = partition.counts_at(view, source, truth.upto, truth.now)
    except TimeoutError:
        return None
    try:
        folded = await asyncio.wait_for(told, CATCH_UP_S)
    except (PositionPassed, TimeoutError):
        return None
    return compare(view, partition.number, folded, truth)


class Reconciler:
    """Compares every view on every partition of this process, continuously.

    Args:
        partitions: the recovered, owned and complete partitions.
        show: called with (view, partition, difference, wall time).
    """

    def __init__(
        self,
        partitions: Callable[[], Mapping[int, Partition]],
        database: Any,
        show: Callable[[str, int, int, float], None],
    ) -> None:
        self._partitions = partitions
        self._database = database
        self._show = show
        self.found: dict[tuple[str, int], tuple[Comparison, float]] = {}
        """By view and partition, the last result and its wall time."""

    async def round(self) -> None:
        """Compare everything once; stop if the database cannot be read."""
        for number in list(self._partitions()):
            for view in TRUTHS:
                partition = self._partitions().get(number)
                if partition is not None and not await self._one(view, partition):
                    return

    async def _one(self, view: str, partition: Partition) -> bool:
        try:
            found = await reconcile(view, partition, self._database)
        except sa.exc.SQLAlchemyError as error:
            log.warning("not reconciled", view=view, partition=partition.number, error=type(error).__name__)
            return False
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return True  # the partition went to another worker
        if found is None:
            log.warning("not reconciled", view=view, partition=partition.number, error="no common position")
            return True
        wall = time.time()
        self.found[view, partition.number] = (found, wall)
        self._show(view, partition.number, found.difference, wall)
        if found.difference:
            log.error(
                "view and database differ",
                view=view,
                partition=partition.number,
                upto=found.upto,
                difference=found.difference,
                differing=dict(list(found.differing.items())[:SHOWN]),
            )
        return True

    async def run(self, every_s: float) -> None:
        """Run rounds until cancelled, with ``every_s`` seconds between them."""
        while True:
            await self.round()
            await asyncio.sleep(every_s)
