"""`goodfaith lab tour`: a scripted story on the real parts, told as it happens; docs/tutorials/tour.md is what it tells."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.local import fleet
from deploy.local.up import JsonOption, bring_up, destroy
from labs.stage import BEGINS, Tour
from services.ops.terminal import console, errors, print_json
from services.ops.verify import verify

SETTINGS = {"GOODFAITH_COLLECT_S": "8", "GOODFAITH_WATERMARK_MS": "50", "GOODFAITH_POLL_MS": "50"}
"""The stories tell of one message for all listings of a claim: so long a busy machine may take for the last after the first."""


class Which(StrEnum):
    """A story that there is."""

    holder = "holder"
    entity = "entity"


HEADS = {
    Which.holder: """# A tour

Told by `make tour`, which does all of this on a real broker and a real database, over HTTP, in a minute or two; a test
holds this page against it. The clock is stepped. Not written by hand: `goodfaith lab tour --write docs/tutorials/tour.md`.
""",
    Which.entity: """# A business of two accounts

Told by `make tour ARGS="--story entity"`, which does all of this on a real broker and a real database, over HTTP; a test
holds this page against it. The clock is stepped. Not written by hand: `goodfaith lab tour --story entity --write docs/tutorials/story-entity.md`.
""",
}


def tour(
    stack: Annotated[
        str, typer.Option("--stack", help="Name of the tour's own stack; an old one is replaced.")
    ] = "tour",
    story: Annotated[
        Which, typer.Option(help="holder: from joining to good faith; entity: two accounts of one business.")
    ] = Which.holder,
    write: Annotated[Path | None, typer.Option(help="Write the page that is told to this file.")] = None,
    check: Annotated[Path | None, typer.Option(help="Fail unless the page that is told is this file.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave the stack running, to look around.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell a story on the real parts: of a right holder, from joining to good faith, or of a business, from a warning to closure."""
    from labs import story as holder
    from labs import story_entity as entity

    destroy(stack)
    begun = time.monotonic()
    with errors.status("starting broker, database and services"):
        running, _ = bring_up(stack, env=SETTINGS, begins=BEGINS)
    try:
        told = Tour(
            running,
            (lambda _text: None) if json else lambda text: console.print(text, markup=False, highlight=False),
            HEADS[story],
        )
        try:
            {Which.holder: holder, Which.entity: entity}[story].tell(told)
        finally:
            told.close()
        proof = verify.verify_stack(fleet.settings_of(running), wait_s=120)
        told.say(
            f"The proof: `goodfaith verify` finds {proof.counts['lost']} lost, {proof.counts['doubled']} doubled,"
            f" {proof.counts['problems']} problems."
        )
    finally:
        if not keep:
            destroy(stack)
    if write is not None:
        write.write_text(told.page, encoding="utf-8")
    same = check is None or check.read_text(encoding="utf-8") == told.page
    if not same:
        errors.print(f"{check} tells something else: `goodfaith lab tour --write {check}`", style="red", markup=False)
    if json:
        print_json({"clean": proof.clean, "as_written": same, "seconds": round(time.monotonic() - begun, 1)})
    raise typer.Exit(0 if proof.clean and same else 1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tour)
