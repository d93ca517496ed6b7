"""The boards on a terminal, out of fixed answers."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from services.observer.boards import BOARDS, Board
from services.observer.observing import Answer, Series, Snapshot
from services.observer.top import as_json, as_svg, render
from tests.unit.observer.observed import ALERT, AWAY, calm

TARGET = BOARDS[0]


def _text(snapshot: Snapshot, board: Board = TARGET, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(snapshot, board, keys=True))
    text = console.file.getvalue().replace("\u00a0", " ")  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.key)
@pytest.mark.parametrize("width", [80, 160])
def test_every_figure_is_there(board: Board, width: int) -> None:
    text = _text(calm(), board, width)
    for panel in board.panels():
        assert panel.kind == "table" or panel.title[:37] in text
    assert "as of 2026-11-25 12:00:05 UTC" in text
    assert "no alert fires" in text
    assert "not known" not in text
    assert "nothing worth a look on the other boards" in text


def test_what_is_wrong_is_said_in_words() -> None:
    snapshot = replace(
        calm(
            handled_1d=Answer((Series("", 0.95),)),
            oldest=Answer(error="nobody exports it"),
            dead_letters=Answer((Series("", 3),)),
        ),
        alerts=(ALERT,),
    )
    lines = _text(snapshot).splitlines()
    (handled,) = [line for line in lines if line.startswith("Handled in time, last day")]
    assert handled.split() == ["Handled", "in", "time,", "last", "day", "bad", "95.0", "%"]
    (oldest,) = [line for line in lines if line.startswith("Oldest open item  ")]
    assert oldest.split() == ["Oldest", "open", "item", "?", "not", "known"]
    (alert,) = [line for line in lines if "OldestItemOld" in line]
    assert "page" in alert
    assert "for 12 min" in alert
    assert any(line.startswith("Flow: Keys behind a dead letter") and "bad" in line for line in lines)


def test_of_many_series_the_worst_are_shown() -> None:
    many = Answer(tuple(Series(f"s{number:02}", float(number)) for number in range(20)))
    text = _text(calm(lag_outside=many), BOARDS[1])
    assert "s19 19 s" in text
    assert "s03" not in text
    assert "and 12 more" in text


@pytest.mark.parametrize("snapshot", [AWAY, replace(calm(), scraped=None)], ids=["away", "no scrapes"])
def test_no_figure_is_shown_when_prometheus_is_away(snapshot: Snapshot) -> None:
    text = _text(snapshot)
    assert snapshot.trouble in text
    assert "nothing is known" in text
    assert "alerts: not known" in text
    assert not [panel.title for panel in TARGET.panels() if panel.title in text]
    answer = as_json(snapshot, "http://127.0.0.1:1", BOARDS)
    assert answer["known"] is False
    assert answer["alerts"] is None
    assert all(
        panel["series"] == [] and panel["error"] for board in answer["boards"].values() for panel in board.values()
    )


def test_a_picture_needs_nothing_from_elsewhere() -> None:
    picture = as_svg(render(calm(), TARGET), "goodfaith top")
    root = ElementTree.fromstring(picture)  # noqa: S314 (made by us)
    assert root.tag.endswith("svg")
    assert "@font-face" not in picture
    assert set(re.findall(r"https?://[^\s\"<)]+", picture)) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }
    assert "99.93" in picture


def test_json_has_every_figure_and_is_strict() -> None:
    snapshot = replace(calm(takedown=Answer((Series("last day", float("nan")),))), alerts=(ALERT,))
    answer = json.loads(json.dumps(as_json(snapshot, "http://127.0.0.1:1", BOARDS), allow_nan=False))
    assert answer["boards"]["target"]["takedown"]["series"] == [{"name": "last day", "value": None}]
    assert answer["boards"]["target"]["handled_1d"] == {
        "title": "Handled in time, last day",
        "unit": "ratio",
        "level": "good",
        "error": None,
        "series": [{"name": "", "value": 0.9993}],
    }
    assert answer["alerts"][0]["name"] == "OldestItemOld"
    assert set(answer["boards"]) == {board.key for board in BOARDS}
