"""Penalty ledgers and entities counted anew from all that was ever said: naive, and written apart from ``services.enforcement``.

It shares no code with what it is held against, so that both being wrong alike is unlikely: every violation is looked at beside
every other, and nothing is taken back because nothing is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from shared.events import ViolationChanged


class Live(NamedTuple):
    """A violation in force."""

    at: dt.datetime
    claim: str
    serious: bool


class Cost(NamedTuple):
    """What it costs."""

    claim: str
    ledger: str
    points: int
    at: dt.datetime
    until: dt.datetime


def live(said: Iterable[ViolationChanged], sellers: Collection[str]) -> list[Live]:
    """Violations in force of these sellers taken as one, in order: of each item the last word counts."""
    last: dict[tuple[str, str], ViolationChanged] = {}
    for word in said:
        if word.seller in sellers:
            place = (word.seller, word.item)
            if place not in last or word.revision > last[place].revision:
                last[place] = word
    claims: dict[str, list[ViolationChanged]] = {}
    for word in last.values():
        if word.in_force:
            claims.setdefault(word.claim, []).append(word)
    return sorted(
        Live(min(word.at for word in words), claim, any(word.severity == "serious" for word in words))
        for claim, words in claims.items()
    )


def costs(violations: list[Live], rules: Any) -> list[Cost]:
    """What each violation costs."""
    general, serious = rules.general, rules.serious
    found: list[Cost] = []
    for place, one in enumerate(violations):
        before = violations[:place]
        if one.serious:
            begun = [cost.at for cost in found if cost.ledger == "serious" and cost.points]
            counts = all(one.at - at >= serious.grouping.exact for at in begun)
            found.append(Cost(one.claim, "serious", 1 if counts else 0, one.at, one.at + serious.expires.exact))
            continue
        again = any(not other.serious and one.at - other.at < general.expires.exact for other in before)
        day = one.at.strftime("%Y-%m-%d")
        today = sum(cost.points for cost in found if cost.ledger == "general" and cost.at.strftime("%Y-%m-%d") == day)
        points = general.repeat if again else general.first
        if today + points > general.daily_cap:
            points = general.daily_cap - today if general.daily_cap > today else 0
        found.append(Cost(one.claim, "general", points, one.at, one.at + general.expires.exact))
    return found


def sums(violations: list[Live], rules: Any, now: dt.datetime) -> tuple[int, int, int]:
    """(general points, serious strikes, violations) that have not expired."""
    spent = [cost for cost in costs(violations, rules) if cost.until > now]
    within = rules.repeat_offender.within.exact
    return (
        sum(cost.points for cost in spent if cost.ledger == "general"),
        sum(cost.points for cost in spent if cost.ledger == "serious"),
        len([one for one in violations if now < one.at + within]),
    )


def entity(
    said: Collection[ViolationChanged], members: Collection[str], rules: Any, now: dt.datetime
) -> tuple[int, int, int]:
    """Where accounts stand together: as one seller, and no better than any of them."""
    whole = sums(live(said, members), rules, now)
    alone = [sums(live(said, [seller]), rules, now) for seller in members]
    return (
        max([whole[0], *(one[0] for one in alone)]),
        max([whole[1], *(one[1] for one in alone)]),
        max([whole[2], *(one[2] for one in alone)]),
    )


def together(keys: Mapping[str, Collection[Any]], rules: Any) -> set[frozenset[str]]:
    """Accounts that hang together, those that stand alone included."""
    return _together(set(keys), keys, list(rules.links), rules)


def _together(
    sellers: set[str], keys: Mapping[str, Collection[Any]], kinds: list[str], rules: Any
) -> set[frozenset[str]]:
    found: set[frozenset[str]] = set()
    for seller in sellers:
        reached = {seller}
        while True:
            shared = {
                key
                for one in reached
                for key in keys[one]
                if key.kind in kinds and sum(key in held for held in keys.values()) <= rules.links[key.kind]
            }
            more = reached | {one for one in sellers if not shared.isdisjoint(keys[one])}
            if more == reached:
                break
            reached = more
        if len(reached) > rules.largest and kinds:
            found |= _together(reached, keys, kinds[:-1], rules)
        else:
            found.add(frozenset(reached))
    return found
