"""Repeat offenders: figures by moves are those that enforcement counts from all violations in force."""

from __future__ import annotations

import datetime as dt
import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import offenders
from services.streams import sellers
from services.streams.views import SECOND, us
from tests.unit.streams.made import BEGIN

DAY = dt.timedelta(days=1)
WITHIN = dt.timedelta(days=365)
# on a grid of a fifth of a year, and just off it: where things come and go
MOMENTS = st.builds(
    lambda fifths, off: BEGIN + fifths * WITHIN / 5 + off * dt.timedelta(microseconds=1),
    st.integers(0, 15),
    st.sampled_from((-1, 0, 0, 0, 1)),
)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.booleans(), MOMENTS), max_size=30))
def test_figures_are_enforcements(changes: list[tuple[int, int, bool, dt.datetime]]) -> None:
    totals, rules = sellers.Violations(), sellers.rules()
    stored: dict[str, sellers.Violation] = {}
    now = BEGIN
    for seller, claim, in_force, at in changes:
        key = f"s-{seller}/c-{claim}"
        new = sellers.Violation((sellers.ViolationItem("i-1", 1, in_force, False, us(at)),))
        totals.move(key, stored.get(key), new)
        stored[key] = new
        now = max(now, at)
        told = totals.figures(now)
        wanted = offenders.figures(
            [
                (key.partition("/")[0], BEGIN + dt.timedelta(microseconds=v.at - us(BEGIN)))
                for key, v in stored.items()
                if v.at
            ],
            rules,
            now,
        )
        tiers = {tier.tier: tier.sellers for tier in wanted.tiers}
        assert told.tiers == {name: tiers[name] for name in told.tiers}
        assert sum(told.sellers.values()) == wanted.sellers
        assert (told.first["whole"], told.again["whole"]) == (wanted.recidivism.sellers, wanted.recidivism.again)
        assert (told.first["young"], told.again["young"]) == (
            wanted.recidivism_young.sellers,
            wanted.recidivism_young.again,
        )
        assert told.intervals.buckets == [span.count for span in wanted.between.spans]
        recent = {name: count for name, count in totals.counts(now).items() if name.startswith("sellers/")}
        assert recent == {f"sellers/{many}": count for many, count in told.sellers.items()}


def test_ten_thousand_violations_of_one_seller_write_one_state_each() -> None:
    totals = sellers.Violations()
    for number in range(10_000):
        at = us(BEGIN) + (number * 7919 % 10_000) * 3600 * SECOND
        totals.move(f"s-1/c-{number}", None, sellers.Violation((sellers.ViolationItem("i-1", 1, True, False, at),)))
    told = totals.figures(BEGIN + 10_000 * dt.timedelta(hours=1))
    assert sum(told.intervals.buckets) == 365 * 24 - 1
    assert told.intervals.total == 3600 * SECOND * (365 * 24 - 1)
    assert list(itertools.islice(told.sellers.items(), 2)) == [(365 * 24 - 1, 1)]
