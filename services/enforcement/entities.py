"""Entities: accounts that are one business, and where it stands (domain.md, "Penalties").

Accounts that share a key hang together, as far as the policy lets a key of that kind link. The entity stands as if its
accounts were one seller, and never better than any of them: so whoever changes accounts sheds nothing. The ledgers
stay the accounts' own; nothing is entered for an entity.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from services.enforcement import penalties
from services.enforcement.penalties import Penalty, Severity
from shared.events import SellerKey
from shared.policy import Entity, Penalties


class Own(Struct, frozen=True):
    """A violation in force of one account."""

    seller: str
    claim: str
    severity: Severity
    at: dt.datetime


class Sums(Struct, frozen=True):
    """Where a seller or an entity stands, and until when that holds."""

    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    next_change: dt.datetime | None = None


NOTHING: Final = Sums()


def entity_id(members: Collection[str]) -> str:
    """An entity's id: a digest of its first account, so that it stays while others come and go."""
    return "e-" + hashlib.sha256(min(members).encode()).hexdigest()[:24]


def links(key: SellerKey, holders: int, rules: Entity) -> bool:
    """Whether a key that so many accounts have links them."""
    most = rules.links.get(key.kind)
    return most is not None and 2 <= holders <= most


def components(holders: Mapping[SellerKey, Collection[str]], rules: Entity) -> list[tuple[str, ...]]:
    """Accounts that hang together, sorted; those that stand alone are left out.

    Args:
        holders: all accounts of each key, or more of them than the kind may link.
    """
    linking = {key: sellers for key, sellers in holders.items() if links(key, len(sellers), rules)}
    return sorted(_split(linking, list(rules.links), rules.largest))


def _split(
    linking: Mapping[SellerKey, Collection[str]], kinds: Sequence[str], largest: int
) -> Iterable[tuple[str, ...]]:
    """Components by these kinds; one that is too large is taken apart without the weakest of them."""
    usable = {key: sellers for key, sellers in linking.items() if key.kind in kinds}
    for members in _union(usable.values()):
        if len(members) <= largest:
            yield members
        else:
            there = set(members)
            inside = {key: sellers for key, sellers in usable.items() if not there.isdisjoint(sellers)}
            yield from _split(inside, kinds[:-1], largest)


def _union(groups: Iterable[Collection[str]]) -> list[tuple[str, ...]]:
    """Connected components of two accounts and more."""
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


def merged(violations: Iterable[Own]) -> list[tuple[dt.datetime, str, Severity]]:
    """The violations of an entity: one x one claim, as of one seller; the earliest, and serious when one of them is."""
    found: dict[str, tuple[dt.datetime, str, Severity]] = {}
    for own in violations:
        known = found.get(own.claim)
        if known is None:
            found[own.claim] = (own.at, own.claim, own.severity)
        else:
            serious = "serious" in (own.severity, known[2])
            found[own.claim] = (min(own.at, known[0]), own.claim, "serious" if serious else "general")
    return sorted(found.values())


def count(costs: Iterable[Penalty], violations: Iterable[dt.datetime], rules: Penalties, now: dt.datetime) -> Sums:
    """Sums of what has not expired."""
    sums = {"general": 0, "serious": 0}
    ends = []
    for penalty in costs:
        if penalty.expires_at > now:
            sums[penalty.ledger] += penalty.points
            ends.append(penalty.expires_at)
    within = rules.repeat_offender.within.exact
    recent = [at + within for at in violations if at + within > now]
    return Sums(sums["general"], sums["serious"], len(recent), min(ends + recent, default=None))


def assess(violations: Sequence[tuple[dt.datetime, str, Severity]], rules: Penalties, now: dt.datetime) -> Sums:
    """Where one seller with these violations in force stands."""
    costs, _ = penalties.assess(violations, rules)
    return count(costs, (at for at, _, _ in violations), rules, now)


def standing(violations: Collection[Own], rules: Penalties, now: dt.datetime) -> Sums:
    """Where an entity stands: as one seller would, but in nothing better than one of its accounts does.

    Joining histories can move a cap's or a group's points to an earlier violation, which then expires earlier: without the
    second rule an account could gain some hours or days by being linked.
    """
    alone: dict[str, list[Own]] = {}
    for own in violations:
        alone.setdefault(own.seller, []).append(own)
    every = [assess(merged(violations), rules, now), *(assess(merged(some), rules, now) for some in alone.values())]
    return Sums(
        max(sums.general_points for sums in every),
        max(sums.serious_strikes for sums in every),
        max(sums.violations for sums in every),
        min((sums.next_change for sums in every if sums.next_change is not None), default=None),
    )
