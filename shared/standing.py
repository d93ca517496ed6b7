"""What enforcement's internal API says of sellers: the shapes that it answers with and that intake's front shows.

No names and no addresses: ids, codes, figures and times. Times are business time.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from msgspec import Struct

from shared.events import Measure
from shared.policy import RepeatOffender

Ledger = Literal["general", "serious"]
Consequence = Literal["warning", "listing_restricted", "frozen", "closed"]
Sort = Literal["violations", "points", "strikes", "changed", "seller"]
Rule = Literal["first", "repeat", "capped", "strike", "grouped"]
"""What made an entry's points: a general violation that has none before it in the ledger's time, one that has, one whose points
the day's cap cut; a serious violation, one that counts with an earlier strike."""


class Standing(Struct, frozen=True, kw_only=True):
    """A seller's standing as it was counted at ``changed_at`` (null: it never had a violation); counted anew at ``next_change``."""

    seller: str
    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    """In force, of the last 365 days."""
    repeat_offender: bool = False
    """The seller or its entity."""
    tier: str | None = None
    """Of repeat offenders, by the policy: ``2``, ``3-5``, ``6+``."""
    general_consequence: str | None = None
    serious_consequence: str | None = None
    next_change: dt.datetime | None = None
    changed_at: dt.datetime | None = None
    entity: str | None = None
    """The business that it is one account of, if there are others (a digest), and where that stands."""
    entity_points: int = 0
    entity_strikes: int = 0
    entity_violations: int = 0
    measures: tuple[Measure, ...] = ()
    """In force: what the marketplace was told to put the account under. None of them: perhaps a warning."""
    until: dt.datetime | None = None
    """When these become fewer by themselves; null: not known, or there are none."""


class Sanction(Struct, frozen=True, kw_only=True):
    """What a threshold of a ledger brought upon a seller (docs/domain.md, "Penalties")."""

    sanction: str
    ledger: Ledger
    level: int
    """Number of the threshold in the policy, from 1."""
    consequence: Consequence | None
    """Its name there; null: the policy has no such threshold any more."""
    measures: tuple[Measure, ...]
    """None: a warning."""
    withheld: tuple[Measure, ...] = ()
    """Measures that a prior warning stands in the place of (Digital Services Act, article 23)."""
    scope: Literal["own", "entity"]
    """Whose standing reached the threshold."""
    state: Literal["in_force", "lifted", "ended"]
    cause: str
    """Of the last change, as in `SanctionChanged`: `threshold`, `timer`, `expiry`, `reversal`, `operator`, ..."""
    claim: str
    """Claim of the entry that crossed the threshold."""
    entry: str
    begins: dt.datetime
    ends: dt.datetime | None = None
    """When its days are over; null: until the standing falls below the threshold, or it is lifted."""
    over_at: dt.datetime | None = None
    reason: str | None = None
    """An operator's code for lifting it."""


class Entry(Struct, frozen=True, kw_only=True):
    """An entry of a penalty ledger. ``reversed_by``: the entry that takes it back; then neither counts."""

    entry: str
    claim: str
    ledger: Ledger
    kind: Literal["violation", "reversal"]
    points: int
    effective_at: dt.datetime
    expires_at: dt.datetime
    reverses: str | None = None
    reversed_by: str | None = None
    counts: bool
    """It is part of the sum now: not expired, not reversed, no reversal."""


class Violation(Struct, frozen=True, kw_only=True):
    """A violation: the seller and one claim, in force while one of the claim's items is upheld against it."""

    claim: str
    in_force: bool
    severity: Ledger
    at: dt.datetime
    listings: int
    """Of the claim, that were upheld against the seller; those restored since included."""
    entry: str | None = None
    points: int | None = None
    expires_at: dt.datetime | None = None


# ---------------------------------------------------------------------------------------------------------- explanation


