"""Repeat offenders: tiers by the policy, and figures on made-up histories (against the database: tests/integration)."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from prometheus_client import REGISTRY

from services.enforcement import api, offenders
from shared import policy
from shared.policy import RepeatOffender, Span

RULES = policy.current("ipp").penalties.repeat_offender
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("violations", "tier"), [(0, None), (1, None), (2, "2"), (3, "3-5"), (5, "3-5"), (6, "6+"), (600, "6+")]
)
def test_tiers_are_the_policys(violations: int, tier: str | None) -> None:
    assert offenders.tier_of(violations, RULES) == tier


def test_tiers_may_be_others() -> None:
    rules = RepeatOffender(violations=3, within=Span("90 d"), tiers=(3, 4, 10))
    assert [name for name, _, _ in offenders.bounds(rules)] == ["3", "4-9", "10+"]
    assert [tier.tier for tier in offenders.tiers({}, rules)] == ["1-2", "3", "4-9", "10+"]


def test_figures_of_a_small_world() -> None:
    ago = {
        "once": (10,),
        "twice": (30, 10),
        "old and again": (500, 200),
        "old, once": (600,),
        "too late": (700, 300),
        "very old": (900,),
        "seven": (7, 6, 5, 4, 3, 2, 1),
    }
    found = offenders.figures(
        [(seller, NOW - days * DAY) for seller, times in ago.items() for days in times], RULES, NOW
    )
    assert (found.sellers, found.repeat_offenders) == (5, 2)
    assert {tier.tier: (tier.sellers, tier.violations) for tier in found.tiers} == {
        "1": (3, 3),
        "2": (1, 2),
        "3-5": (0, 0),
        "6+": (1, 7),
    }
    assert sum(tier.share or 0 for tier in found.tiers) == pytest.approx(1)
    # first violations one to two years back: of these one had a further one within a year
    assert (found.recidivism.sellers, found.recidivism.again) == (3, 1)
    assert (found.recidivism_young.sellers, found.recidivism_young.again) == (3, 2)
    assert (found.between.count, found.between.median_days) == (9, 1)
    assert found.between.p90_days == 400
    assert [span.count for span in found.between.spans] == [6, 0, 1, 0, 0, 1, 1]


def test_a_year_is_less_than_a_year() -> None:
    """As with standings: a violation counts until, not at, its 365th day."""
    found = offenders.figures([("s", NOW - 400 * DAY), ("s", NOW - 35 * DAY)], RULES, NOW)
    assert (found.recidivism.sellers, found.recidivism.again) == (1, 0)
    found = offenders.figures([("s", NOW - 400 * DAY), ("s", NOW - 36 * DAY)], RULES, NOW)
    assert (found.recidivism.sellers, found.recidivism.again) == (1, 1)
    assert offenders.figures([("s", NOW - 365 * DAY)], RULES, NOW).sellers == 0


def test_nobody_is_no_rate() -> None:
    found = offenders.figures([], RULES, NOW)
    assert found.recidivism.rate is None
    assert (found.between.count, found.between.median_days) == (0, None)
    assert [tier.share for tier in found.tiers] == [None] * 4


def test_gauges_show_what_was_counted() -> None:
    ago = {"once": (10,), "again": (500, 200), "twice": (30, 10)}
    found = offenders.figures(
        [(seller, NOW - days * DAY) for seller, times in ago.items() for days in times], RULES, NOW
    )
    api.show(msgspec.structs.replace(found, measures={"frozen": 3}))

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    assert value("goodfaith_sellers", tier="1") == 2
    assert value("goodfaith_sellers", tier="2") == 1
    assert value("goodfaith_sellers_under", measure="frozen") == 3
