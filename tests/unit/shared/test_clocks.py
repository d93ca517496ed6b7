"""How far clocks are apart, by readings that take time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.filing.watermark import bound_s, patience_ms
from shared.clocks import Offset, apart
from shared.settings import Settings

SECONDS = st.floats(-1e5, 1e5, allow_nan=False)
SPAN = st.floats(0, 1e3, allow_nan=False)


@given(SECONDS, st.lists(st.tuples(SECONDS, SPAN, SPAN), max_size=5))
def test_a_reading_never_claims_more_than_is_so(at: float, others: list[tuple[float, float, float]]) -> None:
    """Whatever time the readings take: what is certain is not above the true difference."""
    offsets = []
    for ahead, until_told, until_back in others:
        told = at + until_told + ahead
        offsets.append(Offset.of(told, at, at + until_told + until_back))
    true = max([0.0, *(ahead for ahead, _, _ in others)]) - min([0.0, *(ahead for ahead, _, _ in others)])
    assert apart(offsets) <= true + 1e-6
    for offset, (ahead, _, _) in zip(offsets, others, strict=True):
        assert abs(offset.certain) <= abs(ahead) + 1e-6
        assert offset.certain * ahead >= 0


@given(SECONDS, SECONDS)
def test_readings_that_take_no_time_say_all(one: float, other: float) -> None:
    offsets = [Offset.of(one, 0.0, 0.0), Offset.of(other, 0.0, 0.0)]
    assert apart(offsets) == pytest.approx(max(one, other, 0.0) - min(one, other, 0.0))
    assert [offset.certain for offset in offsets] == [one, other]


def test_two_clocks_may_both_be_near_ours_and_far_from_each_other() -> None:
    assert apart([Offset(0.4, 0.4), Offset(-0.4, -0.4)]) == pytest.approx(0.8)
    assert apart([]) == 0.0


def test_a_stamp_in_whole_milliseconds_may_be_a_millisecond_older() -> None:
    assert Offset.of(1.000, 1.0009, 1.002, 0.001).certain == 0.0
    assert Offset.of(1.000, 1.0019, 1.003, 0.001).certain == pytest.approx(-0.0009)


def test_intake_is_kept_waiting_longer_each_time_and_not_for_ever() -> None:
    waits = [patience_ms(failures) for failures in range(40)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (200, 5_000)


def test_clocks_may_differ_by_no_more_than_deadlines_wait() -> None:
    assert bound_s(Settings(clock_bound_ms=300, broker_skew_ms=500)) == 0.3
    assert bound_s(Settings(clock_bound_ms=300, broker_skew_ms=20)) == 0.02
