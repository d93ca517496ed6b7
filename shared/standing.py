"""What enforcement's internal API says about sellers: the structs that it returns and that intake's API shows.

They hold ids, codes, figures and times, no names or addresses. Times are business time.
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
"""What set an entry's points. General ledger: no earlier violation within the ledger's time (``first``), or one
(``repeat``), or cut by the day's cap (``capped``). Serious ledger: a strike, or one that counts with an earlier strike
(``grouped``)."""


class Standing(Struct, frozen=True, kw_only=True):
    """A seller's standing as of ``changed_at`` (null: it never had a violation); counted again at ``next_change``."""

    seller: str
    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    """Violations in force, of the last 365 days."""
    repeat_offender: bool = False
    """Whether the seller or its entity is one."""
    tier: str | None = None
    """Tier of repeat offenders, by the policy: ``2``, ``3-5``, ``6+``."""
    general_consequence: str | None = None
    serious_consequence: str | None = None
    next_change: dt.datetime | None = None
    changed_at: dt.datetime | None = None
    entity: str | None = None
    """The business behind the seller, if it has other accounts (a digest); its standing follows."""
    entity_points: int = 0
    entity_strikes: int = 0
    entity_violations: int = 0
    measures: tuple[Measure, ...] = ()
    """Measures in force, as the marketplace was told. If empty, a warning may be in force."""
    until: dt.datetime | None = None
    """When the next of these ends by itself; null: not known, or there are no measures."""


class Sanction(Struct, frozen=True, kw_only=True):
    """A sanction that a ledger's threshold brought upon a seller (docs/explanation/domain.md, "Penalties")."""

    sanction: str
    ledger: Ledger
    level: int
    """Number of the threshold in the policy, from 1."""
    consequence: Consequence | None
    """Name of the consequence in the policy; null: the policy no longer has this threshold."""
    measures: tuple[Measure, ...]
    """Empty: a warning."""
    withheld: tuple[Measure, ...] = ()
    """Measures that were replaced by a prior warning (Digital Services Act, article 23)."""
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
    """When its days are over; null: it lasts until the standing falls below the threshold, or it is lifted."""
    over_at: dt.datetime | None = None
    reason: str | None = None
    """The operator's reason code for lifting it."""


class Entry(Struct, frozen=True, kw_only=True):
    """An entry of a penalty ledger. ``reversed_by`` is the entry that reverses it; then neither counts."""

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
    """Whether it is part of the sum now: not expired, not reversed and not a reversal."""


class Violation(Struct, frozen=True, kw_only=True):
    """A violation: the seller and one claim, in force while one of the claim's items is upheld against it."""

    claim: str
    in_force: bool
    severity: Ledger
    at: dt.datetime
    listings: int
    """Listings of the claim that were upheld against the seller, including those restored since."""
    entry: str | None = None
    points: int | None = None
    expires_at: dt.datetime | None = None


# ---------------------------------------------------------------------------------------------------------- explanation


class Record(Struct, frozen=True, kw_only=True):
    """An entry as stored, with the time it was entered; explanations are made from these."""

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
    """``expired``: its points no longer count; ``forgotten``: it no longer counts towards a repeat offender."""
    entry: str
    claim: str
    ledger: Ledger
    points: int = 0
    """By how much the sum changed."""
    rule: Rule | None = None
    effective_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    reverses: str | None = None
    reassessed: bool = False
    """A reversal whose claim is entered again at once: an earlier violation came or went, or the rules changed."""
    grouped_with: str | None = None
    """Claim of the strike that it counts with."""
    day_before: int = 0
    """Points entered earlier on the same day."""
    wrong: str | None = None
    """What the rules say instead, if that differs from what is entered."""
    general_points: int
    serious_strikes: int
    violations: int
    crossed: tuple[str, ...] = ()
    """Thresholds that it reached or left again: ``+general 2 listing_restricted``, ``-serious 1 frozen``."""


class Explanation(Struct, frozen=True, kw_only=True):
    """How a standing came about as of ``at``, from the ledger alone, and whether the stored one agrees."""

    seller: str
    at: dt.datetime
    policy: str
    steps: list[Step]
    sanctions: list[Sanction] = []
    """Sanctions as they stood then, the latest first."""
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
    """Where the ledger disagrees with the rules, with the violations in force, or with the stored standing."""


# -------------------------------------------------------------------------------------------------------------- figures

SPANS: Final = (1, 7, 30, 90, 180, 365)
"""Upper bounds, in days, of the classes in which times between offences are counted."""


def bounds(rules: RepeatOffender) -> list[tuple[str, int, int | None]]:
    """(name, fewest violations, most violations) of each tier, lowest first; the last tier has no upper bound."""
    starts = rules.tiers
    found: list[tuple[str, int, int | None]] = []
    for start, following in zip(starts, (*starts[1:], None), strict=True):
        if following is None:
            found.append((f"{start}+", start, None))
        else:
            found.append((f"{start}" if following == start + 1 else f"{start}-{following - 1}", start, following - 1))
    return found


class Tier(Struct, frozen=True, kw_only=True):
    """Sellers by their number of violations in force of the last 365 days."""

    tier: str
    """``1``, then the policy's tiers: ``2``, ``3-5``, ``6+``."""
    sellers: int
    violations: int
    share: float | None
    """Share of all sellers with a violation; null if there are none."""


class Recidivism(Struct, frozen=True, kw_only=True):
    """Sellers whose first violation is in ``after < t <= upto``, and those with another less than 365 days later."""

    after: dt.datetime
    upto: dt.datetime
    sellers: int
    again: int
    rate: float | None
    """``again / sellers``; null if there are none."""


class Span(Struct, frozen=True, kw_only=True):
    """Times between offences of up to ``days`` days that are not in the span before; null: longer than all spans."""

    days: int | None
    count: int


class Between(Struct, frozen=True, kw_only=True):
    """Time from a seller's violation to its next, if the later one is of the last 365 days."""

    count: int
    median_days: float | None
    p90_days: float | None
    spans: list[Span]


class Figures(Struct, frozen=True, kw_only=True):
    """Figures about repeat offenders for operators (docs/explanation/domain.md, "Penalties")."""

    at: dt.datetime
    sellers: int
    """Accounts with a violation of their own, in force, of the last 365 days."""
    repeat_offenders: int
    """Of these, accounts with two or more of their own."""
    tiers: list[Tier]
    recidivism: Recidivism
    """For sellers whose 365 days are over: the final rate."""
    recidivism_young: Recidivism
    """For sellers whose 365 days still run: the rate can only rise."""
    between: Between
    entities: int = 0
    """Businesses with two or more accounts, any of which has a violation in force of the last 365 days."""
    repeat_entities: int = 0
    """Of these, repeat offenders: two or more claims against all their accounts together."""
    measures: dict[str, int] = {}
    """Sellers under each measure now."""
