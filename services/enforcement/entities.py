"""Entities: accounts that are one business, and their joint standing (docs/explanation/domain.md, "Penalties").

Accounts that share a key are linked, if the policy lets keys of that kind link. An entity stands as if its accounts
were one seller, and never better than any of them, so a seller sheds nothing by changing accounts. Each account keeps
its own ledger; nothing is entered for an entity.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import msgspec
from msgspec import Struct

from services.enforcement import penalties, sanctions
from services.enforcement.penalties import Entry, Severity
from services.enforcement.sanctions import Ground
from shared.events import SellerKey
from shared.policy import Entity, Penalties


class AccountViolation(Struct, frozen=True):
    """A violation in force of one account, and its entry in the account's ledger."""

    seller: str
    claim: str
    severity: Severity
    at: dt.datetime
    entry: str = ""


class Sums(Struct, frozen=True):
    """The standing of a seller or an entity, and until when it holds."""

    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    next_change: dt.datetime | None = None


def entity_id(members: Collection[str]) -> str:
    """An entity's id: a digest of its first account, so it stays the same while others come and go."""
    return "e-" + hashlib.sha256(min(members).encode()).hexdigest()[:24]


def links(key: SellerKey, holders: int, rules: Entity) -> bool:
    """Whether a key that this many accounts have links them."""
    most = rules.links.get(key.kind)
    return most is not None and 2 <= holders <= most


def components(holders: Mapping[SellerKey, Collection[str]], rules: Entity) -> list[tuple[str, ...]]:
    """Groups of linked accounts, sorted; accounts that are not linked are left out.

    Args:
        holders: all accounts of each key, or more of them than the kind may link.
    """
    linking = {key: sellers for key, sellers in holders.items() if links(key, len(sellers), rules)}
    return sorted(_split(linking, list(rules.links), rules.largest))


def _split(
    linking: Mapping[SellerKey, Collection[str]], kinds: Sequence[str], largest: int
) -> Iterable[tuple[str, ...]]:
    """Components linked by keys of these kinds; one that is too large is split without the weakest kind."""
    usable = {key: sellers for key, sellers in linking.items() if key.kind in kinds}
    for members in _union(usable.values()):
        if len(members) <= largest:
            yield members
        else:
            there = set(members)
            inside = {key: sellers for key, sellers in usable.items() if not there.isdisjoint(sellers)}
            yield from _split(inside, kinds[:-1], largest)


def _union(groups: Iterable[Collection[str]]) -> list[tuple[str, ...]]:
    """Connected components of two or more accounts."""
    parents: dict[str, str] = {}

    def root(seller: str) -> str:
        top = seller
        while parents[top] != top:
            top = parents[top]
        while parents[seller] != top:
            parents[seller], seller = top, parents[seller]
        return top

    for sellers in groups:
        first = None
        for seller in sellers:
            parents.setdefault(seller, seller)
            if first is None:
                first = root(seller)
            else:
                parents[root(seller)] = first
    found: dict[str, list[str]] = {}
    for seller in parents:
        found.setdefault(root(seller), []).append(seller)
    return [tuple(sorted(members)) for members in found.values() if len(members) > 1]


def merged(violations: Iterable[AccountViolation]) -> list[AccountViolation]:
    """An entity's violations, one per claim as for one seller: the earliest, and serious if any of them is."""
    found: dict[str, AccountViolation] = {}
    for own in sorted(violations, key=lambda own: (own.at, own.claim, own.seller)):
        known = found.setdefault(own.claim, own)
        if own.severity == "serious" != known.severity:
            found[own.claim] = msgspec.structs.replace(known, severity="serious")
    return list(found.values())


def count(
    violations: Collection[AccountViolation], rules: Penalties, now: dt.datetime
) -> tuple[Sums, tuple[Ground, ...]]:
    """An entity's standing, and when it reached thresholds: as one seller, and no better than any of its accounts.

    Joining histories can move the points of a cap or a group to an earlier violation, which expires earlier. Without
    the second rule, an account could gain hours or days by being linked.
    """
    alone: dict[str, list[AccountViolation]] = {}
    for own in violations:
        alone.setdefault(own.seller, []).append(own)
    courses = [merged(violations), *alone.values()] if len(alone) > 1 else list(alone.values())
    every = [_course(course, rules, now) for course in courses]
    sums = Sums(
        max((sums.general_points for sums, _ in every), default=0),
        max((sums.serious_strikes for sums, _ in every), default=0),
        max((sums.violations for sums, _ in every), default=0),
        min((sums.next_change for sums, _ in every if sums.next_change is not None), default=None),
    )
    return sums, united(found for _, found in every)


def _course(
    violations: Collection[AccountViolation], rules: Penalties, now: dt.datetime
) -> tuple[Sums, tuple[Ground, ...]]:
    """The standing and the grounds of one seller with these violations."""
    costs, _ = penalties.assess(((own.at, own.claim, own.severity) for own in violations), rules)
    sums = {"general": 0, "serious": 0}
    ends = []
    for penalty in costs:
        if penalty.expires_at > now:
            sums[penalty.ledger] += penalty.points
            ends.append(penalty.expires_at)
    within = rules.repeat_offender.within.exact
    recent = [own.at + within for own in violations if own.at + within > now]
    entries = {own.claim: own.entry for own in violations}
    found = sanctions.grounds((Entry(entries[penalty.claim], penalty) for penalty in costs), rules, now)
    return Sums(sums["general"], sums["serious"], len(recent), min(ends + recent, default=None)), found


def united(courses: Iterable[Iterable[Ground]]) -> tuple[Ground, ...]:
    """Times at which any of the courses had reached a threshold; where they overlap, the first names the entry."""
    found: list[Ground] = []
    for ground in sorted(
        chain.from_iterable(courses), key=lambda ground: (ground.ledger, ground.level, ground.crossed_at)
    ):
        last = found[-1] if found and (found[-1].ledger, found[-1].level) == (ground.ledger, ground.level) else None
        if last is None or (last.fell_at is not None and last.fell_at <= ground.crossed_at):
            found.append(ground)
        elif last.fell_at is not None and (ground.fell_at is None or ground.fell_at > last.fell_at):
            found[-1] = msgspec.structs.replace(last, fell_at=ground.fell_at)
    return tuple(found)
