"""What all commands share on the terminal: consoles, common options, questions, progress, tables and JSON output."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

from shared.failures import CommandError

console = Console()
"""Standard output, for people: a command's result. It is silent with `--json`."""

errors = Console(stderr=True)
"""Standard error, for people: progress, questions and errors."""

STEP_S: Final = 5.0
"""Least wall seconds between two lines of progress where there is no terminal."""


def _json(value: bool) -> bool:
    console.quiet = value
    return value


def moment(text: str) -> dt.datetime:
    """Parse a time from the command line, as UTC. Without a zone it is UTC.

    Raises:
        typer.BadParameter: it is not a time.
    """
    try:
        at = dt.datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a time; write it as 2026-11-24T12:00:00Z") from None


StackOption = Annotated[
    str,
    typer.Option(
        "--stack",
        envvar="GOODFAITH_STACK_NAME",
        help="Name of the local stack. Not used if the environment names a broker and a database.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", callback=_json, help="Print one JSON object, and nothing else on standard output.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AtOption = Annotated[
    dt.datetime | None,
    typer.Option("--at", parser=moment, metavar="TIME", help="As of this business time (UTC); default: now."),
]
SinceOption = Annotated[
    dt.datetime | None,
    typer.Option("--since", parser=moment, metavar="TIME", help="Only from this business time on (UTC)."),
]


def print_json(value: object) -> None:
    """Print a value as one line of JSON on standard output: with `--json`, a command's whole output."""
    print(json.dumps(value, default=str), flush=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Args:
        question: What will happen, as a question that ends with a question mark.
        yes: Whether the user gave `--yes`: then nothing is asked.

    Raises:
        CommandError: The user did not agree, or there is no terminal to ask on.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(f"{question} There is no terminal to ask on: repeat the command with --yes")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        errors.print()
        agreed = False
    if not agreed:
        raise CommandError("not confirmed: nothing was done")


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done. Yields a function that takes the next step's name.

    On a terminal it is a spinner. Elsewhere each step is a line, at most one per `STEP_S`.
    """
    if errors.is_terminal:
        with errors.status(text) as status:
            yield status.update
        return
    last = float("-inf")

    def tell(step: str) -> None:
        nonlocal last
        if time.monotonic() - last >= STEP_S:
            last = time.monotonic()
            errors.print(step, markup=False, highlight=False, soft_wrap=True)

    tell(text)
    yield tell


def table(*columns: Column | str, title: str | None = None) -> Table:
    """An empty table in the style of all commands, without vertical lines: it has to fit into 80 columns."""
    return Table(
        *columns,
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
