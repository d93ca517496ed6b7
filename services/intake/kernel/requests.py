"""What may be asked, by HTTP or by an upstream's topic: one struct each, strict, bounded, unknown fields refused."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.events import Lane, RightType, State

# `$` alone would let a trailing newline pass; the look-ahead means the same in Python and in JSON Schema's dialect
Id = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)")]
# printable: no control characters, which no name needs and which forge lines in logs and mail headers
Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$(?!\n)")]
Address = Annotated[
    str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]+$(?!\n)")
]
Email = Annotated[
    str,
    Meta(
        min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,189}$(?!\n)"
    ),
]
Register = Literal["us", "eu", "wipo", "cn", "ep"]
"""USPTO, EUIPO, WIPO (Madrid, Hague), CNIPA, EPO."""
Territory = Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)")]], Meta(min_length=1, max_length=260)]
"""States by ISO 3166-1 alpha-2; EU, and EM, BX, OA as WIPO ST.3 has them."""
Number = Annotated[str, Meta(min_length=1, max_length=60)]
Token = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]
Text = Annotated[
    str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]+$(?!\n)")
]
"""Some lines of plain text."""
LINK_MOST: Final = 2000
MATERIALS_MOST: Final = 20
Link = Annotated[str, Meta(min_length=1, max_length=LINK_MOST)]
Materials = Annotated[list[Id], Meta(max_length=MATERIALS_MOST)]
Documents = Annotated[list[Id], Meta(max_length=MATERIALS_MOST)]
Time = Annotated[dt.datetime, Meta(tz=True)]


class In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all input."""


class Ends(In, frozen=True, kw_only=True):
    """Base of input that may name the end of its time."""

    expires_at: Time | UnsetType | None = None

    def __post_init__(self) -> None:
        _utc(self, "expires_at")


def _utc(given: In, name: str) -> None:
    """Bring a time to UTC, if there is one.

    Raises:
        ValueError: one that the database does not know: it has neither year 0 nor offsets beyond 16 hours.
    """
    time = getattr(given, name)
    if not isinstance(time, dt.datetime):
        return
    try:
        utc = time.astimezone(dt.UTC)
    except OverflowError:
        utc = None
    if utc is None or not 1900 <= utc.year <= 2300:
        raise ValueError(f"Expected a time between the years 1900 and 2300 - at `$.{name}`")
    msgspec.structs.force_setattr(given, name, utc)


class OpenAccount(In, frozen=True, kw_only=True):
    """A new account. Anyone may open a holder's; the rest is for operators."""

    role: Literal["holder", "seller", "reviewer", "operator", "upstream"] = "holder"
    kind: Literal["person", "company"] = "company"
    id: Id | None = None
    """Operators only: the id to use, e.g. a seller's at the marketplace."""
    identity_verified: bool = False
    """Operators only."""
    good_faith: bool = False
    """Operators only."""


class NewToken(In, frozen=True, kw_only=True):
    """A further token. ``name`` tells it apart in the list; ``days`` until it expires, the installation's when not given."""

    name: Line | None = None
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class Erase(In, frozen=True, kw_only=True):
    """Erase an account. ``force``: although it is party to what is not over; ``reason``: code of why."""

    force: bool = False
    reason: Id | None = None


class Contact(In, frozen=True, kw_only=True):
    """How to reach an account's owner. Kept encrypted."""

    name: Line
    address: Address
    email: Email
    language: Literal["en", "zh", "de"] | None = None
    """Of messages (``shared.languages.LANGUAGES``). None: what ``Accept-Language`` names, else English."""


class RegisterRight(Ends, frozen=True, kw_only=True):
    """A right, registered once and then referred to by claims."""

    right_type: RightType
    number: Number | None = None
    """Number in the register, as on the certificate; only an unregistered copyright has none."""
    register: Register | None = None
    """Where it is registered: the number is then held against that register's format (docs/interfaces.md)."""
    expires_at: Time | None = None
    proof: Id | None = None
    """Reference of the proof of ownership, for the reviewer. The right is pending until a document of kind ``ownership`` is named or
    a reviewer accepts it; a reference that an operator gives counts as looked at."""
    evidence: Documents = []
    """The caller's documents that prove it."""
    owner: Id | None = None
    """Operators only: the account that owns it."""
    mark: Annotated[str, Meta(min_length=1, max_length=400)] | None = None
    """Trade marks: the words, as registered; normalised (NFKC)."""
    registrant: Line | None = None
    """The owner's name as it stands in the register."""
    classes: Annotated[list[Annotated[str, Meta(min_length=1, max_length=8)]], Meta(max_length=100)] | None = None
    """Trade marks: Nice, 1 to 45. Designs: Locarno, ``NN-NN``."""
    territory: Territory | None = None
    """Where it is good; of an international registration the designated states. None: the register's, or everywhere."""


