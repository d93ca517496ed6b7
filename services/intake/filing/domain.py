"""What a claim is checked for, and what an accepted claim or command adds to the tables. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from services.intake.kernel import requests
from services.intake.kernel.commands import RENEWING, ItemRef, command_targets
from services.intake.kernel.domain import (
    Account,
    Authorisation,
    OnFile,
    Right,
    authority_of,
    check_on_file,
    check_open,
    lane_of,
    profile,
    proven_by_right,
)
from services.intake.kernel.filings import ClaimRow, Filing, ItemRow, Rows, TextKind
from services.intake.kernel.ids import new_claim_ids, new_id
from services.intake.kernel.listings import ListingRef
from shared import events, policy
from shared.refusals import Refused

_KINDS: Final[dict[str, TextKind]] = {"counter": "counter", "respond": "response", "complain": "complaint"}
"""Kind of a command's text, by command."""

# -------------------------------------------------------------------------------------------------------------- claims


STATED: Final = frozenset({"accuracy", "contact", "good_faith_belief", "signature", "work"})
"""Elements that a complainant states by filing (17 U.S.C. 512(c)(3)(A)). Each other one is a kind of proof."""


def counted(given: Iterable[str], kinds: Iterable[str]) -> set[str]:
    """What counts of a holder's materials: the kinds of its documents, and of what it merely says the statements."""
    return {*kinds, *STATED.intersection(given)}


def materials_of(right: Right, counting: Iterable[str]) -> tuple[str, ...]:
    """Materials on file: those that count, and what the right proves."""
    return tuple(sorted({*counting, *proven_by_right(right.status)}))


def check_canary(account: Account, listings: Sequence[ListingRef], own: str) -> None:
    """Check that a canary claims only the listing made for it, so that its token is good for nothing else.

    Raises:
        Refused: it names another one.
    """
    if account.canary and [ref.listing for ref in listings] != [own]:
        raise Refused(
            403,
            "canary_listing_only",
            "A canary claims its own listing only.",
            field="listings",
            cure="Name the listing of GOODFAITH_CANARY_LISTING.",
        )


def check_claim(
    claim: requests.SubmitClaim,
    account: Account,
    pinned: Mapping[str, str] = MappingProxyType({}),
    offered: Sequence[str] = (),
) -> policy.Policy:
    """Check what can be checked of a claim without looking anything up. Returns its policy.

    Args:
        pinned: by profile, the version that applies instead of the newest (``GOODFAITH_PINNED_POLICIES``).
        offered: profiles that the installation names; empty: all (``GOODFAITH_PROFILES``).

    Raises:
        Refused: the account is suspended, a profile or reason that is unknown or not offered, a reason for accounts in good faith only, or too many
            listings.
    """
    check_open(account)
    rules = profile(claim.profile, pinned, offered)
    if claim.reason not in rules.reasons:
        raise Refused(
            422,
            "unknown_reason",
            "There is no such reason.",
            field="reason",
            cure=f"Use one of: {', '.join(sorted(rules.reasons))}.",
        )
    if rules.claim.good_faith_only and not account.good_faith:
        raise Refused(
            422,
            "good_faith_only",
            "This profile is open to accounts in the good-faith mechanism only.",
            field="profile",
            cure="Join the good-faith mechanism, or use another profile.",
        )
    if rules.reasons[claim.reason].good_faith_only and not account.good_faith:
        open_to_all = sorted(code for code, reason in rules.reasons.items() if not reason.good_faith_only)
        raise Refused(
            422,
            "good_faith_only",
            "This reason is open to accounts in the good-faith mechanism only.",
            field="reason",
            cure=f"Join the good-faith mechanism, or use one of: {', '.join(open_to_all) or 'none'}.",
        )
    limit = rules.claim.max_items if account.registered else rules.claim.max_items_unregistered
    if len(claim.listings) > limit:
        raise Refused(
            422,
            "too_many_listings",
            f"Your claims may name at most {limit} listings; this one names {len(claim.listings)}.",
            field="listings",
            cure="Split the claim." if account.registered else "Have your account verified, or split the claim.",
        )
    return rules


