"""`goodfaith feed key`: the public key with which the marketplace seals its sellers' contact data."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated

import typer

from services.ops.terminal import JsonOption, StackOption

app = typer.Typer(no_args_is_help=True, help="The marketplace's feed of sellers' contacts.")
NewOption = Annotated[bool, typer.Option("--new", help="Make a private key, to be kept as GOODFAITH_FEED_KEY.")]


@app.callback()
def _group() -> None:
    """The marketplace's feed of sellers' contacts."""


@app.command("key")
def feed_key(new: NewOption = False, stack: StackOption = "default", json: JsonOption = False) -> None:
    """Print the public key with which the marketplace seals its sellers' contact data.

    It belongs to the private key `GOODFAITH_FEED_KEY`.
    """
    from services.ops import installation
    from services.ops.terminal import console, print_json
    from shared import sealing
    from shared.failures import CommandError
    from shared.settings import Settings

    private = base64.b64encode(secrets.token_bytes(32)).decode() if new else None
    kept = private
    if kept is None:
        own = Settings()
        found = own.feed_key or installation.settings(stack).feed_key
        if found is None:
            raise CommandError("GOODFAITH_FEED_KEY is not set: make a key with --new, and give it to intake's worker")
        kept = found.get_secret_value()
    try:
        public = sealing.public_text(sealing.private_key("feed_key", kept))
    except ValueError as error:
        raise CommandError(str(error)) from None
    if json:
        print_json({"public": public} if private is None else {"public": public, "private": private})
        return
    if private is not None:
        console.print(f"private (GOODFAITH_FEED_KEY): {private}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"public (for the marketplace): {public}", markup=False, highlight=False, soft_wrap=True)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="feed")
