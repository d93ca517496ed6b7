"""Rows 1 to 7 and 20: from filing to the first decision."""

from __future__ import annotations

from typing import Final

import msgspec

from services.verification.draft import Draft
from services.verification.rules import audits
from services.verification.triage import triage
from shared.events import AddInformation, Complain, HoldChanged, PicturesCompared, Triage

OWN_LISTING: Final = "own_listing"
"""Refusal code for a claim against one's own listing."""

# -------------------------------------------------------------------------------------------------------------- guards


def recurs(d: Draft) -> bool:
    """Row 20: the item was filed against a near copy."""
    return d.item.recurs is not None


def by_hand(d: Draft) -> bool:
    """Only a person decides: of near copies, unless the policy leaves them to the rule (row 20), under a brake, and if
    the claim names shops of other sellers only.
    """
    if d.item.brake is not None or not d.item.means(d.seller):
        return True
    rules = d.policy.recurrence
    return d.item.recurs is not None and (rules is None or rules.review == "manual")


def has_original(d: Draft) -> bool:
    """Row 2: an item of the same listing, right and reason is open or upheld."""
    return d.facts.original is not None


def link_gone(d: Draft) -> bool:
    """Row 3: the listing is not of this site, or is gone for another reason than our hold."""
    if not d.item.on_site:
        return True
    listing = d.facts.listing
    if listing is None:
        return False
    return listing.state in ("unknown", "ended") or (listing.state == "removed" and not d.facts.ours)


def flagged_and_gone(d: Draft) -> bool:
    """Row 3, when the answer comes after the look-up was given up."""
    return d.flagged and d.seller is None and link_gone(d)


def listing_known(d: Draft) -> bool:
    """The listing is known, or its look-up was given up."""
    return d.seller is not None or d.flagged or (d.facts.listing is not None and d.facts.listing.seller is not None)


def elements_missing(d: Draft) -> bool:
    """Row 4, once the listing is known: information about a dead link is not asked for."""
    return listing_known(d) and bool(lacking(d))


def lacking(d: Draft) -> tuple[str, ...]:
    """Elements of the claim that are missing (policy ``claim.required`` and the reason's materials)."""
    missing: list[str] = []
    for element in d.policy.claim.required:
        if element == "identity":
            present = d.identity_verified
        elif element == "authority":
            present = d.authority != "missing"
        elif element == "right":
            present = d.right_status == "active"
        else:
            present = element in d.materials
        if not present:
            missing.append(element)
    reason = d.policy.reasons.get(d.item.reason)
    if reason is not None:
        missing += [
            kind
            for kind in reason.needed(d.item.good_faith, registered=d.item.right_registered)
            if kind not in d.materials
        ]
    return tuple(missing)


def elements_complete(d: Draft) -> bool:
    """Row 5: the listing is known and nothing is missing."""
    return listing_known(d) and not lacking(d)


def misfit(d: Draft) -> bool:
    """Row 6, by the rule: there is no such reason, or it is not for this type of right."""
    reason = d.policy.reasons.get(d.item.reason)
    return reason is None or d.item.right_type not in reason.rights


def own_listing(d: Draft) -> bool:
    """Row 6, by the rule: the seller is the complainant or principal; only if the policy says how to cure that."""
    return OWN_LISTING in d.policy.refusals and d.seller in (d.item.complainant, d.item.principal)


def prima_facie(d: Draft) -> bool:
    """Row 7, by the rule: the policy upholds on the face of the claim, or triage does."""
    review = d.policy.rules.review
    if review == "manual" or d.flagged or d.seller is None or by_hand(d):
        return False
    return review == "prima_facie" or (_triaged(d).band == "uphold" and not audits.waiting(d))


def plainly_unfounded(d: Draft) -> bool:
    """Row 6, by triage; never after a person has decided, as that means a complaint reversed a refusal."""
    if d.policy.rules.review != "triage" or d.flagged or d.seller is None:
        return False
    return _triaged(d).band == "refuse" and not d.deciders and not by_hand(d) and not audits.waiting(d)


def _weigh(d: Draft, picture_match: float | None) -> Triage:
    assert d.policy.triage is not None, "the policy was checked"
    item = d.item
    if (item.right_status, item.picture_match) != (d.right_status, picture_match):
        # the change that brought it to review brought the right into force, or told what pictures show
        item = msgspec.structs.replace(item, right_status=d.right_status, picture_match=picture_match)
    return triage(item, d.facts, d.policy.triage)


