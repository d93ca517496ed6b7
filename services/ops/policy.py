"""`goodfaith policy check|backtest`: validates policies, and tries another policy on the recorded items."""

from __future__ import annotations

import datetime as dt
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, SinceOption, StackOption

if TYPE_CHECKING:
    from shared.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Check policies, and try a new one on recorded items.")
ROWS: Final = 20


def _text(path: Path) -> str:
    from shared.policy import PolicyError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: {error}") from None


def read(name: str) -> Policy:
    """Load a policy by version, or from a file. The file need be neither installed nor named after its version.

    Raises:
        PolicyError: there is no such policy, or it is wrong; the message names file and key.
    """
    from shared import policy

    path = Path(name)
    if path.suffix != ".toml" and not path.is_file():
        return policy.load(name)
    text = _text(path)
    try:
        version = tomllib.loads(text).get("version")
    except tomllib.TOMLDecodeError as error:
        raise policy.PolicyError(f"{path}: {error}") from None
    try:
        return policy.parse(text, f"{version}.toml")
    except policy.PolicyError as error:
        raise policy.PolicyError(f"{path}: {str(error).partition(': ')[2]}") from None


@app.command()
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Policy files; default: all that are installed.")] = None,
    json: JsonOption = False,
) -> None:
    """Validate policies, and show each problem with file and key.

    Exit code 1 if a policy is wrong.
    """
    from rich.markup import escape

    from services.ops.terminal import console, print_json, table
    from shared import policy
    from shared.policy import PolicyError

    paths = files or [policy.FOLDER / f"{version}.toml" for version in policy.versions()]
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    notes: list[str] = []
    for path in paths:
        try:
            found, wrong = policy.examine(_text(path), path.name)
        except PolicyError as error:
            found, wrong = None, [str(error)]
        if found is not None:
            if not wrong:
                wrong = [f"{path.name}: {key}: {text}" for key, text in _contradictions(found)]
            notes += [f"{path.name}: {key}: {text}" for key, text in _oddities(found)]
            rows.append(
                {
                    "file": path.name,
                    "profile": found.profile,
                    "version": found.version,
                    "base": found.base,
                    "calendar": found.calendar,
                    "reasons": len(found.reasons),
                    "sound": not wrong,
                }
            )
        problems += wrong
    grid = table("file", "profile", "base", "calendar", "reasons", "")
    for row in rows:
        told = "sound" if row["sound"] else "[red]wrong[/]"
        grid.add_row(row["file"], row["profile"], row["base"] or "-", row["calendar"], str(row["reasons"]), told)
    if rows:
        console.print(grid)
    for text in notes:
        console.print(f"note: {escape(text)}", style="yellow", highlight=False)
    for text in problems:
        console.print(escape(text), style="red", highlight=False)
    if json:
        print_json({"files": len(paths), "policies": rows, "problems": problems, "notes": notes})
    if problems:
        raise typer.Exit(1)


_SAMPLE: Final = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
"""A Monday in a month without long holidays anywhere, from which spans of working days and of hours are compared."""


def _contradictions(found: Policy) -> list[tuple[str, str]]:
    """Settings that defeat each other, in an otherwise valid policy."""
    from shared.calendars import calendar

    days = calendar(found.calendar)
    timers, rules = found.timers, found.rules
    due = {
        name: getattr(timers, name).after(_SAMPLE, days) for name in timers.__struct_fields__ if getattr(timers, name)
    }
    wrong = []
    if due["lookup_give_up"] >= due["review_sla"]:
        wrong.append(("timers.lookup_give_up", "not before review_sla: no person could decide in time"))
    if due["lookup_retry"] >= due["lookup_give_up"]:
        wrong.append(("timers.lookup_retry", "not before lookup_give_up: a listing is never asked for again"))
    if "restore_by" in due and due["restore_by"] <= due["holder_response"]:
        wrong.append(("timers.restore_by", "not after holder_response: the holder's time is cut short"))
    if rules.seller_silent == "uphold" and found.counter.late and due["late_counter"] <= due["window"]:
        wrong.append(("timers.late_counter", "not after window: no late counter is ever admitted"))
    return wrong


