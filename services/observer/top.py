"""`goodfaith top`: shows the boards on a terminal, from the same declarations as Grafana's (`deploy.grafana`).

`render` is a function of a snapshot. If Prometheus is away, the board says so and shows no figures: it never shows an
old number as a new one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import math
import re
import select
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from services.observer.boards import BOARDS, Board, Panel
from services.observer.boards.model import duration, show
from services.observer.observing import Answer, PanelLevel, Series, Snapshot, grouped, level, look_once
from services.ops.terminal import JsonOption, StackOption

SIGNS: Final[dict[PanelLevel, tuple[str, str]]] = {
    "good": ("ok", "green"),
    "warn": ("look", "yellow"),
    "bad": ("bad", "bold red"),
    "unknown": ("?", "magenta"),
}
"""A word and a colour for each level: no information is in the colour alone."""
WIDE: Final = 8
"""Maximum number of series shown per panel; the others are counted."""
_HARD: Final = "\u00a0"
"""Keeps a name and its value on one line."""
KEYS: Final = {str(number): board for number, board in enumerate(BOARDS, 1)}


# -------------------------------------------------------------------------------------------------------------- rendering


def render(snapshot: Snapshot, board: Board, *, keys: bool = False) -> RenderableType:
    """Render a board from a snapshot.

    Args:
        keys: Whether to show the keys that switch to other boards.
    """
    parts: list[RenderableType] = [_head(snapshot, board), _alerts(snapshot)]
    if snapshot.trouble:
        parts.append(Text(f"{snapshot.trouble}: nothing is known since {_clock(snapshot.at)}.", style="bold red"))
    else:
        parts += [_row(snapshot, row.title, row.panels) for row in board.rows]
        parts.append(_elsewhere(snapshot, board))
    if keys:
        names = "  ".join(f"{key} {other.title}" for key, other in KEYS.items())
        parts.append(Text(f"{names}  q quit", style="dim"))
    return Group(*parts)


def _clock(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _head(snapshot: Snapshot, board: Board) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    line.add_row(Text(f"Goodfaith: {board.title}", style="bold"), Text(f"as of {_clock(snapshot.at)}", style="dim"))
    return line


def _alerts(snapshot: Snapshot) -> RenderableType:
    if snapshot.trouble or snapshot.alerts is None:
        return Text("alerts: not known", style="magenta")
    if not snapshot.alerts:
        return Text("no alert fires", style="green")
    table = Table.grid(padding=(0, 2))
    groups = grouped(snapshot.alerts)
    for alert in groups[:WIDE]:
        style = "bold red" if alert.severity == "page" else "yellow"
        since = duration((snapshot.at - alert.since).total_seconds())
        said = f"{alert.summary}: {alert.which}" if alert.which else alert.summary
        table.add_row(
            Text(alert.severity, style=style),
            Text(alert.name, style=style),
            f"for {since}",
            Text(said, overflow="ellipsis", no_wrap=True),
        )
    if len(groups) > WIDE:
        table.add_row("", f"and {len(groups) - WIDE} more")
    return table


def _row(snapshot: Snapshot, title: str, panels: Sequence[Panel]) -> RenderableType:
    table = Table.grid(
        Column(width=38, no_wrap=True, overflow="ellipsis"),
        Column(width=4),
        Column(ratio=1),
        padding=(0, 1),
        expand=True,
    )
    for panel in panels:
        if panel.kind != "table":
            answer = snapshot.answer(panel)
            table.add_row(panel.title, _sign(panel, answer), _values(panel, answer))
    return Group(Rule(title, align="left", style="dim"), table)


def _sign(panel: Panel, answer: Answer) -> Text:
    name = level(panel, answer)
    if name == "good" and (panel.limits is None or all(math.isnan(one.value) for one in answer.series)):
        return Text("")
    word, style = SIGNS[name]
    return Text(word, style=style)


def _values(panel: Panel, answer: Answer) -> Text:
    if answer.error:
        return Text("not known", style="magenta")
    if not answer.series:
        return Text("none", style="dim")
    # many: the worst first; a few: in the order of their names
    series: Sequence[Series] = answer.series
    if len(series) > WIDE:
        lowest_first = panel.limits is not None and panel.limits.below
        series = sorted(series, key=lambda one: (math.isnan(one.value), one.value if lowest_first else -one.value))
    text = Text(overflow="fold")
    for place, one in enumerate(series[:WIDE]):
        if place:
            text.append("  ·  ", style="dim")
        if one.name:
            # "within 3600 s": within 1 h
            name = re.sub(r"\b(\d+) s\b", lambda found: duration(float(found[1])), one.name)
            text.append(f"{name}{_HARD}".replace(" ", _HARD), style="dim")
        bad = panel.limits.level(one.value) if panel.limits else "good"
        text.append(show(one.value, panel.unit).replace(" ", _HARD), style="" if bad == "good" else SIGNS[bad][1])
    if len(series) > WIDE:
        text.append(f"  and {len(series) - WIDE} more", style="dim")
    return text


def _elsewhere(snapshot: Snapshot, board: Board) -> RenderableType:
    table = Table.grid(Column(width=38), Column(width=4), Column(ratio=1), padding=(0, 1), expand=True)
    found = 0
    for other in BOARDS:
        for panel in other.panels() if other is not board else ():
            answer = snapshot.answers.get(panel.key)
            if answer is not None and level(panel, answer) in ("warn", "bad"):
                found += 1
                table.add_row(f"{other.title}: {panel.title}", _sign(panel, answer), _values(panel, answer))
    if not found:
        return Padding(Text("nothing worth a look on the other boards", style="dim"), (1, 0, 0, 0))
    return Group(Rule("Worth a look on the other boards", align="left", style="dim"), table)


def as_svg(board: RenderableType, title: str, *, width: int = 112) -> str:
    """A board as an SVG picture of a terminal with this many columns. It loads nothing from elsewhere."""
    paper = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    paper.print(board)
    # rich links to web fonts; any monospaced font on the reader's machine will do
    text = re.sub(r"@font-face \{.*?\}", "", paper.export_svg(title=title, unique_id="top"), flags=re.S)
    return text.replace("Fira Code", "ui-monospace")


def as_json(snapshot: Snapshot, url: str, boards: Sequence[Board]) -> dict[str, Any]:
    """A snapshot as one JSON object. Unknown values are null, and `unknown` or `error` says so."""
    return {
        "prometheus": url,
        "at": snapshot.at.isoformat(),
        "known": not snapshot.trouble,
        "error": snapshot.trouble or None,
        "alerts": None
        if snapshot.trouble or snapshot.alerts is None
        else [
            {
                "name": alert.name,
                "severity": alert.severity,
                "since": alert.since.isoformat(),
                "summary": alert.summary,
                "runbook": alert.runbook,
                "labels": dict(alert.labels),
            }
            for alert in snapshot.alerts
        ],
        "boards": {board.key: {panel.key: _panel(snapshot, panel) for panel in board.panels()} for board in boards},
    }


def _panel(snapshot: Snapshot, panel: Panel) -> dict[str, Any]:
    answer = snapshot.answer(panel)
    return {
        "title": panel.title,
        "unit": panel.unit,
        "level": level(panel, answer),
        "error": answer.error or None,
        "series": [
            {"name": one.name, "value": one.value if math.isfinite(one.value) else None} for one in answer.series
        ],
    }


# ---------------------------------------------------------------------------------------------------------------- running


def prometheus_url(stack: str) -> str:
    """The URL of Prometheus.

    Raises:
        Unavailable: none is known.
    """
    from services.ops import installation
    from shared.failures import Unavailable
    from shared.settings import Settings

    found = Settings().prometheus_url or installation.settings(stack).prometheus_url
    if not found:
        raise Unavailable(
            "no Prometheus is known: `goodfaith up` starts one where it is installed, or set GOODFAITH_PROMETHEUS_URL"
        )
    return found


@contextlib.contextmanager
def _keyboard() -> Iterator[bool]:
    """Read single keys instead of lines, if standard input is a terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait(seconds: float, keys: bool) -> str:
    """The key pressed within this many seconds; empty: none."""
    if not keys:
        time.sleep(seconds)
        return ""
    there, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if there else ""


