"""`goodfaith streams`: shows the progress of the stream views, and rebuilds them.

A rebuild starts a new generation of the tables, with its own changelog and consumer group. Workers switch to it within
seconds and fold from the beginning of the topics. The old generation is deleted once the new one has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption

if TYPE_CHECKING:
    import sqlalchemy as sa

    from services.streams.generations import LogRow
    from shared.settings import Settings

EXIT_FOUND: Final = 1

app = typer.Typer(no_args_is_help=True, help="Show the progress of the stream views, and rebuild them.")


class Source(StrEnum):
    """What to rebuild the views from."""

    TOPICS = "topics"
    LOGS = "logs"


def _settings(stack: str) -> Settings:
    from services.ops import installation

    return installation.settings(stack)


def log_rows(connection: sa.Connection, settings: Settings) -> Iterator[LogRow]:
    """Rows of all services' event logs on the topics that the views read, each log in its own order."""
    from services.ops.idle import present, readers
    from services.streams.generations import LogRow
    from services.streams.registry import VIEWS

    topics = sorted({settings.topic_prefix + topic.name for view in VIEWS for topic in view.reads})
    for reader in present(connection, readers(settings), table="event_log"):
        table = f"{reader.tables}event_log"
        rows = connection.execution_options(yield_per=5000).exec_driver_sql(
            f"select topic, key, target, payload, recorded_wall from {table} where topic = any(%s) order by partition, seq",
            (topics,),
        )
        for row in rows:
            yield LogRow(*row)


def rebuild_from(settings: Settings, source: Source) -> tuple[int, int]:
    """Start a new generation. Returns its number, and how many rows were taken from the logs."""
    from services.streams import generations
    from shared import db

    number = generations.newest(settings) + 1
    rows = 0
    if source is Source.LOGS:
        engine = db.administer(settings.database.get_secret_value(), pooled=False)
        # one snapshot over all services
        with engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            rows = generations.fill(settings, number, log_rows(connection, settings))
        engine.dispose()
    generations.create(settings, number)
    return number, rows


def behind(settings: Settings, number: int) -> int:
    """How many records a generation has still to read."""
    from services.streams import generations

    return sum(max(end - read, 0) for read, end in generations.progress(settings, number).values())


@app.command()
def rebuild(
    source: Annotated[
        Source,
        typer.Option(
            "--from",
            help="topics: from their beginning. logs: from the services' event logs, if retention has cut the topics.",
        ),
    ] = Source.TOPICS,
    wait: Annotated[bool, typer.Option(help="Wait until the views have caught up, then delete the old tables.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Maximum time to wait, in seconds.")] = 3600,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Rebuild all stream views.

    Exit code 1 if they have not caught up within the timeout; the workers continue the rebuild.
    """
    from services.ops.terminal import console, print_json, progress
    from services.streams import generations

    settings = _settings(stack)
    begun = time.monotonic()
    with progress(f"starting a new generation from the {source}"):
        number, rows = rebuild_from(settings, source)
    console.print(f"generation {number}" + (f", {rows} rows of the event logs" if rows else ""), highlight=False)
    left = behind(settings, number)
    with progress("rebuilding the views") as tell:
        # progress is what is committed: a worker of the new generation must first join, read and commit
        while wait and left and time.monotonic() - begun < timeout:
            tell(f"rebuilding the views: {left:,} records left")
            time.sleep(0.5)
            left = behind(settings, number)
    seconds = round(time.monotonic() - begun, 1)
    deleted = generations.tidy(settings, number) if wait and not left else []
    if wait:
        console.print(
            f"{left} records left after {seconds} s" if left else f"caught up after {seconds} s", highlight=False
        )
    if json:
        print_json({"generation": number, "rows": rows, "left": left, "seconds": seconds, "deleted": deleted})
    if wait and left:
        raise typer.Exit(EXIT_FOUND)


@app.command()
def status(stack: StackOption = "default", json: JsonOption = False) -> None:
    """Show how far the stream views have read, by topic.

    Exit code 1 if they have records left to read.
    """
    from services.ops.terminal import console, print_json, table
    from services.streams import generations

    settings = _settings(stack)
    number = generations.newest(settings)
    progress = generations.progress(settings, number)
    topics: dict[str, dict[str, Any]] = {}
    for (topic, partition), (read, end) in sorted(progress.items()):
        row = topics.setdefault(topic, {"partitions": 0, "read": 0, "end": 0, "behind": {}})
        row["partitions"] += 1
        row["read"] += read
        row["end"] += end
        if end > read:
            row["behind"][partition] = end - read
    grid = table("topic", "partitions", "read", "end", "behind")
    for topic, row in topics.items():
        late = ", ".join(f"{partition}: {records}" for partition, records in row["behind"].items()) or "-"
        grid.add_row(topic, str(row["partitions"]), str(row["read"]), str(row["end"]), late)
    console.print(f"generation {number}" if number else "no generation: no worker has run yet", highlight=False)
    console.print(grid)
    left = sum(sum(row["behind"].values()) for row in topics.values())
    if json:
        print_json({"generation": number, "left": left, "topics": topics})
    if left:
        raise typer.Exit(EXIT_FOUND)


def register(root: typer.Typer) -> None:
    """Add this module's commands."""
    root.add_typer(app, name="streams")
