"""The views ``violations`` (one state per seller and claim) and ``standings`` (one per seller): repeat offenders.

Definitions: docs/explanation/domain.md, "Terms with an exact meaning". A year is the policy's
``repeat_offender.within``. Violations leave the figures as business time passes: when ``figures`` is called, not by
an event.
"""

from __future__ import annotations

import datetime as dt
import heapq
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from msgspec.structs import replace

from services.streams import views
from services.streams.views import Histogram, Meta, position_of, us
from shared import policy, topics
from shared.events import Data, SanctionChanged, StandingChanged, ViolationChanged
from shared.policy import RepeatOffender
from shared.settings import Settings
from shared.standing import SPANS, bounds

INTERVALS: Final = tuple(days * 86_400 for days in SPANS)
"""Edges of the histogram of intervals between offences, in seconds."""


@cache
def rules() -> RepeatOffender:
    """The rules by which ledgers are kept (``penalties_profile``)."""
    return policy.current(Settings().penalties_profile).penalties.repeat_offender


# --------------------------------------------------------------------------------------------------------- violations


class ViolationItem(views.State, frozen=True, array_like=True, omit_defaults=True, order=True):
    """An item of a violation at its highest revision."""

    item: str
    revision: int
    in_force: bool
    serious: bool
    at: int


class Violation(views.State, frozen=True, array_like=True, omit_defaults=True):
    """A seller's violation from one claim; in force while any of its items is."""

    items: tuple[ViolationItem, ...] = ()
    """Sorted by item."""

    @property
    def at(self) -> int:
        """When the earliest of its items in force came into force; 0 if none is."""
        return min((item.at for item in self.items if item.in_force), default=0)

    @property
    def serious(self) -> bool:
        """Whether one of its items in force is serious."""
        return any(item.serious for item in self.items if item.in_force)


def violation_key(data: Data) -> str | None:
    """``<seller>/<claim>``, so a seller with many violations has many small states."""
    return f"{data.seller}/{data.claim}" if isinstance(data, ViolationChanged) else None


def fold_violation(state: Violation | None, data: Data, meta: Meta) -> Violation | None:
    """The violation after one of its items came into force or was undone."""
    if not isinstance(data, ViolationChanged):
        return state
    known = state or Violation()
    item = ViolationItem(data.item, data.revision, data.in_force, data.severity == "serious", us(data.at))
    index = bisect_left(known.items, data.item, key=lambda one: one.item)
    found = index < len(known.items) and known.items[index].item == data.item
    if found and known.items[index].revision >= data.revision:
        return known
    return Violation((*known.items[:index], item, *known.items[index + found :]))


@dataclass(frozen=True, slots=True)
class OffenderFigures:
    """Figures of sellers with violations in force (``shared.standing.Figures``, as sums that can be added)."""

    sellers: Mapping[int, int]
    """Number of violations in the last year -> sellers."""
    tiers: Mapping[str, int]
    """Sellers by tier of the policy."""
    first: Mapping[str, int]
    """Sellers whose first violation is one to two years old (``whole``) or younger (``young``)."""
    again: Mapping[str, int]
    """Those of them with another violation less than a year after the first."""
    intervals: Histogram
    """From a violation to the seller's next one, if that is within the last year."""


class _Seller:
    __slots__ = ("again", "cohort", "lo", "recent", "times", "wake")

    def __init__(self) -> None:
        self.times: list[int] = []
        """Times of its violations in force, sorted."""
        self.lo = 0
        """Index of the first one within the last year."""
        self.recent = 0
        self.cohort = ""
        self.again = False
        self.wake = 0


