"""Accounts, rights and authorisations as all parts of intake know them, and what follows from them. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.intake.kernel import territory
from shared import events, policy
from shared.events import Lane, Role, State
from shared.refusals import Refused

CANARY: Final = "canary"
"""Channel of what a canary files."""
QUOTA_ITEMS: Final = 50_000
"""Items that one account may file in 24 hours before further ones go to the bulk lane."""
LANES: Final[tuple[Lane, ...]] = ("express", "standard", "bulk")

# ------------------------------------------------------------------------------------------------------------ accounts

Status = Literal["open", "suspended", "closed"]
AccountState = Literal["applied", "email_confirmed", "verified", "suspended", "closed"]


@dataclass(frozen=True, slots=True)
class Account:
    """An account, as the rules need it."""

    id: str
    role: Role
    identity_verified: bool = False
    good_faith: bool = False
    registered: bool = False
    status: Status = "open"
    record: events.Record | None = None
    """What became of its items, as last judged (good faith)."""
    misuse: Literal["clear", "warning", "quota", "suspension"] = "clear"
    """The most severe measure against misuse in force, as last judged."""
    misuse_items: int | None = None
    """Under a quota: items per business day (UTC)."""
    misuse_until: dt.date | None = None
    """First day on which the measure no longer applies; None: until the record is good again."""
    canary: bool = False
    """What it files is left out of every figure."""

    @property
    def channel(self) -> str:
        """The channel under which its requests by HTTP are counted."""
        return CANARY if self.canary else "http"

    def under(self, measure: Literal["quota", "suspension"], day: dt.date) -> bool:
        """Whether that measure is in force on a day."""
        return self.misuse == measure and (self.misuse_until is None or day < self.misuse_until)

    @property
    def sees_all(self) -> bool:
        """Reviewers and operators see every claim."""
        return self.role in ("reviewer", "operator")


def state_of(status: Status, identity_verified: bool, email_confirmed: bool) -> AccountState:
    """An account's state, derived from its facts."""
    if status != "open":
        return status
    if identity_verified:
        return "verified"
    return "email_confirmed" if email_confirmed else "applied"


def check_open(account: Account, field: str | None = None) -> None:
    """Check that the account may begin something new: a claim, a right, an authorisation.

    A suspended one may still read, and act on what is open, because its deadlines run.

    Raises:
        Refused: it is suspended or closed.
    """
    if account.status != "open":
        raise Refused(
            403,
            f"account_{account.status}",
            f"The account is {account.status}.",
            field=field,
            cure="Write to the operator of the programme.",
        )


OnFile = Literal["missing", "unconfirmed", "confirmed"]
"""Whether an account's contact data are on file, and its address confirmed."""


def check_on_file(contact: OnFile, field: str | None = None) -> None:
    """Check that the seller can be told whom to reach (row 7). An unconfirmed address may be a stranger's.

    Args:
        field: the request's field that names the account.

    Raises:
        Refused: 422, nothing on file, or the address is not confirmed.
    """
    if contact == "missing":
        raise Refused(
            422,
            "no_contact",
            "The account has no contact data on file. The seller is to receive them with the claim.",
            field=field,
            cure="Its owner gives them (PUT /v1/contact) and confirms the address. Then file again.",
        )
    if contact == "unconfirmed":
        raise Refused(
            422,
            "contact_unconfirmed",
            "The account has not confirmed its address. The seller is to receive it with the claim.",
            field=field,
            cure="Its owner has a code sent there (POST /v1/contact/code) and returns it (POST /v1/contact/confirmation).",
        )


def check_lends(owner: Account, day: dt.date, field: str | None = None) -> None:
    """Check that other accounts may act with this one's rights. Not while it is suspended, or they would act for it.

    Args:
        field: the request's field that names the account.

    Raises:
        Refused: 403.
    """
    check_open(owner, field)
    if owner.under("suspension", day):
        raise Refused(
            403,
            "account_suspended",
            "The account's claims are suspended because of misuse.",
            field=field,
            cure="Wait for the end of the suspension; its owner may complain about it: GET /v1/misuse.",
        )


def lane_of(account: Account, over_quota: bool, *, asked: bool = True) -> Lane:
    """Lane of a claim (docs/explanation/architecture.md, "Group commit and admission").

    Args:
        asked: somebody filed it. What the system files by itself never gets ``express``.
    """
    if over_quota or not account.registered:
        return "bulk"
    return "express" if account.good_faith and asked else "standard"


# -------------------------------------------------------------------------------------------------------------- rights


