"""Intake's rules, without I/O: links, ids, who may do what, lanes, and what a claim becomes."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from services.intake.kernel import requests, territory
from shared import events, policy
from shared.events import Lane, Role, State
from shared.ids import NUMBERS, PAIRS
from shared.refusals import Refused as Refused

if TYPE_CHECKING:
    from services.intake.review.domain import Decided

CANARY: Final = "canary"
"""Channel of what a canary files."""
QUOTA_ITEMS: Final = 50_000
"""Items that one account may file in 24 hours before further ones go to the bulk lane."""
LANES: Final[tuple[Lane, ...]] = ("express", "standard", "bulk")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")
_NOT_IN_A_LINK: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
"""ASCII that RFC 3986 requires to be percent-encoded: spaces, control characters, and markup."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def not_found() -> Refused:
    """404, the same for what does not exist and for what is somebody else's."""
    return Refused(
        404, "not_found", "There is no such resource.", cure="Check the id; you see only what you are party to."
    )


def decoded(value: bytes, kind: type[requests.In]) -> Any:
    """Decode input from HTTP or a topic.

    Raises:
        Refused: 400 if it is not JSON, 422 naming the field.
    """
    try:
        return requests.decode(value, kind)
    except msgspec.ValidationError as error:
        field, detail = located(str(error))
        raise Refused(422, "invalid", detail, field=field, cure="Correct the field; see /openapi.json.") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise Refused(400, "malformed", f"The body is not JSON: {detail}.", cure="Send one JSON object.") from None


def located(message: str) -> tuple[str | None, str]:
    """(field, problem) of a msgspec error message."""
    problem, _, path = message.partition(" - at `")
    field = path.rstrip("`").removeprefix("$").lstrip(".")
    for start in ("Object missing required field `", "Object contains unknown field `"):
        if problem.startswith(start):
            name = problem[len(start) :].rstrip("`")
            field = f"{field}.{name}" if field else name
    return field[:200] or None, problem[:300]


# ----------------------------------------------------------------------------------------------------------------- ids


def new_id(prefix: str, wall_ms: int, random: Callable[[int], int] = secrets.randbits) -> str:
    """``<prefix>-`` and 26 characters: 48 bits of time and 80 random bits. Sorts by time."""
    return f"{prefix}-{_base32(wall_ms, 48)}{_base32(random(80), 80)}"


def new_claim_ids(wall_ms: int, size: int, random: Callable[[int], int] = secrets.randbits) -> tuple[str, list[str]]:
    """(claim, items). The items' ids are the claim's with a different last part, so that they form one key range."""
    base = _base32(wall_ms, 48) + _base32(random(65), 65)
    return f"c-{base}000", [f"i-{base}{NUMBERS[number]}" for number in range(1, size + 1)]


def item_range(claim: str) -> tuple[str, str]:
    """Lowest and highest id that an item of the claim can have."""
    base = claim[2:-3]
    return f"i-{base}000", f"i-{base}ZZZ"


