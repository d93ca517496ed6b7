"""`goodfaith demo`: real notices through the whole system, then notices whose truth is known, and the proof that it adds up."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.local import fleet
from deploy.local.stack import Stack
from deploy.local.up import BrokersOption, SecureOption, bring_up, confirm_replacing, destroy, how_secure
from labs.notices import SAMPLE, read
from labs.population import command as population
from labs.replay import ReplayReport, execute
from services.ops.terminal import JsonOption, YesOption, console, print_json, progress, table
from services.ops.verify import verify
from shared import db
from shared.failures import CommandError

LIMIT = 500
"""Notices that are replayed by default: enough for counters, repeat offenders and sanctions, in about a minute."""
DAYS = 7
"""Days between two steps of the clock. Every party still answers within its window."""
ITEMS = 80
"""Items whose truth is known: enough to show what is measured, in seconds. `make population` measures."""
SEED = 1

_COUNTERS = """
    select count(distinct (item, revision)) filter (where state = 'COUNTERED' or 'COUNTERED' = any(via)) as filed,
        count(distinct item) filter (where state = 'COUNTERED' or 'COUNTERED' = any(via)) as items
    from (
        select (payload::jsonb -> 'data' ->> 'item') as item, (payload::jsonb -> 'data' ->> 'revision') as revision,
            payload::jsonb -> 'data' ->> 'state' as state,
            array(select jsonb_array_elements_text(payload::jsonb -> 'data' -> 'via')) as via
        from verification.event_log where type like 'goodfaith.item.%%' and payload like '%%COUNTERED%%'
    ) t"""
_ENDS = """
    select state, count(*) from verification.items where (body::jsonb -> 'counter_round')::int > 0 group by state order by 2 desc"""
_TOP = """
    select c.complainant, count(*) as items, count(*) filter (where (i.last::jsonb ->> 'upheld')::bool) as upheld
    from intake.items i join intake.claims c on c.id = i.claim group by 1 order by 2 desc limit 5"""
_OFFENDERS = """
    select seller, violations, general_points, serious_strikes from enforcement.standings
    where repeat_offender order by violations desc, general_points desc, seller limit 5"""
_SANCTIONS = """
    select case when measures = '' then 'warning' else measures end, count(*), count(*) filter (where state = 'in_force')
    from enforcement.sanctions group by 1 order by 2 desc"""
_FIGURES = """
    select count(*) filter (where stands), count(*) filter (where stands or state in ('REJECTED', 'LAPSED', 'RESTORED', 'WITHDRAWN')),
        count(*) filter (where handled), count(*) filter (where handled and held), count(*) filter (where sla = 'met'),
        count(*) filter (where sla is not null)
    from (
        select state, starts_with(state, 'UPHELD') or (state = 'NOTIFIED' and (last::jsonb ->> 'upheld')::bool) as stands,
            last::jsonb ->> 'handled_at' is not null and state not in ('DUPLICATE', 'LINK_INVALID') as handled,
            last::jsonb ->> 'sla' as sla, id in (
                select payload::jsonb -> 'data' ->> 'item' from verification.event_log
                where type like 'goodfaith.item.%%' and payload like '%%"held":true%%') as held
        from intake.items) t"""
_ONE = """
    select claim from intake.items where id in (
        select item from verification.items where (body::jsonb -> 'counter_round')::int > 0 limit 1)"""


def demo(
    stack: Annotated[
        str, typer.Option("--stack", help="Name of the demo's own stack; an existing one is replaced.")
    ] = "demo",
    file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Notices: JSON Lines, plain or .gz.")
    ] = SAMPLE,
    limit: Annotated[
        int, typer.Option(min=0, help="Replay only this many notices; 0: all (the sample has 2,000).")
    ] = LIMIT,
    days: Annotated[int, typer.Option(min=1, help="Days between two steps of the clock: the more, the faster.")] = DAYS,
    people: Annotated[
        int,
        typer.Option("--population", min=0, help="Items whose truth is known, under ipp and before a panel; 0: none."),
    ] = ITEMS,
    keep: Annotated[bool, typer.Option(help="Leave the stack running for inspection.")] = True,
    brokers: BrokersOption = 0,
    secure: SecureOption = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Start everything, replay real notices, judge made ones, and prove that nothing is lost or done twice; exit 1 otherwise."""
    begun = time.monotonic()
    notices = list(read(file, limit or None))
    if not notices:
        raise CommandError(f"{file.name} has no notices")
    confirm_replacing(stack, own=("demo",), yes=yes)
    destroy(stack)
    first = dt.datetime.combine(notices[0].date, dt.time(), dt.UTC)
    with progress("starting broker, database and services"):
        running, _ = bring_up(
            stack,
            env={**population.SETTINGS, **fleet.UNREVIEWED_NOTICES},
            begins=first,
            pictures=True,
            brokers=brokers,
            secure=how_secure(secure),
        )
    ready = time.monotonic()
    try:
        report = execute(running, notices, days=days, quiet=json)
        replayed = time.monotonic()
        # before the population: figures of the real notices alone
        facts = _facts(running)
        if not json:
            _show(report, facts)
        judged = None
        if people:
            with progress("a population") as tell:
                judged = population.play(running, people, SEED, people // 4, tell)
            if not json:
                population.show(*judged)
        played = time.monotonic()
        with progress("verifying"):
            proof = verify.verify_stack(fleet.settings_of(running), wait_s=120)
        if not json:
            verify.show(proof)
        phases = {
            "start": round(ready - begun, 1),
            "replay": round(replayed - ready, 1),
            "population": round(played - replayed, 1),
            "verify": round(time.monotonic() - played, 1),
        }
        seconds = round(time.monotonic() - begun, 1)
        if json:
            found = None if judged is None else population.facts(*judged)
            own = {"real": _totals(facts), "population": found, "seconds": seconds, "phases": phases}
            print_json({**report.json(), **proof.as_json(), **own})
        else:
            console.print(f"{seconds} s: {', '.join(f'{name} {took}' for name, took in phases.items())}")
            _point_out(stack, facts, keep=keep)
    finally:
        if not keep:
            destroy(stack)
    raise typer.Exit(0 if proof.clean else 1)


def _facts(stack: Stack) -> dict[str, Any]:
    engine = db.administer(stack.admin_url, pooled=False)
    with engine.connect() as connection:
        rows = {
            name: [tuple(row) for row in connection.exec_driver_sql(sql)]
            for name, sql in (
                ("outcomes", "select state, count(*) from intake.items group by state order by 2 desc, 1"),
                ("figures", _FIGURES),
                ("messages", "select count(*) from notification.messages where sent_at is not null"),
                ("repeat", "select count(*) from enforcement.standings where repeat_offender"),
                ("restricted", "select count(*) from enforcement.standings where measures <> ''"),
                ("counters", _COUNTERS),
                ("ends", _ENDS),
                ("top", _TOP),
                ("offenders", _OFFENDERS),
                ("sanctions", _SANCTIONS),
                ("one", _ONE),
            )
        }
    engine.dispose()
    return rows


def _percent(share: object) -> str:
    return f"{share:.1%}" if isinstance(share, float) else "-"


def _totals(facts: dict[str, Any]) -> dict[str, Any]:
    """Figures of the real notices, by the definitions of docs/explanation/domain.md."""
    upheld, settled, handled, taken, met, timed = facts["figures"][0]
    return {
        "outcomes": dict(facts["outcomes"]),
        "takedown_rate_handled": taken / handled if handled else None,
        "takedown_rate_settled": upheld / settled if settled else None,
        "handled_within_24h": met / timed if timed else None,
    }


def _show(report: ReplayReport, facts: dict[str, Any]) -> None:
    totals = _totals(facts)
    outcomes: dict[str, int] = totals["outcomes"]
    shown = table("", "", title="What happened to real notices")
    shown.show_header = False
    shown.add_row("notices", f"{report.notices:,} ({report.no_listing:,} name no listing and are refused, as expected)")
    shown.add_row("claims", f"{report.claims:,}")
    shown.add_row("items", f"{report.items:,}")
    for state, count in outcomes.items():
        shown.add_row(f"  {state}", f"{count:,}")
    shown.add_row("takedown rate, as handled", _percent(totals["takedown_rate_handled"]))
    shown.add_row("takedown rate, as settled", _percent(totals["takedown_rate_settled"]))
    shown.add_row("handled within 24 h", _percent(totals["handled_within_24h"]))
    filed, items = facts["counters"][0]
    shown.add_row("counters", f"{filed:,} on {items:,} items")
    for state, count in facts["ends"]:
        shown.add_row(f"  ended {state}", f"{count:,}")
    shown.add_row("restored or withdrawn", f"{outcomes.get('RESTORED', 0) + outcomes.get('WITHDRAWN', 0):,}")
    shown.add_row("commands refused", ", ".join(f"{code} {count}" for code, count in report.refused.items()) or "none")
    shown.add_row("messages", f"{facts['messages'][0][0]:,}")
    shown.add_row("repeat offenders", f"{facts['repeat'][0][0]:,}")
    sanctions, restricted = sum(row[1] for row in facts["sanctions"]), facts["restricted"][0][0]
    shown.add_row("sanctions", f"{sanctions:,}; at the end {restricted:,} sellers are restricted")
    for measures, count, in_force in facts["sanctions"]:
        shown.add_row(f"  {measures.replace(',', ' + ')}", f"{count:,}, {in_force:,} in force")
    console.print(shown)
    offenders = table("seller", "violations", "points", "strikes", title="Repeat offenders with most violations")
    for row in facts["offenders"]:
        offenders.add_row(*map(str, row))
    console.print(offenders)
    top = table("complainant", "items", "upheld", title="Top complainants")
    for row in facts["top"]:
        top.add_row(*map(str, row))
    console.print(top)


def _point_out(stack: str, facts: dict[str, Any], *, keep: bool) -> None:
    if not keep:
        return
    if facts["one"]:
        console.print(f"look at one claim:  .venv/bin/goodfaith claim show {facts['one'][0][0]} --stack {stack}")
    console.print(f"addresses:          .venv/bin/goodfaith status --stack {stack}")
    console.print(f"stop it:            .venv/bin/goodfaith down --stack {stack} --destroy")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