class Violations:
    """Totals of violations."""

    def __init__(self) -> None:
        self._rules = rules()
        self._year = self._rules.within.exact // dt.timedelta(microseconds=1)
        self._now = 0
        self._sellers: dict[str, _Seller] = {}
        self._recent: Counter[int] = Counter()
        self._first: Counter[str] = Counter()
        self._again: Counter[str] = Counter()
        self._serious = 0
        self._items = 0
        self._intervals = Histogram(INTERVALS)
        self._wakes: list[tuple[int, str]] = []
        """Heap of when a seller's share changes with time; an entry is valid while it agrees with the seller."""

    def move(self, key: str, old: Violation | None, new: Violation | None) -> None:
        """As ``views.Totals``."""
        was, now = (0 if one is None else one.at for one in (old, new))
        for violation, sign in ((old, -1), (new, 1)):
            if violation is not None:
                self._serious += sign * violation.serious
                self._items += sign * sum(item.in_force for item in violation.items)
        if was == now:
            return
        name = key.partition("/")[0]
        seller = self._sellers.get(name)
        if seller is None:
            seller = self._sellers[name] = _Seller()
        if was:
            self._remove(seller, was)
        if now:
            self._insert(seller, now)
        self._settle(name, seller)

    def _insert(self, seller: _Seller, at: int) -> None:
        times = seller.times
        index = bisect_right(times, at)
        self._gap(seller, index, -1)
        insort(times, at)
        if at + self._year <= self._now:
            seller.lo += 1
        self._gap(seller, index, 1)
        self._gap(seller, index + 1, 1)

    def _remove(self, seller: _Seller, at: int) -> None:
        times = seller.times
        index = bisect_left(times, at)
        self._gap(seller, index, -1)
        self._gap(seller, index + 1, -1)
        del times[index]
        if index < seller.lo:
            seller.lo -= 1
        self._gap(seller, index, 1)

    def _gap(self, seller: _Seller, index: int, sign: int) -> None:
        """Count the interval that ends at ``index``, if that violation is within the last year."""
        if 1 <= index < len(seller.times) and index >= seller.lo:
            self._intervals.add(seller.times[index] - seller.times[index - 1], sign)

    def _settle(self, name: str, seller: _Seller) -> None:
        """Update the seller's share of the sums to the present."""
        times, year, now = seller.times, self._year, self._now
        while seller.lo < len(times) and times[seller.lo] + year <= now:
            self._gap(seller, seller.lo, -1)
            seller.lo += 1
        recent = len(times) - seller.lo
        cohort = ""
        if times and times[0] + 2 * year > now:
            cohort = "young" if times[0] + year > now else "whole"
        again = len(times) > 1 and times[1] - times[0] < year
        if (recent, cohort, again) != (seller.recent, seller.cohort, seller.again):
            self._recent[seller.recent] -= 1
            self._recent[recent] += 1
            self._first[seller.cohort] -= 1
            self._first[cohort] += 1
            self._again[seller.cohort] -= seller.again
            self._again[cohort] += again
            seller.recent, seller.cohort, seller.again = recent, cohort, again
        if not times:
            del self._sellers[name]
            return
        ends = [times[0] + year, times[0] + 2 * year]
        if recent:
            ends.append(times[seller.lo] + year)
        wake = min((end for end in ends if end > now), default=0)
        if wake and wake != seller.wake:
            heapq.heappush(self._wakes, (wake, name))
        seller.wake = wake
        if len(self._wakes) > 2 * len(self._sellers) + 1000:
            self._wakes = [(one.wake, name) for name, one in self._sellers.items() if one.wake]
            heapq.heapify(self._wakes)

    def times(self, seller: str) -> list[int]:
        """When the seller's violations in force came into force, sorted."""
        found = self._sellers.get(seller)
        return list(found.times) if found is not None else []

    def figures(self, now: dt.datetime) -> OffenderFigures:
        """As ``views.Totals``; ``now`` must not go back."""
        self._now = max(us(now), self._now)
        while self._wakes and self._wakes[0][0] <= self._now:
            wake, name = heapq.heappop(self._wakes)
            seller = self._sellers.get(name)
            if seller is not None and seller.wake == wake:
                self._settle(name, seller)
        return OffenderFigures(
            sellers={many: sellers for many, sellers in self._recent.items() if many and sellers},
            tiers=_tiers(self._recent, self._rules),
            first={cohort: self._first[cohort] for cohort in ("whole", "young")},
            again={cohort: self._again[cohort] for cohort in ("whole", "young")},
            intervals=self._intervals.copy(),
        )

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Violations in force and their items, and sellers by number of violations in the last year."""
        since = us(now) - self._year
        found = {"in_force": 0, "serious": self._serious, "items": self._items}
        for seller in self._sellers.values():
            found["in_force"] += len(seller.times)
            recent = len(seller.times) - bisect_right(seller.times, since)
            if recent:
                name = f"sellers/{recent}"
                found[name] = found.get(name, 0) + 1
        return {name: count for name, count in found.items() if count}


def _tiers(sellers: Mapping[int, int], rules: RepeatOffender) -> dict[str, int]:
    return {
        name: sum(count for many, count in sellers.items() if many >= least and (most is None or many <= most))
        for name, least, most in bounds(rules)
    }


VIOLATIONS: Final = views.View(
    name="violations",
    reads=(topics.VIOLATIONS,),
    state=Violation,
    key=violation_key,
    fold=fold_violation,
    totals=Violations,
)


# ---------------------------------------------------------------------------------------------------------- standings


class Sanction(views.State, frozen=True, array_like=True, omit_defaults=True, order=True):
    """A sanction as last published. ``sequence``: of that event in the ledger's log."""

    sanction: str
    sequence: int
    in_force: bool
    ledger: str
    level: int
    scope: str
    measures: tuple[str, ...] = ()
    begins: int = 0
    ends: int = 0


