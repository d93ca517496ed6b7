"""What sanctions and entities must be, stated independently of enforcement.

Sources: docs/explanation/domain.md, "Penalties"; decisions 23 and 29. Shares the policy's figures with the services,
but none of their code. Enforcement keeps a running sum and decides step by step what begins and ends. This model
looks at each threshold by itself: when did the entries, less those that had expired, reach it? And it decides
nothing: it states what must hold of sanctions once everything is decided.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from services.ops.verify.penalty_model import Standing, Violation, costs, standing
from shared.policy import Entity, Penalties, Threshold

_NOTHING: Final[frozenset[str]] = frozenset()

# ------------------------------------------------------------------------------------- when thresholds were reached


class ThresholdKey(NamedTuple):
    """A ledger, and the number of one of its thresholds, counted from 1."""

    ledger: str
    level: int


class Entry(NamedTuple):
    """An unreversed entry of a ledger."""

    entry: str
    claim: str
    ledger: str
    points: int
    at: dt.datetime
    until: dt.datetime


class Ground(NamedTuple):
    """A time during which a threshold was reached, and what reached it. ``until`` None: it still is."""

    ledger: str
    level: int
    since: dt.datetime
    entry: str
    claim: str
    until: dt.datetime | None = None

    @property
    def threshold(self) -> ThresholdKey:
        """The threshold."""
        return ThresholdKey(self.ledger, self.level)


def steps(rules: Penalties, ledger: str) -> Sequence[Threshold]:
    """A ledger's thresholds."""
    return {"general": rules.general.thresholds, "serious": rules.serious.thresholds}[ledger]


def grounds(entries: Iterable[Entry], rules: Penalties, now: dt.datetime) -> list[Ground]:
    """Every time during which a threshold was reached."""
    known = sorted(entries, key=lambda one: (one.at, one.claim))
    found = []
    for ledger in ("general", "serious"):
        course = _course([one for one in known if one.ledger == ledger], now)
        for level, step in enumerate(steps(rules, ledger), 1):
            # the first general violation costs no points, but brings a warning
            warns = (ledger, level, step.consequence) == ("general", 1, "warning")
            ground: Ground | None = None
            for turn in course:
                reached = turn.points >= step.points or (warns and turn.live > 0)
                if reached and ground is None and turn.entry is not None:
                    ground = Ground(ledger, level, turn.moment, turn.entry.entry, turn.entry.claim)
                elif not reached and ground is not None:
                    found.append(ground._replace(until=turn.moment))
                    ground = None
            if ground is not None:
                found.append(ground)
    return found


class _Turn(NamedTuple):
    """A change of a ledger: when, in which order at that moment, the new entry, and the points and live entries then."""

    moment: dt.datetime
    order: int
    entry: Entry | None
    points: int
    live: int


def _course(entries: Sequence[Entry], now: dt.datetime) -> list[_Turn]:
    """A ledger's points and live entries after each change. At one moment, what expires goes before what begins."""
    over = sorted((one.until, one.points) for one in entries if one.until <= now)
    begins, ends = [one.at for one in entries], [until for until, _ in over]
    gained = [0, *accumulate(one.points for one in entries)]
    lost = [0, *accumulate(points for _, points in over)]

    def turn(moment: dt.datetime, begun: int, order: int, entry: Entry | None) -> _Turn:
        gone = bisect_right(ends, moment)
        return _Turn(moment, order, entry, gained[begun] - lost[gone], begun - gone)

    falls = [turn(moment, bisect_left(begins, moment), 0, None) for moment in sorted(set(ends))]
    rises = [turn(one.at, number, number, one) for number, one in enumerate(entries, 1)]
    return sorted([*falls, *rises], key=lambda one: (one.moment, one.order))


def joined(some: Iterable[Ground]) -> list[Ground]:
    """Merge grounds of several courses: those of a threshold that overlap become one, those that only touch stay two."""
    found: list[Ground] = []
    for ground in sorted(some, key=lambda ground: (ground.threshold, ground.since)):
        last = found[-1] if found else None
        if (
            last is None
            or last.threshold != ground.threshold
            or (last.until is not None and last.until <= ground.since)
        ):
            found.append(ground)
        elif last.until is not None:
            found[-1] = last._replace(until=None if ground.until is None else max(last.until, ground.until))
    return found


# ------------------------------------------------------------------------------------------------------- sanctions


class Sanction(NamedTuple):
    """A sanction, as stored."""

    id: str
    scope: str
    ledger: str
    level: int
    measures: frozenset[str]
    withheld: frozenset[str]
    began: dt.datetime
    ends: dt.datetime | None
    in_force: bool
    stands: bool
    after: dt.datetime | None

    @property
    def threshold(self) -> ThresholdKey:
        """The threshold."""
        return ThresholdKey(self.ledger, self.level)

    @property
    def asked(self) -> frozenset[str]:
        """Its measures, and those in whose place a prior warning stands."""
        return self.measures | self.withheld


