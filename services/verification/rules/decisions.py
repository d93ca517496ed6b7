"""Who may send a command, and what a reviewer may decide."""

from __future__ import annotations

from typing import Any

from services.verification.draft import Draft
from services.verification.item import Item
from services.verification.rules import audits
from shared.events import DECISIONS, Command, Decide, State


def is_party(item: Item, command: Command, side: str) -> bool:
    """Whether the command comes from that side of the item."""
    if side == "holder":
        return command.role == "holder" and command.by in (item.complainant, item.principal)
    if side == "seller":
        return command.role == "seller" and item.seller is not None and command.by == item.seller
    if side == "reviewer":
        return command.role in ("reviewer", "operator")
    return command.role == "system"


def decides(*decisions: str) -> Any:
    """Guard: the reviewer's decision is one of these."""

    def guard(d: Draft) -> bool:
        return d.event.decision in decisions

    return guard


def decision_refusal(d: Draft) -> str | None:
    """Rows 6, 7, 12, 17, 19: the code if a reviewer may not decide this, or the decision lacks something."""
    event: Decide = d.event
    # the item has left the state that was seen, though it may have returned to it
    if event.revision is not None and event.revision < max(d.item.visit, d.item.entered):
        return "stale"
    if event.decision not in DECISIONS.get(d.state, ()):
        return "decision_not_here"
    if event.decision == "refuse" and event.code not in d.policy.refusals:
        return "refusal_code"
    if d.state is State.APPEALED:
        if event.by in d.deciders:
            return "decided_before"
        if event.code not in d.policy.appeals.reasons:
            return "appeal_code"
    if d.state is State.UNDER_REVIEW and event.decision == "uphold" and d.seller is None:
        listing = d.facts.listing
        if listing is None or listing.seller is None:
            return "listing_unknown"
    return None


def note_decider(d: Draft) -> None:
    """Note who decided: they may not decide a complaint about the item (row 19)."""
    event: Decide = d.event
    d.deciders = tuple(dict.fromkeys((*d.deciders, event.by, *event.looked)))
    audits.answer(d)
