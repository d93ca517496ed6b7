"""`goodfaith prune`: deletes rows that are no longer needed, while everything runs. Run it daily.

It deletes the records of when readers read what (``reads_log``), dead letters that were dealt with, and rows that only
a past day needed (``AGED``). It keeps everything that a service needs for a decision, an answer or a proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import sqlalchemy as sa
import typer

from services.ops import installation
from services.ops.idle import present, readers
from services.ops.terminal import JsonOption, StackOption, YesOption
from shared.settings import Settings

KEEP_DAYS: Final = 30.0
KEEP_DAYS_VERIFICATION: Final = 400.0
"""`policy backtest` works on items up to this age, and needs to know when verification judged each input."""


@dataclass(frozen=True, slots=True)
class Aged:
    """Rows that may be deleted by age.

    Attributes:
        old: SQL condition; ``:now`` is business time, ``:wall`` wall time, ``:bounce_days`` the setting.
        why: what reads the rows, and for how long.
    """

    table: str
    old: str
    why: str


AGED: Final = (
    Aged("intake.usage", "hour < :now - interval '2 days'", "the quota looks back 24 hours"),
    Aged("intake.filing_days", "day < (:now at time zone 'UTC')::date - 366", "the brake looks back its window"),
    Aged("intake.misuse_usage", "day < (:now at time zone 'UTC')::date - 2", "the quota is a day's"),
    Aged(
        "verification.snapshots",
        "not filed and until < :now - interval '400 days'",
        "reviewers compare what a listing showed during a claim",
    ),
    Aged(
        "notification.bouncing",
        "since_wall < :wall - :bounce_days * interval '1 day'",
        "an address counts as one that takes no mail for GOODFAITH_BOUNCE_DAYS",
    ),
)
DEAD_LETTERS_OLD: Final = "state = 'done' and changed_wall < :wall - interval '45 days'"
"""Dead letters that were dealt with. `verify` compares them with the records on their topics, which last 30 days."""


# ----------------------------------------------------------------------------------------------------------- the shell


class Pruning:
    """One pruning run over an installation.

    Args:
        engine: an administrator's, in AUTOCOMMIT mode.
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

    def reads(
        self, keep_days: float = KEEP_DAYS, keep_days_verification: float = KEEP_DAYS_VERIFICATION
    ) -> dict[str, int]:
        """Delete older records of when readers read what. Returns the number of rows, by table."""
        deleted = {}
        with self._engine.connect() as connection:
            for reader in self._logs:
                days = keep_days_verification if reader.name == "verification" else keep_days
                table = f"{reader.tables}reads_log"
                self._tell(table)
                deleted[table] = connection.exec_driver_sql(
                    f"delete from {table} where recorded_wall < now() - %s * interval '1 day'", (days,)
                ).rowcount
        return deleted

    def aged(self) -> dict[str, int]:
        """Delete rows by age. Returns the number of rows, by table."""
        from shared import clock

        rules = [*AGED, *(Aged(f"{r.tables}dead_letters", DEAD_LETTERS_OLD, "") for r in self._logs)]
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


def prune(
    stack: StackOption = "default",
    keep_days: Annotated[
        float, typer.Option(min=0, help="Days to keep the record of when an event was read.")
    ] = KEEP_DAYS,
    keep_days_verification: Annotated[
        float, typer.Option(min=0, help="The same for verification; `policy backtest` can look back this far.")
    ] = KEEP_DAYS_VERIFICATION,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete table rows that are no longer needed, while everything runs.

    To prune an installation, set `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE` (an administrator's URL).
    """
    from services.ops.terminal import confirm, console, print_json, progress
    from shared import db

    confirm("Delete the table rows that are no longer needed?", yes=yes)
    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), autocommit=True)
    begun = time.monotonic()
    try:
        with progress("pruning") as tell:
            pruning = Pruning(engine, settings, tell=tell)
            deleted = pruning.reads(keep_days, keep_days_verification) | pruning.aged()
    finally:
        engine.dispose()
    for table, count in deleted.items():
        if count:
            console.print(f"{table}: deleted {count:,} rows", highlight=False)
    if json:
        print_json({"rows": deleted, "seconds": round(time.monotonic() - begun, 1)})


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(prune)
