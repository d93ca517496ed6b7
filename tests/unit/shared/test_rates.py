"""Rates by key: never more than burst and rate allow, never less, and with bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.rates import Rates

STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), min_size=1, max_size=80)


@given(STEPS, st.floats(0.2, 20), st.integers(1, 20))
def test_no_window_has_more_than_burst_and_rate_allow(steps: list[tuple[str, float]], per_s: float, burst: int) -> None:
    rates = Rates(per_s, burst)
    now = 1000.0
    taken: dict[str, list[float]] = {"a": [], "b": []}
    for key, pause in steps:
        now += pause
        if not rates.take(key, now):
            taken[key].append(now)
    for times in taken.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= burst + (times[last] - start) * per_s + 1e-6


@given(STEPS, st.floats(0.2, 20), st.integers(1, 20))
def test_who_waits_as_long_as_it_is_told_is_let_in(steps: list[tuple[str, float]], per_s: float, burst: int) -> None:
    rates = Rates(per_s, burst)
    now = 1000.0
    for key, pause in steps:
        now += pause
        if wait := rates.take(key, now):
            now += wait + 1e-6
            assert rates.take(key, now) == 0


def test_one_key_takes_nothing_from_another() -> None:
    rates = Rates(1, 3)
    assert [rates.take("a", 0) for _ in range(4)] == [0, 0, 0, 1]
    assert rates.take("b", 0) == 0


def test_without_a_rate_there_is_no_limit() -> None:
    rates = Rates(0, 1)
    assert not any(rates.take("a", 0) for _ in range(1000))


def test_memory_is_bounded_and_who_is_active_is_remembered() -> None:
    rates = Rates(0.001, 2, keys_max=100)
    for number in range(1000):
        rates.take(f"key {number}", 0)
        rates.take("active", 0)
    assert len(rates._full_at) <= 100
    assert rates.take("active", 0) > 0