def top(
    stack: StackOption = "default",
    board: Annotated[str, typer.Option(help=f"One of {', '.join(board.key for board in BOARDS)}.")] = BOARDS[0].key,
    every: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between updates.")] = 5.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the board once and exit, with exit code 75 if nothing is known.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the board once, as an SVG picture, to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Show live figures on this terminal: 24-hour target, flow, repeat offenders, infrastructure.

    The figures come from Prometheus (GOODFAITH_PROMETHEUS_URL, otherwise the local stack's). --json prints all boards
    once.
    """
    from rich.live import Live

    from services.ops.terminal import console, print_json
    from shared.failures import CommandError, Unavailable

    shown = next((one for one in BOARDS if one.key == board), None)
    if shown is None:
        raise CommandError(f"there is no board {board!r}, only {', '.join(one.key for one in BOARDS)}")
    if not (once or json or svg or console.is_terminal):
        raise CommandError("standard output is not a terminal: use --once or --json")
    url = prometheus_url(stack)
    panels = [panel for one in BOARDS for panel in one.panels() if panel.kind != "table"]
    if once or json or svg:
        snapshot = look_once(url, panels)
        if once:
            console.print(render(snapshot, shown))
        if svg:
            svg.write_text(as_svg(render(snapshot, shown), f"goodfaith top --board {shown.key}"), encoding="utf-8")
        if json:
            print_json(as_json(snapshot, url, BOARDS))
        if snapshot.trouble:
            raise typer.Exit(Unavailable.exit_code)
        return
    with _keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        snapshot = look_once(url, panels)
        looked = time.monotonic()
        while True:
            live.update(render(snapshot, shown, keys=keys), refresh=True)
            key = _wait(max(0.0, looked + every - time.monotonic()), keys)
            if key in ("q", "\x1b"):
                return
            shown = KEYS.get(key, shown)
            if not key or key == "r":
                snapshot = look_once(url, panels)
                looked = time.monotonic()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(top)