class ChangeRight(Ends, frozen=True, kw_only=True):
    """A right's new status."""

    status: Literal["active", "expired", "lost"]
    expires_at: Time | UnsetType | None = UNSET


class RenewRight(Ends, frozen=True, kw_only=True):
    """The register has renewed a right."""

    expires_at: Time
    proof: Id | None = None
    """Reference of the proof."""


class AssignRight(In, frozen=True, kw_only=True):
    """A right has passed to another account."""

    to: Id
    proof: Id | None = None
    """Reference of the proof."""


class RenameRight(In, frozen=True, kw_only=True):
    """The owner's name has changed in the register."""

    registrant: Line
    proof: Id | None = None
    """Reference of the proof."""


class DecideRight(In, frozen=True, kw_only=True):
    """A reviewer's decision on a right that is pending."""

    accept: bool
    code: Id | None = None
    """Why it is refused."""


class Authorise(Ends, frozen=True, kw_only=True):
    """The caller, a principal, lets an agent file for it."""

    agent: Id
    rights: Annotated[list[Id], Meta(min_length=1, max_length=300)] | None = None
    """Rights that the agent may file for; none named: all."""
    territory: Territory | None = None
    """Where it may act; none named: everywhere."""
    expires_at: Time | None = None


class Verify(In, frozen=True, kw_only=True):
    """What an operator or reviewer has found out about an account."""

    identity_verified: bool | UnsetType = UNSET
    email_confirmed: Literal[True] | UnsetType = UNSET
    """The address on file is known to be the account's, as where the marketplace has confirmed it. It counts until the address changes."""
    good_faith: bool | UnsetType = UNSET
    """The account takes part in the good-faith mechanism."""


class ChangeStatus(In, frozen=True, kw_only=True):
    """An operator suspends an account, lets it go on, or closes it for good."""

    status: Literal["open", "suspended", "closed"]
    code: Id | None = None
    """Why."""


class LiftSanction(In, frozen=True, kw_only=True):
    """An operator lifts a seller's sanction."""

    reason: Id
    """Code: why."""
    note: Text | None = None
    """For staff, kept in clear: no personal data."""


class Confirm(In, frozen=True, kw_only=True):
    """The code that came by e-mail."""

    code: Annotated[str, Meta(min_length=1, max_length=40)]


class SubmitClaim(In, frozen=True, kw_only=True):
    """A claim: one right, one reason, and the listings that are said to infringe."""

    right: Id
    reason: Id
    listings: Annotated[list[Link], Meta(min_length=1, max_length=300)]
    profile: Id = "ipp"
    principal: Id | None = None
    """Owner of the right, when an agent files."""
    abroad: bool = False
    """The holder has no residence in the country of the profile's law, which may give it longer to answer."""
    materials: Materials = []
    """Kinds of proof on file, e.g. ``statement``."""
    evidence: Documents = []
    """The caller's documents; their kinds count as materials."""


class AddInformation(In, frozen=True, kw_only=True):
    """What was missing; identity, authority and right are looked up anew."""

    materials: Materials = []
    evidence: Documents = []
    """The caller's documents; their kinds count as materials."""


class Withdraw(In, frozen=True, kw_only=True):
    """The complainant takes the claim back."""

    ground: Literal["error", "settled", "licensed"]


class Accept(In, frozen=True, kw_only=True):
    """The seller accepts the takedown."""


class Counter(In, frozen=True, kw_only=True):
    """The seller's counter-notification."""

    materials: Materials = []
    evidence: Documents = []
    """The caller's documents; their kinds count as materials."""


