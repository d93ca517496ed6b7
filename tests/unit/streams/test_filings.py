"""Concentration of filings: the sums are those of a plain count, whenever they are asked for."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.filing.recurrence import CHANNEL
from services.intake.kernel.domain import CANARY
from services.streams import filings
from services.streams.filings import Filing, Totals, counts_of
from services.streams.views import Meta, us
from shared import concentration
from shared.concentration import SIZES, size_of
from tests.unit.streams.made import BEGIN, filed

MIDNIGHT = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
META = Meta("intake.0.1", BEGIN, BEGIN)
claims = st.tuples(
    st.sampled_from("abcd"), st.sampled_from((1, 2, 9, 10, 99, 100, 999, 1000)), st.integers(-40 * 24, 40 * 24)
)


def plainly(known: dict[str, Filing], now: dt.datetime) -> tuple[int, Counter[str]]:
    """Claims of the window, and items by complainant."""
    begin = us(concentration.since(now))
    items: Counter[str] = Counter()
    for key, one in known.items():
        if one.at >= begin:
            items[key.partition("/")[0]] += one.items
    return sum(one.at >= begin for one in known.values()), items


def check(totals: Totals, known: dict[str, Filing], now: dt.datetime) -> None:
    """Figures and counts as of now."""
    count, items = plainly(known, now)
    told = totals.figures(now)
    assert totals.counts(now) == counts_of(count, items.values())
    assert sum(told.complainants.values()) == len(items)
    assert {size: told.items[size] for size in SIZES} == {
        size: sum(one for one in items.values() if size_of(one) == size) for size in SIZES
    }
    assert told.squares == sum(one * one for one in items.values())
    assert totals.largest(now, 3) == sorted(items.items(), key=lambda one: (-one[1], one[0]))[:3]


@given(st.lists(st.tuples(claims, st.booleans(), st.integers(0, 5 * 24)), max_size=25))
def test_figures_are_those_of_a_plain_count(turns: list[tuple[tuple[str, int, int], bool, int]]) -> None:
    totals, now = Totals(), BEGIN
    known: dict[str, Filing] = {}
    for number, ((complainant, items, hours), undone, later) in enumerate(turns):
        at = BEGIN + dt.timedelta(hours=hours)
        totals.move(f"{complainant}/c-{number}", None, Filing(items, us(at)))
        known[f"{complainant}/c-{number}"] = Filing(items, us(at))
        if undone:
            key, old = next(iter(known.items()))
            totals.move(key, old, None)
            del known[key]
        now += dt.timedelta(hours=later)
        # the database's moment may be a little behind that of the last figures
        back = now - dt.timedelta(days=1)
        if number == 0 or later > 24:
            check(totals, known, now)
        assert totals.counts(back) == counts_of(plainly(known, back)[0], plainly(known, back)[1].values())
        check(totals, known, now)


@given(st.lists(claims, max_size=20))
def test_figures_may_be_added_over_partitions(given_: list[tuple[str, int, int]]) -> None:
    whole, parts = Totals(), {name: Totals() for name in "abcd"}
    for number, (complainant, items, hours) in enumerate(given_):
        state = Filing(items, us(BEGIN + dt.timedelta(hours=hours)))
        whole.move(f"{complainant}/c-{number}", None, state)
        parts[complainant].move(f"{complainant}/c-{number}", None, state)
    together: Counter[str] = Counter()
    for totals in parts.values():
        together.update(totals.counts(BEGIN))
    assert together == whole.counts(BEGIN)


@pytest.mark.parametrize(("micros", "counts"), [(0, True), (-1, False)])
def test_the_window_is_thirty_days_of_utc_and_ends_by_time_alone(micros: int, counts: bool) -> None:
    totals = Totals()
    first = dt.datetime(2026, 10, 4, tzinfo=dt.UTC)
    totals.move("a-1/c-1", None, Filing(5, us(first + dt.timedelta(microseconds=micros))))
    last = first + dt.timedelta(days=30, microseconds=-1)
    assert totals.figures(last).squares == 25 * counts
    assert totals.figures(last + dt.timedelta(microseconds=1)).squares == 0
    # a reader in another time zone has the same days
    assert concentration.since(last.astimezone(dt.timezone(dt.timedelta(hours=14)))) == first


def test_what_is_over_is_forgotten() -> None:
    totals = Totals()
    for day in range(400):
        at = MIDNIGHT + dt.timedelta(days=day)
        totals.move(f"a-{day}/c-{day}", None, Filing(1, us(at)))
        totals.figures(at)
    assert len(totals._days) == len(totals._claims) == concentration.WINDOW_DAYS + filings.KEPT_DAYS
    assert totals.counts(at) == {"claims": 30, "complainants/1": 30, "items/1": 30, "squares": 30}


def test_what_the_system_or_a_canary_files_is_nobodys_filing() -> None:
    assert (CHANNEL, CANARY) == (filings.BY_SYSTEM, filings.CANARY)
    assert filings.key(filed("a-1", 1, 3, BEGIN)) == "a-1/c-1"
    assert filings.key(filed("a-1", 1, 3, BEGIN, channel=CHANNEL)) is None
    assert filings.key(filed("a-canary", 1, 1, BEGIN, channel=CANARY, canary=True)) is None


@given(
    st.permutations([filed("a-1", 1, items, BEGIN + dt.timedelta(hours=h)) for items, h in ((3, 1), (3, 2), (4, 0))])
)
def test_of_events_that_differ_one_counts_in_any_order(events: list[filings.ClaimFiled]) -> None:
    state = None
    for event in events:
        state = filings.fold(state, event, META)
        assert filings.fold(state, event, META) is state
    assert state == Filing(3, us(BEGIN + dt.timedelta(hours=1)))


@pytest.mark.parametrize(
    ("items", "size"),
    [(1, "1"), (2, "2-9"), (9, "2-9"), (10, "10-99"), (100, "100-999"), (999, "100-999"), (10**6, "1000+")],
)
def test_classes_of_size(items: int, size: str) -> None:
    assert size_of(items) == size


def test_the_index() -> None:
    assert concentration.index(0, 0) is None
    assert concentration.index(49, 7) == 1
    assert concentration.index(4, 4) == 0.25
    # docs/explanation/domain.md, "Load": one sender made 64 % of Google's; 36 others with 1 % each
    assert concentration.index(64**2 + 36, 100) == pytest.approx(0.4132)