def _triaged(d: Draft) -> Triage:
    """The result of triage, weighed once each time the item comes to review."""
    if d.weighed is None:
        d.weighed = d.triage = _weigh(d, d.picture_match)
        if audits.waiting(d):
            d.audit = None  # weighed again, after an interruption
        outcome = audits.BY_RULE.get(d.weighed.band)
        if outcome is not None and not by_hand(d):
            audits.begin(d, outcome)
    return d.weighed


def note_pictures(d: Draft) -> None:
    """Row 7: take in what pictures show, if they are those on which the item is judged."""
    event: PicturesCompared = d.event
    if event.content == d.content:
        d.picture_match = event.match


def pictures_noted(d: Draft) -> bool:
    """Row 7: what pictures show is news."""
    return d.picture_match != d.item.picture_match


def pictures_suffice(d: Draft) -> bool:
    """Row 7, by triage: with what pictures show, nothing is lacking any more, and no person is at it already."""
    if d.policy.rules.review != "triage" or d.flagged or d.seller is None or by_hand(d):
        return False
    if not pictures_noted(d) or d.deciders or audits.waiting(d):
        return False
    # nothing else may take the occasion to change the outcome
    return _weigh(d, d.picture_match).band == "uphold" != _weigh(d, d.item.picture_match).band


def refuse_unfounded(d: Draft) -> None:
    """Row 6, by triage: the policy's code."""
    assert d.policy.triage is not None
    d.code = d.policy.triage.refusal


# ------------------------------------------------------------------------------------------------------------- effects


def take_listing(d: Draft) -> None:
    """Keep the seller and what is shown as known now: later sales and edits change neither."""
    listing = d.facts.listing
    if d.seller is None and listing is not None and listing.seller is not None:
        d.seller = listing.seller
        d.title_digest = listing.title_digest
        d.content = d.facts.content


def link_original(d: Draft) -> None:
    """Row 2: link the duplicate to its original."""
    d.original = d.facts.original


def reopen(d: Draft) -> None:
    """Row 2, back: the item is judged again from the beginning."""
    d.original = None
    d.flagged = False


def ask(d: Draft) -> None:
    """Row 4: ask for what is missing; the window begins when the request is sent."""
    take_listing(d)
    d.missing = lacking(d)
    d.awaits = ("info_request",)


def add_information(d: Draft) -> None:
    """Row 4: take in what the complainant added."""
    renew(d)
    d.missing = lacking(d)


def renew(d: Draft) -> None:
    """Update the proof on file with what the holder's side has now."""
    event: AddInformation | Complain = d.event
    d.identity_verified = d.identity_verified or event.identity_verified
    if event.authority != "missing":
        d.authority = event.authority
    d.right_status = event.right_status
    d.materials = tuple(sorted({*d.materials, *event.materials}))


def flag(d: Draft) -> None:
    """Row 5: the look-up had no result; a person decides, never the rule."""
    d.flagged = True
    d.timers = ()


def put_to_review(d: Draft) -> None:
    """Row 5: note the seller, or that the listing is unknown."""
    take_listing(d)
    if d.flagged:
        d.code = "listing_unknown"


def miss(d: Draft) -> None:
    """Row 5, overdue: the 24-hour target is missed."""
    d.sla = "missed"


def refuse_misfit(d: Draft) -> None:
    """Row 6, by the rule: the code for a reason that does not fit."""
    d.code = "reason_not_for_right" if d.item.reason in d.policy.reasons else "unknown_reason"


def refuse_own(d: Draft) -> None:
    """Row 6, by the rule: the code for a claim against one's own listing."""
    d.code = OWN_LISTING


def refuse(d: Draft) -> None:
    """Row 6: the reviewer's code."""
    d.code = d.event.code


def notify(d: Draft) -> None:
    """Row 7: set the hold, if the policy removes on notice; the seller's window begins when the notice is sent."""
    take_listing(d)
    d.held = d.policy.rules.removal == "on_notice"
    d.awaits = ("seller_notice",)
    d.unreached = False
    d.counter_due = None


def receipt_awaited(d: Draft) -> bool:
    """Handled: the first receipt for a hold that the item still has."""
    event: HoldChanged = d.event
    return d.handled_at is None and event.held and d.held


def receipted(d: Draft) -> None:
    """Handled: note when the marketplace receipted the hold."""
    d.handled_at = d.event.at