class Respond(In, frozen=True, kw_only=True):
    """The holder accepts or rejects the counter."""

    accept: bool


class ReportAction(In, frozen=True, kw_only=True):
    """A court or authority action was filed."""

    proof: Id | None = None
    evidence: Documents = []
    """The caller's documents; the first is the proof, unless another is named."""


class ReportResult(In, frozen=True, kw_only=True):
    """How the action ended: for the holder, for the seller, or without a result."""

    outcome: Literal["holder", "seller", "ended"]
    proof: Id | None = None
    evidence: Documents = []
    """The caller's documents; the first is the proof, unless another is named."""


class Complain(In, frozen=True, kw_only=True):
    """A complaint against the decision that ended the item's case; what is new is named by reference."""

    materials: Materials = []
    evidence: Documents = []
    """The caller's documents; their kinds count as materials."""


class Decide(In, frozen=True, kw_only=True):
    """A reviewer's decision."""

    decision: Literal["uphold", "refuse", "complete", "incomplete", "restore", "confirm", "reverse"]
    code: Id | None = None
    """Reason code of a refusal (policy: ``refusals``)."""
    revision: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """The item's revision that was looked at; without it, that of the lease."""
    lease: Token | None = None
    """Token of the lease (``POST /v1/review/lease``). Only an operator may decide without, and it is marked."""


class TakeLease(In, frozen=True, kw_only=True):
    """Which cases a reviewer wants: the most urgent one that fits all that is given, and more of its claim up to ``count``."""

    count: Annotated[int, Meta(ge=1, le=50)] = 1
    state: State | None = None
    reason: Id | None = None
    right_type: RightType | None = None
    severity: Literal["general", "serious"] | None = None
    lane: Lane | None = None
    profile: Id | None = None
    claim: Id | None = None


class SomeCases(In, frozen=True, kw_only=True):
    """Cases of a lease; none named: all of them."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=50)] | None = None


class HandOver(SomeCases, frozen=True, kw_only=True):
    """Cases of a lease, for another person."""

    to: Id


class AddNote(In, frozen=True, kw_only=True):
    """A note on a case, for staff. Not for personal data: name parties by their account ids."""

    text: Text


class DeclareConflicts(In, frozen=True, kw_only=True):
    """Accounts about which a reviewer may not decide, all of them: what is not named is taken back."""

    accounts: Annotated[list[Id], Meta(max_length=500)]
    reviewer: Id | None = None
    """Operators only: whose conflicts. What an operator has set, the reviewer cannot take back."""


class FindMisuse(In, frozen=True, kw_only=True):
    """A reviewer's finding about an account's intent; it rests on a document of the account's, or on a claim that it filed."""

    kind: Literal["forged_document", "knowingly_false", "none"]
    code: Id
    """Why, in short: a code, not a text."""
    document: Id | None = None
    claim: Id | None = None


class SecondFinding(In, frozen=True, kw_only=True):
    """Whether a second reviewer agrees with a finding."""

    agree: bool


class ComplainOfMeasure(In, frozen=True, kw_only=True):
    """A complaint against a measure."""

    statement: Text | None = None
    """Why it is wrong. Kept encrypted."""
    evidence: Documents = []
    """The caller's documents that show it."""


class DecideMeasure(In, frozen=True, kw_only=True):
    """A reviewer's decision on a complaint against a measure."""

    decision: Literal["confirm", "reverse"]
    code: Id
    """Reason code (policy: ``appeals.reasons``)."""


class NameDocuments(In, frozen=True, kw_only=True):
    """Documents of the caller, to be named in a right or its account."""

    evidence: Annotated[list[Id], Meta(min_length=1, max_length=20)]


class ExecuteDeclaration(In, frozen=True, kw_only=True):
    """The caller executes the *Declaration on Joining the Good-faith Takedown Mechanism*."""

    version: Id
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    """Of the text as it was read: what is executed is that text and no other."""
    name: Line
    """Who signs. Kept encrypted."""
    capacity: Line
    """By what capacity, e.g. managing director. Kept encrypted."""


class Digest(In, frozen=True, kw_only=True):
    """An hour of the caller's day."""

    hour: Annotated[int, Meta(ge=0, le=23)]
    zone: Annotated[str, Meta(min_length=1, max_length=40)]
    """IANA name of the time zone, such as `Europe/Berlin`."""