class KnownEntity(NamedTuple):
    """An account's entity, as the account knows it."""

    grounds: Sequence[Ground]
    last: dt.datetime | None


class AccountFacts(NamedTuple):
    """What an account's sanctions must answer.

    Attributes:
        last: its last violation in force.
        counts: one of its own violations still counts.
    """

    own: Sequence[Ground]
    last: dt.datetime | None
    counts: bool
    entity: KnownEntity | None = None

    @property
    def latest(self) -> dt.datetime | None:
        """Time of the last violation in force of any account of the entity."""
        moments = (self.last, self.entity.last if self.entity is not None else None)
        return max((at for at in moments if at is not None), default=None)

    def reached(self) -> dict[ThresholdKey, list[Ground]]:
        """When each threshold was reached, by the account alone or with its entity."""
        found: dict[ThresholdKey, list[Ground]] = {}
        for ground in joined([*self.own, *(self.entity.grounds if self.entity is not None else ())]):
            found.setdefault(ground.threshold, []).append(ground)
        return found


def shared(step: Threshold) -> frozenset[str]:
    """Measures that apply to every account of the entity."""
    flags = {"may_not_list": step.entity_may_not_list, "closed": step.entity_closed}
    return frozenset(name for name, there in flags.items() if there)


def whole(step: Threshold) -> frozenset[str]:
    """Measures on an account that has itself reached the threshold. A warning is not a measure."""
    return shared(step) | {step.consequence} - {"warning"}


def answer(threshold: ThresholdKey, facts: AccountFacts, rules: Penalties) -> frozenset[str] | None:
    """Measures that must answer a reached threshold; empty for a warning. None: the account need not answer."""
    step = steps(rules, threshold.ledger)[threshold.level - 1]
    if facts.counts or any(ground.threshold == threshold and ground.until is None for ground in facts.own):
        return whole(step)
    return shared(step) or None


def goes_on(one: Sanction, reached: Sequence[Ground]) -> bool:
    """Whether it still answers its threshold: reached, and not left since it began. A closure outlasts leaving it."""
    since = [ground for ground in reached if ground.until is None or ground.until > one.began]
    is_open = any(ground.until is None for ground in since)
    return is_open and (len(since) == 1 or (one.in_force and "closed" in one.measures))


def at_odds(
    given: Sequence[Sanction], facts: AccountFacts, rules: Penalties, now: dt.datetime
) -> Iterator[tuple[Sanction | ThresholdKey, str]]:
    """What is wrong once all is decided: a sanction, or a threshold without one, and why. ``given``: oldest first."""
    reached = facts.reached()
    answers: dict[ThresholdKey, Sanction] = {}
    for one in given:
        if not (one.in_force or one.stands):
            continue
        why = _over(one, facts, reached.get(one.threshold, []), now) if one.in_force else ""
        stands = goes_on(one, reached.get(one.threshold, [])) and not _unearned(one, facts)
        if why or stands != one.stands:
            yield one, why or ("its threshold has been left" if one.stands else "its threshold has not been left")
        if stands:
            answers[one.threshold] = one
    for threshold, some in reached.items():
        if some[-1].until is not None or threshold.level > len(steps(rules, threshold.ledger)):
            continue
        wanted, by = answer(threshold, facts, rules), answers.get(threshold)
        if by is None:
            if wanted is not None:
                yield threshold, "unanswered"
            continue
        alone = any(ground.threshold == threshold and ground.until is None for ground in facts.own)
        if by.scope != ("own" if alone else "entity"):
            yield by, f"is not the {by.scope} one"
        if not (alone or facts.counts or (wanted and by.asked == wanted)):
            # more than an account answers for without a violation of its own: kept if it has an end or closes
            kept = facts.last is not None and (by.ends is not None or "closed" in by.measures)
            if not (kept if by.in_force else (wanted or _NOTHING) <= by.asked):
                yield by, "the account need not answer for it"
        elif wanted is not None and not wanted <= by.asked:
            yield by, "asks for too little"
        elif by.withheld and by.in_force and facts.latest is not None and facts.latest > by.began:
            yield by, "warned, and violated since"


def _unearned(one: Sanction, facts: AccountFacts) -> bool:
    """It replaced a warning because of a later violation, and there is no such violation left."""
    return one.in_force and one.after is not None and (facts.latest is None or facts.latest <= one.after)


