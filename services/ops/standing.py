"""`goodfaith standing explain|list|figures`: lists and explains sellers' standings, and counts repeat offenders."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.recompute import recompute
from services.ops.terminal import AtOption, JsonOption, SinceOption, StackOption

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


@app.command()
def explain(
    seller: Annotated[str, typer.Argument(help="Id of the seller's account.")],
    at: AtOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of steps: the latest ones.")] = 1000,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Explain a seller's standing: each ledger entry, the rule that made it, and the running sums.

    Everything is replayed from the ledger. Exit code 1 if the stored standing differs.
    """
    import msgspec

    from services.enforcement import reading
    from services.ops.terminal import print_json

    with _Tables(stack) as tables:
        rules = tables.policy
        found = reading.why(tables.connection, seller, rules.penalties, rules.version, tables.now, at=at, most=limit)
    _show(found, rules)
    if json:
        print_json(msgspec.to_builtins(found))
    if not found.agrees:
        raise typer.Exit(EXIT_FOUND)


def _show(found: Explanation, rules: Policy) -> None:
    from services.ops.terminal import console

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False)

    say(f"{found.seller} at {_moment(found.at)}, by the penalties of {found.policy}")
    if found.left_out:
        say(f"{found.left_out} earlier steps are not shown")
    for step in found.steps:
        say(f"{_moment(step.at)}  {_why(step, rules)}")
        say(f"    claim {step.claim}, entry .{step.entry.rpartition('.')[2]}")
        change = f" ({step.points:+d})" if step.points else ""
        say(
            f"    then {step.general_points} points{change}, {step.serious_strikes} strikes, {step.violations} violations"
        )
        for threshold in step.crossed:
            say(f"    threshold {threshold}")
    for one in found.sanctions:
        measures = ", ".join(one.measures) or ("prior warning" if one.withheld else "warning")
        until = "" if one.ends is None else f" until {_moment(one.ends)}"
        over = "" if one.over_at is None else f" {_moment(one.over_at)}: {one.reason or one.cause}"
        say(f"{_moment(one.begins)}  sanction: {measures}{until}")
        scope = "" if one.scope == "own" else " of the business"
        say(
            f"    threshold {one.ledger} {one.level}{scope}, claim {one.claim}, sanction .{one.sanction.rpartition('.')[2]}"
        )
        say(f"    {one.state}{over}")
    penalties = rules.penalties
    for ledger, level, part, sum_ in (
        ("general", found.general_level, penalties.general, f"{found.general_points} points"),
        ("serious", found.serious_level, penalties.serious, f"{found.serious_strikes} strikes"),
    ):
        reached = part.thresholds[level - 1].consequence if level else "no threshold"
        following = f"; the next at {part.thresholds[level].points}" if level < len(part.thresholds) else ""
        say(f"{ledger}: {sum_}: {reached}{following}")
    repeat = f"repeat offender, tier {found.tier}" if found.repeat_offender else "no repeat offender"
    within = penalties.repeat_offender.within.text
    say(f"violations within {within}: {found.violations}: {repeat}")
    stored = found.stored
    if stored.entity is not None:
        say(
            f"business {stored.entity}: {stored.entity_points} points, {stored.entity_strikes} strikes, {stored.entity_violations}"
            f" violations; its accounts: goodfaith standing list --entity {stored.entity}"
        )
    for difference in found.differences:
        say(f"does not agree: {difference}", "red")
    if found.agrees:
        say("the ledger, the violations in force, the standing and the sanctions agree", "green")


def _why(step: Step, rules: Policy) -> str:
    from services.enforcement.explain import says

    text = says(step, rules.penalties)
    return f"{text}\n    WRONG: the rules make {step.wrong}" if step.wrong else text


def _moment(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


@app.command("list")
def list_(
    sort: Annotated[Sorting, typer.Option(help="What to sort by.")] = Sorting.violations,
    tier: Annotated[str | None, typer.Option(help="Only repeat offenders of this tier: 2, 3-5 or 6+.")] = None,
    consequence: Annotated[str | None, typer.Option(help="Only sellers with this consequence in a ledger.")] = None,
    measure: Annotated[str | None, typer.Option(help="Only sellers now under this measure.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only the accounts of this business (id of the entity).")] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of sellers.")] = 50,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """List sellers that have a standing, highest first."""
    import msgspec
    from rich.markup import escape

    from services.enforcement import reading
    from services.ops.terminal import console, print_json, table

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
                since=since,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    grid = table("seller", "violations", "points", "strikes", "changed", "consequence")
    for row in rows:
        grid.add_row(
            escape(row.seller),
            str(row.violations),
            str(row.general_points),
            str(row.serious_strikes),
            "-" if row.changed_at is None else f"{row.changed_at.astimezone(dt.UTC):%Y-%m-%d}",
            _consequence(row),
        )
    console.print(grid)
    if json:
        print_json({"sellers": [msgspec.to_builtins(row) for row in rows]})


def _consequence(row: Standing) -> str:
    reached = dict.fromkeys(filter(None, (row.general_consequence, row.serious_consequence)))
    under = f"under {', '.join(row.measures)}" if row.measures else ""
    return "\n".join(filter(None, (", ".join(reached), under))) or "-"


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
    from services.ops.terminal import console, table

    console.print(
        f"{found.sellers:,} sellers with violations at {_moment(found.at)}, {found.repeat_offenders:,} of them repeat offenders",
        highlight=False,
    )
    grid = table("violations in 365 days", "sellers", "share", "violations")
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
