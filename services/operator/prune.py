"""`goodfaith prune`: what tables need not keep goes from them, while everything runs. Run it daily.

**Inboxes.** A reader keeps the id of every event that it has read, so that none is applied twice. Where *every* event of a topic
that a writer's log has up to some number is there, the ids say no more than the number does: it is kept as a mark, and they go. So
nothing is forgotten, however old: a topic that is read again from its beginning, or filled anew from the logs, still changes
nothing. What is not proven by both tables stays: ids of those who have no log here (a real marketplace, upstreams), and everything
from an event on that was never read (`held`).

**Other rows** that only a past day needed (`AGED`).

Nothing of what a service decides by, answers for, or proves is touched: docs/decisions/0048-marks-for-ids.md.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer

from services.operator.up import JsonOption, StackOption, running
from shared.settings import Settings

KEEP_DAYS: Final = 30.0
KEEP_DAYS_VERIFICATION: Final = 400.0
"""A policy is tried on items of that age: `policy backtest` finds by verification's inbox when an input was judged."""
CHUNK: Final = 50_000
"""Numbers of a log that are looked at, or whose ids are deleted, in one transaction."""
WAIT_S: Final = 60.0
"""So long are transactions waited for that began before a mark was there; then ids stay until the next run."""


@dataclass(frozen=True, slots=True)
class Aged:
    """Rows that may go by age.

    Attributes:
        old: a condition; ``:now`` is business time, ``:wall`` wall time, ``:bounce_days`` the setting.
        why: what reads them, and until when.
    """

    table: str
    old: str
    why: str


AGED: Final = (
    Aged("intake.usage", "hour < :now - interval '2 days'", "the quota looks back 24 hours"),
    Aged("intake.misuse_usage", "day < (:now at time zone 'UTC')::date - 2", "the quota is a day's"),
    Aged(
        "notification.bouncing",
        "since_wall < :wall - :bounce_days * interval '1 day'",
        "an address counts as one that takes no mail for GOODFAITH_BOUNCE_DAYS",
    ),
)
PARKED_OLD: Final = "state = 'done' and changed_wall < :wall - interval '45 days'"
"""Records that were dealt with: their topics (30 days) no longer have them, which `verify` compares with."""


