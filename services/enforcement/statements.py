"""Statements of reasons (Digital Services Act, Articles 17 and 24(5)) for the EU's transparency database. Pure.

A restriction is one item's hold, from the revision that takes it to the one that lifts it, or a sanction that freezes
or closes an account. Each has exactly one statement, if the policy of the item or of the penalties asks for statements.
Several items that hold one listing are several restrictions: each rests on a claim, a right and a decision of its own,
and outlives the others. Nothing in a statement names a party.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from services.enforcement.domain import Down
from shared import policy
from shared.events import ItemChanged, Measure, RightType, SanctionChanged
from shared.policy import ContentType, Eea, Policy

Visibility = Literal["DECISION_VISIBILITY_CONTENT_REMOVED", "DECISION_VISIBILITY_CONTENT_DISABLED"]
Keyword = Literal[
    "KEYWORD_COPYRIGHT_INFRINGEMENT",
    "KEYWORD_DESIGN_INFRINGEMENT",
    "KEYWORD_GEOGRAPHIC_INDICATIONS_INFRINGEMENT",
    "KEYWORD_PATENT_INFRINGEMENT",
    "KEYWORD_TRADE_SECRET_INFRINGEMENT",
    "KEYWORD_TRADEMARK_INFRINGEMENT",
]
AccountDecision = Literal["DECISION_ACCOUNT_SUSPENDED", "DECISION_ACCOUNT_TERMINATED"]
Puid = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[a-zA-Z0-9_-]+$(?!\n)")]

VISIBILITY: Final[dict[Down, Visibility]] = {
    "suspend": "DECISION_VISIBILITY_CONTENT_DISABLED",
    "remove": "DECISION_VISIBILITY_CONTENT_REMOVED",
}
KEYWORDS: Final[dict[RightType, Keyword]] = {
    "trademark": "KEYWORD_TRADEMARK_INFRINGEMENT",
    "copyright": "KEYWORD_COPYRIGHT_INFRINGEMENT",
    "design": "KEYWORD_DESIGN_INFRINGEMENT",
    "utility_model": "KEYWORD_PATENT_INFRINGEMENT",
    "invention": "KEYWORD_PATENT_INFRINGEMENT",
    "geographical_indication": "KEYWORD_GEOGRAPHIC_INDICATIONS_INFRINGEMENT",
}
"""The schema has no utility models: they count as patents."""
PEOPLE: Final = frozenset({"reviewer", "operator"})
"""Roles of the platform's staff; what none of them decided was decided by rule."""


class Statement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A statement in the database's schema v2 (docs/explanation/domain.md): the fields that an IP programme has."""

    puid: Puid
    decision_visibility: Annotated[tuple[Visibility, ...], Meta(max_length=1)] = ()
    decision_account: AccountDecision | None = None
    decision_ground: Literal["DECISION_GROUND_ILLEGAL_CONTENT"]
    illegal_content_legal_ground: Annotated[str, Meta(min_length=1, max_length=500)]
    illegal_content_explanation: Annotated[str, Meta(min_length=1, max_length=2000)]
    content_type: Annotated[tuple[ContentType, ...], Meta(min_length=1, max_length=7)]
    category: Literal["STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS"]
    category_specification: Annotated[tuple[Keyword, ...], Meta(max_length=1)] = ()
    territorial_scope: Annotated[tuple[Eea, ...], Meta(min_length=1, max_length=30)]
    content_date: dt.date | None = None
    application_date: dt.date
    decision_facts: Annotated[str, Meta(min_length=1, max_length=5000)]
    source_type: Literal[
        "SOURCE_ARTICLE_16", "SOURCE_TRUSTED_FLAGGER", "SOURCE_TYPE_OTHER_NOTIFICATION", "SOURCE_VOLUNTARY"
    ]
    automated_detection: Literal["Yes", "No"]
    automated_decision: Literal[
        "AUTOMATED_DECISION_FULLY", "AUTOMATED_DECISION_PARTIALLY", "AUTOMATED_DECISION_NOT_AUTOMATED"
    ]


class NewStatement(Struct, frozen=True):
    """A statement to store: the restriction that it is about, and its body as it will be sent."""

    puid: str
    item: str
    """The item whose hold it is, or the sanction."""
    revision: int
    policy: str
    body: str


FOUND_BY_US: Final = (
    "No notice led to this claim. The platform's automated comparison found that the listing closely resembles one of"
    " the same seller or business against which an earlier claim was upheld."
)
"""Beginning of ``decision_facts`` where the system filed the claim itself (row 20 of the life cycle)."""

_decoder: Final = msgspec.json.Decoder(Statement)


def puid(item: str, revision: int) -> str:
    """Id of the statement about the hold that ``item`` took at ``revision``; unique per hold.

    The database allows letters, digits, ``-`` and ``_``; other characters of an item's id are escaped.
    """
    plain = re.sub(r"[._:]", lambda match: f"_{ord(match[0]):02x}", item)
    return f"{plain}-{revision}"


