"""`goodfaith lab drills`: cause faults on a stack that is observed like an installation, and end them by its runbooks.

Real notices flow in. A fault is injected; its alert must reach the pager in time, and no other page may. The commands
of the alert's runbook are run as they stand there; the alert must resolve. Then nothing may be lost or doubled, and
the stream views must agree with the database. Rules run on a fast clock, as fast as this machine can follow.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from deploy.local import fleet, prometheus
from deploy.local.children import StackError
from deploy.local.up import bring_up, confirm_replacing, destroy
from labs.drills.alerts import SPEED, observed_at
from labs.drills.drill import DrillBed, DrillResult
from labs.drills.exercise import exercise, until_quiet, without_canary
from labs.drills.faults import DRILLS
from labs.drills.load import NOTICES, NoticePlan
from labs.faults import load_run
from labs.faults.load_run import LoadRun
from labs.notices import SAMPLE, read
from labs.pager import Pager
from services.ops.terminal import JsonOption, YesOption, console, errors, print_json, progress, table
from shared.failures import CommandError
from shared.settings import Settings

ENVIRONMENT: Final = {
    **load_run.ENVIRONMENT,
    # periodic work keeps pace with the rules
    "GOODFAITH_WATCH_S": "1",
    "GOODFAITH_CANARY_EVERY_S": "2",
    "GOODFAITH_RECONCILE_S": "2",
}
COUNTS: Final = {**dict.fromkeys(fleet.SERVICES, 1), "verification": 3}
"""Three workers share verification's partitions, so that one can be stuck while most partitions go on."""


def _environment(speed: float) -> dict[str, str]:
    """On the rules' clock, canary rounds are as frequent and retries as far below WorkerStuck's limit as by default."""
    scaled = ("retry_max_s", "canary_every_s")
    paced = {f"GOODFAITH_{name.upper()}": str(float(Settings.model_fields[name].default) / speed) for name in scaled}
    return {**ENVIRONMENT, **paced}


def drills(
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the drills of this alert; repeatable. Default: all.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=1, max=SPEED, help="How many times faster the rules' clock runs, at most.")
    ] = SPEED,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; an existing one is destroyed first.")] = "drills",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Cause faults, wait for their alerts, follow the runbooks, and prove that nothing was harmed; exit 1 otherwise."""
    chosen = [drill for drill in DRILLS if not only or drill.alert in only]
    if unknown := sorted(set(only or ()) - {drill.alert for drill in DRILLS}):
        raise CommandError(f"no drill for {', '.join(unknown)}; drills: {', '.join(d.alert for d in DRILLS)}")
    if missing := prometheus.missing():
        raise StackError(f"{' and '.join(missing)} not installed; {prometheus.INSTALL}")
    confirm_replacing(stack, own=("drills",), yes=yes)
    begun = time.monotonic()
    destroy(stack)
    results: list[DrillResult] = []
    standing: set[str] = set()
    try:
        with progress("starting") as tell, Pager() as pager, tempfile.TemporaryDirectory() as folder:
            local, processes = bring_up(
                stack, COUNTS, env=_environment(speed), observe=observed_at(speed, pager), canary=True
            )
            tell("accounts and listings")
            run = LoadRun(local, processes, NoticePlan(list(read(SAMPLE, NOTICES)), "d"))
            with without_canary(processes):
                run.prepare()
            with DrillBed(local, processes, pager, run, Path(folder), speed) as bed:
                tell("quiet")
                bed.load.resume()
                standing = bed.standing = set(until_quiet(bed, "platform"))
                for drill in chosen:
                    results.append(exercise(bed, drill, lambda step, d=drill: tell(f"{d.fault}: {step}")))  # type: ignore[misc]
                    _line(results[-1])
    finally:
        if not keep:
            destroy(stack)
    if standing:
        console.print(f"firing without any fault: {', '.join(sorted(standing))}", style="red")
    failed = _show(results)
    if json:
        totals = {name: sum(getattr(one, name) for one in results) for name in ("lost", "doubled", "problems")}
        print_json(
            {
                "drills": len(results),
                "failed": failed,
                **totals,
                "standing": sorted(standing),
                "seconds": round(time.monotonic() - begun, 1),
                "results": [one.json() for one in results],
            }
        )
    if failed or standing or len(results) < len(chosen):
        raise typer.Exit(1)


def _line(result: DrillResult) -> None:
    verdict = "failed" if result.failures else "done"
    errors.print(f"{result.drill.fault}: {verdict}", highlight=False)
    for failure in result.failures:
        errors.print(f"  {escape(failure)}", style="red", highlight=False)


def _show(results: Sequence[DrillResult]) -> int:
    shown = table("fault", "paged", "speed", "to alert", "to recovery", "lost", "doubled", "reconciliation", "")
    for one in results:
        shown.add_row(
            one.drill.fault,
            ", ".join(one.paged),
            f"{one.speed:g}",
            _seconds(one.alert_s),
            _seconds(one.recovery_s),
            str(one.lost),
            str(one.doubled),
            "-" if one.reconciliation is None else f"{one.reconciliation:.0f}",
            "failed" if one.failures else "",
        )
    console.print(shown)
    return sum(bool(one.failures) for one in results)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(drills)
