"""The answers of the rights registry and of authorisations."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from services.intake.kernel.requests import Register
from shared.events import RightType


class RightOut(Struct, kw_only=True):
    """A right."""

    id: str
    owner: str
    right_type: RightType
    register: Register | None
    number: str | None
    status: Literal["active", "expired", "lost", "pending"]
    expires_at: dt.datetime | None
    proof: str | None
    registered_at: dt.datetime
    mark: str | None
    registrant: str | None
    classes: list[str] | None
    territory: list[str] | None
    pending_reason: (
        Literal["proof_missing", "proof_unseen", "right_registered_elsewhere", "mark_mixed_script", "refused"] | None
    )
    """Why a pending right is not in force."""
    accepted: Literal["person", "register", "canary", "rules_0_2_0"] | None
    """By whom a right in force was accepted: a person or a register (see the history), or the rules of version 0.2.0."""
    published_on: dt.date | None
    published_where: str | None
    """When and where a work that is in no register was first published."""
    offered_to: str | None
    """The account that owns it once it consents to the assignment."""
    normalised: list[str] = []
    """Fields that were normalised: they are kept in a form other than the one given."""


class RightChange(Struct, kw_only=True):
    """Something that happened to a right. What ``was`` and ``now`` hold depends on ``kind``."""

    kind: str
    by: str
    at: dt.datetime
    was: str | None
    now: str | None
    code: str | None
    documents: list[str] | None
    """Documents that were named, or that a decision rests on."""
    seen: str | None
    """Where else the proof was seen."""
    cure: str | None
    """Of a refusal: what was wrong, and what to do about it."""


class RightWithHistory(RightOut, kw_only=True):
    """A right and its history, latest first, at most 100 entries."""

    registrant_match: int | None
    """For staff: how alike, from 0 to 100, the registrant and the account's name are, or one that it had before. It
    decides nothing."""
    registrant_match_former: bool
    """It is a name that the account had before."""
    history: list[RightChange]


class AuthorisationOut(Struct, kw_only=True):
    """An authorisation, or a request for one. ``rights`` null: all of the principal's rights."""

    id: str
    agent: str
    principal: str
    rights: list[str] | None
    territory: list[str] | None
    expires_at: dt.datetime | None
    status: Literal["active", "ended", "expired", "pending"]
    granted_at: dt.datetime
    """When it came into force; until then when it was asked for."""
    pending_reason: Literal["agent_consent", "proof_missing", "proof_unseen", "refused"] | None
    """What a pending one waits for."""
    basis: Literal["principal", "power_of_attorney", "rules_0_2_0"] | None
    """What one that came into force rests on: the word of both sides, a power of attorney that a reviewer accepted, or
    the rules of version 0.2.0, by which the agent was not asked."""
    asked_by: str | None


class AuthorisationChange(Struct, kw_only=True):
    """Something that happened to an authorisation."""

    kind: str
    by: str
    at: dt.datetime
    code: str | None
    documents: list[str] | None
    """Documents that were named, or that a decision rests on."""
    seen: str | None
    """Where else the power of attorney was seen."""
    cure: str | None
    """Of a refusal: what was wrong, and what to do about it."""


class AuthorisationWithHistory(AuthorisationOut, kw_only=True):
    """An authorisation and its history, latest first, at most 100 entries."""

    history: list[AuthorisationChange]


class Changed(Struct, kw_only=True):
    """Result of changing a right or an authorisation. Open items that it concerns are told within seconds."""

    changed: bool
    """False: it was so already, so nothing was written."""
