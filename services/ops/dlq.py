"""`goodfaith dlq list|show|replay`: shows the dead letters of all services, and has them processed again.

The worker that owns the partition processes a dead letter again, with all records of its key that wait after it, in
order. This command only asks for it and reports the result. An id is `<worker>:<number>`, such as `verification:17`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption
from shared.failures import CommandError

app = typer.Typer(no_args_is_help=True, help="Show and retry dead letters: records that could not be processed.")
_COLUMNS: Final = (
    'id, partition, key, topic, "offset", event_id, type, error, count, state, set_aside_wall, changed_wall'
)


@dataclass(frozen=True, slots=True)
class Table:
    """A worker's table `dead_letters`."""

    worker: str
    name: str


def tables(connection: Any, settings: Any) -> list[Table]:
    """The tables that exist."""
    from services.ops.idle import writers

    there = set(connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars())
    found = [Table(reader.name, f"{reader.tables}dead_letters") for reader in writers(settings)]
    return [table for table in found if table.name in there]


def _rows(connection: Any, table: Table, where: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    rows = connection.exec_driver_sql(f"select {_COLUMNS} from {table.name} where {where} order by id", values)
    return [{**row, "id": f"{table.worker}:{row['id']}", "worker": table.worker} for row in rows.mappings()]


def dead_letters(connection: Any, tables: Iterable[Table], *, done: bool = False) -> list[dict[str, Any]]:
    """Open dead letters, by worker and in order; with `done`, also those that were dealt with."""
    where = "true" if done else "state <> 'done'"
    return [row for table in tables for row in _rows(connection, table, where)]


def find(connection: Any, tables: Iterable[Table], id: str) -> tuple[Table, int] | None:
    """The table and number of a row; None if there is none with that id."""
    worker, _, number = id.rpartition(":")
    for table in tables:
        if table.worker == worker and number.isascii() and number.isdigit() and len(number) < 19:
            sql = f"select exists (select from {table.name} where id = %s)"
            if connection.exec_driver_sql(sql, (int(number),)).scalar():
                return table, int(number)
    return None


def ask(connection: Any, tables: Iterable[Table], *, id: str | None = None, key: str | None = None) -> list[str]:
    """Ask the owners to process dead letters again. Returns the ids of all rows that are now waited for.

    All rows of a key go together, to keep their order. Rows that are done or already asked for stay as they are, so
    asking twice has no further effect.

    Args:
        id: only rows with the same key as this row.
        key: only rows of this key. With neither, all rows.

    Raises:
        CommandError: there is no such row.
    """
    where, values = "true", ()
    wanted = list(tables)
    if id is not None:
        found = find(connection, wanted, id)
        if found is None:
            raise _unknown(id)
        table, number = found
        wanted = [table]
        where = f"(partition, key) = (select partition, key from {table.name} where id = %s)"
        values = (number,)  # type: ignore[assignment]
    elif key is not None:
        where, values = "key = %s", (key,)  # type: ignore[assignment]
    waited: list[str] = []
    for table in wanted:
        connection.exec_driver_sql(
            f"update {table.name} set state = 'replay', changed_wall = now() where state = 'waiting' and {where}",
            values,
        )
        rows = connection.exec_driver_sql(f"select id from {table.name} where state = 'replay' and {where}", values)
        waited += [f"{table.worker}:{number}" for number in rows.scalars()]
    return waited


def _unknown(id: str) -> CommandError:
    return CommandError(f"there is no dead letter {id!r}; `goodfaith dlq list` shows those that there are")


def await_end(
    connection: Any, tables: Iterable[Table], ids: Collection[str], timeout_s: float, poll_s: float = 0.1
) -> list[dict[str, Any]]:
    """Wait until no row is in state `replay`. Returns the rows as they are then, or at the timeout."""
    by_table: dict[Table, list[int]] = {}
    for table in tables:
        numbers = [int(id.rpartition(":")[2]) for id in ids if id.rpartition(":")[0] == table.worker]
        if numbers:
            by_table[table] = numbers
    deadline = time.monotonic() + timeout_s
    while True:
        rows = [
            row for table, numbers in by_table.items() for row in _rows(connection, table, "id = any(%s)", (numbers,))
        ]
        if time.monotonic() > deadline or not any(row["state"] == "replay" for row in rows):
            return rows
        time.sleep(poll_s)


# ---------------------------------------------------------------------------------------------------------- commands


def _open(stack: str) -> tuple[Any, list[Table]]:
    """A connection (each statement its own transaction), and the tables."""
    from services.ops import installation
    from shared import db

    settings = installation.settings(stack)
    connection = db.administer(settings.database.get_secret_value(), autocommit=True, pooled=False).connect()
    return connection, tables(connection, settings)


def _print(rows: Iterable[dict[str, Any]]) -> None:
    from services.ops.terminal import console

    for row in rows:
        tries = "once" if row["count"] == 1 else f"{row['count']} times"
        for line in (
            f"{row['id']}  {row['state']}  key {row['key']}  tried {tries}",
            f"    {row['type'] or 'unknown type'}, event {row['event_id'] or 'unknown'}",
            f"    {row['topic']} {row['partition']} at {row['offset']}",
            f"    {row['error'][:300]}",
        ):
            console.print(line, markup=False, highlight=False)


@app.command("list")
def list_(
    stack: StackOption = "default",
    done: Annotated[bool, typer.Option("--done", help="Also list records that were dealt with or refused.")] = False,
    json: JsonOption = False,
) -> None:
    """List open dead letters: the record that failed for each key, and those that wait for it."""
    from services.ops.terminal import console, print_json

    connection, where = _open(stack)
    with connection:
        rows = dead_letters(connection, where, done=done)
    if rows:
        _print(rows)
    else:
        console.print("there are no dead letters")
    if json:
        open_ = [row for row in rows if row["state"] != "done"]
        keys = {(row["worker"], row["key"]) for row in open_}
        print_json({"dead_letters": len(open_), "keys": len(keys), "rows": rows})


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id as `dlq list` shows it, such as verification:17.")],
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Show one dead letter with its bytes and its error."""
    from rich.markup import escape

    from services.ops.terminal import console, print_json

    connection, where = _open(stack)
    with connection:
        found = find(connection, where, id)
        if found is None:
            raise _unknown(id)
        table, number = found
        (row,) = _rows(connection, table, "id = %s", (number,))
        value, headers = connection.exec_driver_sql(
            f"select value, headers from {table.name} where id = %s", (number,)
        ).one()
        behind = connection.exec_driver_sql(
            f"select count(*) from {table.name} where partition = %s and key = %s and id > %s and state <> 'done'",
            (row["partition"], row["key"], number),
        ).scalar_one()
    row |= {"value": bytes(value).decode("utf-8", "backslashreplace"), "headers": headers, "behind": behind}
    for name, text in row.items():
        console.print(f"[bold]{name}[/bold]: {escape(str(text))}")
    if json:
        print_json(row)


@app.command()
def replay(
    id: Annotated[str | None, typer.Argument(help="Id of a dead letter. All records of its key are retried.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Retry all dead letters.")] = False,
    key: Annotated[str | None, typer.Option(help="Retry all dead letters of this key (listing or seller).")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 30.0,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Process dead letters again, in order, and show what became of each. Give an id, --key or --all.

    Exit code 1 if any record remains a dead letter.
    """
    from services.ops.terminal import console, print_json, progress

    if sum((id is not None, all_, key is not None)) != 1:
        raise CommandError("give one of: an id, --key or --all")
    connection, where = _open(stack)
    with connection:
        waited = ask(connection, where, id=id, key=key)
        with progress(f"waiting for the workers to process {len(waited)} again"):
            rows = await_end(connection, where, waited, timeout)
    if rows:
        _print(rows)
    else:
        console.print("there is nothing to process again")
    counts = {state: sum(row["state"] == state for row in rows) for state in ("done", "waiting", "replay")}
    if counts["replay"]:
        console.print(f"{counts['replay']} not processed within {timeout:g} s: do the workers run?", style="yellow")
    if json:
        names = {"done": "replayed", "waiting": "failed", "replay": "waiting"}
        print_json({**{names[state]: count for state, count in counts.items()}, "rows": rows})
    if counts["waiting"] or counts["replay"]:
        raise typer.Exit(1)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="dlq")