class ChooseChannels(In, frozen=True, kw_only=True):
    """How the caller wants to be told, the most wanted channel first."""

    order: Annotated[list[Literal["email", "webhook", "inbox"]], Meta(min_length=1, max_length=3)]
    """What is not named follows, for a message that no other channel takes."""
    digest: Digest | None = None
    """Receipts and outcomes of a day in one message at that hour; none: each for itself. What sets a time is never held back."""


class AddWebhook(In, frozen=True, kw_only=True):
    """A webhook of the caller's."""

    url: Annotated[str, Meta(min_length=1, max_length=500)]
    kinds: Annotated[list[Id], Meta(max_length=50)] = []
    """Kinds of message that it is sent, such as `outcome`; none: all. Messages that begin a window are always sent."""


class ChangeWebhook(In, frozen=True, kw_only=True):
    """Whether a webhook is in use."""

    status: Literal["enabled", "disabled"]


class ConfirmWebhook(In, frozen=True, kw_only=True):
    """The code that came to the webhook's URL."""

    code: Annotated[str, Meta(min_length=1, max_length=40)]


class ReplayWebhook(In, frozen=True, kw_only=True):
    """What a webhook is sent again: one message, or those that were sent since a time."""

    message: Id | None = None
    since: Time | None = None

    def __post_init__(self) -> None:
        _utc(self, "since")


class ChallengeEnded(In, frozen=True, kw_only=True):
    """What came of a call that asks a webhook's owner to confirm."""

    id: Id
    ask: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    result: Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^[a-z0-9_]+$(?!\n)")]
    """HTTP status, or a word."""
    over: bool
    """It was taken, or must not be tried again."""


class TakeChallenges(In, frozen=True, kw_only=True):
    """What came of calls, and how many more are wanted."""

    ended: Annotated[list[ChallengeEnded], Meta(max_length=100)] = []
    most: Annotated[int, Meta(ge=0, le=100)]


class ContactIds(In, frozen=True, kw_only=True):
    """Accounts whose contacts a service of ours needs."""

    ids: Annotated[list[Id], Meta(max_length=1000)]


COMMANDS: Final[dict[str, type[In]]] = {
    "add_information": AddInformation,
    "withdraw": Withdraw,
    "accept": Accept,
    "counter": Counter,
    "respond": Respond,
    "report_action": ReportAction,
    "report_result": ReportResult,
    "complain": Complain,
    "decide": Decide,
}
"""Command name -> what it carries. ``shared.events.COMMANDS`` has the event of each."""


def decode(body: bytes | memoryview, kind: type[In]) -> Any:
    """Decode JSON strictly.

    Raises:
        msgspec.ValidationError: naming the field.
        msgspec.DecodeError: no JSON.
        UnicodeDecodeError, RecursionError: bad UTF-8, nested too deeply.
    """
    return _decoder(kind).decode(body)


_decoders: dict[type[In], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[In]) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


def _addressed(kind: type[In], *, target: bool) -> type[In]:
    """The request as an upstream sends it: with what it is about, and for whom."""
    fields: list[tuple[str, Any, Any]] = [("on_behalf_of", Id | None, None)]
    if target:
        fields += [(name, Id | None, None) for name in ("item", "claim", "submission", "listing")]
    made = msgspec.defstruct(
        f"{kind.__name__}ByTopic", fields, bases=(kind,), frozen=True, kw_only=True, forbid_unknown_fields=True,
        module=__name__,
    )  # fmt: skip
    made.__doc__ = f"{kind.__doc__} For `on_behalf_of`." + (
        " About `item`, or the items of `claim` or of the claim that the upstream's event `submission` filed; of these only"
        " the one of `listing`, if given."
        if target
        else ""
    )
    return cast(type[In], made)


BY_TOPIC: Final[dict[str, type[In]]] = {
    "goodfaith.door.submit_claim.v1": _addressed(SubmitClaim, target=False),
    **{f"goodfaith.door.{name}.v1": _addressed(kind, target=True) for name, kind in COMMANDS.items()},
}
"""CloudEvents type of an upstream's record -> its data."""