def explained(claim: requests.ExplainedClaim, listings: Sequence[ListingRef]) -> dict[str, str]:
    """What the claim says about single listings, by listing.

    Raises:
        Refused: a link is none of the claim's, or its listing is explained twice.
    """
    links = {ref.link: ref.listing for ref in listings}
    found: dict[str, str] = {}
    for index, one in enumerate(claim.explanations):
        listing = links.get(one.listing)
        if listing is None:
            raise Refused(
                422,
                "not_in_claim",
                "An explanation is about a listing that the claim does not name.",
                field=f"explanations[{index}].listing",
                cure="Give the link exactly as in `listings`; of links to the same listing, the first.",
            )
        if listing in found:
            raise Refused(
                422,
                "explained_twice",
                "A listing has two explanations.",
                field=f"explanations[{index}].listing",
                cure="Give one explanation for each listing.",
            )
        found[listing] = one.text
    return found


def words_of(filing: Filing, rows: Rows) -> list[tuple[str, str, TextKind]]:
    """(id, text, kind) of what a request says: under the id of the claim or item, or of the first of its commands."""
    body = filing.body
    if isinstance(body, requests.ExplainedClaim):
        claim = [] if body.explanation is None else [(rows.resource, body.explanation)]
        said = filing.explained or {}
        items = [(item.id, said[item.listing]) for item in rows.items if item.listing in said]
        return [(id, text, "explanation") for id, text in (*claim, *items)]
    text = getattr(body, "text", None)
    return [] if text is None else [(rows.resource, text, _KINDS[filing.kind])]


def claim_rows(
    claim: requests.SubmitClaim,
    listings: Sequence[ListingRef],
    *,
    rules: policy.Policy,
    complainant: Account,
    right: Right | None,
    granted: Iterable[Authorisation],
    contacts: Mapping[str, OnFile],
    over_quota: bool,
    channel: str,
    now: dt.datetime,
    wall_ms: int,
    kinds: Iterable[str] = (),
    sellers: tuple[str, ...] = (),
    recurs: str | None = None,
    behalf: bool = False,
    brake: events.BrakeReason | None = None,
) -> Rows:
    """The rows of a claim that is accepted now.

    Args:
        kinds: what the documents that it names prove.
        sellers: whose shops it names.
        contacts: of the complainant and the principal. A canary needs none: it claims from itself.
        behalf: an upstream files for the complainant, and names it.
        brake: why only a person decides the items.

    Raises:
        Refused: the right is not the principal's, the reason does not fit it, the complainant may not file for it, or
            the seller could not be told whom to reach.
    """
    principal = claim.principal or complainant.id
    if right is None or right.owner != principal:
        raise Refused(
            422,
            "right_not_owned",
            "The principal has no such right.",
            field="right",
            cure="Register the right first; an agent names its owner as `principal`.",
        )
    if right.refused:
        raise Refused(
            422,
            "right_refused",
            "The right was refused when it was registered.",
            field="right",
            cure="Register the right again, with what was missing.",
        )
    if right.right_type not in rules.reasons[claim.reason].rights:
        raise Refused(
            422,
            "reason_not_for_right",
            f"The reason does not fit a right of type {right.right_type}.",
            field="reason",
            cure=f"Use one of: {', '.join(sorted(k for k, v in rules.reasons.items() if right.right_type in v.rights)) or 'none'}.",
        )
    if not right.registered and not rules.reasons[claim.reason].unregistered:
        raise Refused(
            422,
            "right_unregistered",
            "The reason is for rights that are in a register.",
            field="reason",
            cure="Register the work with a copyright office, and that right here; or use another reason.",
        )
    authority = authority_of(complainant.id, principal, right, granted, now)
    if authority == "missing":
        raise Refused(
            422,
            "not_authorised",
            "The principal has not authorised you to file for this right, or the authorisation has ended.",
            field="principal",
            cure="Have the principal authorise you (POST /v1/authorisations) for this right and its territory, then file again.",
        )
    if not complainant.canary:
        check_on_file(contacts.get(complainant.id, "missing"), field="on_behalf_of" if behalf else None)
        if principal != complainant.id:
            check_on_file(contacts.get(principal, "missing"), field="principal")
    lane = lane_of(complainant, over_quota, asked=recurs is None)
    claim_id, item_ids = new_claim_ids(wall_ms, len(listings))
    terms = events.ItemSubmitted(
        item=item_ids[0],
        claim=claim_id,
        claim_size=len(listings),
        listing=listings[0].listing,
        on_site=listings[0].on_site,
        complainant=complainant.id,
        principal=principal,
        right=right.id,
        right_type=right.right_type,
        right_status=right.status_at(now),
        right_registered=right.registered,
        reason=claim.reason,
        profile=claim.profile,
        policy=rules.version,
        lane=lane,
        good_faith=complainant.good_faith,
        abroad=claim.abroad,
        canary=complainant.canary,
        brake=brake,
        sellers=sellers,
        record=complainant.record,
        identity_verified=complainant.identity_verified,
        authority=authority,
        mark=right.mark,
        recurs=recurs,
        materials=materials_of(right, counted(claim.materials, kinds)),
        accepted_at=now,
    )
    return Rows(
        resource=claim_id,
        answer={
            "claim": claim_id,
            "accepted_at": now,
            "lane": lane,
            **({} if brake is None else {"brake": brake}),
            "items": [{"item": item, "listing": ref.listing} for item, ref in zip(item_ids, listings, strict=True)],
        },
        brake=brake,
        claim=ClaimRow(
            claim_id,
            complainant.id,
            principal,
            right.id,
            right.right_type,
            claim.reason,
            claim.profile,
            lane,
            len(listings),
            channel,
            now,
            msgspec.json.encode(terms).decode(),
        ),
        items=[
            ItemRow(item, claim_id, ref.listing, ref.on_site, ref.link, lane, complainant.id, now)
            for item, ref in zip(item_ids, listings, strict=True)
        ],
    )


