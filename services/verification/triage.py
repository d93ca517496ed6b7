"""Triage: weighs what speaks for and against an item before a person sees it, by the rules of its policy. Pure.

A rule names a signal, the values at which it fires, and a weight. The score is the policy's base plus the weights of
all rules that fire. Its band says whether the item is upheld at once, refused at once as plainly unfounded, or put
before a person. The item keeps the score, the band and the rules that fired; they are published with the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.verification.item import Facts, Item
from shared import policy
from shared.comparison import Content, Finding, Mark, comparable, compare
from shared.comparison.gates import ROLES
from shared.events import Triage

Signal = Callable[[Item, Facts], float | None]


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _takedown_rate(item: Item, _facts: Facts) -> float | None:
    return None if item.record is None else _rate(item.record.upheld, item.record.settled)


def _counter_rate(item: Item, _facts: Facts) -> float | None:
    record = item.record
    return None if record is None else _rate(record.countered, record.settled - record.declined)


def _found(item: Item, facts: Facts) -> tuple[Finding, ...] | None:
    """The mark in the listing's title; None if they cannot be compared."""
    listing = facts.listing
    if item.mark is None or listing is None or not listing.title:
        return None
    # "en" is also what a listing has that names no language
    content = Content(title=listing.title, language=None if listing.locale == "en" else listing.locale)
    if not comparable(item.mark, content):
        return None
    return compare(Mark(item.right, item.mark, item.principal), content)


def _title_similarity(item: Item, facts: Facts) -> float | None:
    found, recorded = _found(item, facts), facts.title_similarity
    value = None if found is None else max((100 * one.certainty for one in found), default=0.0)
    if recorded is None or (value is None and not recorded.known):
        return value
    return min(max(recorded.low if value is None else value, recorded.low), recorded.high)


def _mark_use(item: Item, facts: Facts) -> float | None:
    return max((ROLES[one.role] for one in _found(item, facts) or ()), default=None)


SIGNALS: Final[dict[policy.SignalName, Signal]] = {
    "good_faith": lambda item, _: float(item.good_faith),
    "settled": lambda item, _: None if item.record is None else float(item.record.settled),
    "takedown_rate": _takedown_rate,
    "counter_rate": _counter_rate,
    "evidence": lambda item, _: float(len(item.materials)),
    "claim_size": lambda item, _: float(item.claim_size),
    "title_similarity": _title_similarity,
    "mark_use": _mark_use,
    "failed_before": lambda _, facts: float(facts.failed_before),
    "upheld_here": lambda _, facts: float(facts.upheld_here),
    "registered": lambda item, _: float(item.right_registered),
    "seller_violations": lambda _, facts: None if facts.seller_violations is None else float(facts.seller_violations),
}
"""Figures that rules look at; None: unknown, so no rule about it fires. Their meaning: docs/reference/policies.md."""


def triage(item: Item, facts: Facts, rules: policy.Triage) -> Triage:
    """Weigh an item as it comes to review."""
    fired: dict[str, int] = {}
    known: dict[str, float | None] = {}
    for name, rule in rules.rules.items():
        signal = rule.signal
        if signal not in known:
            known[signal] = SIGNALS[signal](item, facts)
        value = known[signal]
        if value is None or (rule.needs_settled and (item.record is None or item.record.settled < rule.needs_settled)):
            continue
        if (rule.at_least is None or value >= rule.at_least) and (rule.at_most is None or value <= rule.at_most):
            fired[name] = rule.weight
    score = rules.base + sum(fired.values())
    band = "uphold" if score >= rules.uphold_at else "refuse" if score <= rules.refuse_at else "review"
    return Triage(score=score, band=band, rules=fired)  # type: ignore[arg-type]
