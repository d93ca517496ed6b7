"""`goodfaith demo`: real notices through the whole system, a summary, and the proof that it adds up."""

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
from labs.replay import ReplayReport, execute
from services.ops.terminal import JsonOption, YesOption, console, print_json, progress, table
from services.ops.verify import verify
from shared import db
from shared.failures import CommandError

SETTINGS = {
    # with a clock that is stepped, waiting for more items or requests gains nothing
    "GOODFAITH_COLLECT_S": "0.02",
    "GOODFAITH_WATERMARK_MS": "50",
    "GOODFAITH_POLL_MS": "50",
}

LIMIT = 500
"""Notices that are replayed by default: enough for counters, repeat offenders and sanctions, in about a minute."""
DAYS = 7
"""Days between two steps of the clock. Every party still answers within its window."""

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
    keep: Annotated[bool, typer.Option(help="Leave the stack running for inspection.")] = True,
    brokers: BrokersOption = 0,
    secure: SecureOption = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Start everything, replay real notices, sum up, and prove that nothing is lost or done twice; exit 1 otherwise."""
    begun = time.monotonic()
    notices = list(read(file, limit or None))
    if not notices:
        raise CommandError(f"{file.name} has no notices")
    confirm_replacing(stack, own=("demo",), yes=yes)
    destroy(stack)
    first = dt.datetime.combine(notices[0].date, dt.time(), dt.UTC)
    with progress("starting broker, database and services"):
        running, _ = bring_up(stack, env=SETTINGS, begins=first, brokers=brokers, secure=how_secure(secure))
    ready = time.monotonic()
    try:
        report = execute(running, notices, days=days, quiet=json)
        replayed = time.monotonic()
        with progress("verifying"):
            proof = verify.verify_stack(fleet.settings_of(running), wait_s=120)
        facts = _facts(running)
        if not json:
            _show(report, facts, proof)
            verify.show(proof)
            _point_out(stack, facts, keep=keep)
        phases = {
            "start": round(ready - begun, 1),
            "replay": round(replayed - ready, 1),
            "verify": round(time.monotonic() - replayed, 1),
        }
        seconds = round(time.monotonic() - begun, 1)
        if json:
            print_json({**report.json(), **proof.as_json(), "seconds": seconds, "phases": phases})
        else:
            console.print(f"{seconds} s: start {phases['start']}, replay {phases['replay']}, verify {phases['verify']}")
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


def _show(report: ReplayReport, facts: dict[str, Any], proof: verify.Report) -> None:
    totals = proof.totals
    outcomes: dict[str, int] = totals["outcomes"]
    shown = table("", "", title="What happened")
    shown.show_header = False
    shown.add_row("notices", f"{report.notices:,} ({report.no_listing:,} name no listing and are refused, as expected)")
    shown.add_row("claims", f"{report.claims:,}")
    shown.add_row("items", f"{report.items:,}")
    for state, count in sorted(outcomes.items(), key=lambda pair: -pair[1]):
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
    shown.add_row("messages", f"{totals['messages']:,}")
    shown.add_row("repeat offenders", f"{totals['repeat_offenders']:,}")
    shown.add_row(
        "sanctions", f"{totals['sanctions']:,}; at the end {totals['sellers_restricted']:,} sellers are restricted"
    )
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
