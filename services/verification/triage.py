"""Triage: weighs what speaks for and against an item before a person sees it, by the rules of its policy. Pure.

A rule names a signal, the values at which it fires, and a weight. The score is the policy's base plus the weights of
all rules that fire. Its band says whether the item is upheld at once, refused at once as plainly unfounded, or put
before a person.

Weights alone uphold nothing where the policy has ``needs``: an immediate uphold also takes positive evidence (all
findings of one way for the reason's severity), and no rule that speaks against the item. No sum outweighs either.

The item keeps score, band, the rules that fired, the findings that are lacking, and every signal; they are published
with the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from services.verification.item import Facts, Item
from shared import policy
from shared.comparison import Content, Finding, Mark, comparable, compare
from shared.comparison.gates import ROLES
from shared.events import Triage

Found = tuple[Finding, ...] | None
Signal = Callable[[Item, Facts, Found], float | None]


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _takedown_rate(item: Item, _facts: Facts, _found: Found) -> float | None:
    return None if item.record is None else _rate(item.record.upheld, item.record.settled)


def _counter_rate(item: Item, _facts: Facts, _found: Found) -> float | None:
    record = item.record
    return None if record is None else _rate(record.countered, record.settled - record.declined)


def _found(item: Item, facts: Facts) -> Found:
    """The mark in the listing's title; None if they cannot be compared."""
    listing = facts.listing
    if item.mark is None or listing is None or not listing.title:
        return None
    # "en" is also what a listing has that names no language
    content = Content(title=listing.title, language=None if listing.locale == "en" else listing.locale)
    if not comparable(item.mark, content):
        return None
    return compare(Mark(item.right, item.mark, item.principal), content)


def _brand_named(item: Item, facts: Facts, _found: Found) -> float | None:
    """Whether the listing says that its goods are of the mark; None if it names no brand, or the right has no words."""
    if item.mark is None or facts.listing is None or not facts.listing.brand:
        return None
    return float(bool(compare(Mark(item.right, item.mark, item.principal), Content(brand=facts.listing.brand))))


def _title_similarity(_item: Item, facts: Facts, found: Found) -> float | None:
    recorded = facts.title_similarity
    value = None if found is None else max((100 * one.certainty for one in found), default=0.0)
    if recorded is None or (value is None and not recorded.known):
        return value
    return min(max(recorded.low if value is None else value, recorded.low), recorded.high)


SIGNALS: Final[dict[policy.SignalName, Signal]] = {
    "good_faith": lambda item, *_: float(item.good_faith),
    "settled": lambda item, *_: None if item.record is None else float(item.record.settled),
    "takedown_rate": _takedown_rate,
    "counter_rate": _counter_rate,
    "evidence": lambda item, *_: float(len(item.materials)),
    "claim_size": lambda item, *_: float(item.claim_size),
    "title_similarity": _title_similarity,
    "mark_use": lambda _item, _facts, found: max((ROLES[one.role] for one in found or ()), default=None),
    "picture_match": lambda item, *_: item.picture_match,
    "brand_named": _brand_named,
    "failed_before": lambda _, facts, __: float(facts.failed_before),
    "upheld_here": lambda _, facts, __: float(facts.upheld_here),
    "seller_violations": lambda _, facts, __: (
        None if facts.seller_violations is None else float(facts.seller_violations)
    ),
    "right_in_force": lambda item, *_: float(item.right_status == "active"),
    "registered": lambda item, *_: float(item.right_registered),
}
"""Figures that rules look at; None: unknown, so no rule about it fires. Their meaning: docs/reference/policies.md."""


def measure(item: Item, facts: Facts) -> dict[str, float]:
    """Every signal that is known."""
    found = _found(item, facts)
    return {name: value for name, of in SIGNALS.items() if (value := of(item, facts, found)) is not None}


def _within(value: float | None, bound: policy.Bound | policy.TriageRule) -> bool:
    return (
        value is not None
        and (bound.at_least is None or value >= bound.at_least)
        and (bound.at_most is None or value <= bound.at_most)
    )


def weigh(signals: Mapping[str, float], severity: str, rules: policy.Triage) -> Triage:
    """Score, band and what is lacking, by what is known of an item."""
    settled = signals.get("settled", 0)
    fired = {
        name: rule.weight
        for name, rule in rules.rules.items()
        if _within(signals.get(rule.signal), rule) and settled >= rule.needs_settled
    }
    score = rules.base + sum(fired.values())
    needs = rules.needs
    lacks = () if needs is None else lacking(signals, needs.serious if severity == "serious" else needs.general, rules)
    band = "uphold" if score >= rules.uphold_at else "refuse" if score <= rules.refuse_at else "review"
    if band == "uphold" and needs is not None and (lacks is None or lacks or min(fired.values(), default=0) < 0):
        band = "review"
    return Triage(score=score, band=band, rules=fired, lacks=lacks or (), signals=dict(signals))  # type: ignore[arg-type]


def lacking(signals: Mapping[str, float], ways: policy.Ways, rules: policy.Triage) -> tuple[str, ...] | None:
    """Findings that are not there; empty if one way is complete, None if there is no way at all."""
    if not ways:
        return None
    there = {
        name
        for name, finding in rules.findings.items()
        if all(_within(signals.get(bound.signal), bound) for bound in finding.all)
    }
    if any(there.issuperset(way) for way in ways):
        return ()
    return tuple(dict.fromkeys(name for way in ways for name in way if name not in there))


def triage(item: Item, facts: Facts, rules: policy.Triage) -> Triage:
    """Weigh an item as it comes to review.

    A canary's claim needs no evidence: it can concern nothing but its own listing.
    """
    if item.canary:
        rules = msgspec.structs.replace(rules, needs=None)
    return weigh(measure(item, facts), item.severity, rules)