class Standing(views.State, frozen=True, array_like=True, omit_defaults=True):
    """A seller's standing as last published by the ledger. ``sequence``: of that event in its log; -1: none yet."""

    sequence: int = -1
    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    at: int = 0
    entity: str = ""
    entity_points: int = 0
    entity_strikes: int = 0
    entity_violations: int = 0
    sanctions: tuple[Sanction, ...] = ()
    """All sanctions that it ever had, by id."""


def standing_key(data: Data) -> str | None:
    """The seller."""
    return data.seller if isinstance(data, StandingChanged | SanctionChanged) else None


def fold_standing(state: Standing | None, data: Data, meta: Meta) -> Standing | None:
    """The standing after an event of the ledger. Order is the order of its log."""
    known = state or Standing()
    position = position_of(meta.id)
    if position is None:
        raise ValueError(f"{meta.id}: not an event of a log")
    if isinstance(data, StandingChanged):
        if position.sequence <= known.sequence:
            return known
        return replace(
            known,
            sequence=position.sequence,
            general_points=data.general_points,
            serious_strikes=data.serious_strikes,
            violations=data.violations,
            at=us(data.at),
            entity=data.entity or "",
            entity_points=data.entity_points,
            entity_strikes=data.entity_strikes,
            entity_violations=data.entity_violations,
        )
    if isinstance(data, SanctionChanged):
        told = Sanction(
            data.sanction,
            position.sequence,
            data.change == "imposed",
            data.ledger,
            data.level,
            data.scope,
            data.measures,
            us(data.begins),
            us(data.ends),
        )
        spot = bisect_left(known.sanctions, data.sanction, key=lambda one: one.sanction)
        found = spot < len(known.sanctions) and known.sanctions[spot].sanction == data.sanction
        if found and known.sanctions[spot].sequence >= position.sequence:
            return known
        return replace(known, sanctions=(*known.sanctions[:spot], told, *known.sanctions[spot + found :]))
    return state


class Standings:
    """Totals of standings, for comparison with the database. Enforcement exports the metrics of measures."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def move(self, key: str, old: Standing | None, new: Standing | None) -> None:
        """As ``views.Totals``."""
        for standing, sign in ((old, -1), (new, 1)):
            if standing is None:
                continue
            self._counts["general_points"] += sign * standing.general_points
            self._counts["serious_strikes"] += sign * standing.serious_strikes
            if standing.violations:
                self._counts[f"sellers/{standing.violations}"] += sign
            for sanction in standing.sanctions:
                if sanction.in_force:
                    self._counts[f"sanctions/{sanction.ledger}/{sanction.level}"] += sign

    def figures(self, now: dt.datetime) -> dict[str, int]:
        """As ``counts``."""
        return self.counts(now)

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Sums of points and strikes, sellers by the ledger's count of violations, sanctions in force by threshold."""
        return {name: count for name, count in self._counts.items() if count}


STANDINGS: Final = views.View(
    name="standings",
    reads=(topics.LEDGER,),
    state=Standing,
    key=standing_key,
    fold=fold_standing,
    totals=Standings,
)
