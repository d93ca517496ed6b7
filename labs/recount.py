"""A naive recount of good-faith figures from whole histories, independent of ``services.intake.goodfaith.domain``.

It shares no code with what it is compared to, so the same mistake in both is unlikely: rates are fractions, days are
examined one by one, and nothing is reversed because nothing is stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from shared.events import ItemChanged

Numbers = dict[str, int]
"""``settled, upheld, taken_down, restored``."""


def item(history: Sequence[tuple[dt.datetime, ItemChanged]]) -> tuple[str, str, dt.date, Numbers] | None:
    """(complainant, reason, day, numbers) of an item, from all its changes in order; None if it does not count."""
    if not history or not history[-1][1].settled:
        return None
    last = history[-1][1]
    if last.state in ("DUPLICATE", "LINK_INVALID") or last.recurs is not None or last.canary:
        return None
    since = len(history) - 1
    while last.state != "WITHDRAWN" and since > 0 and _same(history[since - 1][1], last):
        since -= 1
    down = any(change.held for _, change in history[: since + 1])
    # an item that is settled in NOTIFIED stands: no window runs there
    still_down = str(last.state).startswith(("UPHELD", "NOTIFIED")) or (
        last.state == "WITHDRAWN" and last.code == "settled" and down
    )
    came_back = down and (last.state == "RESTORED" or (last.state == "WITHDRAWN" and last.code == "error"))
    numbers = {"settled": 1, "upheld": int(still_down), "taken_down": int(down), "restored": int(came_back)}
    return last.complainant, last.reason, history[since][0].astimezone(dt.UTC).date(), numbers


def _same(before: ItemChanged, last: ItemChanged) -> bool:
    return before.state == last.state and before.settled


def in_window(day: dt.date, end: dt.date, months: int) -> bool:
    """Whether `day` is within this many calendar months up to `end`."""
    if day > end:
        return False
    year, month = end.year, end.month
    for _ in range(months):
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    edge = None
    for number in range(end.day, 0, -1):  # the month may have fewer days
        try:
            edge = dt.date(year, month, number)
            break
        except ValueError:
            continue
    assert edge is not None
    return day > edge


def window(
    counted: Iterable[tuple[str, str, dt.date, Numbers]], account: str, end: dt.date, months: int
) -> dict[str, Numbers]:
    """Sums of an account by reason, and the overall sum as ``""``. Reasons without items are left out."""
    sums: dict[str, Numbers] = {"": dict.fromkeys(("settled", "upheld", "taken_down", "restored"), 0)}
    for owner, reason, day, numbers in counted:
        if owner == account and in_window(day, end, months):
            for key in ("", reason):
                into = sums.setdefault(key, dict.fromkeys(numbers, 0))
                for name, value in numbers.items():
                    into[name] += value
    return sums


def verdict(sums: dict[str, Numbers], terms: Any) -> str:
    """``meets``, ``misses`` or ``too_few``."""
    if sums[""]["settled"] < terms.min_items:
        return "too_few"
    for reason, n in sums.items():
        if reason and n["settled"] < terms.reason_min_items:
            continue
        if n["settled"] and Fraction(n["upheld"], n["settled"]) < share(terms.takedown_rate.text):
            return "misses"
        if n["taken_down"] and Fraction(n["restored"], n["taken_down"]) > share(terms.counter_rate.text):
            return "misses"
    return "meets"


def share(text: str) -> Fraction:
    """A percentage such as `2.5 %`, as a fraction."""
    return Fraction(text.removesuffix(" %")) / 100
