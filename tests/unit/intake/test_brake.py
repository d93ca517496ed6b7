"""The brake: how much a stolen or new account takes down unseen, and that honest ones do not notice it."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.filing import brake
from services.intake.filing.brake import Counters
from shared import policy

DAY = dt.date(2026, 12, 3)
found = policy.current("ipp").brake
assert found is not None
TERMS: policy.Brake = found
KNOWN = Counters(settled=400, best=60)
"""An account that files up to 60 items a day, and whose claims are known."""


def file(counters: Counters, sizes: list[int], day: dt.date = DAY) -> tuple[Counters, int, list[brake.Reason | None]]:
    """The counters after claims of one day, the items that rules may decide, and why others are held back."""
    free, reasons = 0, []
    for size in sizes:
        reason = brake.held_back(counters, size, day, TERMS)
        counters = brake.filed(counters, size, reason, day, TERMS)
        free += size if reason is None else 0
        reasons.append(reason)
    return counters, free, reasons


def next_day(counters: Counters) -> Counters:
    return msgspec.structs.replace(counters, best=max(counters.best, counters.today), today=0)


@pytest.mark.parametrize("size", [1, 10, 50, 300])
@pytest.mark.parametrize(
    ("counters", "most"), [(KNOWN, 120), (Counters(settled=400), 100), (Counters(), 50), (Counters(settled=19), 50)]
)
def test_an_account_that_files_against_ten_thousand_listings_is_stopped(
    size: int, counters: Counters, most: int
) -> None:
    after, free, reasons = file(counters, [size] * -(-10_000 // size))
    assert free <= most, "at once, whatever the size of its claims"
    assert reasons[-1] == ("rate" if counters.settled >= 20 else "probation")
    total, day = free, DAY
    for _ in range(27):  # and it goes on, day after day
        day += dt.timedelta(days=1)
        after, free, _ = file(next_day(after), [size] * -(-10_000 // size), day)
        total += free
    if counters.settled >= 20:
        assert total <= 4 * most * 8, "each brake stands for a week"
    else:
        assert total <= 28 * most


def test_what_was_held_back_is_no_history() -> None:
    after, free, _ = file(KNOWN, [100] * 50)
    assert free == 100
    later = DAY + TERMS.lasts.exact
    assert brake.allowed(next_day(after), TERMS) == 200
    assert brake.held_back(next_day(after), 201, later, TERMS) == "rate"


def test_a_brake_stands_for_its_time_even_for_little() -> None:
    after, _, _ = file(KNOWN, [300])
    assert after.until == DAY + TERMS.lasts.exact
    for days in range(1, 7):
        assert brake.held_back(next_day(after), 1, DAY + dt.timedelta(days=days), TERMS) == "rate"
    assert brake.held_back(next_day(after), 1, DAY + TERMS.lasts.exact, TERMS) is None
    assert brake.holding(next_day(after), DAY + TERMS.lasts.exact, TERMS) is None


def test_probation_stands_in_nobodys_way_for_long() -> None:
    after, free, reasons = file(Counters(), [40, 20, 10])
    assert (free, reasons) == (50, [None, "probation", None])
    assert after.until is None, "tomorrow is a new day"
    assert file(next_day(after), [50])[1] == 50
    assert brake.holding(after, DAY, TERMS) == "probation"
    assert brake.holding(msgspec.structs.replace(after, settled=20), DAY, TERMS) is None


@pytest.mark.parametrize("counters", [KNOWN, Counters()])
def test_who_is_released_files_freely_until_the_day(counters: Counters) -> None:
    after, _, _ = file(counters, [300])
    free = msgspec.structs.replace(after, released=DAY + dt.timedelta(days=7))
    assert brake.held_back(free, 300, DAY, TERMS) is None
    assert brake.holding(free, DAY, TERMS) is None
    assert brake.held_back(free, 3000, DAY + dt.timedelta(days=7), TERMS) is not None


@given(st.integers(20, 10_000), st.lists(st.integers(1, 300), max_size=20), st.integers(0, 5000))
def test_who_files_no_more_than_twice_its_best_day_is_not_held_back(settled: int, sizes: list[int], best: int) -> None:
    counters = Counters(settled=settled, best=best)
    _, free, reasons = file(counters, sizes)
    if sum(sizes) <= max(TERMS.floor, 2 * best):
        assert set(reasons) <= {None}
    assert free <= max(TERMS.floor, 2 * best)
