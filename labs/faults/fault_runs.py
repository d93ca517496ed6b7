"""`goodfaith lab faults`: break processes, brokers and databases under load, and print one table.

``kill`` kills everything at random (``killer``). The other faults are declared in ``broker_faults`` and
``database_faults``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from kafka.errors import KafkaError
from rich.markup import escape

from deploy.local import disks, fleet, replica
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.proxy import Link, Links
from deploy.local.stack import Stack
from deploy.local.up import bring_up, confirm_replacing, destroy, root
from labs.faults import broker_faults, database_faults
from labs.faults.breakage import Fault, FaultResult, Where, exercise
from labs.faults.load_run import ENVIRONMENT, LoadOutcome, LoadRun
from labs.faults.plan import LoadPlan
from services.ops.terminal import JsonOption, YesOption, console, errors, print_json, progress, table
from shared.failures import CommandError

KILL: Final = "kill"
KILL_ITEMS: Final = 100_000
KILL_RATE: Final = 200.0
FAULTS: Final[Sequence[Fault]] = (*broker_faults.FAULTS, *database_faults.FAULTS)
NAMES: Final = (KILL, *(fault.name for fault in FAULTS))
BEGINS: Final = dt.datetime(2025, 1, 27, 9, tzinfo=dt.UTC)
PATIENCE: Final = 3
LONG: Final = {**ENVIRONMENT, "GOODFAITH_TOKEN_TTL_DAYS": "3650"}
"""Each fault takes some weeks of business time, and all run on one installation."""
COUNTS: Final[dict[Where, dict[str, int]]] = {
    "brokers": dict.fromkeys(fleet.SERVICES, 1),
    # the second takes over the partitions of one that is frozen
    "database": {**dict.fromkeys(fleet.SERVICES, 1), "verification": 2},
}
BEGIN, END = "<!-- goodfaith faults: begin -->", "<!-- goodfaith faults: end -->"
HEAD: Final = (
    "| fault | what is broken | what ends it | items | in flight | recovery | lost | doubled |",
    "|---|---|---|---|---|---|---|---|",
)


@contextlib.contextmanager
def standing(where: Where, name: str, *, keep: bool = False) -> Iterator[tuple[Stack, Fleet, Sequence[Link]]]:
    """Start a stack, destroyed at the end: three brokers behind links, or a database with a synchronous follower."""
    _destroy(name)
    try:
        with contextlib.ExitStack() as ends:
            links: Sequence[Link] = ()
            if where == "brokers":
                stack = Stack.start(root(), name, brokers=3, proxied=True)
                links = [Link(node.node.advertised_port, node.port) for node in stack.nodes()]
                ends.enter_context(Links(*links))
            else:
                stack = Stack.start(root(), name, standby=True)
                replica.synchronous(stack.database(), "standby")
                replica.wait_following(stack.database(), "standby", synchronous=True)
            yield *_brought_up(name, where), links
    finally:
        if not keep:
            _destroy(name)


def _brought_up(name: str, where: Where) -> tuple[Stack, Fleet]:
    for left in range(PATIENCE, -1, -1):
        try:
            return bring_up(name, COUNTS[where], env=LONG, begins=BEGINS)
        except KafkaError:
            # on a busy machine, three brokers that have just started answer late, after carrying out the request
            if not left:
                raise
            time.sleep(3.0)
    raise AssertionError


def _destroy(name: str) -> None:
    local = Stack(root(), name)
    if local.dir.exists():
        Fleet.end(local.dir)
        with contextlib.suppress(StackError):
            local.kill()
        disks.unmount_all(local.dir)
    destroy(name)


def kill(
    stack: str, *, items: int, every: float, rate: float, seed: int, keep: bool
) -> tuple[FaultResult, LoadOutcome]:
    """Kill processes, broker and database with -9, at random."""
    destroy(stack)
    begun = time.monotonic()
    try:
        with progress("kill: starting") as tell:
            local, processes = bring_up(stack, env=ENVIRONMENT, begins=BEGINS)
            run = LoadRun(local, processes, LoadPlan(items, seed, "f"))
            run.prepare()
            filed = 0

            def count_filed(count: int) -> None:
                nonlocal filed
                filed += count
                tell(f"kill: {filed:,} of {items:,} items filed")

            outcome = run.run(
                every=every, rate=rate, seed=seed, progress=count_filed, tell=lambda text: tell(f"kill: {text}")
            )
            run.close()
    finally:
        if not keep:
            destroy(stack)
    found = outcome.json()
    return FaultResult(
        KILL,
        found["items"],
        outcome.in_flight,
        found["longest_recovery_s"],
        found["acknowledged"],
        found["lost"],
        found["doubled"],
        found["problems"],
        [f"{found['kills']} kills; slowest: {found['slowest_to_recover']}"],
        outcome.examples,
        seconds=time.monotonic() - begun,
        close=found["close"],
    ), outcome


def rows(results: Sequence[FaultResult]) -> dict[str, str]:
    """Rows of the document's table, by fault. A fault that failed or was skipped has no row."""
    declared = {fault.name: (fault.breaks, fault.heals) for fault in FAULTS}
    declared[KILL] = ("processes, broker and database are killed with -9, at random", "each is started again")
    return {
        one.fault: "| "
        + " | ".join(
            [
                one.fault,
                *declared[one.fault],
                f"{one.items:,}",
                f"{one.in_flight:,}",
                f"{one.recovery_s or 0:.1f} s",
                f"{one.lost} ({one.loses})" if one.lost else "0",
                str(one.doubled),
            ]
        )
        + " |"
        for one in results
        if not one.skipped and not one.failed
    }


