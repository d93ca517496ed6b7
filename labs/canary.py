"""`goodfaith lab canary`: the state of a stack's canary, whose process is ``services.observer.canary_rounds``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import typer

from services.ops.terminal import JsonOption, StackOption
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The canary: a marked claim each minute through all services.")


@app.callback()
def _group() -> None:
    """The canary: a marked claim each minute through all services."""


@app.command()
def status(stack: StackOption = "default", json: JsonOption = False) -> None:
    """Show when the canary's last round completed, and where others failed; exit 1 if none did for five rounds."""
    from deploy.local.processes import Fleet
    from deploy.local.up import running
    from services.ops.terminal import console, print_json

    local = running(stack)
    facts = exported(local.environment(), Fleet.load(local))
    age = facts["age_s"]
    console.print("no round has completed yet" if age is None else f"the last round completed {age:.0f} s ago")
    for step, results in facts["failed"].items():
        console.print(f"  {step}: " + ", ".join(f"{result} {count}" for result, count in results.items()))
    if json:
        print_json({"stack": stack, **facts})
    if not facts["ok"]:
        raise typer.Exit(1)


def exported(kept: Mapping[str, str], processes: Any) -> dict[str, Any]:
    """What the stack's canary exports.

    Args:
        kept: The stack's environment.
        processes: Its fleet.

    Returns:
        `ok`; `age_s` of the last complete round (None: there was none); `rounds`; `failed` by step and result.

    Raises:
        CommandError: no canary was started, or it does not answer.
    """
    import httpx

    from labs.exposition import samples
    from shared.failures import CommandError

    if "canary.0" not in processes.processes:
        raise CommandError("this stack has no canary: `goodfaith up` starts one")
    try:
        found = samples(processes["canary.0"])
    except httpx.HTTPError as error:
        raise CommandError(f"the canary does not answer: {type(error).__name__}") from None
    last, rounds = 0.0, 0
    failed: dict[str, dict[str, int]] = {}
    for sample in found:
        if sample.name == "goodfaith_canary_last_completed_timestamp_seconds":
            last = sample.value
        elif sample.name == "goodfaith_canary_duration_seconds_count":
            rounds = int(sample.value)
        elif sample.name == "goodfaith_canary_steps_total" and sample.value and sample.labels["result"] != "ok":
            failed.setdefault(sample.labels["step"], {})[sample.labels["result"]] = int(sample.value)
    every = float(kept.get("GOODFAITH_CANARY_EVERY_S", Settings.model_fields["canary_every_s"].default))
    age = time.time() - last if last else None
    return {"ok": age is not None and age < 5 * every, "age_s": age, "rounds": rounds, "failed": failed}


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="canary")