@dataclass(frozen=True, slots=True)
class Right:
    """A right as registered."""

    id: str
    owner: str
    right_type: events.RightType
    status: Literal["active", "expired", "lost", "pending"]
    expires_at: dt.datetime | None = None
    mark: str | None = None
    territory: Collection[str] | None = None
    refused: bool = False
    """A reviewer has refused its registration."""
    registered: bool = True
    """False: a copyright that is in no register."""

    def status_at(self, now: dt.datetime) -> Literal["active", "expired", "lost", "pending"]:
        """Status at ``now``, counting an expiry that has passed but is not recorded yet."""
        if self.status == "active" and self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return self.status


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What an agent may file for. ``territory`` None: everywhere."""

    rights: Collection[str] | None
    expires_at: dt.datetime | None
    territory: Collection[str] | None = None

    def covers(self, right: Right, now: dt.datetime) -> bool:
        """Whether it covers the right at ``now``: named, not expired, and with a country in common."""
        return (
            (self.rights is None or right.id in self.rights)
            and (self.expires_at is None or now < self.expires_at)
            and territory.overlap(self.territory, right.territory)
        )


Authority = Literal["owner", "authorised", "missing"]


def authority_of(
    complainant: str, principal: str, right: Right, granted: Iterable[Authorisation], now: dt.datetime
) -> Authority:
    """By what authority the complainant files. Only the principal's own grant counts, not a chain of agents."""
    if complainant == principal:
        return "owner"
    return "authorised" if any(grant.covers(right, now) for grant in granted) else "missing"


RightStanding = Literal["active", "expired", "lost", "unauthorised"]


def right_standing(*, owns: bool, status: str, covered: bool) -> RightStanding | None:
    """What the open items of a claim are told about its right; None: nothing, because it was never in force.

    Args:
        owns: the claim's principal still owns the right.
        status: the right's status.
        covered: the complainant is the principal, or has its authorisation for the right.
    """
    if not owns or status == "lost":
        return "lost"
    if status == "pending":
        return None
    if status == "expired":
        return "expired"
    return "active" if covered else "unauthorised"


def proven_by_right(status: str) -> tuple[str, ...]:
    """Kinds of proof that a right with this status is by itself: a person accepted the documents of one in force."""
    return ("ownership",) if status in ("active", "expired") else ()


def profiles_offered(named: Sequence[str]) -> tuple[str, ...]:
    """The profiles that new claims may name, sorted: those that the installation names, or all (``GOODFAITH_PROFILES``).

    Raises:
        shared.policy.PolicyError: there is no such profile.
    """
    for name in named:
        policy.current(name)
    return tuple(sorted(set(named))) or policy.profiles()


def profile(name: str, pinned: Mapping[str, str], offered: Sequence[str] = ()) -> policy.Policy:
    """The policy of the profile that a request names: the newest, unless the installation has pinned another version.

    Args:
        offered: profiles that the installation names; empty: all.

    Raises:
        Refused: 422, there is no such profile, or it is not offered here.
    """
    if offered and name not in offered:
        raise Refused(
            422,
            "profile_not_offered",
            "Claims under this policy profile are not taken here.",
            field="profile",
            cure=f"Use one of: {', '.join(profiles_offered(offered))}.",
        )
    try:
        return policy.load(pinned[name]) if name in pinned else policy.current(name)
    except policy.PolicyError:
        raise Refused(
            422,
            "unknown_profile",
            "There is no such policy profile.",
            field="profile",
            cure=f"Use one of: {', '.join(policy.profiles())}.",
        ) from None


# ------------------------------------------------------------------------------------------------- release of contacts

_NOT_TOLD: Final = frozenset(
    {
        State.RECEIVED,
        State.DUPLICATE,
        State.LINK_INVALID,
        State.NEEDS_INFO,
        State.LAPSED,
        State.UNDER_REVIEW,
        State.REJECTED,
        State.WITHDRAWN,
        State.SUSPENDED,
        State.LITIGATION,
        State.APPEALED,
    }
)
_COUNTERED: Final = frozenset({State.HOLDER_RESPONSE, State.PLATFORM_REVIEW})


TOLD_SELLER: Final = 1
"""The item has reached the seller's notification: the seller is shown the holder's contact data."""
TOLD_HOLDER: Final = 2
"""The item has reached a counter's forwarding: the holder is shown the seller's contact data."""


def told(change: events.ItemChanged) -> int:
    """How far an item has come in the release of contact data: 1 NOTIFIED, 2 HOLDER_RESPONSE (rows 7 and 12); else 0.

    What was told stays told, so the read model keeps the highest value.
    """
    states = (change.state, *change.via)
    if any(state in _COUNTERED for state in states):
        return TOLD_HOLDER
    return int(change.noticed_at is not None or any(state not in _NOT_TOLD for state in states))
