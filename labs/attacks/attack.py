"""`goodfaith lab attack`: attack a local stack while an honest client uses it.

An attack succeeds if the attacker reaches its aim, if the honest client is refused, or if a process ends. Everything is
bounded in count and time, and stays on loopback.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import httpx
import typer
from rich.markup import escape

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Process
from deploy.local.up import bring_up, confirm_replacing, destroy
from labs.attacks.accounts import ACCOUNTS, REVOKES_BOOTSTRAP
from labs.attacks.authority import AUTHORITY
from labs.attacks.bed import (
    Attack,
    AttackBed,
    AttackOutcome,
    AttackResult,
    HonestClient,
    HonestFigures,
    Size,
    summary,
)
from labs.attacks.cursors import CURSORS
from labs.attacks.domains import DOMAINS
from labs.attacks.domains import ENVIRONMENT as RESOLVED
from labs.attacks.feed import FEEDS
from labs.attacks.files import FILES
from labs.attacks.floods import FLOODS
from labs.attacks.outbound import OUTBOUND
from labs.attacks.pictures import PICTURED
from labs.attacks.races import RACES
from labs.attacks.upstream import ENVIRONMENT, UPSTREAMS
from labs.attacks.words import WORDS
from services.ops.terminal import JsonOption, YesOption, console, errors, print_json, progress, table
from shared import db
from shared.failures import CommandError
from shared.settings import Settings

ATTACKS: Final[Sequence[Attack]] = (
    *FLOODS,
    *FILES,
    *CURSORS,
    *RACES,
    *ACCOUNTS,
    *AUTHORITY,
    *DOMAINS,
    *OUTBOUND,
    *PICTURED,
    *WORDS,
    *UPSTREAMS,
    *FEEDS,
    REVOKES_BOOTSTRAP,
)
COUNTS: Final = {
    **dict.fromkeys(fleet.SERVICES, 0),
    "mailbox": 1,
    "intake": 1,
    "notification": 1,
    "verification-api": 1,
    "enforcement-api": 1,
}
"""The processes that strangers can reach, and those that handle their mail and documents."""
SETTINGS: Final = {
    "GOODFAITH_PARTITIONS": "4",
    "GOODFAITH_COLLECT_S": "0.5",
    # a local stack has no rate limits by default: set those of an installation
    **{name: str(Settings.model_fields[name.removeprefix("GOODFAITH_").lower()].default) for name in fleet.RATES},
    **ENVIRONMENT,
    **RESOLVED,
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
        bed = AttackBed(stack, processes, fleet.settings_of(stack, secret=True), engine, size)
        yield bed
        bed.close()
        engine.dispose()
    finally:
        if not keep:
            destroy(name)


def carry_out(attack: Attack, bed: AttackBed, client: HonestClient) -> AttackResult:
    """Carry out one attack while the honest client works."""
    begun = time.monotonic()
    outcome, error = AttackOutcome(False, ""), ""
    with client.watching() as honest:
        try:
            outcome = attack.act(bed)
        except (httpx.HTTPError, StackError, OSError, KeyError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"[:300]
    ended = [process.name for process in bed.fleet if not _survived(bed, process)]
    return AttackResult(
        attack, outcome, honest if not error else HonestFigures(), ended, error, time.monotonic() - begun
    )


def _survived(bed: AttackBed, process: Process) -> bool:
    return bool(bed.wait(lambda: process.alive() and process.ready(), SURVIVES_S))


def attack(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Carry out only this attack; repeatable. One of: {', '.join(one.name for one in ATTACKS)}."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Send fewer requests for each attack, as in CI.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; an existing one is destroyed first.")] = "attack",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Attack a local stack while an honest client uses it; exit 1 if an attack succeeds or cannot be carried out."""
    names = [one.name for one in ATTACKS]
    if unknown := sorted(set(only or ()) - set(names)):
        raise CommandError(f"no such attack: {', '.join(unknown)}; there are: {', '.join(names)}")
    confirm_replacing(stack, own=("attack",), yes=yes)
    chosen = [one for one in ATTACKS if not only or one.name in only]
    begun = time.monotonic()
    results: list[AttackResult] = []
    with (
        progress("starting a stack to attack") as tell,
        standing(stack, "short" if short else "full", keep=keep) as bed,
    ):
        honest = HonestClient(bed)
        for one in chosen:
            tell(f"{one.name}: {one.aim}")
            results.append(carry_out(one, bed, honest))
            _line(results[-1])
    _show(results)
    found = summary(results, time.monotonic() - begun)
    if json:
        print_json(found)
    if found["succeeded"] or found["unknown"]:
        raise typer.Exit(1)


def verdict(result: AttackResult) -> str:
    """The last column of the table."""
    return "unknown" if result.error else "SUCCEEDED" if result.succeeded else "held"


def _line(result: AttackResult) -> None:
    said = result.error or result.happened
    errors.print(
        f"{result.attack.name}: {verdict(result)}, {result.seconds:.0f} s; {said}", highlight=False, markup=False
    )


def _show(results: Sequence[AttackResult]) -> None:
    shown = table("attack", "what happened", "honest client", "", title="Attacks")
    for one in results:
        p50 = "" if one.honest.p50_ms is None else f", {one.honest.p50_ms:.0f} ms"
        shown.add_row(one.attack.name, escape(one.error or one.happened), f"{one.honest}{p50}", verdict(one))
    console.print(shown)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(attack)
