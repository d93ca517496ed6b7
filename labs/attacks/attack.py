"""``goodfaith attack``: attack a local stack while an honest client uses it.

An attack succeeds if the attacker gets what it wants, if the honest client is turned away, or if a process dies.
Everything is bounded in count and time and stays on loopback.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import httpx
import typer
from rich.markup import escape
from rich.table import Table

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Process
from deploy.local.up import JsonOption, bring_up, destroy
from labs.attacks.files import FILES
from labs.attacks.floods import FLOODS
from labs.attacks.ground import Attack, AttackBed, Customer, Honest, Outcome, Result, Size, summary
from labs.attacks.rules import ENTRANCES, ENVIRONMENT
from services.ops.terminal import console, errors, print_json
from shared import db
from shared.settings import Settings

ATTACKS: Final[Sequence[Attack]] = (*FLOODS, *FILES, *ENTRANCES)
COUNTS: Final = {
    **dict.fromkeys(fleet.SERVICES, 0),
    "mailbox": 1,
    "intake": 1,
    "notification": 1,
    "enforcement-api": 1,
}
"""The processes that strangers can reach, and those behind their mail and documents."""
SETTINGS: Final = {
    "GOODFAITH_PARTITIONS": "4",
    "GOODFAITH_COLLECT_S": "0.5",
    # a local stack has no limits unless they are set: here those of an installation
    **{name: str(Settings.model_fields[name.removeprefix("GOODFAITH_").lower()].default) for name in fleet.RATES},
    **ENVIRONMENT,
}
SURVIVES_S: Final = 10.0
"""Seconds that a process has to become ready again."""


@contextlib.contextmanager
def standing(name: str, size: Size, *, keep: bool = False) -> Iterator[AttackBed]:
    """Start a new stack to attack and destroy it at the end."""
    destroy(name)
    try:
        stack, processes = bring_up(name, COUNTS, env=SETTINGS)
        engine = db.administer(stack.admin_url)
        ground = AttackBed(stack, processes, fleet.settings_of(stack, secret=True), engine, size)
        yield ground
        ground.close()
        engine.dispose()
    finally:
        if not keep:
            destroy(name)


def carry_out(attack: Attack, ground: AttackBed, customer: Customer) -> Result:
    """Carry out one attack while the honest client works."""
    begun = time.monotonic()
    outcome, error = Outcome(False, ""), ""
    with customer.watching() as honest:
        try:
            outcome = attack.act(ground)
        except (httpx.HTTPError, StackError, OSError, KeyError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"[:300]
    ended = [process.name for process in ground.fleet if not _survived(ground, process)]
    return Result(attack, outcome, honest if not error else Honest(), ended, error, time.monotonic() - begun)


def _survived(ground: AttackBed, process: Process) -> bool:
    return bool(ground.wait(lambda: process.alive() and process.ready(), SURVIVES_S))


def attack(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Attacks, repeatable; none: all. {', '.join(one.name for one in ATTACKS)}")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Fewer requests for each attack, as in CI.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, to look at.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; one of that name is destroyed first.")] = "attack",
    json: JsonOption = False,
) -> None:
    """Attack a local stack while an honest client uses it; exit 1 if an attack succeeds or cannot be carried out."""
    names = [one.name for one in ATTACKS]
    if unknown := sorted(set(only or ()) - set(names)):
        raise StackError(f"no such attack: {', '.join(unknown)}; there are: {', '.join(names)}")
    chosen = [one for one in ATTACKS if not only or one.name in only]
    begun = time.monotonic()
    results: list[Result] = []
    with (
        errors.status("starting a stack to attack") as status,
        standing(stack, "short" if short else "full", keep=keep) as ground,
    ):
        customer = Customer(ground)
        for one in chosen:
            status.update(f"{one.name}: {one.aim}")
            results.append(carry_out(one, ground, customer))
            _line(results[-1])
    _show(results)
    found = summary(results, time.monotonic() - begun)
    if json:
        print_json(found)
    if found["succeeded"] or found["unknown"]:
        raise typer.Exit(1)


def verdict(result: Result) -> str:
    """The last column of the table."""
    return "unknown" if result.error else "SUCCEEDED" if result.succeeded else "held"


def _line(result: Result) -> None:
    said = result.error or result.happened
    errors.print(
        f"{result.attack.name}: {verdict(result)}, {result.seconds:.0f} s; {said}", highlight=False, markup=False
    )


def _show(results: Sequence[Result]) -> None:
    table = Table("attack", "what happened", "honest client", "", title="Attacks")
    for one in results:
        p50 = "" if one.honest.p50_ms is None else f", {one.honest.p50_ms:.0f} ms"
        table.add_row(one.attack.name, escape(one.error or one.happened), f"{one.honest}{p50}", verdict(one))
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(attack)
