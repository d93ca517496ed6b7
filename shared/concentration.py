"""How far filings are concentrated on few complainants: the window, the classes of size, and the index. Pure.

The measure is the Herfindahl-Hirschman index: the sum of the squares of all shares, from 1/n (n complainants that file alike) to
1 (one files everything). Source: Merger Guidelines of the U.S. Department of Justice and the Federal Trade Commission
(2023), guideline 1, which write it from 0 to 10,000. It needs two sums alone, which may be added over partitions, as long as a
complainant is whole in one of them; a median or a Gini coefficient needs everybody's figure in one place.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from typing import Final

WINDOW_DAYS: Final = 30
"""Business days (UTC) that count: today, and those before it."""
_STARTS: Final = (1, 2, 10, 100, 1000)
SIZES: Final = ("1", "2-9", "10-99", "100-999", "1000+")
"""Classes of complainants, by their items in the window."""


def size_of(items: int) -> str:
    """The class of a complainant with so many items, at least one."""
    return SIZES[bisect_right(_STARTS, items) - 1]


def since(now: dt.datetime) -> dt.datetime:
    """When the window begins: midnight UTC. What was filed then or later counts."""
    today = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - dt.timedelta(days=WINDOW_DAYS - 1)


def index(squares: int, items: int) -> float | None:
    """The Herfindahl-Hirschman index, above 0 and up to 1; None: nothing was filed.

    Args:
        squares: sum of the squares of everybody's items.
        items: sum of everybody's items.
    """
    return squares / items**2 if items else None
