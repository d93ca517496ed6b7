"""`goodfaith lab`: experiments on a local stack: load, faults, drills, attacks, measurements. Never part of an installation."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import typer

MODULES: Final = (
    "tour",
    "replay",
    "bench",
    "deep",
    "canary",
    "faults.fault_runs",
    "attacks.attack",
    "drills",
    "restore_drill",
    "upgrade_drill",
)


def build() -> typer.Typer:
    """All of its commands."""
    app = typer.Typer(
        no_args_is_help=True, help="Experiments on a local stack: load, faults, drills, attacks, measurements."
    )
    for name in MODULES:
        import_module(f"labs.{name}").register(app)
    return app
