"""Refusals of commands: by code, why in English and how to cure it. Without personal data.

Refusals of claims (row 6) are in the policy: ``refusals``.
"""

from __future__ import annotations

from typing import Final

from shared.policy import Policy

APPEAL: Final = "You may lodge a complaint against the decision within six months of it; a person looks at it."

TEXTS: Final[dict[str, str]] = {
    "unknown_item": "There is no such item. Check the item's id, as given in the receipt of the claim.",
    "not_a_party": "Only {party} may do this. Use the account that is party to the item.",
    "ended": "The item has ended in {state} and takes no such command. " + APPEAL,
    "not_now": "An item in {state} takes no such command. It takes: {takes}.",
    "too_late": "The time for this ended at {due}. " + APPEAL,
    "counter_too_late": (
        "The time for a counter-notification ended at {counter_due}; {late} late one(s) are admitted within {late_within} "
        "of the notice. " + APPEAL
    ),
    "rounds_used": "All {rounds} rounds of counter-notification are used. " + APPEAL,
    "proof_missing": (
        "A court or authority action, or its result, needs proof. Send the command again with a reference to the document."
    ),
    "action_known": "An action is already reported. Report its result when there is one.",
    "decision_not_here": "This decision does not fit an item in {state}. It takes: {decisions}.",
    "stale": (
        "The item has left the state that the decision was about, and may have returned to it since; it is in {state} now. "
        "Look at it again before you decide."
    ),
    "refusal_code": "A refusal needs a reason code of the policy. Send one of: {codes}.",
    "listing_unknown": (
        "The marketplace has not said yet what this listing is, so no seller can be notified. Wait until it has, "
        "or refuse the item with the code link_invalid."
    ),
    "not_against_you": "This decision did not go against you. Only the other side may complain about it.",
    "complaint_known": "You have already complained about this decision. Wait for the result.",
    "complaints_used": "All {complaints} complaints about this item are used. The courts remain open.",
    "complaint_too_late": "The time to complain ended {complain_within} after the decision. The courts remain open.",
    "decided_before": "You have already decided on this item. Another person must decide the complaint.",
    "appeal_code": "A decision on a complaint needs a reason code of the policy. Send one of: {appeal_codes}.",
    "already_answered": "The counter-notification has already been answered. To accept it after all, withdraw the item.",
}


def detail(code: str, policy: Policy, **values: object) -> str:
    """The text of a refusal; ``values`` fill the placeholders that the policy does not."""
    return TEXTS[code].format(
        late=policy.counter.late,
        late_within=policy.timers.late_counter.text,
        rounds=policy.counter.rounds,
        codes=", ".join(policy.refusals),
        complaints=policy.appeals.rounds,
        complain_within=policy.appeals.within.text,
        appeal_codes=", ".join(policy.appeals.reasons),
        **values,
    )
