"""`goodfaith verify`: proves from the data alone that everything accepted is there, once, and agrees.

Reads the database as an administrator and the topics from their beginning, and asks no service. `evidence.py` gathers
the data, `checks.py` compares it. All checks hold only when the system is at rest, so use `--wait`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from services.ops.terminal import JsonOption, StackOption

EXIT_FOUND = 1


@dataclass(slots=True)
class Report:
    """What `verify` found. `counts` are totals; `kinds` has each finding's kind, category, count and examples."""

    counts: dict[str, int] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    kinds: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    unrest: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, doubled or otherwise wrong."""
        return not any(self.counts[name] for name in ("lost", "doubled", "problems"))

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **self.counts,
            "checked_s": round(sum(self.seconds.values()), 2),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "at_rest": not self.unrest,
            "kinds": self.kinds,
            "totals": self.totals,
        }


def verify_stack(settings: Any, *, wait_s: float = 0.0, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Verify an installation.

    Args:
        settings: with a database URL of an administrator.
        wait_s: seconds to wait at most until nothing is in progress; 0: do not wait.
        tell: takes what is being done, in words.

    Raises:
        TimeoutError: something is still in progress; the message says what.
        kafka.errors.KafkaError: the broker cannot be reached.
    """

    from services.ops import idle
    from shared import db

    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    try:
        watch = idle.Watch(engine, settings)
        try:
            if wait_s > 0:
                watch.wait(timeout_s=wait_s, poll_s=0.1, looks=2, tell=lambda pending: tell(f"waiting for {pending}"))
            unrest = _unrest(watch)
        finally:
            watch.close()
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            return examine(connection, settings, unrest=unrest, tell=tell)
    finally:
        engine.dispose()


def _unrest(watch: Any) -> str:
    """What is in progress; empty at rest. Watermarks never rest, but between two of them everything is read."""
    pending = None
    for _ in range(20):
        pending = watch.pending(watch.now() - dt.timedelta(minutes=1))
        if not pending:
            return ""
        time.sleep(0.05)
    return str(pending)


def examine(
    connection: Any, settings: Any, *, unrest: str = "", tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Verify what a connection sees in its REPEATABLE READ transaction, which is made read-only."""
    from services.ops.verify import checks
    from services.ops.verify.evidence import Evidence

    report = Report(unrest=unrest)
    begun = time.monotonic()
    tell("reading logs and topics")
    evidence = Evidence(connection, settings)
    evidence.gather()
    report.seconds["gather"] = time.monotonic() - begun
    tell("checking")
    found = checks.run(evidence, report.seconds)
    begun = time.monotonic()
    report.kinds = [
        {"kind": f.kind, "category": f.category, "count": f.count, "examples": f.examples}
        for f in sorted(found, key=lambda f: (f.category, f.kind))
    ]
    report.totals = totals(evidence)
    number = evidence.number
    sums = {name: sum(f.count for f in found if f.category == name) for name in ("lost", "doubled", "problem")}
    report.counts = {
        "submissions": number("select count(*) from intake.submissions"),
        "claims": number("select count(*) from intake.claims"),
        "items": number("select count(*) from intake.items"),
        "commands": number("select count(*) from intake.commands"),
        "events": number("select count(*) from v_log"),
        "records": evidence.records,
        "lost": sums["lost"],
        "doubled": sums["doubled"],
        "problems": sums["problem"],
    }
    report.seconds["totals"] = time.monotonic() - begun
    return report


def totals(evidence: Any) -> dict[str, Any]:
    """Figures for the operator: outcomes, takedown rates, the 24-hour target, messages.

    Definitions: docs/explanation/domain.md, "Terms with an exact meaning".
    """
    connection, number = evidence.connection, evidence.number
    rows = connection.exec_driver_sql(
        "select state, count(*) from v_item where not canary group by state order by state"
    )
    outcomes = dict(map(tuple, rows))
    upheld, settled, handled, taken, met, missed = connection.exec_driver_sql(
        """select count(*) filter (where stands),
            count(*) filter (where stands or state in ('REJECTED', 'LAPSED', 'RESTORED', 'WITHDRAWN')),
            count(*) filter (where handled_at is not null and state not in ('DUPLICATE', 'LINK_INVALID')),
            count(*) filter (where handled_at is not null and state not in ('DUPLICATE', 'LINK_INVALID') and t.item is not null),
            count(*) filter (where sla = 'met'), count(*) filter (where sla = 'missed')
        from (select *, starts_with(state, 'UPHELD') or (state = 'NOTIFIED' and upheld) as stands from v_item where not canary) i left join (select distinct item from v_change where held) t using (item)"""
    ).one()
    result: dict[str, Any] = {
        "outcomes": outcomes,
        "takedown_rate_handled": _rate(taken, handled),
        "takedown_rate_settled": _rate(upheld, settled),
        "handled_within_24h": _rate(met, met + missed),
        "resent_records": number("select count(*) - count(distinct (topic, id)) from v_rec"),
    }
    if evidence.has("notification"):
        result["messages"] = number("select count(*) from notification.messages where sent_at is not null")
        # a message with an unknown outcome is sent again: the only case in which a party may get it twice
        result["message_repeats"] = number("select sum(repeats) from notification.messages")
    if evidence.has("enforcement"):
        result["repeat_offenders"] = number("select count(*) from enforcement.standings where repeat_offender")
        result["sanctions"] = number("select count(*) from enforcement.sanctions")
        result["sellers_restricted"] = number("select count(*) from enforcement.standings where measures <> ''")
    return result


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def show(report: Report) -> None:
    """Print a report for people."""
    from rich.markup import escape
    from rich.table import Table

    from services.ops.terminal import console

    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in report.counts.items():
        style = "bold red" if name in ("lost", "doubled", "problems") and value else None
        facts.add_row(name, f"{value:,}", style=style)
    for name, rate in report.totals.items():
        if name == "outcomes":
            facts.add_row("outcomes", ", ".join(f"{state} {count:,}" for state, count in rate.items()))
        elif isinstance(rate, float):
            facts.add_row(name.replace("_", " "), f"{rate:.1%}")
        else:
            facts.add_row(name.replace("_", " "), "-" if rate is None else f"{rate:,}")
    facts.add_row("checked in", f"{sum(report.seconds.values()):.1f} s")
    console.print(facts)
    if report.unrest:
        console.print(f"not at rest: {escape(report.unrest)}; --wait waits", style="yellow")
    for kind in report.kinds:
        console.print(
            f"{kind['category']}: {kind['kind']}: {kind['count']:,}", style="red", markup=False, highlight=False
        )
        for example in kind["examples"]:
            console.print(f"    {example}", markup=False, highlight=False)
    if not report.kinds:
        console.print("everything is there, once, and agrees", style="green")


def verify(
    stack: StackOption = "default",
    wait: Annotated[bool, typer.Option("--wait", help="First wait until nothing is in progress.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum time to wait, in seconds.")] = 300.0,
    json: JsonOption = False,
) -> None:
    """Prove from the data that nothing is lost, doubled or inconsistent.

    Exit code 1 if something is.
    """
    from services.ops import installation
    from services.ops.terminal import print_json, progress
    from shared.failures import Unavailable

    try:
        with progress("verifying") as tell:
            report = verify_stack(installation.settings(stack), wait_s=timeout if wait else 0.0, tell=tell)
    except TimeoutError as error:
        raise Unavailable(str(error)) from None
    show(report)
    if json:
        print_json(report.as_json())
    if not report.clean:
        raise typer.Exit(EXIT_FOUND)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(verify)
