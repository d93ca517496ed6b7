"""`goodfaith lab`: experiments on a local stack: load, faults, drills, attacks, measurements. Never part of an installation."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import typer

MODULES: Final = (
    "tour.command",
    "replay",
    "population.command",
    "bench.command",
    "deep",
    "canary",
    "faults.fault_runs",
    "attacks.attack",
    "drills.command",
    "restore_drill",
    "upgrade_drill",
)


def build() -> typer.Typer:
    """Build the command group."""
    app = typer.Typer(
        no_args_is_help=True, help="Experiments on a local stack: load, faults, drills, attacks, measurements."
    )
    for name in MODULES:
        import_module(f"labs.{name}").register(app)
    return app
