"""Runs one drill: inject the fault, wait for its alert, follow the runbook, and prove that nothing was harmed."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.prometheus import model
from labs.drills.drill import GRACE_S, Drill, DrillBed, DrillResult
from labs.pager import Note, pages
from labs.view_checks import compared
from services.ops.verify.verify import verify_stack

QUIET_S: Final = 150.0
"""Seconds to wait for an alert to resolve, and for quiet before a drill."""
STEP_S: Final = 15.0
"""Seconds that a runbook's step has to take effect before the next one is tried."""


def exercise(bed: DrillBed, drill: Drill, tell: Callable[[str], None] = lambda _: None) -> DrillResult:
    """Run one drill, from quiet to quiet.

    Args:
        bed: The stack.
        drill: The drill.
        tell: Called with the name of each step.
    """
    result = DrillResult(drill)
    step = _StepTimer(result, tell)
    step("quiet")
    bed.load.resume()
    bed.adjust_speed()
    result.speed = bed.speed
    if noisy := sorted(set(until_quiet(bed, drill.rule.layer)) - bed.standing):
        result.failures.append(f"before the fault: {', '.join(noisy)}")
        return result
    step("fault")
    begun = time.monotonic()
    drill.inject(bed)

    def fires(note: Note) -> bool:
        return note.alert == drill.alert and note.firing

    within_s = drill.after_s / bed.speed + GRACE_S
    note = bed.pager.wait(fires, since=begun, timeout_s=within_s)
    if note is None:
        result.failures.append(f"{drill.alert} has not fired within {within_s:.0f} s: {bed.prometheus.firing()}")
    else:
        result.alert_s = note.at - begun
    step("runbook")
    answered = time.monotonic()
    over = _follow(bed, result, begun)
    bed.fleet = Fleet.load(bed.stack)  # a runbook may have replaced processes
    result.failures += [
        f"runbook: {ran.broken}: {ran.command}\n{ran.output[-600:]}" for ran in result.commands if ran.broken
    ]
    if note is not None:
        step("resolved")
        over = over or bed.pager.wait_resolved(drill.alert, since=begun, timeout_s=QUIET_S)
        if over is None:
            result.failures.append(f"{drill.alert} is not resolved {QUIET_S:.0f} s after the runbook's steps")
        else:
            result.recovery_s = max(over, _wait_over(bed, result)) - answered
    step("proof")
    proof = time.monotonic()
    _prove(bed, result)
    result.paged = pages(note for note in bed.pager.notes(begun) if note.at < proof or not of_canary(note))
    if result.paged != [drill.alert]:
        result.failures.append(f"paged: {', '.join(result.paged) or 'nothing'}; expected: {drill.alert} only")
    step("")
    return result


def of_canary(note: Note) -> bool:
    """Whether the alert only reports that the canary is frozen, as it is during the proof."""
    return note.alert == "CanaryOld" or note.labels.get("area") == "canary"


def until_quiet(bed: DrillBed, layer: model.Layer) -> list[str]:
    """Wait until no alert pages or mutes a layer's alerts, except those that fire without a fault; returns the rest."""
    until = time.monotonic() + QUIET_S + float(model.Pace(bed.speed).seconds(model.AFTERMATH))
    while (noisy := bed.prometheus.noisy(layer)) and set(noisy) - bed.standing:
        if time.monotonic() > until:
            return noisy
        time.sleep(0.5)
    return []


@contextlib.contextmanager
def without_canary(processes: Fleet) -> Iterator[None]:
    """Freeze the canary during the block: while it works, nothing is idle."""
    processes["canary.0"].signal(signal.SIGSTOP)
    try:
        yield
    finally:
        processes["canary.0"].signal(signal.SIGCONT)


def _follow(bed: DrillBed, result: DrillResult, since: float) -> float | None:
    """Run the runbook's commands that look, mend the cause, and run its steps one by one.

    All steps are run, to test their commands; after each, while the alert still fires, wait for it to resolve.

    Returns:
        When the alert was resolved (monotonic); None if it still fires.
    """
    drill, engineer = result.drill, bed.engineer
    result.commands += engineer.run_all(engineer.steps(drill.alert, "Look here"))
    drill.mend(bed)
    over = None
    for command in engineer.steps(drill.alert, "Do this"):
        result.commands.append(engineer.run(command))
        if over is None:
            over = bed.pager.wait_resolved(drill.alert, since=since, timeout_s=STEP_S)
    return over


def _wait_over(bed: DrillBed, result: DrillResult) -> float:
    """Wait until the drill's own condition holds; returns when (monotonic), 0.0 without a condition."""
    if (over := result.drill.over) is None:
        return 0.0
    until = time.monotonic() + QUIET_S
    while not over(bed):
        if time.monotonic() > until:
            result.failures.append(f"{result.drill.alert} is resolved, but its cause is not")
            break
        time.sleep(0.5)
    return time.monotonic()


class _StepTimer:
    """Reports the current step, and records how long each took."""

    def __init__(self, result: DrillResult, tell: Callable[[str], None]) -> None:
        self._result = result
        self._tell = tell
        self._name, self._since = "", 0.0

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        if self._name:
            self._result.steps[self._name] = round(now - self._since, 1)
        self._name, self._since = name, now
        if name:
            self._tell(name)


def _prove(bed: DrillBed, result: DrillResult) -> None:
    """Wait until idle; nothing may be lost or doubled, and the stream views must agree with the database."""
    try:
        bed.fleet.wait_ready(60)
        with without_canary(bed.fleet):
            bed.load.pause()
            _compare(bed, result)
    except (StackError, TimeoutError) as error:
        result.failures.append(f"does not become idle: {str(error).splitlines()[0]}")


def _compare(bed: DrillBed, result: DrillResult) -> None:
    idle_at = dt.datetime.now(dt.UTC)
    record = bed.load.submitter.record
    report = verify_stack(fleet.settings_of(bed.stack))
    lost, doubled = bed.run.compare(record)
    result.lost = report.counts["lost"] + len(lost)
    result.doubled = report.counts["doubled"] + len(doubled)
    result.problems = report.counts["problems"] + len(record.contradictions)
    result.failures += [f"{kind['kind']}: {kind['examples'][:3]}" for kind in report.kinds]
    result.failures += [*lost[:3], *doubled[:3], *record.contradictions[:3]]
    result.reconciliation = _reconciled(bed, idle_at)
    if result.reconciliation is None:
        result.failures.append("the views were not compared with the database")
    elif result.reconciliation:
        result.failures.append(f"views and database differ by {result.reconciliation:.0f}")


def _reconciled(bed: DrillBed, since: dt.datetime) -> float | None:
    """The total difference of all views, as compared after `since`; None if they were not compared."""
    try:
        return sum(compared(bed.fleet, since, within_s=60).values())
    except TimeoutError:
        return None
