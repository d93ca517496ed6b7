"""`goodfaith token list|revoke`: lists and revokes an account's bearer tokens, in the installation's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from services.ops.terminal import JsonOption, StackOption, YesOption

app = typer.Typer(no_args_is_help=True, help="List and revoke the bearer tokens of an account.")
AccountArgument = Annotated[str, typer.Argument(help="Id of the account.")]


@app.callback()
def _group() -> None:
    """List and revoke the bearer tokens of an account."""


@contextmanager
def _tables(stack: str, account: str) -> Iterator[Any]:
    """A transaction on intake's tables.

    Raises:
        CommandError: there is no such account.
    """
    from services.intake.kernel import store
    from services.ops import installation
    from shared import db
    from shared.failures import CommandError

    engine = db.administer(installation.settings(stack).database.get_secret_value(), pooled=False)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("set local search_path = intake, platform")
            if not store.accounts(connection, [account]):
                raise CommandError(f"there is no account {account}")
            yield connection
    finally:
        engine.dispose()


@app.command("list")
def list_(account: AccountArgument, stack: StackOption = "default", json: JsonOption = False) -> None:
    """List an account's valid tokens: id, name, creation and expiry. Never shows the tokens themselves."""
    from services.intake.kernel import store
    from services.ops.terminal import console, print_json

    with _tables(stack, account) as connection:
        rows = [
            {key: row[key] for key in ("id", "name", "created", "expires")} for row in store.tokens(connection, account)
        ]
    for row in rows:
        console.print(
            f"{row['id']}  {row['created']:%Y-%m-%d %H:%M}  until {row['expires']:%Y-%m-%d %H:%M}  {row['name']}",
            markup=False,
            highlight=False,
        )
    if not rows:
        console.print(f"{account} has no valid token", markup=False)
    if json:
        print_json({"account": account, "tokens": rows})


@app.command()
def revoke(
    account: AccountArgument,
    token: Annotated[str | None, typer.Argument(help="Id of the token, as `token list` shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Revoke all of the account's tokens.")] = False,
    stack: StackOption = "default",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Revoke one token of an account, or all of them. Processes notice within GOODFAITH_TOKEN_CACHE_S seconds."""
    from services.intake.kernel import store
    from services.ops.terminal import confirm, console, print_json
    from shared.failures import CommandError

    if (token is None) != every:
        raise CommandError("give either the id of a token or --all")
    confirm(f"Revoke all tokens of {account}?", yes=yes or not every)
    with _tables(stack, account) as connection:
        revoked = store.revoke_tokens(connection, account, id=token)
    if token is not None and not revoked:
        raise CommandError(f"{account} has no valid token {token}; see `goodfaith token list {account}`")
    console.print(f"revoked: {', '.join(revoked) or 'none, there was no valid one'}", markup=False, highlight=False)
    if json:
        print_json({"account": account, "revoked": revoked})


def register(app_: typer.Typer) -> None:
    """Add this module's commands."""
    app_.add_typer(app, name="token")
