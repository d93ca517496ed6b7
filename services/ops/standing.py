"""`goodfaith standing explain|list|figures`: lists and explains sellers' standings, and counts repeat offenders."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.recompute import recompute
from services.ops.terminal import JsonOption, StackOption

if TYPE_CHECKING:
    from shared.policy import Policy
    from shared.standing import Explanation, Figures, Standing, Step

app = typer.Typer(no_args_is_help=True, help="List, explain and recompute sellers' standings; count repeat offenders.")
app.command()(recompute)
EXIT_FOUND: Final = 1


class Sorting(StrEnum):
    """What to sort sellers by."""

    violations = "violations"
    points = "points"
    strikes = "strikes"
    changed = "changed"
    seller = "seller"


class _Tables:
    """Enforcement's tables, as the command line reads them, and the policy of the penalties."""

    def __init__(self, stack: str) -> None:
        from services.ops import installation
        from shared import db, policy

        settings = installation.settings(stack)
        self.policy: Policy = policy.current(settings.penalties_profile)
        self._engine = db.administer(settings.database.get_secret_value(), pooled=False)

    def __enter__(self) -> Any:
        from shared import clock

        self.connection = self._engine.connect()
        self.connection.exec_driver_sql("set search_path = enforcement, platform")
        self.now, _ = clock.read(self.connection)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._engine.dispose()


def when(text: str | None) -> dt.datetime | None:
    """Parse a time from the command line. Without a zone it is UTC.

    Raises:
        typer.BadParameter: it is not a time.
    """
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; say it as 2026-11-24T12:00:00Z") from None


