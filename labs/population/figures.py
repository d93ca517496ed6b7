"""The figures of a run, from what is true and what became of each item. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from labs.population.generator import Conduct, Kind

Z: Final = 1.959964
"""Of a 95 % interval, both sides."""


class Outcome(Struct, frozen=True):
    """What became of an item. Items without a decision (a dead link, a duplicate, a lapsed one) have ``by`` None."""

    conduct: Conduct
    kind: Kind
    infringing: bool
    by: Literal["rule", "person"] | None
    """Who first decided whether it is upheld."""
    taken_down: bool
    """By that decision."""
    ever_down: bool
    """By that or a later one, such as one on a complaint."""
    down_at_end: bool
    sla: Literal["met", "missed"] | None


def wilson_low(good: int, of: int) -> float | None:
    """The lower bound of the 95 % Wilson interval of a share; None: of nothing."""
    if not of:
        return None
    share, square = good / of, Z * Z
    middle = share + square / (2 * of)
    return max((middle - Z * math.sqrt((share * (1 - share) + square / (4 * of)) / of)) / (1 + square / of), 0.0)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def stopped_after(claims: Sequence[Sequence[bool]]) -> int | None:
    """After how many items that were upheld unseen a stolen account was stopped; None: it never was.

    Args:
        claims: of each claim in the order of filing, whether each item was upheld unseen; an empty one was refused.
    """
    if not claims or any(claims[-1]):
        return None
    return sum(map(sum, claims))


def figures(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """By name; a share of nothing is None. The reference (docs/reference/population.md) says what each means."""
    items = list(outcomes)
    decided = [one for one in items if one.by]
    automatic = [one for one in decided if one.by == "rule"]
    upheld = [one for one in automatic if one.taken_down]
    rightly = sum(one.infringing for one in upheld)
    wrongful = [one for one in items if one.ever_down and not one.infringing]
    timed = [one.sla for one in items if one.sla]
    low = wilson_low(rightly, len(upheld))
    return {
        "items": len(items),
        "takedown_rate": _share(sum(one.taken_down for one in decided), len(decided)),
        "true_rate": _share(sum(one.infringing for one in items), len(items)),
        "automatic_share": _share(len(automatic), len(decided)),
        "precision": _share(rightly, len(upheld)),
        "precision_low95": None if low is None else round(low, 4),
        "recall": _share(rightly, sum(one.infringing for one in items)),
        "wrongful": len(wrongful),
        "wrongful_undone": sum(not one.down_at_end for one in wrongful),
        "within_24h": _share(timed.count("met"), len(timed)),
    }


def by_group(
    outcomes: Iterable[Outcome], name: Literal["conduct", "kind"]
) -> list[tuple[str, int, int, int, int, int]]:
    """Of each group: items, taken down by rule, by a person, refused by rule, and down at the end."""
    rows: dict[str, Counter[str]] = {}
    for one in outcomes:
        row = rows.setdefault(getattr(one, name), Counter())
        row["items"] += 1
        row[f"{one.by} {one.taken_down}"] += 1
        row["end"] += one.down_at_end
    return [
        (group, row["items"], row["rule True"], row["person True"], row["rule False"], row["end"])
        for group, row in rows.items()
    ]