# ----------------------------------------------------------------------------------------------------------- pure core


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to which number a topic's events of a writer's partition were all read, and up to which their ids are gone."""

    upto: int = 0
    gone_upto: int = 0


def advanced(
    marks: Mapping[str, int], bad: Mapping[str, int], start: int, end: int
) -> tuple[dict[str, int], dict[str, int]]:
    """How far marks may move after the numbers (start, end] of a log's partition were looked at.

    Args:
        marks: topic -> number, of all topics that the reader reads from this log.
        bad: topic -> least number in (start, end], above the topic's mark, whose event was not read, or too lately.

    Returns:
        Marks that move, and topics that are held: by topic the number that holds it.
    """
    moved: dict[str, int] = {}
    held: dict[str, int] = {}
    for topic, upto in marks.items():
        if upto > end:
            continue
        if upto < start:  # held in an earlier stretch
            continue
        last = end
        if topic in bad:
            held[topic] = bad[topic]
            last = bad[topic] - 1
        if last > upto:
            moved[topic] = last
    return moved, held


# ----------------------------------------------------------------------------------------------------------- the shell


@dataclass(slots=True)
class Fold:
    """What was done in one reader's inbox.

    Attributes:
        deleted: ids that went.
        left: bytes of the table and its indexes.
        held: topic, writer and partition -> number of an event that is not in the inbox and keeps later ones there.
        waits: whether ids stay until the next run, since an old transaction went on.
    """

    reader: str
    deleted: int = 0
    left: int = 0
    held: dict[str, int] = field(default_factory=dict)
    waits: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """A log, and which topics of it a reader reads: name on the broker -> declared name."""

    writer: str
    table: str
    topics: Mapping[str, str]


class Pruning:
    """One run over an installation.

    Args:
        engine: as an administrator, AUTOCOMMIT.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, *, tell: Callable[[str], None] = lambda _: None) -> None:
        from services.operator.idle import present, readers

        self._engine = engine
        self._settings = settings
        self._tell = tell
        with engine.connect() as connection:
            self._there = set(
                connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars()
            )
            self._logs = present(connection, readers(settings), table="event_log")

    def inboxes(
        self, keep_days: float = KEEP_DAYS, keep_days_verification: float = KEEP_DAYS_VERIFICATION
    ) -> list[Fold]:
        """Fold every inbox; what was read less than so many days ago stays as it is."""
        found = []
        for reader in self._logs:
            table = f"{reader.schema}.{reader.prefix}inbox"
            if f"{table}_marks" not in self._there:
                continue  # not migrated yet
            days = keep_days_verification if reader.name == "verification" else keep_days
            self._tell(f"inbox of {reader.name}")
            found.append(self._fold(reader.name, table, days, list(self._sources(reader))))
        return found

    def _sources(self, reader: Any) -> Iterator[_Source]:
        for log in self._logs:
            topics = {
                self._settings.topic_prefix + topic.name: topic.name
                for topic in reader.reads
                if log.schema in topic.writer.split(", ")
            }
            if topics:
                yield _Source(log.name, f"{log.schema}.{log.prefix}", topics)

    def _fold(self, name: str, table: str, days: float, sources: Sequence[_Source]) -> Fold:
        fold = Fold(name)
        with self._engine.connect() as connection:
            horizon = connection.exec_driver_sql("select now() - %s * interval '1 day'", (days,)).scalar_one()
            for source in sources:
                heads = connection.exec_driver_sql(f"select partition, seq from {source.table}partitions order by 1")
                for partition, head in heads.all():
                    self._mark(connection, table, source, partition, head, horizon, fold)
            if self._outlived(connection):
                for source in sources:
                    fold.deleted += self._delete(connection, table, source)
            else:
                fold.waits = True
            fold.left = int(
                connection.exec_driver_sql("select pg_total_relation_size(cast(%s as regclass))", (table,)).scalar_one()
            )
        return fold

    def _marks(self, connection: sa.Connection, table: str, source: _Source, partition: int) -> dict[str, Mark]:
        rows = connection.exec_driver_sql(
            f"select topic, upto, gone_upto from {table}_marks where writer = %s and partition = %s",
            (source.writer, partition),
        )
        known = {topic: Mark(upto, gone) for topic, upto, gone in rows}
        return {topic: known.get(topic, Mark()) for topic in source.topics.values()}

    def _mark(
        self, connection: sa.Connection, table: str, source: _Source, partition: int, head: int, horizon: dt.datetime, fold: Fold
    ) -> None:  # fmt: skip
        """Move marks as far as log and inbox prove that all was read."""
        names = list(source.topics)
        marks = {topic: mark.upto for topic, mark in self._marks(connection, table, source, partition).items()}
        held: dict[str, int] = {}
        start = min(marks.values())
        while start < head and len(held) < len(marks):
            end = min(start + CHUNK, head)
            rows = connection.exec_driver_sql(
                f"""select l.topic, min(l.seq) from {source.table}event_log l
                    join unnest(%s::text[], %s::bigint[]) as n(topic, upto) on n.topic = l.topic and l.seq > n.upto
                    left join {table} i on i.event_id = %s || l.partition || '.' || l.seq
                    where l.partition = %s and l.seq > %s and l.seq <= %s
                        and (i.event_id is null or i.received_wall > %s)
                    group by 1""",
                (
                    names,
                    [marks[source.topics[name]] for name in names],
                    f"{source.writer}.",
                    partition,
                    start,
                    end,
                    horizon,
                ),
            )
            bad = {source.topics[name]: number for name, number in rows}
            moved, stopped = advanced({t: u for t, u in marks.items() if t not in held}, bad, start, end)
            held |= stopped
            marks |= moved
            if moved:
                connection.exec_driver_sql(
                    f"""insert into {table}_marks (topic, writer, partition, upto)
                        select n.topic, %s, %s, n.upto from unnest(%s::text[], %s::bigint[]) as n(topic, upto)
                        on conflict (topic, writer, partition) do update set upto = greatest({table.rpartition(".")[2]}_marks.upto, excluded.upto)""",
                    (source.writer, partition, list(moved), list(moved.values())),
                )
            start = end
        for topic, number in held.items():
            id_ = f"{source.writer}.{partition}.{number}"
            unread = connection.exec_driver_sql(
                f"select not exists (select from {table} where event_id = %s)", (id_,)
            ).scalar_one()
            if unread:
                # what was read lately is on its way; this one is not
                young = connection.exec_driver_sql(
                    f"select recorded_wall > %s from {source.table}event_log where partition = %s and seq = %s",
                    (horizon, partition, number),
                ).scalar_one()
                if not young:
                    fold.held[f"{topic} {source.writer}.{partition}"] = number

    def _outlived(self, connection: sa.Connection) -> bool:
        """Wait until nothing runs any more that began before the marks were there, and might not have seen them."""
        until = time.monotonic() + WAIT_S
        newest = "select cast(cast(pg_snapshot_xmax(pg_current_snapshot()) as text) as numeric)"
        oldest = "select cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as numeric)"
        then = connection.exec_driver_sql(newest).scalar_one()
        while connection.exec_driver_sql(oldest).scalar_one() < then:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def _delete(self, connection: sa.Connection, table: str, source: _Source) -> int:
        """Delete the ids that marks stand for."""
        partitions = connection.exec_driver_sql(
            f"select distinct partition from {table}_marks where writer = %s and gone_upto < upto order by 1",
            (source.writer,),
        ).scalars()
        deleted = 0
        names = {declared: name for name, declared in source.topics.items()}
        for partition in partitions.all():
            for topic, mark in self._marks(connection, table, source, partition).items():
                start = mark.gone_upto
                while start < mark.upto:
                    end = min(start + CHUNK, mark.upto)
                    with (
                        self._engine.connect().execution_options(isolation_level="READ COMMITTED") as other,
                        other.begin(),
                    ):
                        deleted += other.exec_driver_sql(
                            f"""delete from {table} where event_id in (
                                select %s || l.partition || '.' || l.seq from {source.table}event_log l
                                where l.partition = %s and l.seq > %s and l.seq <= %s and l.topic = %s)""",
                            (f"{source.writer}.", partition, start, end, names[topic]),
                        ).rowcount
                        other.exec_driver_sql(
                            f"update {table}_marks set gone_upto = %s where topic = %s and writer = %s and partition = %s",
                            (end, topic, source.writer, partition),
                        )
                    start = end
        return deleted

    def aged(self) -> dict[str, int]:
        """Delete rows that may go by age; how many, by table."""
        from shared import clock

        rules = [*AGED, *(Aged(f"{r.schema}.{r.prefix}parked", PARKED_OLD, "") for r in self._logs)]
        deleted = {}
        with self._engine.connect() as connection:
            business, wall = clock.read(connection)
            values = {"now": business, "wall": wall, "bounce_days": self._settings.bounce_days}
            for rule in rules:
                if rule.table not in self._there:
                    continue
                self._tell(rule.table)
                used = {name: value for name, value in values.items() if f":{name}" in rule.old}
                statement = sa.text(f"delete from {rule.table} where {rule.old}")
                deleted[rule.table] = connection.execute(statement, used).rowcount
        return deleted