def build(event: ItemChanged, rules: Policy, down: Down, at: dt.datetime) -> Statement:
    """The statement about the hold that ``event`` takes, under ``rules`` that ask for statements.

    ``content_date`` is the day of the claim: the database requires a day, the marketplace does not say when the listing
    was posted, and by that day it had been.

    Args:
        down: the action that takes the listing down.
        at: when the hold was taken.

    Raises:
        KeyError: the policy has no ground for this type of right; a loaded policy has one for each of its reasons.
    """
    wanted = rules.statements
    assert wanted is not None
    ground = wanted.grounds[event.right_type]
    date = at.astimezone(dt.UTC).date()
    filed = min(event.received_at.astimezone(dt.UTC).date(), date)
    by_people = event.by in PEOPLE
    return Statement(
        puid=puid(event.item, event.revision),
        decision_visibility=(VISIBILITY[down],),
        decision_ground="DECISION_GROUND_ILLEGAL_CONTENT",
        illegal_content_legal_ground=ground.legal_ground,
        illegal_content_explanation=ground.explanation,
        content_type=wanted.content_type,
        category="STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS",
        category_specification=(KEYWORDS[event.right_type],),
        territorial_scope=wanted.territorial_scope,
        content_date=filed,
        application_date=date,
        decision_facts=" ".join(_facts(event, rules, filed, date, by_people)),
        source_type=wanted.source_type if event.recurs is None else "SOURCE_VOLUNTARY",
        automated_detection="No" if event.recurs is None else "Yes",  # else the complainant found it
        automated_decision="AUTOMATED_DECISION_NOT_AUTOMATED" if by_people else "AUTOMATED_DECISION_FULLY",
    )


def _facts(event: ItemChanged, rules: Policy, filed: dt.date, date: dt.date, by_people: bool) -> list[str]:
    assert rules.statements is not None
    reason = rules.reasons.get(event.reason)
    title = (reason.title if reason is not None else "") or event.reason.replace("_", " ")
    begun, verb = (rules.statements.facts, "received") if event.recurs is None else (FOUND_BY_US, "filed")
    sentences = [
        begun,
        f"The claim was {verb} on {filed} and rests on a right of type {event.right_type.replace('_', ' ')}.",
        f"Its reason is: {title}.",
    ]
    if reason is not None and reason.explanation:
        sentences.append(reason.explanation)
    who = "a reviewer" if by_people else "rule, without a person"
    sentences.append(f"Decided on {date} by {who} (row {event.rule} of the life cycle, policy {event.policy}).")
    return sentences


def statement_of(event: ItemChanged, down: Down, at: dt.datetime) -> NewStatement | None:
    """The statement about a hold that was just taken; None for a canary's, or if the item's policy asks for none.

    Raises:
        PolicyError: there is no such policy here.
    """
    if event.canary:
        return None
    rules = policy.load(event.policy)
    if rules.statements is None or not rules.statements.enabled:
        return None
    body = msgspec.json.encode(build(event, rules, down, at))
    _decoder.decode(body)  # msgspec checks structs when it decodes them, not when they are made
    return NewStatement(puid(event.item, event.revision), event.item, event.revision, event.policy, body.decode())


# ------------------------------------------------------------------------------------------------------------- accounts


def account_decision(measures: Collection[Measure]) -> AccountDecision | None:
    """The database's term for measures against an account; None if they restrict it only in part, or not at all."""
    if "closed" in measures:
        return "DECISION_ACCOUNT_TERMINATED"
    return "DECISION_ACCOUNT_SUSPENDED" if "frozen" in measures else None


def build_account(change: SanctionChanged, rules: Policy, decision: AccountDecision) -> Statement:
    """The statement about a sanction that began, under ``rules`` that ask for statements on accounts.

    ``content_date`` is the day of the decision, which is not about a single piece of content.
    """
    wanted = rules.statements
    assert wanted is not None
    assert wanted.accounts is not None
    date = change.begins.astimezone(dt.UTC).date()
    whose = "of the accounts of one business" if change.scope == "entity" else "of the account"
    if decision == "DECISION_ACCOUNT_TERMINATED":
        until = "The account is closed."
    elif change.ends is not None:
        until = f"The account is suspended until {change.ends.astimezone(dt.UTC).date()}."
    else:
        until = (
            "The account is suspended until so many violations have expired that the threshold is no longer reached."
        )
    return Statement(
        puid=puid(change.sanction, 1),
        decision_account=decision,
        decision_ground="DECISION_GROUND_ILLEGAL_CONTENT",
        illegal_content_legal_ground=wanted.accounts.legal_ground,
        illegal_content_explanation=wanted.accounts.explanation,
        content_type=wanted.content_type,
        category="STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS",
        territorial_scope=wanted.territorial_scope,
        content_date=date,
        application_date=date,
        decision_facts=(
            f"Violations of intellectual property rights {whose}, each a claim that was settled as upheld, reached threshold"
            f" {change.level} of the ledger of {change.ledger} violations. {until} Decided on {date} by rule, without a person"
            f" (policy {rules.version})."
        ),
        source_type=wanted.source_type,
        automated_detection="No",
        automated_decision="AUTOMATED_DECISION_FULLY",
    )


def account_statement_of(change: SanctionChanged, rules: Policy) -> NewStatement | None:
    """The statement about a sanction that has just begun; None if it needs none, or the policy asks for none."""
    wanted = rules.statements
    decision = account_decision(change.measures) if change.change == "imposed" else None
    if decision is None or wanted is None or not wanted.enabled or wanted.accounts is None:
        return None
    body = msgspec.json.encode(build_account(change, rules, decision))
    _decoder.decode(body)
    return NewStatement(puid(change.sanction, 1), change.sanction, 1, rules.version, body.decode())