def with_rows(document: str, new: dict[str, str]) -> str:
    """The document with these rows in the table between the marks. Rows of other faults stay.

    Raises:
        ValueError: the document has no marks.
    """
    found = re.search(f"{BEGIN}\n(.*?){END}", document, flags=re.S)
    if found is None:
        raise ValueError(f"the document has no {BEGIN} and {END}")
    there = {line.split("|")[1].strip(): line for line in found[1].splitlines() if line.startswith("| ")}
    merged = {**there, **new}
    body = "\n".join([*HEAD, *(merged[name] for name in NAMES if name in merged)])
    return document[: found.start()] + f"{BEGIN}\n{body}\n{END}" + document[found.end() :]


def faults(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Run only this fault; repeatable. One of: {', '.join(NAMES)}.")
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(min=1, help="Items to file for each fault. Default: 100,000 for kill and bounce, else 2,000."),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Mean seconds between two kills (kill).")] = 5.0,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Items filed a second. Default: each fault's own rate.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the load and of the kills.")] = 1,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave the stacks running for inspection; a fault that fails is the last on its stack."
        ),
    ] = False,
    stack: Annotated[
        str, typer.Option(help="Name of the stacks (with -brokers, -database); existing ones are destroyed first.")
    ] = "faults",
    docs: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Document whose table of faults to update."),
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Break processes, brokers and databases under load; exit 1 if anything acknowledged is lost or doubled."""
    if unknown := sorted(set(only or ()) - set(NAMES)):
        raise CommandError(f"no such fault: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    names, own = ([f"{name}{part}" for part in ("", "-brokers", "-database")] for name in (stack, "faults"))
    confirm_replacing(*names, own=own, yes=yes)
    begun = time.monotonic()
    chosen = [name for name in NAMES if not only or name in only]
    results: list[FaultResult] = []
    details: dict[str, Any] = {}
    if KILL in chosen:
        result, outcome = kill(
            stack, items=items or KILL_ITEMS, every=every, rate=rate or KILL_RATE, seed=seed, keep=keep
        )
        results.append(result)
        details = outcome.json()
        _line(result)
        _note(docs, results)
    where: Where
    for where in ("brokers", "database"):
        declared = [
            (number, fault) for number, fault in enumerate(FAULTS, 1) if fault.where == where and fault.name in chosen
        ]
        if not declared:
            continue
        with progress(f"{where}: starting") as show_step, contextlib.ExitStack() as beds:
            bed: tuple[Stack, Fleet, Sequence[Link]] | None = None
            for number, fault in declared:
                if bed is None:
                    show_step(f"{where}: starting")
                    bed = beds.enter_context(standing(where, f"{stack}-{where}", keep=keep))

                def tell(text: str, name: str = fault.name) -> None:
                    show_step(f"{name}: {text}")

                results.append(exercise(fault, number, *bed, items=items, rate=rate, seed=seed, tell=tell))
                _line(results[-1])
                _note(docs, results)
                if results[-1].failed:
                    if keep:
                        break
                    # a failed fault leaves the stack in an unknown state
                    beds.close()
                    bed = None
    _show(results)
    failed = [one.fault for one in results if one.failed]
    if json:
        print_json(
            {
                "faults": len(results),
                "failed": failed,
                **{
                    name: sum(getattr(one, name) for one in results)
                    for name in ("items", "lost", "doubled", "problems")
                },
                "skipped": [one.fault for one in results if one.skipped],
                "seconds": round(time.monotonic() - begun, 1),
                "results": [one.json() for one in results],
                "kill": details,
            }
        )
    if failed:
        raise typer.Exit(1)


def _note(docs: Path | None, results: Sequence[FaultResult]) -> None:
    """Write the rows so far: a run takes hours, and may not come to its end."""
    if docs is not None:
        docs.write_text(with_rows(docs.read_text("utf-8"), rows(results)), "utf-8")


def _line(result: FaultResult) -> None:
    verdict = f"skipped: {result.skipped}" if result.skipped else "FAILED" if result.failed else "done"
    errors.print(
        f"{result.fault}: {verdict}, {result.seconds:.0f} s; {'; '.join(result.notes)}", highlight=False, markup=False
    )
    for example in result.examples if result.failed else ():
        errors.print(f"  {escape(example)}", style="red", highlight=False)


def _show(results: Sequence[FaultResult]) -> None:
    shown = table("fault", "items", "in flight", "recovery", "lost", "doubled", "problems", "", title="Faults")
    for one in results:
        shown.add_row(
            one.fault,
            f"{one.items:,}",
            f"{one.in_flight:,}",
            "-" if one.recovery_s is None else f"{one.recovery_s:.1f} s",
            str(one.lost),
            str(one.doubled),
            str(one.problems),
            "skipped" if one.skipped else "failed" if one.failed else "permitted loss" if one.lost else "",
        )
    console.print(shown)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(faults)
