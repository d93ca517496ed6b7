"""The command line `goodfaith`: one module of this package for each command, found and registered here.

A module `services/operator/<name>.py` of `COMMANDS` that exists is imported and its `register(app: typer.Typer) -> None`
called. Modules import what is heavy inside their commands, so that `goodfaith --help` stays quick.

With `--json` a command's last line on standard output is one JSON object; what is for people goes before it.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import find_spec

import typer
from pydantic import ValidationError
from rich.console import Console

from deploy.local.children import StackError
from shared.secret_files import Refused
from shared.settings import wrong

COMMANDS = (
    "up",
    "demo",
    "tour",
    "replay",
    "claim",
    "message",
    "erase",
    "token",
    "export",
    "verify",
    "promise",
    "top",
    "dlq",
    "statements",
    "standing",
    "policy",
    "clock",
    "bench",
    "fault_runs",
    "canary",
    "restore",
    "topics",
    "login",
    "rewrap",
    "prune",
    "deep",
    "streams",
    "drills",
    "attack",
    "upgrade_drill",
    "size",
)

console = Console()
"""For people; a command's own output."""

errors = Console(stderr=True)
"""For people; progress and what went wrong."""


def build() -> typer.Typer:
    """The whole command line."""
    # no locals in tracebacks: they hold passwords
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help="Goodfaith's operator's tools.")
    for name in COMMANDS:
        module = f"{__package__}.{name}"
        if find_spec(module) is not None:
            import_module(module).register(app)
    return app


def print_json(value: object) -> None:
    """One JSON object on one line of standard output: the last that a command with `--json` prints."""
    print(json.dumps(value, default=str), flush=True)


def main() -> None:
    """Run the command line; exit 1 and a sentence for what the user can mend."""
    try:
        build()()
    except (StackError, Refused, ValidationError) as error:
        text = str(error) if isinstance(error, StackError) else wrong(error)
        errors.print(text, style="red", markup=False, highlight=False)
        if "--json" in sys.argv:
            print_json({"error": text})
        sys.exit(1)


if __name__ == "__main__":
    main()
