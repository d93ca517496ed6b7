"""`goodfaith size`: how many of what an installation needs, from what was measured (`sizing.py`). Asks nobody."""

from __future__ import annotations

from typing import Annotated

import typer

from services.ops.terminal import JsonOption


def size(
    items_per_s: Annotated[float, typer.Option(help="Items a second that must be kept up with.")],
    mean: Annotated[
        float | None, typer.Option(help="Items a second over a day and night, for disks; default: a quarter of that.")
    ] = None,
    by_http: Annotated[float, typer.Option(help="Share of the claims that come by HTTP; the rest by topic.")] = 1.0,
    spare: Annotated[float, typer.Option(help="Share of each core that stays free at the peak.")] = 0.4,
    replication: Annotated[int, typer.Option(help="Replicas of each topic.")] = 3,
    topic_days: Annotated[int, typer.Option(help="Days for which topics keep records: 7 to 30.")] = 30,
    json: JsonOption = False,
) -> None:
    """Print workers, partitions, brokers, cores and disks for a rate, each with its arithmetic."""
    from rich.table import Table

    from services.ops import sizing
    from services.ops.terminal import console, print_json
    from shared.failures import CommandError

    try:
        wanted = sizing.Wanted(
            items_per_s, items_per_s / 4 if mean is None else mean, by_http, spare, replication, topic_days
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    found = sizing.size(wanted)
    table = Table("part", "how many", "cores at the peak", "because")
    for need in found.needs:
        table.add_row(need.name, str(need.count), f"{need.cores:.2f}", need.why)
    console.print(table)
    for name, value in found.as_json().items():
        if name != "needs":
            console.print(f"{name}: {value}", highlight=False)
    if json:
        print_json(found.as_json())


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(size)
