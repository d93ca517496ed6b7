"""The view ``filings``, with one state per claim: how far filings are concentrated on few complainants.

It counts the items that a complainant filed in the window (``shared.concentration``), by business day (UTC) of
acceptance, whatever became of them, because it measures who causes the work. Claims that the system filed for an
account (near copies, row 20) and canary claims do not count.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.streams import views
from services.streams.views import SECOND, Meta, us
from shared import concentration, topics
from shared.concentration import SIZES, size_of
from shared.events import ClaimFiled, Data

BY_SYSTEM: Final = "recurrence"
"""Channel of claims that the system files for an account."""
CANARY: Final = "canary"
"""Channel of claims that a canary files."""
_DAY: Final = 86_400 * SECOND
KEPT_DAYS: Final = 2
"""Days kept before the window, because counts may be requested as of a slightly earlier moment."""


class Filing(views.State, frozen=True, array_like=True, omit_defaults=True, order=True):
    """A claim: how many items it has, and when it was accepted (``views.us``)."""

    items: int
    at: int


def key(data: Data) -> str | None:
    """``<complainant>/<claim>``; None for claims that are not counted."""
    if not isinstance(data, ClaimFiled) or data.canary or data.channel == BY_SYSTEM:
        return None
    return f"{data.account}/{data.claim}"


def fold(state: Filing | None, data: Data, meta: Meta) -> Filing | None:
    """The claim after an event. It is announced once; if two events differ, the lesser counts, in any order."""
    if not isinstance(data, ClaimFiled):
        return state
    told = Filing(data.items, us(data.at))
    return state if state is not None and state <= told else told


@dataclass(frozen=True, slots=True)
class FilingFigures:
    """Figures of the complainants in the window. They add up over partitions: each complainant is in only one."""

    complainants: Mapping[str, int]
    """Complainants by size class."""
    items: Mapping[str, int]
    """Items by size class of their complainant."""
    squares: int
    """Sum of the squares of the complainants' items."""


class Totals:
    """Items by complainant and day."""

    def __init__(self) -> None:
        self._days: dict[int, dict[str, int]] = {}
        """Day (since 1970) -> complainant -> items; no days before ``_first - KEPT_DAYS``."""
        self._claims: Counter[int] = Counter()
        """Claims by day."""
        self._first = 0
        """Day on which the window begins."""
        self._window = _Window()

    def move(self, key: str, old: Filing | None, new: Filing | None) -> None:
        """As ``views.Totals``."""
        complainant = key.rpartition("/")[0]
        for filing, sign in ((old, -1), (new, 1)):
            if filing is None:
                continue
            day = filing.at // _DAY
            if day < self._first - KEPT_DAYS:
                continue
            _shift(self._days.setdefault(day, {}), complainant, sign * filing.items)
            self._claims[day] += sign
            if day >= self._first:
                self._window.shift(complainant, sign * filing.items)

    def _move_on(self, first: int) -> None:
        for day in sorted(self._days):
            if self._first <= day < first:
                for complainant, items in self._days[day].items():
                    self._window.shift(complainant, -items)
            if day < first - KEPT_DAYS:
                del self._days[day]
                del self._claims[day]
        self._first = first

    def _at(self, now: dt.datetime) -> _Window:
        """The window as of ``now``: it advances with the clock, and is computed from scratch for an earlier moment."""
        first = _first(now)
        if first > self._first:
            self._move_on(first)
        if first == self._first:
            return self._window
        made = _Window()
        for day, filed in self._days.items():
            if day >= first:
                for complainant, items in filed.items():
                    made.shift(complainant, items)
        return made

    def figures(self, now: dt.datetime) -> FilingFigures:
        """As ``views.Totals``."""
        window = self._at(now)
        return FilingFigures(
            {size: window.complainants[size] for size in SIZES},
            {size: window.sums[size] for size in SIZES},
            window.squares,
        )

    def largest(self, now: dt.datetime, most: int) -> list[tuple[str, int]]:
        """The complainants with the most items in the window: (account, items), largest first. Reads all of them."""
        return heapq.nsmallest(most, self._at(now).items.items(), key=lambda one: (-one[1], one[0]))

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Claims in the window, complainants and items by size class, and the sum of squares."""
        window, first = self._at(now), _first(now)
        claims = sum(count for day, count in self._claims.items() if day >= first)
        return counts_of(claims, window.items.values())


class _Window:
    """Sums over a range of days."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        """Items by complainant."""
        self.complainants: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.squares = 0

    def shift(self, complainant: str, by: int) -> None:
        old = self.items.get(complainant, 0)
        new = old + by
        _shift(self.items, complainant, by)
        for items, sign in ((old, -1), (new, 1)):
            if items:
                size = size_of(items)
                self.complainants[size] += sign
                self.sums[size] += sign * items
        self.squares += new * new - old * old


def _shift(items: dict[str, int], complainant: str, by: int) -> None:
    new = items.get(complainant, 0) + by
    if new:
        items[complainant] = new
    else:
        items.pop(complainant, None)


def _first(now: dt.datetime) -> int:
    return us(concentration.since(now)) // _DAY


def counts_of(claims: int, filed: Iterable[int]) -> dict[str, int]:
    """The counts to compare with the database, from each complainant's items; without zeros."""
    found: Counter[str] = Counter(claims=claims)
    for items in filed:
        size = size_of(items)
        found[f"complainants/{size}"] += 1
        found[f"items/{size}"] += items
        found["squares"] += items * items
    return {name: count for name, count in found.items() if count}


VIEW: Final = views.View(
    name="filings",
    reads=(topics.FILINGS,),
    state=Filing,
    key=key,
    fold=fold,
    totals=Totals,
)
