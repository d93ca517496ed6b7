"""`goodfaith statements list|retry`: lists statements of reasons that were not sent, and sends refused ones again."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption

app = typer.Typer(no_args_is_help=True, help="List statements of reasons that were not sent, and retry refused ones.")
_LIST: Final = """
    select puid, item, revision, policy, state, tries, error, made_wall from enforcement.statements
    where state <> 'sent' order by state, made_wall, puid limit %s"""
_COUNT: Final = "select state, count(*) from enforcement.statements group by state"
_RETRY: Final = """
    update enforcement.statements set state = 'waiting', next_wall = now(), tries = 0, ended_wall = null
    where state = 'refused' and (%s::text is null or puid = %s) returning puid"""


def unsent(connection: Any, limit: int = 1000) -> list[dict[str, Any]]:
    """Statements that were not sent: refused ones first, then by age, oldest first."""
    return [dict(row) for row in connection.exec_driver_sql(_LIST, (limit,)).mappings()]


def counts(connection: Any) -> dict[str, int]:
    """Number of statements in each state."""
    found = dict.fromkeys(("sent", "waiting", "refused"), 0)
    for state, count in connection.exec_driver_sql(_COUNT):
        found[state] = count
    return found


def retry(connection: Any, puid: str | None = None) -> list[str]:
    """Queue refused statements, one or all, to be sent again unchanged. Returns their ids."""
    return sorted(connection.exec_driver_sql(_RETRY, (puid, puid)).scalars())


def _open(stack: str) -> Any:
    from services.ops import installation
    from shared import db

    return db.administer(
        installation.settings(stack).database.get_secret_value(), autocommit=True, pooled=False
    ).connect()


@app.command("list")
def list_(stack: StackOption = "default", json: JsonOption = False) -> None:
    """List statements that wait to be sent, or that the transparency database refused (at most 1,000)."""
    from services.ops.terminal import console, print_json

    with _open(stack) as connection:
        rows, numbers = unsent(connection), counts(connection)
    for row in rows:
        head = f"{row['puid']}  {row['state']}  policy {row['policy']}  tried {row['tries']} times"
        console.print(head, markup=False, highlight=False)
        if row["error"]:
            console.print(f"    {row['error'][:300]}", markup=False, highlight=False)
    console.print(", ".join(f"{count} {state}" for state, count in numbers.items()))
    if json:
        print_json({**numbers, "rows": rows})


@app.command("retry")
def retry_(
    puid: Annotated[str | None, typer.Argument(help="Id of a refused statement; default: all refused ones.")] = None,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Send refused statements again, unchanged. Fix the cause first."""
    from services.ops.terminal import console, print_json
    from shared.failures import CommandError

    with _open(stack) as connection:
        found = retry(connection, puid)
    if puid is not None and not found:
        raise CommandError(f"no statement {puid!r} was refused; `goodfaith statements list` shows which were")
    console.print(f"{len(found)} statements will be sent again")
    if json:
        print_json({"waiting": len(found)})


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="statements")
