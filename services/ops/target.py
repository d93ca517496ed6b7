"""`goodfaith target`: the 24-hour target and the takedown rate, counted by SQL.

It asks only the database, so you can check the figures of Prometheus's rules against it. Canaries are left out.
Definitions: docs/explanation/domain.md, "Terms with an exact meaning".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from services.ops.terminal import AtOption, JsonOption, StackOption

if TYPE_CHECKING:
    import sqlalchemy as sa

WINDOWS: Final[dict[str, dt.timedelta | None]] = {
    "1h": dt.timedelta(hours=1),
    "1d": dt.timedelta(days=1),
    "30d": dt.timedelta(days=30),
    "all": None,
}
"""Length of each window; None: since the beginning."""

# An item's outcome can change: one that was refused is taken down after a complaint. From then on it counts as taken
# down, in the window of that moment, as in the stream views: a window is what was added in it less what was removed.
_MOVES: Final = """
    with told as (
        select p ->> 'time' as at, d ->> 'item' as item, (d ->> 'revision')::int as revision, d ->> 'sla' as sla,
            d ->> 'handled_at' is not null and d ->> 'state' not in ('DUPLICATE', 'LINK_INVALID') as counts,
            coalesce((d ->> 'held')::boolean, false) as held
        from (select payload::jsonb as p, payload::jsonb -> 'data' as d from verification.event_log
            where type like 'goodfaith.item.%%') as log
        where not coalesce((d ->> 'canary')::boolean, false)
    ), known as (
        select at::timestamptz as at, item, revision, sla,
            case when not counts then null when bool_or(held) over so_far then 'taken_down' else 'declined' end as outcome
        from told window so_far as (partition by item order by revision)
    ), moved as (
        select at, sla, lag(sla) over per_item as sla_before, outcome, lag(outcome) over per_item as outcome_before
        from known window per_item as (partition by item order by revision)
    ), moves as (
        select at, sla as name, 1 as by from moved where sla is distinct from sla_before
        union all select at, sla_before, -1 from moved where sla is distinct from sla_before
        union all select at, outcome, 1 from moved where outcome is distinct from outcome_before
        union all select at, outcome_before, -1 from moved where outcome is distinct from outcome_before
    )
    select name, {columns} from moves where name is not null and at <= %s group by name"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Number of items in one window, by outcome."""

    met: int = 0
    missed: int = 0
    taken_down: int = 0
    declined: int = 0

    @property
    def handled_within_24h(self) -> float | None:
        """Share of items that met the 24-hour target; None: none met or missed it."""
        return _share(self.met, self.missed)

    @property
    def takedown_rate(self) -> float | None:
        """Items taken down / items handled, without duplicates and dead links; None: none was handled."""
        return _share(self.taken_down, self.declined)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "met": self.met,
            "missed": self.missed,
            "handled_within_24h": self.handled_within_24h,
            "taken_down": self.taken_down,
            "declined": self.declined,
            "takedown_rate": self.takedown_rate,
        }


def _share(part: int, rest: int) -> float | None:
    return round(part / (part + rest), 6) if part + rest else None


def windows(rows: Iterable[tuple[str, *tuple[int, ...]]]) -> dict[str, Figures]:
    """Figures by window, from rows of an outcome and its count in each window."""
    counts: dict[str, tuple[int, ...]] = {name: tuple(by_window) for name, *by_window in rows}
    none = (0,) * len(WINDOWS)
    return {
        window: Figures(**{name: counts.get(name, none)[n] for name in Figures.__dataclass_fields__})
        for n, window in enumerate(WINDOWS)
    }


def count(connection: sa.Connection, at: dt.datetime) -> dict[str, Figures]:
    """The figures at a moment of business time, by window. An outcome counts from when it occurred."""
    columns = ", ".join(
        "coalesce(sum(by), 0)" if length is None else "coalesce(sum(by) filter (where at > %s), 0)"
        for length in WINDOWS.values()
    )
    since = tuple(at - length for length in WINDOWS.values() if length is not None)
    rows = connection.exec_driver_sql(_MOVES.format(columns=columns), (*since, at))
    return windows(tuple(row) for row in rows)


def show(at: dt.datetime, figures: Mapping[str, Figures]) -> None:
    """Print the figures for people."""
    from services.ops.terminal import console, table

    grid = table(
        "window", "in time", "met", "missed", "taken down", "items", title=f"Targets as of {at:%Y-%m-%d %H:%M:%S}Z"
    )
    for window, one in figures.items():
        grid.add_row(
            window,
            _percent(one.handled_within_24h),
            f"{one.met:,}",
            f"{one.missed:,}",
            _percent(one.takedown_rate),
            f"{one.taken_down:,} of {one.taken_down + one.declined:,}",
        )
    console.print(grid)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def target(
    stack: StackOption = "default",
    at: AtOption = None,
    json: JsonOption = False,
) -> None:
    """Show the 24-hour target and the takedown rate over an hour, a day, 30 days and all time, counted by SQL."""
    from services.ops import installation
    from services.ops.terminal import print_json, progress
    from shared import clock, db

    engine = db.administer(installation.settings(stack).database.get_secret_value(), pooled=False)
    with progress("counting"), engine.connect() as connection:
        now = at or clock.read(connection)[0]
        found = count(connection, now)
    engine.dispose()
    show(now, found)
    if json:
        print_json({"at": now.isoformat(), "windows": {window: one.as_json() for window, one in found.items()}})


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(target)
