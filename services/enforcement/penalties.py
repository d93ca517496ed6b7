"""Penalties: what a seller's violations cost (docs/explanation/domain.md, "Penalties"; numbers from the policy).

A violation is one seller x one claim, in force while one of its items is. Assessment is a pure function of the
violations in force, in order of (at, claim). When history changes, entries that differ from what they would have been
are reversed and entered again, so a standing is as if the reversed violations had never been.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from shared.events import Data, PenaltyEntered, StandingChanged, ViolationChanged
from shared.policy import Penalties, Threshold

Ledger = Literal["general", "serious"]
Severity = Literal["general", "serious"]
NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


class Penalty(Struct, frozen=True):
    """What a violation costs, as it should stand in the ledger."""

    claim: str
    ledger: Ledger
    points: int
    effective_at: dt.datetime
    expires_at: dt.datetime


class Entry(Struct, frozen=True):
    """An unreversed entry of the ledger."""

    entry: str
    penalty: Penalty


class Tail(Struct, frozen=True):
    """What the assessment of one more violation after all others depends on.

    Attributes:
        last: (at, claim) of the last violation.
        general: time of the last general violation.
        points: points of that day (UTC) so far.
        strike: time of the last strike, which began a group.
    """

    last: tuple[dt.datetime, str] = (NEVER, "")
    general: dt.datetime = NEVER
    points: int = 0
    strike: dt.datetime = NEVER


BEGIN: Final = Tail()


def step(tail: Tail, at: dt.datetime, claim: str, severity: Severity, rules: Penalties) -> tuple[Penalty, Tail]:
    """Assess a violation that comes after all others in order of (at, claim)."""
    if severity == "serious":
        expires = rules.serious.expires.exact
        # a group begins with its first violation and does not grow with later ones
        counts = at - tail.strike >= rules.serious.grouping.exact if tail.strike != NEVER else True
        penalty = Penalty(claim, "serious", 1 if counts else 0, at, at + expires)
        return penalty, Tail((at, claim), tail.general, tail.points, at if counts else tail.strike)
    general = rules.general
    expires = general.expires.exact
    before = tail.points if tail.general.date() == at.date() else 0
    repeated = tail.general != NEVER and at - tail.general < expires
    points = min(general.repeat if repeated else general.first, max(general.daily_cap - before, 0))
    penalty = Penalty(claim, "general", points, at, at + expires)
    return penalty, Tail((at, claim), at, before + points, tail.strike)


def assess(violations: Iterable[tuple[dt.datetime, str, Severity]], rules: Penalties) -> tuple[list[Penalty], Tail]:
    """What all violations in force, given as (at, claim, severity), cost together."""
    tail = BEGIN
    penalties = []
    for at, claim, severity in sorted(violations):
        penalty, tail = step(tail, at, claim, severity, rules)
        penalties.append(penalty)
    return penalties, tail


def level(points: int, thresholds: tuple[Threshold, ...]) -> int:
    """How many thresholds are reached."""
    return sum(points >= threshold.points for threshold in thresholds)


def consequence(reached: int, thresholds: tuple[Threshold, ...]) -> str | None:
    """Name of a level's consequence; of the highest level, if one of older rules is above all thresholds."""
    return thresholds[min(reached, len(thresholds)) - 1].consequence if reached and thresholds else None


@dataclass(slots=True)
class Item:
    """An item of a violation, at the highest revision seen."""

    item: str
    listing: str
    revision: int
    in_force: bool
    severity: Severity
    at: dt.datetime


@dataclass(slots=True)
class Violation:
    """A violation; ``entry`` is its unreversed entry, while it is in force. ``items``: those known to this batch."""

    claim: str
    in_force: bool = False
    severity: Severity = "general"
    at: dt.datetime = NEVER
    entry: Entry | None = None
    items: dict[str, Item] = field(default_factory=dict)


@dataclass(slots=True)
class Seller:
    """A seller's standing, and as much of the history as the batch needs.

    Attributes:
        complete: all violations in force are in ``history``; else only those of the batch's claims.
        next_change: when an entry or a violation ends next, and the standing must be counted again.
        entries: number of entries written so far; numbers the next one.
    """

    seller: str
    partition: int
    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    next_change: dt.datetime | None = None
    entries: int = 0
    tail: Tail = BEGIN
    complete: bool = False
    history: dict[str, Violation] = field(default_factory=dict)

    def standing(self, now: dt.datetime) -> StandingChanged:
        """The standing as an event."""
        return StandingChanged(
            seller=self.seller,
            general_points=self.general_points,
            serious_strikes=self.serious_strikes,
            violations=self.violations,
            at=now,
        )


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row for the ledger."""

    entry: str
    seller: str
    kind: Literal["violation", "reversal"]
    penalty: Penalty
    reverses: str | None = None


def needs_history(seller: Seller, event: ViolationChanged, now: dt.datetime) -> bool:
    """Whether the event changes more than the end of the seller's history."""
    if seller.complete:
        return False
    violation = seller.history.get(event.claim) or Violation(event.claim)
    after = _after(violation, event)
    if after is None or after.same(violation):
        return False
    return (
        violation.in_force
        or (after.at, event.claim) <= seller.tail.last
        or (seller.next_change is not None and seller.next_change <= now)
    )


@dataclass(frozen=True, slots=True)
class _UpdatedViolation:
    """A violation as an event leaves it."""

    items: dict[str, Item]
    in_force: bool
    severity: Severity
    at: dt.datetime

    def same(self, violation: Violation) -> bool:
        """Whether it costs what it cost before."""
        if not self.in_force:
            return not violation.in_force
        return violation.in_force and (self.severity, self.at) == (violation.severity, violation.at)


