"""Repeat offenders: tiers, recidivism and time between offences (docs/explanation/domain.md, "Penalties"). Pure.

Only violations in force count: a reversed one never was. A year is the policy's ``repeat_offender.within``. ``reading``
counts the same figures in the tables.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Mapping
from typing import Final

from shared.policy import RepeatOffender
from shared.standing import SPANS as SPANS
from shared.standing import Between, Figures, Recidivism, Span, Tier
from shared.standing import bounds as bounds

_DAY: Final = dt.timedelta(days=1)


def tier_of(violations: int, rules: RepeatOffender) -> str | None:
    """Name of the tier of a seller with this many violations; None below the first tier."""
    found = None
    for name, least, _ in bounds(rules):
        if violations >= least:
            found = name
    return found


def tiers(sellers: Mapping[int, int], rules: RepeatOffender) -> list[Tier]:
    """Sellers by tier; those below the first tier count as one tier.

    Args:
        sellers: number of sellers by number of violations.
    """
    named = bounds(rules)
    below = named[0][1] - 1
    if below:
        named = [("1" if below == 1 else f"1-{below}", 1, below), *named]
    total = sum(count for violations, count in sellers.items() if violations)
    found = []
    for name, least, most in named:
        inside = {n: count for n, count in sellers.items() if n >= least and (most is None or n <= most)}
        count = sum(inside.values())
        found.append(
            Tier(
                tier=name,
                sellers=count,
                violations=sum(n * many for n, many in inside.items()),
                share=count / total if total else None,
            )
        )
    return found


def recidivism(after: dt.datetime, upto: dt.datetime, sellers: int, again: int) -> Recidivism:
    """The recidivism of a cohort: the share that offended again."""
    return Recidivism(after=after, upto=upto, sellers=sellers, again=again, rate=again / sellers if sellers else None)


def between(count: int, median: dt.timedelta | None, p90: dt.timedelta | None, spans: Iterable[int]) -> Between:
    """Times between offences; ``spans``: how many are in each of ``SPANS``, and how many are longer."""
    return Between(
        count=count,
        median_days=None if median is None else round(median / _DAY, 3),
        p90_days=None if p90 is None else round(p90 / _DAY, 3),
        spans=[Span(days=days, count=many) for days, many in zip((*SPANS, None), spans, strict=True)],
    )


def cohorts(now: dt.datetime, rules: RepeatOffender) -> tuple[dt.datetime, dt.datetime]:
    """(a, b): the cohort of first violations in a < t <= b is complete, that of b < t <= now is still under way."""
    within = rules.within.exact
    return now - 2 * within, now - within


def figures(violations: Iterable[tuple[str, dt.datetime]], rules: RepeatOffender, now: dt.datetime) -> Figures:
    """All figures from the (seller, at) of every violation in force. ``reading.figures`` must agree with them."""
    by_seller: dict[str, list[dt.datetime]] = {}
    for seller, at in violations:
        if at <= now:
            by_seller.setdefault(seller, []).append(at)
    within = rules.within.exact
    begin, middle = cohorts(now, rules)
    counted: dict[int, int] = {}
    whole = [0, 0]
    young = [0, 0]
    gaps: list[dt.timedelta] = []
    for times in by_seller.values():
        times.sort()
        recent = sum(at + within > now for at in times)
        if recent:
            counted[recent] = counted.get(recent, 0) + 1
        again = len(times) > 1 and times[1] - times[0] < within
        cohort = young if times[0] > middle else whole if times[0] > begin else None
        if cohort is not None:
            cohort[0] += 1
            cohort[1] += again
        gaps += [later - earlier for earlier, later in itertools.pairwise(times) if later + within > now]
    gaps.sort()
    edges = [dt.timedelta(days=days) for days in SPANS]
    spans = [0] * (len(SPANS) + 1)
    for gap in gaps:
        spans[sum(gap > edge for edge in edges)] += 1
    return Figures(
        at=now,
        sellers=sum(counted.values()),
        repeat_offenders=sum(count for many, count in counted.items() if many >= rules.violations),
        tiers=tiers(counted, rules),
        recidivism=recidivism(begin, middle, *whole),
        recidivism_young=recidivism(middle, now, *young),
        between=between(len(gaps), _percentile(gaps, 50), _percentile(gaps, 90), spans),
    )


def _percentile(values: list[dt.timedelta], per_cent: int) -> dt.timedelta | None:
    """The least value that ``per_cent`` of the sorted ``values`` do not exceed; None if there are no values."""
    return values[-(-len(values) * per_cent // 100) - 1] if values else None
