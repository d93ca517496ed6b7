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
        midnight = one.at.replace(hour=0, minute=0, second=0, microsecond=0)
        today = sum(cost.points for cost in found if cost.ledger == "general" and cost.at >= midnight)
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


Times = dict[tuple[str, int], set[tuple[dt.datetime, dt.datetime | None]]]
"""(ledger, number of the threshold) -> times from crossing it to falling below; None: not yet."""


def times(violations: list[Live], rules: Any, now: dt.datetime) -> Times:
    """When thresholds were reached, and for how long: the sum is formed anew at every moment at which it may change."""
    found: Times = {}
    made = costs(violations, rules)
    for ledger in ("general", "serious"):
        steps = getattr(rules, ledger).thresholds
        all_ = [cost for cost in made if cost.ledger == ledger]
        open_: dict[int, dt.datetime] = {}
        for moment in sorted({cost.at for cost in all_} | {cost.until for cost in all_ if cost.until <= now}):
            for there in (
                [cost for cost in all_ if cost.at < moment < cost.until],
                [cost for cost in all_ if cost.at <= moment < cost.until],
            ):
                points = sum(cost.points for cost in there)
                for number, step in enumerate(steps, 1):
                    mere = number == 1 and ledger == "general" and step.consequence == "warning" and there
                    if points >= step.points or mere:
                        open_.setdefault(number, moment)
                    elif number in open_:
                        found.setdefault((ledger, number), set()).add((open_.pop(number), moment))
        for number, since in open_.items():
            found.setdefault((ledger, number), set()).add((since, None))
    return found


def joined(some: Iterable[Times]) -> Times:
    """Times of several, those that overlap taken as one."""
    found: Times = {}
    for one in some:
        for place, spans in one.items():
            into = found.setdefault(place, set())
            for span in spans:
                new = span
                while True:
                    near = next((old for old in into if _overlap(old, new)), None)
                    if near is None:
                        break
                    into.remove(near)
                    until = None if near[1] is None or new[1] is None else max(near[1], new[1])
                    new = (min(near[0], new[0]), until)
                into.add(new)
    return found


def _overlap(one: tuple[dt.datetime, dt.datetime | None], other: tuple[dt.datetime, dt.datetime | None]) -> bool:
    return (other[1] is None or one[0] < other[1]) and (one[1] is None or other[0] < one[1])


def entity_times(said: Collection[ViolationChanged], members: Collection[str], rules: Any, now: dt.datetime) -> Times:
    """When accounts had reached thresholds, together or any of them alone."""
    courses = [live(said, members), *(live(said, [seller]) for seller in members)]
    return joined(times(course, rules, now) for course in courses)


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
