"""What all commands share on the terminal: consoles, common options, and JSON output."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

console = Console()
"""Standard output, for people: a command's result."""

errors = Console(stderr=True)
"""Standard error, for people: progress and errors."""

StackOption = Annotated[
    str,
    typer.Option(
        "--stack",
        envvar="GOODFAITH_STACK_NAME",
        help="Name of the local stack. Not used if the environment names a broker and a database.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of output.")]


def print_json(value: object) -> None:
    """Print a value as one line of JSON on standard output: with `--json`, a command's last line."""
    print(json.dumps(value, default=str), flush=True)
