"""Recorded inputs come back in the order in which verification judged them."""

from __future__ import annotations

import datetime as dt

from services.ops.backtest import _positioned, _Row

T = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
LATER = T + dt.timedelta(seconds=1)
WRITERS = ("intake", "notification", "marketplace")


def row(writer: str, seq: int, wall: dt.datetime) -> _Row:
    return _Row("l", writer, 0, seq, f"{writer}.0.{seq}", wall, "")


def order(given: list[_Row], caused: dict[str, tuple[int, dt.datetime]]) -> list[str]:
    return [str(row.id) for _, row in sorted(_positioned(given, caused, WRITERS), key=lambda pair: pair[0])]


def test_by_transaction_then_by_what_each_brought_about() -> None:
    given = [row("intake", 1, LATER), row("notification", 1, T), row("marketplace", 1, LATER)]
    caused = {"intake.0.1": (9, LATER), "marketplace.0.1": (8, LATER)}
    assert order(given, caused) == ["notification.0.1", "marketplace.0.1", "intake.0.1"]


def test_what_had_no_effect_comes_behind_what_its_writer_said_before() -> None:
    given = [row("intake", 2, T), row("intake", 1, T), row("notification", 5, T), row("marketplace", 3, T)]
    caused = {"intake.0.1": (4, T), "notification.0.5": (5, T)}
    assert order(given, caused) == ["marketplace.0.3", "intake.0.1", "intake.0.2", "notification.0.5"]


def test_a_dead_letter_was_judged_when_it_was_run_again() -> None:
    given = [row("intake", 1, T), row("intake", 2, LATER)]
    again = LATER + dt.timedelta(hours=1)
    assert order(given, {"intake.0.1": (9, again), "intake.0.2": (7, LATER)}) == ["intake.0.2", "intake.0.1"]
