"""A naive recount of penalty ledgers and entities from all events, independent of ``services.enforcement``.

It shares no code with what it is compared to, so the same mistake in both is unlikely: every violation is compared
with every other, and nothing is reversed because nothing is stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from shared.events import ViolationChanged


class LiveViolation(NamedTuple):
    """A violation in force."""

    at: dt.datetime
    claim: str
    serious: bool


class ViolationCost(NamedTuple):
    """The ledger entry that a violation causes."""

    claim: str
    ledger: str
    points: int
    at: dt.datetime
    until: dt.datetime


def live(events: Iterable[ViolationChanged], sellers: Collection[str]) -> list[LiveViolation]:
    """Violations in force of these sellers, taken as one seller, in order. The newest event of each item counts."""
    last: dict[tuple[str, str], ViolationChanged] = {}
    for event in events:
        if event.seller in sellers:
            key = (event.seller, event.item)
            if key not in last or event.revision > last[key].revision:
                last[key] = event
    claims: dict[str, list[ViolationChanged]] = {}
    for event in last.values():
        if event.in_force:
            claims.setdefault(event.claim, []).append(event)
    return sorted(
        LiveViolation(min(event.at for event in changes), claim, any(event.severity == "serious" for event in changes))
        for claim, changes in claims.items()
    )


def costs(violations: list[LiveViolation], rules: Any) -> list[ViolationCost]:
    """The cost of each violation."""
    general, serious = rules.general, rules.serious
    found: list[ViolationCost] = []
    for index, one in enumerate(violations):
        before = violations[:index]
        if one.serious:
            begun = [cost.at for cost in found if cost.ledger == "serious" and cost.points]
            counts = all(one.at - at >= serious.grouping.exact for at in begun)
            found.append(
                ViolationCost(one.claim, "serious", 1 if counts else 0, one.at, one.at + serious.expires.exact)
            )
            continue
        again = any(not other.serious and one.at - other.at < general.expires.exact for other in before)
        midnight = one.at.replace(hour=0, minute=0, second=0, microsecond=0)
        today = sum(cost.points for cost in found if cost.ledger == "general" and cost.at >= midnight)
        points = general.repeat if again else general.first
        if today + points > general.daily_cap:
            points = general.daily_cap - today if general.daily_cap > today else 0
        found.append(ViolationCost(one.claim, "general", points, one.at, one.at + general.expires.exact))
    return found


def sums(violations: list[LiveViolation], rules: Any, now: dt.datetime) -> tuple[int, int, int]:
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


def times(violations: list[LiveViolation], rules: Any, now: dt.datetime) -> Times:
    """When thresholds were reached, and for how long. The sum is computed again at every moment when it may change."""
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
    """The union of several times; overlapping spans become one."""
    found: Times = {}
    for one in some:
        for threshold, spans in one.items():
            into = found.setdefault(threshold, set())
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


def entity_times(events: Collection[ViolationChanged], members: Collection[str], rules: Any, now: dt.datetime) -> Times:
    """When accounts had reached thresholds, together or each alone."""
    courses = [live(events, members), *(live(events, [seller]) for seller in members)]
    return joined(times(course, rules, now) for course in courses)


def entity(
    events: Collection[ViolationChanged], members: Collection[str], rules: Any, now: dt.datetime
) -> tuple[int, int, int]:
    """The figures of accounts together: those of one seller, and at least those of each."""
    whole = sums(live(events, members), rules, now)
    alone = [sums(live(events, [seller]), rules, now) for seller in members]
    return (
        max([whole[0], *(one[0] for one in alone)]),
        max([whole[1], *(one[1] for one in alone)]),
        max([whole[2], *(one[2] for one in alone)]),
    )


def together(keys: Mapping[str, Collection[Any]], rules: Any) -> set[frozenset[str]]:
    """Groups of linked accounts, including accounts without links."""
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