def _oddities(found: Policy) -> list[tuple[str, str]]:
    """Possible slips: kinds of proof that no installed policy knows, reasons without a title or explanation."""
    from services.intake.evidence import domain as evidence

    known = {*evidence.kinds(), "right"}
    notes = [
        (f"reasons.{code}.{name}", f"{kind!r} is a kind of proof that no newest installed policy names")
        for code, reason in found.reasons.items()
        for name in ("materials", "good_faith_materials")
        for kind in getattr(reason, name) or ()
        if kind not in known
    ]
    notes += [
        (f"{table}.required", f"{kind!r} is a kind of proof that no newest installed policy names")
        for table in ("claim", "counter")
        for kind in getattr(found, table).required
        if kind not in known
    ]
    notes += [
        (f"reasons.{code}.{name}", "is missing: forms and messages show the code")
        for code, reason in found.reasons.items()
        for name in ("title", "explanation")
        if not getattr(reason, name)
    ]
    return notes


@app.command()
def backtest(
    old: Annotated[str, typer.Argument(help="Policy version or file that the items were handled under.")],
    new: Annotated[str, typer.Argument(help="Policy version or file to try on them.")],
    stack: StackOption = "default",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many items.")] = None,
    since: SinceOption = None,
    everything: Annotated[
        bool, typer.Option("--all-profiles", help="Items of all profiles, not only of OLD's.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run the recorded items through two policies, and show which outcomes change. Writes nothing."""
    from services.ops import backtest as ledger
    from services.ops import installation
    from services.ops.terminal import print_json, progress
    from shared import db
    from shared.policy import PolicyError

    before, after = read(old), read(new)
    begun = time.monotonic()
    engine = db.administer(installation.settings(stack).database.get_secret_value(), pooled=False)
    try:
        with (
            progress("running the recorded items through both policies"),
            engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
        ):
            recorded = ledger.Recorded(connection)
            tally = ledger.compare(recorded, before, after, everything=everything, limit=limit, since=since)
    except PolicyError as error:
        raise PolicyError(f"an item's own policy: {error}") from None
    finally:
        engine.dispose()
    seconds = time.monotonic() - begun
    result = {
        "old": before.version,
        "new": after.version,
        **tally.as_json(),
        "forgotten_listings": recorded.forgotten,
        "seconds": round(seconds, 2),
        "items_per_s": round(tally.items / seconds, 1),
    }
    show(result)
    if json:
        print_json(result)


def show(result: dict[str, Any]) -> None:
    """Print a comparison for people."""
    from rich.markup import escape

    from services.ops.terminal import console, table

    console.print(f"{result['items']:,} items, {result['changed']:,} with another outcome", highlight=False)
    if result["changed"]:
        console.print(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result["fields"].items()))
        reasons = table("reason", "items", "changed", "state before -> after")
        for reason, row in result["by_reason"].items():
            moves = "\n".join(f"{move} {count:,}" for move, count in row["transitions"].items())
            reasons.add_row(reason, f"{row['items']:,}", f"{row['changed']:,}", escape(moves))
        console.print(reasons)
        people = table("complainant", "items", "changed")
        for row in result["by_complainant"][:ROWS]:
            people.add_row(row["complainant"], f"{row['items']:,}", f"{row['changed']:,}")
        console.print(people)
    if result["changed_but_open"]:
        console.print(f"{result['changed_but_open']:,} of them are still open where the log ends")
    if result["forgotten_listings"]:
        console.print(
            f"left out: {result['forgotten_listings']:,} listings; `goodfaith prune` deleted when they were judged",
            markup=False,
        )
    made_up = result["made_up"]
    if any(made_up.values()):
        console.print(
            f"supposed, as sent and receipted at once: {made_up['notices']:,} notices, {made_up['receipts']:,} receipts"
        )
    for name, counts in result["commands"].items():
        refused = ", ".join(f"{code} {count:,}" for code, count in counts.items() if code != "applied")
        console.print(
            f"commands under {result[name]}: {counts.get('applied', 0):,} applied; refused: {refused or 'none'}"
        )
    if result["agreement"] is None:
        console.print(
            f"no item was filed under {result['old']}: nothing to hold the simulation against", style="yellow"
        )
    else:
        style = "green" if result["agreement"] == 1 else "yellow"
        console.print(
            f"{result['agreement']:.2%} of {result['compared']:,} items come out under {result['old']} as they are stored",
            style=style,
            highlight=False,
        )
        for row in result["differences"]:
            console.print(f"  {row['count']:,}: {escape(row['kind'])}, such as {', '.join(row['examples'])}")
    console.print(f"{result['seconds']:.1f} s, {result['items_per_s']:,.0f} items/s")


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="policy")