def _base32(value: int, bits: int) -> str:
    characters = (bits + 4) // 5
    text = "".join(PAIRS[value >> shift & 1023] for shift in range((characters - 1) // 2 * 10, -1, -10))
    return text[-characters:]


# --------------------------------------------------------------------------------------------------------------- links


@dataclass(frozen=True, slots=True)
class ListingRef:
    """A parsed link: the listing that it points to, or a digest if it is not a listing of this site."""

    listing: str
    on_site: bool
    link: str


def listing_of(link: str, hosts: Collection[str]) -> ListingRef:
    """Parse a link. ``https://<site host>/items/<id>`` is a listing of this site; nothing is ever fetched.

    Raises:
        Refused: not an http(s) URL, too long, or with characters that are invisible, change the direction of text, or
            make markup.
    """
    # the common shape, without a parser
    for host in hosts:
        start = f"https://{host}/items/"
        if link.startswith(start) and _ID.fullmatch(name := link[len(start) :]) and not name.startswith("x-"):
            return ListingRef(name, True, link)
    if len(link) > 2000:
        raise _bad_link("longer than 2,000 characters")
    if _NOT_IN_A_LINK.search(link) or any(unicodedata.category(char) in _INVISIBLE for char in link if char > "\x7f"):
        raise _bad_link("contains spaces, invisible characters or markup")
    try:
        parts = urlsplit(link)
        host = (parts.hostname or "").rstrip(".").lower()
        port = parts.port
    except ValueError as error:
        raise _bad_link(str(error)[:100]) from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise _bad_link("not an http or https URL")
    default = {"http": 80, "https": 443}[parts.scheme.lower()]
    if host in hosts and port in (None, default) and parts.username is None and parts.password is None:
        path = re.fullmatch(r"/items/([^/]+)/?", parts.path)
        # "x-" is reserved for links elsewhere
        if path and _ID.fullmatch(path[1]) and not path[1].startswith("x-"):
            return ListingRef(path[1], True, link)
    try:
        digest = hashlib.sha256(link.encode()).hexdigest()
    except UnicodeEncodeError:
        raise _bad_link("not valid Unicode") from None
    return ListingRef(f"x-{digest[:24]}", False, link)


def _bad_link(why: str) -> Refused:
    return Refused(
        422,
        "bad_link",
        f"A link is {why}." if why.startswith(("longer", "not")) else f"A link {why}.",
        field="listings",
        cure="Give the full address of each listing, such as https://market.example/items/123.",
    )


def listings_of(links: Sequence[str], hosts: Collection[str]) -> list[ListingRef]:
    """Parse a claim's links; one that is named twice counts once.

    Raises:
        Refused: naming the first bad link's position.
    """
    found: dict[str, ListingRef] = {}
    for place, link in enumerate(links):
        try:
            ref = listing_of(link, hosts)
        except Refused as refused:
            refused.field = f"listings[{place}]"
            raise
        found.setdefault(ref.listing, ref)
    return list(found.values())


# ------------------------------------------------------------------------------------------------------------ accounts


@dataclass(frozen=True, slots=True)
class Account:
    """An account, as the rules need it."""

    id: str
    role: Role
    identity_verified: bool = False
    good_faith: bool = False
    registered: bool = False
    status: Literal["open", "suspended", "closed"] = "open"
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


# -------------------------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True, slots=True)
class Right:
    """A right as registered."""

    id: str
    owner: str
    right_type: events.RightType
    status: Literal["active", "expired", "lost", "pending"]
    expires_at: dt.datetime | None = None
    proof: str | None = None
    mark: str | None = None
    territory: Collection[str] | None = None
    refused: bool = False
    """A reviewer has refused its registration."""

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


def materials_of(right: Right, given: Iterable[str]) -> tuple[str, ...]:
    """Kinds of proof on file: those named, and ``ownership`` if the right has a proof of it."""
    return tuple(sorted({*given, "ownership"} if right.proof else set(given)))


def profile(name: str) -> policy.Policy:
    """The newest policy of the profile that a request names.

    Raises:
        Refused: 422, there is no such profile.
    """
    try:
        return policy.current(name)
    except policy.PolicyError:
        raise Refused(
            422,
            "unknown_profile",
            "There is no such policy profile.",
            field="profile",
            cure=f"Use one of: {', '.join(policy.profiles())}.",
        ) from None


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


def check_claim(claim: requests.SubmitClaim, account: Account) -> policy.Policy:
    """Check what can be checked of a claim without looking anything up. Returns its policy.

    Raises:
        Refused: the account is suspended, unknown profile or reason, a reason for accounts in good faith only, or too many
            listings.
    """
    check_open(account)
    rules = profile(claim.profile)
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
            f"A claim of yours names at most {limit} listings; this one names {len(claim.listings)}.",
            field="listings",
            cure="Split the claim." if account.registered else "Have your account verified, or split the claim.",
        )
    return rules


@dataclass(slots=True)
class Rows:
    """What one accepted request adds to the tables. ``store`` turns these into columns."""

    resource: str
    answer: dict[str, Any]
    claim: tuple[Any, ...] | None = None
    items: list[tuple[Any, ...]] = field(default_factory=list)
    commands: list[events.Command] = field(default_factory=list)
    kinds: str = ""
    decisions: list[Decided] = field(default_factory=list)
    documents: Sequence[Any] = ()
    """Evidence that the request names; ``store`` ties it to the claim."""
    held: bool = False
    """The items wait for the end of a suspension before they enter the admission queue."""


def claim_rows(
    claim: requests.SubmitClaim,
    listings: Sequence[ListingRef],
    *,
    rules: policy.Policy,
    complainant: Account,
    right: Right | None,
    granted: Iterable[Authorisation],
    over_quota: bool,
    channel: str,
    now: dt.datetime,
    wall_ms: int,
    recurs: str | None = None,
) -> Rows:
    """The rows of a claim that is accepted now.

    Raises:
        Refused: the right is not the principal's, the reason does not fit it, or the complainant may not file for it.
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
            cure="Register the right anew, with what it lacked.",
        )
    if right.right_type not in rules.reasons[claim.reason].rights:
        raise Refused(
            422,
            "reason_not_for_right",
            f"The reason does not fit a right of type {right.right_type}.",
            field="reason",
            cure=f"Use one of: {', '.join(sorted(k for k, v in rules.reasons.items() if right.right_type in v.rights)) or 'none'}.",
        )
    authority = authority_of(complainant.id, principal, right, granted, now)
    if authority == "missing":
        raise Refused(
            422,
            "not_authorised",
            "The principal has not authorised you to file for this right, or no longer.",
            field="principal",
            cure="Have the principal authorise you (POST /v1/authorisations) for this right and its territory, then file again.",
        )
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
        reason=claim.reason,
        profile=claim.profile,
        policy=rules.version,
        lane=lane,
        good_faith=complainant.good_faith,
        abroad=claim.abroad,
        canary=complainant.canary,
        record=complainant.record,
        identity_verified=complainant.identity_verified,
        authority=authority,
        mark=right.mark,
        recurs=recurs,
        materials=materials_of(right, claim.materials),
        accepted_at=now,
    )
    return Rows(
        resource=claim_id,
        answer={
            "claim": claim_id,
            "accepted_at": now,
            "lane": lane,
            "items": [{"item": item, "listing": ref.listing} for item, ref in zip(item_ids, listings, strict=True)],
        },
        claim=(
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
            (item, claim_id, ref.listing, ref.on_site, ref.link, lane, complainant.id, now)
            for item, ref in zip(item_ids, listings, strict=True)
        ],
    )


def filed(claim: Sequence[Any], *, canary: bool) -> events.ClaimFiled:
    """The event that publishes a claim. ``claim``: its row, as in ``Rows``."""
    return events.ClaimFiled(
        claim=claim[0],
        account=claim[1],
        items=claim[8],
        right_type=claim[4],
        channel=claim[9],
        canary=canary,
        at=claim[10],
    )


# ------------------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class ItemRef:
    """An item as a command needs it."""

    item: str
    claim: str
    listing: str
    complainant: str
    principal: str
    seller: str | None
    right: str
    state: str
    lane: str


Part = Literal["holder", "seller", "reviewer", "operator"]
MAY: Final[dict[str, frozenset[Part]]] = {
    "add_information": frozenset({"holder"}),
    "withdraw": frozenset({"holder"}),
    "respond": frozenset({"holder"}),
    "accept": frozenset({"seller"}),
    "counter": frozenset({"seller"}),
    "report_action": frozenset({"holder", "seller"}),
    "report_result": frozenset({"holder", "seller"}),
    "complain": frozenset({"holder", "seller"}),
    "decide": frozenset({"reviewer", "operator"}),
}
"""Which parts in an item may give each command."""
RENEWING: Final = frozenset({"add_information", "complain"})
"""Commands of the holder's side that carry what is now known of it: identity, authority, right and materials."""


def part_in(account: Account, item: ItemRef) -> Part | None:
    """The account's part in the item; None: it is not party to it, and must not learn that it exists."""
    if account.role in ("reviewer", "operator"):
        return "reviewer" if account.role == "reviewer" else "operator"
    if account.id in (item.complainant, item.principal):
        return "holder"
    if item.seller is not None and account.id == item.seller:
        return "seller"
    return None


def command_targets(kind: str, account: Account, items: Sequence[ItemRef]) -> tuple[Part, list[ItemRef]]:
    """(part, items): which of the items the account may give this command about, and its part in them.

    The item's owner decides, in order, whether an item's state allows the command. Only what can never succeed is left
    out here.

    Raises:
        Refused: 404 if it is party to none, 403 if its part may not give the command.
    """
    parts = [(part_in(account, item), item) for item in items]
    mine = [(part, item) for part, item in parts if part is not None]
    if not mine:
        raise not_found()
    allowed = [(part, item) for part, item in mine if part in MAY[kind]]
    if not allowed:
        raise Refused(
            403,
            "not_your_part",
            f"A {mine[0][0]} cannot give this command.",
            cure=f"It is for: {', '.join(sorted(MAY[kind]))}.",
        )
    live = [(part, item) for part, item in allowed if item.state != State.WITHDRAWN] or allowed
    return live[0][0], [item for _, item in live]


def command_rows(
    kind: str,
    body: requests.In,
    account: Account,
    items: Sequence[ItemRef],
    *,
    standing: Callable[[ItemRef], dict[str, Any]],
    now: dt.datetime,
    wall_ms: int,
) -> Rows:
    """The rows of a command that is accepted now, for one item or all of a claim.

    Args:
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
            on_file = standing(item) if kind in RENEWING and part == "holder" else {"materials": ()}
            extra = {**on_file, "materials": tuple(sorted({*on_file["materials"], *fields["materials"]}))}
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
        kinds=kind,
    )


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


# ----------------------------------------------------------------------------------------------------------- admission


@dataclass(slots=True)
class Shares:
    """Divides room among lanes by weight, and keeps what rounding left over (deficit round robin)."""

    weights: Mapping[Lane, int]
    credit: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(LANES, 0.0))

    def split(self, room: int, lanes: Collection[Lane]) -> dict[Lane, int]:
        """Room for each lane that has something waiting. Adds up to ``room``, except for fractions carried over."""
        total = sum(self.weights[lane] for lane in lanes)
        result: dict[Lane, int] = {}
        left = room
        for lane in (lane for lane in LANES if lane in lanes):
            self.credit[lane] += room * self.weights[lane] / total
            # the epsilon is for sums of thirds
            result[lane] = max(min(int(self.credit[lane] + 1e-9), left), 0)
            left -= result[lane]
        return result

    def beside(self, lane: Lane, taken: int, lanes: Collection[Lane]) -> int:
        """Room for a lane that is held back: its weight's share of what the open lanes got."""
        self.credit[lane] += taken * self.weights[lane] / max(sum(self.weights[other] for other in lanes), 1)
        return int(self.credit[lane] + 1e-9)

    def took(self, lane: Lane, count: int, *, exhausted: bool) -> None:
        """Record what the lane took. A lane that had no more keeps no credit."""
        self.credit[lane] = 0.0 if exhausted else max(self.credit[lane] - count, 0.0)


def level(waiting: Mapping[str, int], room: int) -> dict[str, int]:
    """Divide room among complainants as evenly as what each has waiting allows."""
    result = dict.fromkeys(waiting, 0)
    open_ = [name for name, count in waiting.items() if count]
    while open_ and room > 0:
        each = max(room // len(open_), 1)
        for name in open_:
            more = min(each, waiting[name] - result[name], room)
            result[name] += more
            room -= more
        open_ = [name for name in open_ if result[name] < waiting[name]]
    return result


def busy(detail: str) -> Refused:
    """503: nothing is known to have been accepted."""
    return Refused(503, "unavailable", detail, cure="Try again shortly, with the same Idempotency-Key.")


AccountState = Literal["applied", "email_confirmed", "verified", "suspended", "closed"]


def state_of(status: Status, identity_verified: bool, email_confirmed: bool) -> AccountState:
    """An account's state, derived from its facts."""
    if status != "open":
        return status
    if identity_verified:
        return "verified"
    return "email_confirmed" if email_confirmed else "applied"


Status = Literal["open", "suspended", "closed"]


Standing = Literal["active", "expired", "lost", "unauthorised"]


def standing(*, owns: bool, status: str, covered: bool) -> Standing | None:
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
