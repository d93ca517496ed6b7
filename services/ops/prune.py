"""`goodfaith prune`: what tables need not keep goes from them, while everything runs. Run it daily.

**Inboxes.** A reader tells our own events by their numbers (docs/decisions/0050); its inbox has ids of events from outside, which
stay. An installation that was upgraded from a version without linked events still has ids of our own: once all of the reader's
partitions are linked (`goodfaith upgrade finish`), those that are old enough go.

**Other rows** that only a past day needed (`AGED`).

Nothing of what a service decides by, answers for, or proves is touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer

from services.ops import installation
from services.ops.idle import Reader, present, readers
from services.ops.terminal import JsonOption, StackOption
from shared.settings import Settings

KEEP_DAYS: Final = 30.0
KEEP_DAYS_VERIFICATION: Final = 400.0
"""A policy is tried on items of that age: `policy backtest` finds by verification's inbox when an input was judged."""
CHUNK: Final = 50_000
"""Ids that are deleted in one transaction."""
_OURS: Final = """
    delete from {table}inbox where event_id in (select event_id from {table}inbox
        where event_id ~ %s and received_wall < now() - %s * interval '1 day' limit %s)"""


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


# ----------------------------------------------------------------------------------------------------------- the shell


@dataclass(slots=True)
class Fold:
    """What was done in one reader's inbox.

    Attributes:
        deleted: ids that went.
        left: bytes of the table and its indexes.
        reads: rows that went from its `reads_log`.
        unlinked: partitions whose ids stay, as a version without linked events may still work on them.
    """

    reader: str
    deleted: int = 0
    left: int = 0
    unlinked: int = 0
    reads: int = 0


class Pruning:
    """One run over an installation.

    Args:
        engine: as an administrator, AUTOCOMMIT.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, *, tell: Callable[[str], None] = lambda _: None) -> None:
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
        """Delete ids of our own events that are told by numbers now; what was read less than so many days ago stays."""
        found = []
        for reader in self._logs:
            days = keep_days_verification if reader.name == "verification" else keep_days
            self._tell(f"inbox of {reader.name}")
            found.append(self._fold(reader, days))
        return found

    def _fold(self, reader: Reader, days: float) -> Fold:
        fold = Fold(reader.name)
        table = f"{reader.schema}.{reader.prefix}"
        writers = [
            log.name
            for log in self._logs
            if any(log.schema in topic.writers and topic.writer != "marketplace" for topic in reader.reads)
        ]
        with self._engine.connect() as connection:
            fold.unlinked = connection.exec_driver_sql(
                f"select count(*) from {table}partitions where not linked"
            ).scalar_one()
            while not fold.unlinked and writers:
                gone = connection.exec_driver_sql(
                    _OURS.format(table=table), (f"^({'|'.join(writers)})[.][0-9]+[.][0-9]+$", days, CHUNK)
                ).rowcount
                fold.deleted += gone
                if gone < CHUNK:
                    break
            fold.left = int(
                connection.exec_driver_sql(
                    "select pg_total_relation_size(cast(%s as regclass))", (f"{table}inbox",)
                ).scalar_one()
            )
            self._tell(f"when {reader.name} read what")
            fold.reads = connection.exec_driver_sql(
                f"delete from {table}reads_log where recorded_wall < now() - %s * interval '1 day'", (days,)
            ).rowcount
        return fold

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
            fold.reader: {"deleted": fold.deleted, "bytes": fold.left, "unlinked": fold.unlinked, "reads": fold.reads}
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
    """Delete from the tables what they need not keep, while everything runs.

    With `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE` (an administrator's) set: of that installation.
    """
    from services.ops.terminal import console, errors, print_json
    from shared import db

    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), autocommit=True)
    begun = time.monotonic()
    try:
        with errors.status("pruning") as status:
            pruning = Pruning(engine, settings, tell=status.update)
            folds = pruning.inboxes(keep_days, keep_days_verification)
            aged = pruning.aged()
    finally:
        engine.dispose()
    facts = summary(folds, aged, time.monotonic() - begun)
    for fold in folds:
        console.print(f"inbox of {fold.reader}: {fold.deleted:,} ids went, {fold.left / 1e6:,.1f} MB", highlight=False)
        if fold.unlinked:
            console.print(f"  {fold.unlinked} partitions are not linked: goodfaith upgrade finish", highlight=False)
    for table, count in aged.items():
        if count:
            console.print(f"{table}: {count:,} rows went", highlight=False)
    if json:
        print_json(facts)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(prune)
