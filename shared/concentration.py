"""How concentrated filings are on few complainants: the window, the size classes and the index. Pure.

The measure is the Herfindahl-Hirschman index: the sum of the squares of all shares, from 1/n (n complainants file
equally much) to 1 (one files everything). Source: Merger Guidelines of the U.S. Department of Justice and the Federal
Trade Commission (2023), guideline 1, which state it from 0 to 10,000. It needs only two sums, which can be added over
partitions as long as each complainant lies in one of them; a median or a Gini coefficient needs everybody's figure in
one place.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from typing import Final

WINDOW_DAYS: Final = 30
"""Length of the window in business days (UTC), today included."""
_STARTS: Final = (1, 2, 10, 100, 1000)
SIZES: Final = ("1", "2-9", "10-99", "100-999", "1000+")
"""Size classes of complainants, by their items in the window."""


def size_of(items: int) -> str:
    """The size class of a complainant with ``items`` items (at least 1)."""
    return SIZES[bisect_right(_STARTS, items) - 1]


def since(now: dt.datetime) -> dt.datetime:
    """When the window begins: midnight UTC. Anything filed then or later counts."""
    today = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - dt.timedelta(days=WINDOW_DAYS - 1)


def index(squares: int, items: int) -> float | None:
    """The Herfindahl-Hirschman index, above 0 and up to 1; None if nothing was filed.

    Args:
        squares: sum of the squares of all complainants' items.
        items: sum of all complainants' items.
    """
    return squares / items**2 if items else None