def summary(folds: Iterable[Fold], aged: Mapping[str, int], seconds: float) -> dict[str, Any]:
    """For `--json`."""
    folds = list(folds)
    return {
        "inboxes": {
            fold.reader: {"deleted": fold.deleted, "bytes": fold.left, "held": fold.held, "waits": fold.waits}
            for fold in folds
        },
        "ids": sum(fold.deleted for fold in folds),
        "rows": dict(aged),
        "seconds": round(seconds, 1),
    }


def prune(
    stack: StackOption = "default",
    keep_days: Annotated[
        float, typer.Option(min=0, help="Ids of events that were read in so many days stay.")
    ] = KEEP_DAYS,
    keep_days_verification: Annotated[
        float, typer.Option(min=0, help="The same, of verification: `policy backtest` reaches back so far.")
    ] = KEEP_DAYS_VERIFICATION,
    json: JsonOption = False,
) -> None:
    """Take from the tables what they need not keep, while everything runs; exit 1 when an inbox is held by an unread event.

    With `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE` (an administrator's) set: of that installation.
    """
    from deploy.local import fleet
    from services.operator.cli import console, errors, print_json
    from shared import db

    local = running(stack, whole=False)
    engine = db.administer(local.admin_url, autocommit=True)
    begun = time.monotonic()
    try:
        with errors.status("pruning") as status:
            pruning = Pruning(engine, fleet.settings_of(local), tell=status.update)
            folds = pruning.inboxes(keep_days, keep_days_verification)
            aged = pruning.aged()
    finally:
        engine.dispose()
    facts = summary(folds, aged, time.monotonic() - begun)
    for fold in folds:
        console.print(f"inbox of {fold.reader}: {fold.deleted:,} ids went, {fold.left / 1e6:,.1f} MB", highlight=False)
        for place, number in fold.held.items():
            console.print(f"  held: {place}.{number} was never read", markup=False, highlight=False)
        if fold.waits:
            console.print("  an old transaction goes on: ids stay until the next run", highlight=False)
    for table, count in aged.items():
        if count:
            console.print(f"{table}: {count:,} rows went", highlight=False)
    if json:
        print_json(facts)
    if any(fold.held for fold in folds):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(prune)
