"""Row 19: complaints against a decision, and the platform's own audits."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Final

from services.verification.draft import AGAINST, Draft
from services.verification.item import UPHELD
from services.verification.rules import audits
from services.verification.rules.counters import open_round
from services.verification.rules.review import put_to_review, renew, reopen
from shared.events import Complain, Decide, State

UNHEARD: Final = frozenset({State.REJECTED, State.DUPLICATE, State.LINK_INVALID, State.LAPSED})
"""Ends before the seller was heard: if reversed, they go to review, never straight to a takedown."""


def audited(d: Draft) -> bool:
    """Row 19, by the platform itself: a share of what no person has looked at, chosen by the item's id."""
    if d.deciders or "platform" in d.appealed:
        return False
    if share := d.policy.rules.audited_share:  # versions before `audits`
        drawn = int.from_bytes(hashlib.blake2b(d.item.item.encode(), digest_size=4).digest(), "big")
        return d.state is State.UPHELD_BY_DEFAULT and drawn < share * 2**32
    outcome = audits.silent(d)
    return outcome is not None and audits.begin(d, outcome)


def complaint_refusal(d: Draft) -> str | None:
    """Row 19: the code if this side may not complain, or no longer."""
    event: Complain = d.event
    if AGAINST[d.state] != event.role:
        return "not_against_you"
    if event.role in d.appealed:
        return "complaint_known"
    if d.appeals >= d.policy.appeals.rounds:
        return "complaints_used"
    if (since := _known_since(d, event)) is not None and d.when > d.after(d.policy.appeals.within, since):
        return "complaint_too_late"
    return None


def _known_since(d: Draft, event: Complain) -> dt.datetime | None:
    """Since when this side could complain of the decision: a seller that was reached only afterwards, since then."""
    told = d.item.noticed_at or d.notice_seen
    if event.role != "seller" or d.decided_at is None or told is None:
        return d.decided_at
    return max(told, d.decided_at)


def complain(d: Draft) -> None:
    """Row 19: count the complaint, take in the holder's proof, and start the platform's own deadline."""
    event: Complain = d.event
    d.appeals += 1
    d.right_ended = False
    if event.role == "holder":
        d.appealed = (*d.appealed, "holder")
        renew(d)
    else:
        d.appealed = (*d.appealed, "seller")
    appeal_review(d)


def audit(d: Draft) -> None:
    """Row 19, by the platform itself: uses up none of the parties' complaints."""
    d.appealed = (*d.appealed, "platform")
    appeal_review(d)


def appeal_review(d: Draft) -> None:
    """Row 19, and again when overdue: start the deadline. Only a person ends the appeal."""
    d.start("appeal_review", d.after(d.policy.appeals.review))


def confirms(d: Draft) -> bool:
    """Row 19: the decision is confirmed."""
    event: Decide = d.event
    return event.decision == "confirm"


def confirms_unreached(d: Draft) -> bool:
    """Row 9: the takedown of a seller that is not reached is confirmed."""
    return confirms(d) and d.stack[-1].state is State.NOTIFIED


def confirms_without_original(d: Draft) -> bool:
    """Row 2: the original ended without a takedown while a complaint about the duplicate was pending."""
    return confirms(d) and d.stack[-1].state is State.DUPLICATE and d.facts.original is None


def reverses_unheard(d: Draft) -> bool:
    """Row 19: an end before the seller was heard is reversed."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state in UNHEARD


def reverses_takedown(d: Draft) -> bool:
    """Row 19: a takedown is reversed, or that of a seller that is not reached (row 9)."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state in UPHELD | {State.NOTIFIED}


def reverses_restoration(d: Draft) -> bool:
    """Row 19: a restoration is reversed."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state is State.RESTORED


def give_reason(d: Draft) -> None:
    """Row 19: note the reviewer's reason code. What an audit confirms is told only now: the time to complain begins."""
    d.code = d.event.code
    if d.item.audit is not None and d.item.audit.found is None:
        d.decided_at = d.at


def reopen_appealed(d: Draft) -> None:
    """Row 2, after a complaint: reopen the duplicate."""
    d.stack = d.stack[:-1]
    reopen(d)


def review_again(d: Draft) -> None:
    """Row 19, reversed: review the item on its own, under the right as it is now."""
    d.stack = d.stack[:-1]
    d.original = None
    put_to_review(d)
    d.right_ended = d.right_status in ("expired", "lost", "unauthorised")


def take_down_again(d: Draft) -> None:
    """Row 19, a restoration reversed: take the listing down again, with time for a further counter."""
    give_reason(d)
    open_round(d)
