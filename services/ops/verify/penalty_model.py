"""What a seller's violations must cost, stated independently of enforcement (docs/explanation/domain.md, "Penalties").

Shares the policy's figures with the services, but none of their code.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.policy import Penalties, Threshold


class Violation(NamedTuple):
    """A violation in force. Sorts by time, then by claim."""

    at: dt.datetime
    claim: str
    severity: str


class Cost(NamedTuple):
    """What a violation must have in the ledger."""

    ledger: str
    points: int
    effective_at: dt.datetime
    expires_at: dt.datetime


class Standing(NamedTuple):
    """What a seller's violations amount to at a moment."""

    general_points: int
    serious_strikes: int
    violations: int
    general_level: int
    serious_level: int
    general_consequence: str | None
    serious_consequence: str | None
    next_change: dt.datetime | None


def costs(violations: Iterable[Violation], rules: Penalties) -> dict[str, Cost]:
    """What each violation must cost, by claim."""
    found: dict[str, Cost] = {}
    general: list[Cost] = []
    strike: dt.datetime | None = None
    for at, claim, severity in sorted(violations):
        if severity == "serious":
            # a violation within the grouping period of a strike is part of that strike
            counts = strike is None or at >= strike + rules.serious.grouping.exact
            strike = at if counts else strike
            found[claim] = Cost("serious", int(counts), at, at + rules.serious.expires.exact)
            continue
        again = bool(general) and general[-1].expires_at > at
        today = 0
        for cost in reversed(general):
            if cost.effective_at.date() != at.date():
                break
            today += cost.points
        room = max(rules.general.daily_cap - today, 0)
        points = min(rules.general.repeat if again else rules.general.first, room)
        general.append(Cost("general", points, at, at + rules.general.expires.exact))
        found[claim] = general[-1]
    return found


def standing(violations: Sequence[Violation], rules: Penalties, now: dt.datetime) -> Standing:
    """The standing at ``now``."""
    live = [cost for cost in costs(violations, rules).values() if cost.expires_at > now]
    recent = [v.at + rules.repeat_offender.within.exact for v in violations]
    recent = [until for until in recent if until > now]
    general = [cost.points for cost in live if cost.ledger == "general"]
    strikes = sum(cost.points for cost in live if cost.ledger == "serious")
    steps, serious = rules.general.thresholds, rules.serious.thresholds
    level = _level(sum(general), steps)
    if general and steps[0].consequence == "warning":
        level = max(level, 1)  # the first violation costs no points, but brings a warning
    return Standing(
        sum(general),
        strikes,
        len(recent),
        level,
        _level(strikes, serious),
        _consequence(level, steps),
        _consequence(_level(strikes, serious), serious),
        min([*(cost.expires_at for cost in live), *recent], default=None),
    )


def _level(points: int, thresholds: Sequence[Threshold]) -> int:
    return len([one for one in thresholds if one.points <= points])


def _consequence(level: int, thresholds: Sequence[Threshold]) -> str | None:
    return None if level == 0 else thresholds[level - 1].consequence
