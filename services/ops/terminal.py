"""What commands share on the terminal: where they print, their common options, and mistakes that the user can fix."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

console = Console()
"""For people; a command's own output."""

errors = Console(stderr=True)
"""For people; progress and what went wrong."""

StackOption = Annotated[
    str,
    typer.Option(
        "--stack",
        envvar="GOODFAITH_STACK_NAME",
        help="Name of the local stack; not used where the environment names broker and database.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of output.")]


def print_json(value: object) -> None:
    """Print one JSON object on one line of standard output: the last that a command with `--json` prints."""
    print(json.dumps(value, default=str), flush=True)
