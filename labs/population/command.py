"""`goodfaith lab population`: notices whose truth is known, through the whole system, and how right it was."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import typer

from deploy.local import fleet
from deploy.local.stack import Stack
from deploy.local.up import bring_up, confirm_replacing, destroy
from labs.population import titles
from labs.population.catalogue import FOLDS, of_seed
from labs.population.figures import by_group
from labs.population.generator import Population, attack, generate, load
from labs.population.run import PROFILE, Done, Run
from services.ops.terminal import JsonOption, YesOption, console, print_json, progress, table
from services.ops.verify import verify
from shared import policy

SETTINGS: Final = {
    # with a clock that is stepped, waiting for more items or requests gains nothing
    "GOODFAITH_COLLECT_S": "0.02",
    "GOODFAITH_WATERMARK_MS": "50",
    "GOODFAITH_POLL_MS": "50",
}
BEGINS: Final = dt.datetime(2026, 9, 6, 12, tzinfo=dt.UTC)
STOLEN_MOST: Final = 10_000
GROUPS: Final[tuple[Literal["conduct", "kind"], ...]] = ("conduct", "kind")
CLAIMS_LEAST: Final = 5
"""Claims of the stolen account, where they are not as large as the policy allows."""


def play(
    stack: Stack, items: int, seed: int, stolen: int, tell: Callable[[str], None] = lambda _text: None
) -> tuple[Population, Done, str]:
    """Run a population, then the stolen account, on a running stack: the population, what was found, and which titles.

    Raises:
        CommandError: there are no goods to make it of.
        StackError: a part does not answer, or the population was run on the stack before.
        TimeoutError: work stays in progress.
    """
    goods, which = titles.load()
    rates = load()
    own = of_seed(goods, seed)
    population = generate(own, rates, items, seed)
    run = Run(stack, population, rates, tell=tell)
    try:
        run.prepare()
        done = run.run()
        if stolen:
            # one in good standing, of the mechanism if any is
            victim = max(population.notifiers, key=lambda one: (one.known, one.conduct == "careful"))
            size = min(policy.current(PROFILE).claim.max_items, max(stolen // CLAIMS_LEAST, 1))
            done = run.steal(done, victim, attack(own, rates, victim, stolen, seed), size)
    finally:
        run.close()
    return population, done, which


def show(population: Population, done: Done, which: str) -> None:
    """Print tables for people."""
    found, panel = done.figures(), load().panel
    shown = table("", "", title=f"A population of {found['items']:,} items under {', '.join(done.policies)}")
    shown.show_header = False
    brands = len({one.mark for one in population.notifiers})
    shown.add_row("titles", f"{which}, {brands} marks of set {population.seed % FOLDS} of {FOLDS}")
    opens, closes = panel.hours
    shown.add_row(
        "panel",
        f"{panel.reviewers} reviewers, {panel.cases_an_hour} cases an hour, {opens}-{closes} h"
        f" on {len(panel.weekdays)} days a week",
    )
    for name, value in found.items():
        text = "-" if value is None else f"{value:.1%}" if isinstance(value, float) else f"{value:,}"
        if name == "stolen_account_stopped_after":
            text = "never" if value is None and done.stolen else text
            text += f" (of {done.stolen:,} filed)"
        shown.add_row(name.replace("_", " "), text)
    shown.add_row("decisions of the panel", ", ".join(f"{n:,} {what}" for what, n in done.decisions.items()) or "none")
    shown.add_row("refused", ", ".join(f"{code} {count:,}" for code, count in done.refused.items()) or "none")
    shown.add_row("took", f"{done.days} business days, {done.steps} steps, {done.seconds} s")
    console.print(shown)
    for name in GROUPS:
        groups = table(name, "items", "down by rule", "down by a person", "refused by rule", "down at the end")
        for row in by_group(done.outcomes, name):
            groups.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
        console.print(groups)


def facts(population: Population, done: Done, which: str) -> dict[str, Any]:
    """For ``--json``: the figures, and what they were measured on."""
    return {
        **done.figures(),
        "stolen": done.stolen,
        "seed": population.seed,
        "titles": which,
        "policies": list(done.policies),
        "steps": done.steps,
        "seconds": done.seconds,
    }


def population(
    items: Annotated[int, typer.Option(min=50, max=200_000, help="Items of the population.")] = 500,
    seed: Annotated[
        int, typer.Option(min=0, help="Also picks the brands: seeds with other last digits share none. Odd: to report.")
    ] = 1,
    stolen: Annotated[
        int | None,
        typer.Option(
            min=0, help="Listings that the stolen account files against. Default: as many as items, at most 10000."
        ),
    ] = None,
    stack: Annotated[
        str, typer.Option("--stack", help="Name of the population's own stack; an existing one is replaced.")
    ] = "population",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """File notices whose truth is known, have a panel decide, and say how right the system was; exit 1 if verify objects."""
    confirm_replacing(stack, own=("population",), yes=yes)
    destroy(stack)
    begun = time.monotonic()
    with progress("starting broker, database and services"):
        running, _ = bring_up(stack, env=SETTINGS, begins=BEGINS, pictures=True)
    try:
        with progress("a population") as tell:
            people, done, which = play(
                running, items, seed, min(items, STOLEN_MOST) if stolen is None else stolen, tell
            )
        with progress("verifying"):
            proof = verify.verify_stack(fleet.settings_of(running), wait_s=120)
        if json:
            print_json(
                {**facts(people, done, which), "clean": proof.clean, "whole_s": round(time.monotonic() - begun, 1)}
            )
        else:
            show(people, done, which)
            verify.show(proof)
    finally:
        if not keep:
            destroy(stack)
    raise typer.Exit(0 if proof.clean else 1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(population)