def _over(one: Sanction, facts: AccountFacts, reached: Sequence[Ground], now: dt.datetime) -> str:
    """Why a sanction can no longer be in force; empty: it can."""
    if one.ends is not None and one.ends <= now:
        return "its days are over"
    if _unearned(one, facts):
        return "no violation since the warning"
    if all(ground.until is not None and ground.until <= one.began for ground in reached):
        return "its threshold was not reached"
    if one.ends is None and "closed" not in one.measures and not goes_on(one, reached):
        return "the standing fell"
    return ""


def in_force(given: Iterable[Sanction]) -> tuple[frozenset[str], dt.datetime | None]:
    """All measures in force, and when the first of them will end by itself."""
    some = [one for one in given if one.in_force]

    def at(moment: dt.datetime) -> frozenset[str]:
        return _NOTHING.union(*(one.measures for one in some if one.ends is None or one.ends > moment))

    now = _NOTHING.union(*(one.measures for one in some))
    return now, next((end for end in sorted({one.ends for one in some if one.ends}) if at(end) != now), None)


# -------------------------------------------------------------------------------------------------------- entities


def entities(holders: Mapping[tuple[str, str], Collection[str]], rules: Entity) -> set[tuple[str, ...]]:
    """Accounts that keys (kind, digest) make one entity. Too large a group ignores its weakest kind of key."""
    most: dict[Any, int] = rules.links
    kinds = list(most)
    linking = [(kind, who) for (kind, _), who in holders.items() if 2 <= len(who) <= most.get(kind, 0)]
    found: set[tuple[str, ...]] = set()
    crowd = {seller for _, who in linking for seller in who}
    while kinds and crowd:
        groups = [who for kind, who in linking if kind in kinds and crowd.issuperset(who)]
        together: dict[str, list[str]] = {}
        for seller, first in _firsts(groups).items():
            together.setdefault(first, []).append(seller)
        found |= {tuple(sorted(who)) for who in together.values() if len(who) <= rules.largest}
        crowd = {seller for who in together.values() if len(who) > rules.largest for seller in who}
        kinds.pop()
    return found


def _firsts(groups: Sequence[Collection[str]]) -> dict[str, str]:
    """The first account that each is connected to: groups pass on their first account until nothing changes."""
    first = {seller: seller for who in groups for seller in who}
    news = True
    while news:
        news = False
        for who in groups:
            least = min(first[seller] for seller in who)
            news = news or any(first[seller] != least for seller in who)
            first.update(dict.fromkeys(who, least))
    return first


def entity_id(members: Iterable[str]) -> str:
    """An entity's id, made from its first account."""
    return f"e-{hashlib.sha256(sorted(members)[0].encode()).hexdigest():.24}"


class AccountViolation(NamedTuple):
    """One account's violation in force, and its entry."""

    seller: str
    claim: str
    severity: str
    at: dt.datetime
    entry: str


class EntityStanding(NamedTuple):
    """Where an entity stands. ``grounds``: each with the (entry, claim) pairs that may be named as its cause."""

    general_points: int
    serious_strikes: int
    violations: int
    next_change: dt.datetime | None
    grounds: dict[tuple[str, int, dt.datetime, dt.datetime | None], set[tuple[str, str]]]


def counted(violations: Collection[AccountViolation], rules: Penalties, now: dt.datetime) -> EntityStanding:
    """Count an entity as one seller who did everything, and never better than one of its accounts."""
    claims: dict[str, list[AccountViolation]] = {}
    for own in sorted(violations, key=lambda own: (own.at, own.claim, own.seller)):
        claims.setdefault(own.claim, []).append(own)
    # a claim against several accounts is one violation, and serious if one of them is
    as_one = [
        max(some, key=lambda own: own.severity)._replace(at=some[0].at, entry=some[0].entry) for some in claims.values()
    ]
    alone: dict[str, list[AccountViolation]] = {}
    for own in violations:
        alone.setdefault(own.seller, []).append(own)
    stands: list[Standing] = []
    courses: list[Ground] = []
    for life in [as_one, *alone.values()]:
        history = [Violation(own.at, own.claim, own.severity) for own in life]
        stands.append(standing(history, rules, now))
        named, cost = {own.claim: own.entry for own in life}, costs(history, rules)
        entries = [
            Entry(named[claim], claim, c.ledger, c.points, c.effective_at, c.expires_at) for claim, c in cost.items()
        ]
        courses += grounds(entries, rules, now)
    named_by: dict[tuple[ThresholdKey, dt.datetime], set[tuple[str, str]]] = {}
    for ground in courses:
        named_by.setdefault((ground.threshold, ground.since), set()).add((ground.entry, ground.claim))
    return EntityStanding(
        max(one.general_points for one in stands),
        max(one.serious_strikes for one in stands),
        max(one.violations for one in stands),
        min((one.next_change for one in stands if one.next_change is not None), default=None),
        {
            (*ground.threshold, ground.since, ground.until): named_by[ground.threshold, ground.since]
            for ground in joined(courses)
        },
    )