def _after(violation: Violation, event: ViolationChanged) -> _UpdatedViolation | None:
    """The violation after an event; None if this revision of the item or a later one is known already."""
    known = violation.items.get(event.item)
    if known is not None and event.revision <= known.revision:
        return None
    item = Item(event.item, event.listing, event.revision, event.in_force, event.severity, event.at)
    items = violation.items | {item.item: item}
    in_force = [other for other in items.values() if other.in_force]
    if not in_force:
        at = event.at if violation.at == NEVER else violation.at
        return _UpdatedViolation(items, False, violation.severity, at)
    serious = any(other.severity == "serious" for other in in_force)
    return _UpdatedViolation(items, True, "serious" if serious else "general", min(other.at for other in in_force))


def change(
    seller: Seller, event: ViolationChanged, rules: Penalties, now: dt.datetime
) -> tuple[list[Data], list[LedgerRow]] | None:
    """Fold an item's violation into its seller's ledger; None if this revision or a later one is known already.

    The seller's history must be complete if ``needs_history`` says so.
    """
    violation = seller.history.get(event.claim) or Violation(event.claim)
    after = _after(violation, event)
    if after is None:
        return None
    same = after.same(violation)
    seller.history[event.claim] = violation
    violation.items = after.items
    violation.in_force, violation.severity, violation.at = after.in_force, after.severity, after.at
    if same:
        return [], []
    before = (seller.general_points, seller.serious_strikes, seller.violations)
    written: list[LedgerRow] = []
    if seller.complete:
        _reassess(seller, rules, written)
        recount(seller, rules, now)
    else:
        penalty, seller.tail = step(seller.tail, after.at, event.claim, after.severity, rules)
        _enter(seller, violation, penalty, written)
        _add(seller, violation, penalty, rules, now)
    out: list[Data] = [_entered(row) for row in written]
    if (seller.general_points, seller.serious_strikes, seller.violations) != before:
        out.append(seller.standing(now))
    return out, written


def reassess(seller: Seller, rules: Penalties, now: dt.datetime) -> tuple[list[Data], list[LedgerRow]]:
    """Bring a ledger with complete history in line with these rules, after others were in force."""
    before = (seller.general_points, seller.serious_strikes, seller.violations)
    written: list[LedgerRow] = []
    _reassess(seller, rules, written)
    recount(seller, rules, now)
    out: list[Data] = [_entered(row) for row in written]
    if (seller.general_points, seller.serious_strikes, seller.violations) != before:
        out.append(seller.standing(now))
    return out, written


def _reassess(seller: Seller, rules: Penalties, written: list[LedgerRow]) -> None:
    """Write the difference between what is entered and what should be: reversals first."""
    wanted, seller.tail = assess([(v.at, v.claim, v.severity) for v in seller.history.values() if v.in_force], rules)
    by_claim = {penalty.claim: penalty for penalty in wanted}
    for violation in seller.history.values():
        entry = violation.entry
        if entry is not None and by_claim.get(violation.claim) != entry.penalty:
            old = entry.penalty
            reversal = Penalty(old.claim, old.ledger, -old.points, old.effective_at, old.expires_at)
            written.append(LedgerRow(_next_id(seller), seller.seller, "reversal", reversal, entry.entry))
            violation.entry = None
    for penalty in wanted:
        violation = seller.history[penalty.claim]
        if violation.entry is None:
            _enter(seller, violation, penalty, written)


def _enter(seller: Seller, violation: Violation, penalty: Penalty, written: list[LedgerRow]) -> None:
    entry = _next_id(seller)
    violation.entry = Entry(entry, penalty)
    written.append(LedgerRow(entry, seller.seller, "violation", penalty))


def _next_id(seller: Seller) -> str:
    seller.entries += 1
    return f"{hashlib.sha256(seller.seller.encode()).hexdigest()[:24]}.{seller.entries}"


def _add(seller: Seller, violation: Violation, penalty: Penalty, rules: Penalties, now: dt.datetime) -> None:
    """Count one more entry, without looking at the others."""
    ends = []
    if penalty.expires_at > now:
        ends.append(penalty.expires_at)
        if penalty.ledger == "general":
            seller.general_points += penalty.points
        else:
            seller.serious_strikes += penalty.points
    until = violation.at + rules.repeat_offender.within.exact
    if until > now:
        ends.append(until)
        seller.violations += 1
    if seller.next_change is not None:
        ends.append(seller.next_change)
    seller.next_change = min(ends, default=None)


def recount(seller: Seller, rules: Penalties, now: dt.datetime) -> bool:
    """Count the standing from a complete history, as of ``now``; returns whether it changed."""
    before = (seller.general_points, seller.serious_strikes, seller.violations)
    sums = {"general": 0, "serious": 0}
    count = 0
    ends = []
    within = rules.repeat_offender.within.exact
    for violation in seller.history.values():
        entry = violation.entry
        if entry is None:
            continue
        if entry.penalty.expires_at > now:
            sums[entry.penalty.ledger] += entry.penalty.points
            ends.append(entry.penalty.expires_at)
        if violation.at + within > now:
            count += 1
            ends.append(violation.at + within)
    seller.general_points, seller.serious_strikes, seller.violations = sums["general"], sums["serious"], count
    seller.next_change = min(ends, default=None)
    return (seller.general_points, seller.serious_strikes, seller.violations) != before


def _entered(row: LedgerRow) -> PenaltyEntered:
    return PenaltyEntered(
        seller=row.seller,
        entry=row.entry,
        ledger=row.penalty.ledger,
        claim=row.penalty.claim,
        points=row.penalty.points,
        kind=row.kind,
        reverses=row.reverses,
        effective_at=row.penalty.effective_at,
        expires_at=row.penalty.expires_at,
    )