class Record(Struct, frozen=True, kw_only=True):
    """An entry as it is kept, with when it was entered; what an explanation is made of."""

    entry: str
    claim: str
    ledger: Ledger
    kind: Literal["violation", "reversal"]
    points: int
    effective_at: dt.datetime
    expires_at: dt.datetime
    recorded_at: dt.datetime
    reverses: str | None = None


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that changed a seller's standing, and the sums after it."""

    at: dt.datetime
    what: Literal["entered", "reversed", "expired", "forgotten"]
    """``expired``: its points no longer count; ``forgotten``: it is no more one of the violations that make a repeat offender."""
    entry: str
    claim: str
    ledger: Ledger
    points: int = 0
    """What the sum changed by."""
    rule: Rule | None = None
    effective_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    reverses: str | None = None
    reassessed: bool = False
    """A reversal whose claim is entered anew at once, because an earlier violation came or went, or the rules changed."""
    grouped_with: str | None = None
    """Claim of the strike that it counts with."""
    day_before: int = 0
    """Points of its day before it."""
    wrong: str | None = None
    """What the rules make of it, where that is something else than what is entered."""
    general_points: int
    serious_strikes: int
    violations: int
    crossed: tuple[str, ...] = ()
    """Thresholds reached by it, or left again: ``+general 2 listing_restricted``, ``-serious 1 frozen``."""


class Explanation(Struct, frozen=True, kw_only=True):
    """How a standing came about as of ``at``, from the ledger alone, and whether it is what is stored."""

    seller: str
    at: dt.datetime
    policy: str
    steps: list[Step]
    sanctions: list[Sanction] = []
    """As they stood then, the latest first."""
    left_out: int = 0
    """Earlier steps that are not shown."""
    general_points: int
    serious_strikes: int
    violations: int
    repeat_offender: bool
    tier: str | None
    general_level: int
    serious_level: int
    stored: Standing
    agrees: bool
    differences: list[str]
    """What does not agree: of the ledger with the rules, with the violations in force, with the standing as stored."""


# -------------------------------------------------------------------------------------------------------------- figures

SPANS: Final = (1, 7, 30, 90, 180, 365)
"""Upper bounds, in days, by which times between offences are counted."""


def bounds(rules: RepeatOffender) -> list[tuple[str, int, int | None]]:
    """(name, fewest, most violations) of each tier, lowest first; the last has no most."""
    starts = rules.tiers
    found: list[tuple[str, int, int | None]] = []
    for start, following in zip(starts, (*starts[1:], None), strict=True):
        if following is None:
            found.append((f"{start}+", start, None))
        else:
            found.append((f"{start}" if following == start + 1 else f"{start}-{following - 1}", start, following - 1))
    return found


class Tier(Struct, frozen=True, kw_only=True):
    """Sellers by how many violations in force they have of the last 365 days."""

    tier: str
    """``1``, then the policy's: ``2``, ``3-5``, ``6+``."""
    sellers: int
    violations: int
    share: float | None
    """Of all sellers with a violation; null when there is none."""


class Recidivism(Struct, frozen=True, kw_only=True):
    """Of the sellers whose first violation lies in ``after < t <= upto``, those with a further one less than 365 days after it."""

    after: dt.datetime
    upto: dt.datetime
    sellers: int
    again: int
    rate: float | None
    """``again / sellers``; null when there are none."""


class Span(Struct, frozen=True, kw_only=True):
    """Times between offences up to so many days, and not within the span before; null: longer."""

    days: int | None
    count: int


class Between(Struct, frozen=True, kw_only=True):
    """Time from a seller's violation to its next, for those whose later one is of the last 365 days."""

    count: int
    median_days: float | None
    p90_days: float | None
    spans: list[Span]


class Figures(Struct, frozen=True, kw_only=True):
    """What operators watch of repeat offenders (docs/domain.md, "Penalties")."""

    at: dt.datetime
    sellers: int
    """Accounts with a violation of their own in force of the last 365 days."""
    repeat_offenders: int
    """Of them, those with two of their own or more."""
    tiers: list[Tier]
    recidivism: Recidivism
    """Of those whose 365 days are over: the rate."""
    recidivism_young: Recidivism
    """Of those whose 365 days still run: it can only rise."""
    between: Between
    entities: int = 0
    """Businesses of two accounts and more with a violation in force of the last 365 days of any of these."""
    repeat_entities: int = 0
    """Of them, repeat offenders: two claims or more against all their accounts together."""
    measures: dict[str, int] = {}
    """How many sellers are under each measure now."""