@app.command()
def explain(
    seller: Annotated[str, typer.Argument(help="Id of the seller's account.")],
    at: Annotated[
        str | None, typer.Option("--at", help="Standing at this business time (ISO 8601; UTC without a zone).")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Show at most this many steps, the latest ones.")] = 1000,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Explain a seller's standing: each ledger entry, the rule that made it, and the running sums.

    Everything is replayed from the ledger. Exit code 1 if the stored standing differs.
    """
    import msgspec

    from services.enforcement import reading
    from services.ops.terminal import print_json

    wanted = when(at)
    with _Tables(stack) as tables:
        rules = tables.policy
        found = reading.why(
            tables.connection, seller, rules.penalties, rules.version, tables.now, at=wanted, most=steps
        )
    _show(found, rules)
    if json:
        print_json(msgspec.to_builtins(found))
    if not found.agrees:
        raise typer.Exit(EXIT_FOUND)


def _show(found: Explanation, rules: Policy) -> None:
    from rich.markup import escape
    from rich.table import Table

    from services.ops.terminal import console

    console.print(f"{escape(found.seller)} at {_moment(found.at)}, by the penalties of {found.policy}", highlight=False)
    if found.left_out:
        console.print(f"{found.left_out} earlier steps are not shown")
    grid = Table("at", "entry", "claim", "why", "change", "points", "strikes", "violations", "thresholds")
    for step in found.steps:
        grid.add_row(
            _moment(step.at),
            f".{step.entry.rpartition('.')[2]}",
            escape(step.claim),
            escape(_why(step, rules)),
            f"{step.points:+d}" if step.points else "-",
            str(step.general_points),
            str(step.serious_strikes),
            str(step.violations),
            "\n".join(step.crossed),
        )
    if found.steps:
        console.print(grid)
    if found.sanctions:
        table = Table("sanction", "threshold", "measures", "claim", "from", "until", "state")
        for one in found.sanctions:
            measures = ", ".join(one.measures) or ("prior warning" if one.withheld else "warning")
            until = "-" if one.ends is None else _moment(one.ends)
            state = (
                one.state if one.over_at is None else f"{one.state} {_moment(one.over_at)}: {one.reason or one.cause}"
            )
            table.add_row(
                f".{one.sanction.rpartition('.')[2]}",
                f"{one.ledger} {one.level}{'' if one.scope == 'own' else ' (entity)'}",
                measures,
                escape(one.claim),
                _moment(one.begins),
                until,
                escape(state),
            )
        console.print(table)
    penalties = rules.penalties
    for ledger, level, part, sum_ in (
        ("general", found.general_level, penalties.general, f"{found.general_points} points"),
        ("serious", found.serious_level, penalties.serious, f"{found.serious_strikes} strikes"),
    ):
        reached = part.thresholds[level - 1].consequence if level else "no threshold"
        following = f"; the next at {part.thresholds[level].points}" if level < len(part.thresholds) else ""
        console.print(f"{ledger}: {sum_}: {reached}{following}", highlight=False)
    repeat = f"repeat offender, tier {found.tier}" if found.repeat_offender else "no repeat offender"
    within = penalties.repeat_offender.within.text
    console.print(f"violations within {within}: {found.violations}: {repeat}", highlight=False)
    stored = found.stored
    if stored.entity is not None:
        console.print(
            f"business {stored.entity}: {stored.entity_points} points, {stored.entity_strikes} strikes, {stored.entity_violations}"
            f" violations; its accounts: goodfaith standing list --entity {stored.entity}",
            highlight=False,
        )
    for difference in found.differences:
        console.print(f"does not agree: {escape(difference)}", style="red", highlight=False)
    if found.agrees:
        console.print("the ledger, the violations in force, the standing and the sanctions agree", style="green")


def _why(step: Step, rules: Policy) -> str:
    from services.enforcement.explain import says

    text = says(step, rules.penalties)
    return f"{text}\nWRONG: the rules make {step.wrong}" if step.wrong else text


def _moment(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


@app.command("list")
def list_(
    sort: Annotated[Sorting, typer.Option(help="What to sort by.")] = Sorting.violations,
    tier: Annotated[str | None, typer.Option(help="Only repeat offenders of this tier: 2, 3-5 or 6+.")] = None,
    consequence: Annotated[str | None, typer.Option(help="Only sellers with this consequence in a ledger.")] = None,
    measure: Annotated[str | None, typer.Option(help="Only sellers now under this measure.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only the accounts of this business (id of the entity).")] = None,
    since: Annotated[str | None, typer.Option(help="Only sellers with a violation in force since then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of sellers.")] = 50,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """List sellers that have a standing, highest first."""
    import msgspec
    from rich.markup import escape
    from rich.table import Table

    from services.enforcement import reading
    from services.ops.terminal import console, print_json

    with _Tables(stack) as tables:
        try:
            rows: list[Standing] = reading.sellers(
                tables.connection,
                tables.policy.penalties.repeat_offender,
                sort=sort.value,
                limit=limit,
                tier=tier,
                consequence=consequence,
                measure=measure,
                entity=entity,
                since=when(since),
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    grid = Table("seller", "violations", "tier", "points", "strikes", "consequence", "under", "changed")
    for row in rows:
        consequences = ", ".join(dict.fromkeys(filter(None, (row.general_consequence, row.serious_consequence))))
        grid.add_row(
            escape(row.seller),
            str(row.violations),
            row.tier or "-",
            str(row.general_points),
            str(row.serious_strikes),
            consequences or "-",
            ", ".join(row.measures) or "-",
            "-" if row.changed_at is None else _moment(row.changed_at),
        )
    console.print(grid)
    if json:
        print_json({"sellers": [msgspec.to_builtins(row) for row in rows]})


@app.command("figures")
def figures_(stack: StackOption = "default", json: JsonOption = False) -> None:
    """Count repeat offenders by tier, recidivism and the time between offences.

    Definitions: docs/explanation/domain.md, "Terms with an exact meaning".
    """
    import msgspec

    from services.enforcement import reading
    from services.ops.terminal import print_json

    with _Tables(stack) as tables:
        found = reading.figures(tables.connection, tables.policy.penalties.repeat_offender, tables.now)
    _show_figures(found)
    if json:
        print_json(msgspec.to_builtins(found))


def _show_figures(found: Figures) -> None:
    from rich.table import Table

    from services.ops.terminal import console

    console.print(
        f"{found.sellers:,} sellers with violations at {_moment(found.at)}, {found.repeat_offenders:,} of them repeat offenders",
        highlight=False,
    )
    grid = Table("violations in 365 days", "sellers", "share", "violations")
    for tier in found.tiers:
        grid.add_row(tier.tier, f"{tier.sellers:,}", _share(tier.share), f"{tier.violations:,}")
    console.print(grid)
    for name, cohort in (("recidivism", found.recidivism), ("so far, of the last year's", found.recidivism_young)):
        console.print(
            f"{name}: {_share(cohort.rate)} ({cohort.again:,} of {cohort.sellers:,} with a first violation from"
            f" {_moment(cohort.after)} to {_moment(cohort.upto)})",
            highlight=False,
        )
    console.print(
        f"businesses with violations: {found.entities:,}, {found.repeat_entities:,} of them repeat offenders",
        highlight=False,
    )
    under = ", ".join(f"{measure.replace('_', ' ')} {sellers:,}" for measure, sellers in found.measures.items())
    console.print(f"sellers under a measure: {under}", highlight=False)
    between = found.between
    if between.count:
        spans = ", ".join(
            f"{'longer' if span.days is None else f'to {span.days} d'} {span.count:,}" for span in between.spans
        )
        console.print(
            f"time between offences: median {between.median_days:.1f} d, p90 {between.p90_days:.1f} d; {spans}",
            highlight=False,
        )


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="standing")
