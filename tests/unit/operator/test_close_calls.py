"""The outside oracle of who was in time: what it accepts, and each way in which it must not be content."""

from __future__ import annotations

import datetime as dt

import pytest

from services.operator.faults import Close, Step, close_call

DUE = dt.datetime(2026, 12, 4, 10, tzinfo=dt.UTC)
MICRO = dt.timedelta(microseconds=1)
NOTICED = Step(DUE - dt.timedelta(days=3), (None, "RECEIVED", "NOTIFIED"), None)
DEFAULT = Step(DUE, ("NOTIFIED", "UPHELD_BY_DEFAULT"), None)
EARLY = DEFAULT._replace(at=DUE - MICRO)
COUNTERED = Step(DUE, ("NOTIFIED", "COUNTERED", "HOLDER_RESPONSE"), "k")
UNDONE = Step(DUE, ("UPHELD_BY_DEFAULT", "NOTIFIED", "COUNTERED", "HOLDER_RESPONSE"), "k")
LATE = Step(DUE, ("UPHELD_BY_DEFAULT", "COUNTERED", "HOLDER_RESPONSE"), "k")


def said(after: dt.timedelta, *history: Step) -> str | None:
    return close_call(Close("i", "k", DUE, DUE + after), [NOTICED, *history])


@pytest.mark.parametrize("after", [-MICRO, 0 * MICRO])
def test_in_time_beats_the_default(after: dt.timedelta) -> None:
    assert said(after, COUNTERED) is None
    assert said(after, DEFAULT, UNDONE) is None
    assert "lost to the default" in (said(after, DEFAULT, LATE) or "")
    assert "not applied" in (said(after, DEFAULT) or "")
    assert "not applied" in (said(after) or "")


def test_too_late_does_not() -> None:
    assert said(MICRO, DEFAULT, LATE) is None
    assert said(MICRO, DEFAULT) is None
    assert "did not fire" in (said(MICRO, COUNTERED) or "")
    assert "did not fire" in (said(MICRO, EARLY, LATE) or "")
    assert "did not fire" in (said(MICRO, LATE, DEFAULT) or "")
