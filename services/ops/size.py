"""`goodfaith size`: calculates from measurements what a rate needs (`sizing.py`). Connects to nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from services.ops.terminal import JsonOption


def size(
    items_per_s: Annotated[float, typer.Option(help="Items per second at the peak.")],
    mean: Annotated[
        float | None,
        typer.Option(help="Mean items per second over a day, by which disks fill; default: a quarter of the peak."),
    ] = None,
    by_http: Annotated[float, typer.Option(help="Share of claims filed by HTTP; the rest come by topic.")] = 1.0,
    spare: Annotated[float, typer.Option(help="Share of each core to keep free at the peak.")] = 0.4,
    replication: Annotated[int, typer.Option(help="Replicas of each topic.")] = 3,
    topic_days: Annotated[int, typer.Option(help="Days that topics keep records: 7 to 30.")] = 30,
    json: JsonOption = False,
) -> None:
    """Calculate the workers, partitions, brokers, cores and disks that a rate needs, and show the arithmetic."""
    from services.ops import sizing
    from services.ops.terminal import console, print_json, table
    from shared.failures import CommandError

    try:
        wanted = sizing.Wanted(
            items_per_s, items_per_s / 4 if mean is None else mean, by_http, spare, replication, topic_days
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    found = sizing.size(wanted)
    grid = table("part", "number", "cores", "because")
    for need in found.needs:
        grid.add_row(need.name, str(need.count), f"{need.cores:.2f}", need.why)
    console.print(grid)
    for name, value in found.as_json().items():
        if name != "needs":
            console.print(f"{name}: {value}", highlight=False)
    if json:
        print_json(found.as_json())


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(size)