def claim_filed(claim: ClaimRow, *, canary: bool) -> events.ClaimFiled:
    """The event that publishes a claim."""
    return events.ClaimFiled(
        claim=claim.id,
        account=claim.complainant,
        items=claim.size,
        right_type=claim.right_type,
        channel=claim.channel,
        canary=canary,
        at=claim.accepted_at,
    )


# ------------------------------------------------------------------------------------------------------------ commands


def command_rows(
    kind: str,
    body: requests.In,
    account: Account,
    items: Sequence[ItemRef],
    *,
    standing: Callable[[ItemRef], dict[str, Any]],
    now: dt.datetime,
    wall_ms: int,
    kinds: Iterable[str] = (),
) -> Rows:
    """The rows of a command that is accepted now, for one item or all of a claim.

    Args:
        kinds: what the documents that it names prove. Of a holder nothing else counts as proof (``counted``).
        standing: identity, authority, right and materials of an item's claim as they are now (``add_information``, and a
            holder's ``complain``).
    """
    part, targets = command_targets(kind, account, items)
    event = events.COMMANDS[kind]
    # the item's owner does not need all of a request: a lease is used up here, and documents become their kinds
    names = set(requests.COMMANDS[kind].__struct_fields__) & set(event.__struct_fields__)
    fields = {name: getattr(body, name) for name in names}
    made: list[events.Command] = []
    for item in targets:
        extra = fields
        if "materials" in fields:
            if kind in RENEWING and part == "holder":
                on_file = standing(item)
                extra = {
                    **on_file,
                    "materials": tuple(sorted({*on_file["materials"], *counted(fields["materials"], kinds)})),
                }
            else:
                extra = {"materials": tuple(sorted({*fields["materials"], *kinds}))}
        made.append(
            event(
                command=new_id("k", wall_ms),
                item=item.item,
                claim=item.claim,
                listing=item.listing,
                by=account.id,
                role=part,
                accepted_at=now,
                **extra,
            )
        )
    return Rows(
        resource=made[0].command,
        answer={
            "claim": targets[0].claim,
            "accepted_at": now,
            "commands": [{"command": command.command, "item": command.item} for command in made],
        },
        commands=made,
        command_kind=kind,
    )
