"""What commands share: questions, times, progress."""

from __future__ import annotations

import datetime as dt
import io

import pytest
import typer

from services.ops import terminal
from shared.failures import CommandError


class Stream(io.StringIO):
    """Standard input or output that is a terminal, or is not."""

    def __init__(self, text: str = "", *, terminal: bool = True) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(("input_", "output"), [(False, False), (False, True), (True, False)])
def test_without_a_terminal_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, input_: bool, output: bool) -> None:
    monkeypatch.setattr("sys.stdin", Stream("y\n", terminal=input_))
    monkeypatch.setattr("sys.stdout", Stream(terminal=output))
    with pytest.raises(CommandError, match=r"^Delete it\? There is no terminal to ask on: .*--yes$"):
        terminal.confirm("Delete it?", yes=False)
    terminal.confirm("Delete it?", yes=True)


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_the_default_is_no(monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    monkeypatch.setattr("sys.stdin", Stream(answer))
    monkeypatch.setattr("sys.stdout", Stream())
    if agreed:
        terminal.confirm("Delete it?", yes=False)
        return
    with pytest.raises(CommandError, match="nothing was done"):
        terminal.confirm("Delete it?", yes=False)


NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-24T12:00:00Z", NOON),
        ("2026-11-24 12:00", NOON),
        ("2026-11-24T13:00+01:00", NOON),
        ("2026-11-24", NOON.replace(hour=0)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, at: dt.datetime) -> None:
    assert terminal.moment(text) == at
    assert terminal.moment(text).tzinfo is dt.UTC


@pytest.mark.parametrize("text", ["yesterday", "", "24.11.2026", "0001-01-01T00:00+14:00"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time"):
        terminal.moment(text)


def test_progress_is_on_standard_error_one_line_per_lasting_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with terminal.progress("looking") as tell:
        tell("a short step")
        now += terminal.STEP_S
        tell("a long step")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["looking", "a long step"]
