"""The answers of the review queue."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from services.intake.kernel.judged import ListingContent, PictureComparison, RightDetails
from shared.events import BrakeReason, Lane, RightType


class TriageReason(Struct, kw_only=True):
    """A triage rule that fired: the signal was within its bounds, and it added its weight to the score."""

    rule: str
    weight: int
    signal: str | None
    """What the rule looks at (docs/reference/policies.md); null: the policy's version is not known here yet."""
    at_least: float | None = None
    at_most: float | None = None


class CaseTriage(Struct, kw_only=True):
    """What triage found when the item came to review."""

    score: int
    base: int | None
    """The score without any rule."""
    band: Literal["uphold", "refuse", "review"]
    reasons: list[TriageReason]
    lacks: list[str]
    """Findings of the policy that an immediate uphold needs, and that are not there."""
    why_person: list[str]
    """Why a person decides it and no rule did at once, in the reader's language."""
    signals: dict[str, float]
    """All that was known (docs/reference/policies.md); empty: the item was weighed before signals were kept."""


class CaseOut(Struct, kw_only=True):
    """A case of the review queue.

    The item's whole history is at ``/v1/claims/{claim}/timeline``, what the parties said at ``/v1/claims/{claim}/texts``.
    """

    item: str
    claim: str
    listing: str
    complainant: str
    principal: str
    seller: str | None
    right_type: RightType
    reason: str
    severity: Literal["general", "serious"]
    profile: str
    policy: str
    lane: Lane
    state: str
    code: str | None
    revision: int
    escalated: bool
    """A deadline of the programme's has passed: offered before all others."""
    due: dt.datetime | None
    """Null in an audit, and if there is none."""
    since: dt.datetime
    reviewer: str | None
    """Who holds it now; ``expires``: until when (wall time)."""
    expires: dt.datetime | None
    assignee: str | None
    """Whom it was handed to."""
    decided: bool
    """A decision is on its way."""
    blind: bool
    """An audit: decide as if nothing had happened yet. What a rule or a silence made of the item is not shown."""
    brake: BrakeReason | None
    """Why only a person decides it, by how much its complainant filed: `GET /v1/accounts/{account_id}/brake`."""
    decisions: list[str]
    """The decisions that are possible."""
    right: str
    right_details: RightDetails
    triage: CaseTriage | None
    """Null if the policy knows no triage, and in an audit."""
    pictures: PictureComparison | None
    """The right's pictures in those of the listing; null: the right has none, or this installation compares none."""
    listing_content: ListingContent | None = None
    """In the answer about one case and in a new lease; in lists and for a heartbeat it is null."""


class LeaseOut(Struct, kw_only=True):
    """A lease. ``token`` is shown only this once; null if there was nothing to take, or for a heartbeat."""

    token: str | None
    expires: dt.datetime | None
    """When the first case is free again (wall time), unless a heartbeat comes before."""
    cases: list[CaseOut]
    codes: dict[str, str]
    """Reason codes that a decision may need, and what each tells the parties."""


class NoteOut(Struct, kw_only=True):
    """A note on an item, for staff."""

    id: str
    item: str
    by: str
    text: str
    at: dt.datetime


class ConflictsOut(Struct, kw_only=True):
    """Accounts about which a reviewer may not decide."""

    reviewer: str
    declared: list[str]
    set_by_operator: list[str]


class QueueDepth(Struct, kw_only=True):
    """Cases of one state and lane."""

    state: str
    lane: Lane
    free: int
    leased: int
    decided: int
    """A decision is on its way."""
    escalated: int
    oldest: dt.datetime | None
    due: dt.datetime | None


class ReviewerDay(Struct, kw_only=True):
    """What one reviewer did on one day of business time (UTC)."""

    reviewer: str
    day: dt.date
    decided: int
    without_lease: int
    """Of these, made by an operator without a lease."""
    proposed: int
    """First or second looks under four eyes that did not decide yet."""
    refused: int
    """Decisions that the item's owner refused."""
    median_s: float | None
    """Median wall time from lease to decision, in seconds."""
    agreed: int
    compared: int
    agreement: float | None
    """Of the looks at what another person also looked at, the share that matched the final decision."""
    confirmed: int
    appealed: int
    confirmation: float | None
    """Of the decisions about which a complaint was decided, the share that was confirmed."""


class ReviewFigures(Struct, kw_only=True):
    """The queue now, and reviewers by day."""

    queue: list[QueueDepth]
    reviewers: list[ReviewerDay]
    next: str | None = None
