"""Audits: samples of what rules and silence decide, which people decide without seeing that. Pure.

Which items are drawn follows from the item's id, the outcome and the policy's seed: the same in every rerun, and nobody
can steer it, because ids are given at filing. A rule's decision is replaced by the person's: the item waits in
UNDER_REVIEW like any other that needs one. A silence has had its effect; the item then goes the way of row 19.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from services.verification.draft import Draft
from services.verification.item import Timer
from shared.events import Audit, AuditedOutcome, Decide, State, record_size
from shared.policy import Policy

BY_RULE: Final[dict[str, AuditedOutcome]] = {"uphold": "upheld_by_rule", "refuse": "refused_by_rule"}
"""Outcome by the band of triage."""
SILENCES: Final = frozenset({"holder_response", "restore_by", "platform_grace"})
"""Timers that end an item in another state than UPHELD_BY_DEFAULT because somebody was silent."""
OVERTURNS: Final[dict[AuditedOutcome, tuple[str, ...]]] = {
    "upheld_by_rule": ("refuse",),
    "refused_by_rule": ("uphold",),
    "upheld_by_default": ("reverse",),
    "restored_by_default": ("reverse",),
}
"""Decisions of a person that differ from the outcome."""


def drawn(policy: Policy, outcome: AuditedOutcome, item: str) -> bool:
    """Whether an item with this outcome is in the sample."""
    if policy.audits is None or not (share := policy.audits.shares.get(outcome, 0.0)):
        return False
    digest = hashlib.blake2b(f"{policy.audits.seed}/{outcome}/{item}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def begin(d: Draft, outcome: AuditedOutcome) -> bool:
    """Begin an audit if the item is drawn. What a person has decided, and a canary, are not audited."""
    if d.deciders or d.item.canary or not drawn(d.policy, outcome, d.item.item):
        return False
    record = d.item.record
    d.audit = Audit(outcome=outcome, size=record_size(0 if record is None else record.settled))
    return True


def waiting(d: Draft) -> bool:
    """Whether an audit waits for a person."""
    return d.audit is not None and d.audit.found is None


def silent(d: Draft) -> AuditedOutcome | None:
    """The outcome that a silence has just had, of a party or of ours; None: it is not from a silence."""
    if d.state is State.UPHELD_BY_DEFAULT:
        return "upheld_by_default"
    if not isinstance(d.event, Timer) or d.event.kind not in SILENCES:
        return None
    return "restored_by_default" if d.state is State.RESTORED else "upheld_by_default"


def answer(d: Draft) -> None:
    """Note whether a person decided as the rule or the silence had."""
    event: Decide = d.event
    if d.audit is not None and d.audit.found is None:
        differs = event.decision in OVERTURNS[d.audit.outcome]
        d.audit = msgspec.structs.replace(d.audit, found="overturned" if differs else "agrees")
