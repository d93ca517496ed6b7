"""Requests, by HTTP or an upstream's topic: one struct each, strict and bounded. Unknown fields are refused."""

from __future__ import annotations

import datetime as dt
import unicodedata
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.events import Lane, RightType, State

# `$` alone would let a trailing newline pass; the look-ahead means the same in Python and in JSON Schema's dialect
Id = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)")]
# printable: no name needs control characters, and they can forge lines in logs and mail headers
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
"""Countries by ISO 3166-1 alpha-2; also EU, and EM, BX, OA from WIPO ST.3."""
Number = Annotated[str, Meta(min_length=1, max_length=60)]
Token = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]
Text = Annotated[
    str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]+$(?!\n)")
]
"""A few lines of plain text."""
_WORDS: Final = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]+$(?!\n)"
"""No control characters, and none that turn the direction of what stands around them: others read it as a quotation."""
WORDS_MOST: Final = 4000
ITEM_WORDS_MOST: Final = 1000
Words = Annotated[str, Meta(min_length=1, max_length=WORDS_MOST, pattern=_WORDS)]
"""What a party writes, in any language. Kept sealed. Normalised (NFC), without white space around it."""
ItemWords = Annotated[str, Meta(min_length=1, max_length=ITEM_WORDS_MOST, pattern=_WORDS)]
"""The same about one listing."""
LINK_MOST: Final = 2000
MATERIALS_MOST: Final = 20
Link = Annotated[str, Meta(min_length=1, max_length=LINK_MOST)]
Materials = Annotated[list[Id], Meta(max_length=MATERIALS_MOST)]
Documents = Annotated[list[Id], Meta(max_length=MATERIALS_MOST)]
Time = Annotated[dt.datetime, Meta(tz=True)]


class In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all input."""


class Expiring(In, frozen=True, kw_only=True):
    """Base of input that may have an expiry."""

    expires_at: Time | UnsetType | None = None

    def __post_init__(self) -> None:
        _utc(self, "expires_at")


def _utc(given: In, name: str) -> None:
    """Convert a time to UTC, if there is one.

    Raises:
        ValueError: the database cannot hold it: it has neither a year 0 nor offsets beyond 16 hours.
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


def _normalise(given: In, name: str, most: int, *, nested: bool = False) -> None:
    """Normalise a text, if there is one.

    Args:
        nested: the decoder adds where the struct is.

    Raises:
        ValueError: it is blank, or too long in its normal form.
    """
    text = getattr(given, name)
    if text is None:
        return
    normal = unicodedata.normalize("NFC", text).strip()
    where = "" if nested else f" - at `$.{name}`"
    if not normal:
        raise ValueError(f"Expected a text that is not blank{where}")
    if len(normal) > most:
        raise ValueError(f"Expected `str` of length <= {most}{where}")
    msgspec.structs.force_setattr(given, name, normal)


class OpenAccount(In, frozen=True, kw_only=True):
    """A new account. Anyone may open a holder's; the rest is for operators."""

    role: Literal["holder", "seller", "reviewer", "operator", "upstream"] = "holder"
    kind: Literal["person", "company"] = "company"
    id: Id | None = None
    """Operators only: the id to use, e.g. a seller's at the marketplace."""
    identity_verified: bool = False
    """Operators only, who say in ``seen`` what it rests on."""
    seen: Id | None = None
    """Operators only: where the caller has seen who the account's owner is, such as a file number."""
    good_faith: bool = False
    """Operators only."""


class NewToken(In, frozen=True, kw_only=True):
    """Another token. ``name`` is for the list; ``days`` until it expires, by default the installation's setting."""

    name: Line | None = None
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class Erase(In, frozen=True, kw_only=True):
    """Erase an account. ``force``: even if it is party to something open; ``reason``: why, as a code."""

    force: bool = False
    reason: Id | None = None


class Contact(In, frozen=True, kw_only=True):
    """How to reach an account's owner. Kept encrypted."""

    name: Line
    address: Address
    email: Email
    language: Literal["en", "zh", "de"] | None = None
    """Language of messages (``shared.languages.LANGUAGES``). None: by ``Accept-Language``, else English."""


class FirstPublication(In, frozen=True, kw_only=True):
    """When and where a work was first published."""

    on: dt.date
    where: Line
    """Such as a site, a gallery, or a publisher."""


class RegisterRight(Expiring, frozen=True, kw_only=True):
    """A right, registered once and then referred to by claims."""

    right_type: RightType
    number: Number | None = None
    """Number in the register, as on the certificate; only an unregistered copyright has none."""
    register: Register | None = None
    """Where it is registered. The number must fit that register's format (docs/reference/http.md, "Rights")."""
    expires_at: Time | None = None
    proof: Id | None = None
    """Reference to the proof of ownership, for the reviewer. It proves nothing by itself."""
    evidence: Documents = []
    """The caller's documents that prove it, and the views of a design: one to ten of kind ``design_view``. A reviewer
    looks at them; until then the right is pending."""
    seen: Id | None = None
    """Operators only: where the caller has seen the proof, such as a file number. The right is accepted by that."""
    owner: Id | None = None
    """Operators only: the account that owns it."""
    published: FirstPublication | None = None
    """A copyright that is in no register: when and where the work was first published. It also needs a sworn statement
    and a specimen: documents of the kinds ``sworn_statement`` and ``specimen``."""
    mark: Annotated[str, Meta(min_length=1, max_length=400)] | None = None
    """Trade marks: the words, as registered; normalised (NFKC)."""
    registrant: Line | None = None
    """The owner's name as in the register."""
    classes: Annotated[list[Annotated[str, Meta(min_length=1, max_length=8)]], Meta(max_length=100)] | None = None
    """Trade marks: Nice, 1 to 45. Designs: Locarno, ``NN-NN``, at least one."""
    territory: Territory | None = None
    """Where it applies; for an international registration the designated countries. None: the register's, or all."""


class ChangeRight(Expiring, frozen=True, kw_only=True):
    """A right's new status."""

    status: Literal["active", "expired", "lost"]
    expires_at: Time | UnsetType | None = UNSET


class RenewRight(Expiring, frozen=True, kw_only=True):
    """The register has renewed a right."""

    expires_at: Time
    proof: Id | None = None
    """Reference to the proof."""


class AssignRight(In, frozen=True, kw_only=True):
    """A right has passed to another account, which has to consent."""

    to: Id
    proof: Id | None = None
    """Reference to the proof."""


class RenameRight(In, frozen=True, kw_only=True):
    """The owner's name has changed in the register."""

    registrant: Line
    proof: Id | None = None
    """Reference to the proof."""


class DecideRight(In, frozen=True, kw_only=True):
    """A reviewer's decision on a right, or a power of attorney, that is pending."""

    accept: bool
    code: Id | None = None
    """Why it is refused (``shared/right_refusals.py``)."""
    documents: Documents = []
    """The documents named in it that the decision rests on."""
    seen: Id | None = None
    """Where else the proof was seen, such as a register's entry or a file number."""


class Consent(In, frozen=True, kw_only=True):
    """The answer to what another account asked."""

    accept: bool
    """False: declined; or withdrawn, by the side that asked."""


class Authorise(Expiring, frozen=True, kw_only=True):
    """The caller, a principal, lets an agent file for it; or the caller, an agent, asks to file for a principal."""

    agent: Id | None = None
    principal: Id | None = None
    """Instead of ``agent``: the owner for whom the caller wants to file."""
    evidence: Documents = []
    """With ``principal``: the caller's power of attorney, a document of kind ``authority``, for a reviewer."""
    rights: Annotated[list[Id], Meta(min_length=1, max_length=300)] | None = None
    """Rights that the agent may file for. None: all."""
    territory: Territory | None = None
    """Where it may act. None: everywhere."""
    expires_at: Time | None = None


class Verify(In, frozen=True, kw_only=True):
    """What an operator or reviewer has verified about an account."""

    identity_verified: bool | UnsetType = UNSET
    documents: Documents = []
    """Documents named in the account that the verdict on its identity rests on, one of kind ``identity`` among them."""
    seen: Id | None = None
    """Where else its owner's identity was seen, such as a file number."""
    code: Id | None = None
    """Why a verification is withdrawn."""
    email_confirmed: Literal[True] | UnsetType = UNSET
    """The address on file is known to be the account's, for example because the marketplace confirmed it.

    It counts until the address changes.
    """
    good_faith: bool | UnsetType = UNSET
    """The account takes part in the good-faith mechanism."""


class ChangeStatus(In, frozen=True, kw_only=True):
    """An operator suspends an account, reopens it, or closes it for good."""

    status: Literal["open", "suspended", "closed"]
    code: Id | None = None
    """Why."""


class LiftSanction(In, frozen=True, kw_only=True):
    """An operator lifts a seller's sanction."""

    reason: Id
    """Why, as a code."""
    note: Text | None = None
    """For staff, stored unencrypted: no personal data."""


class Confirm(In, frozen=True, kw_only=True):
    """The code that was sent by e-mail."""

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
    """What the complainant states, such as ``signature``. Kinds of proof count only by documents (``evidence``)."""
    evidence: Documents = []
    """The caller's documents. Their kinds count as materials."""


class AddInformation(In, frozen=True, kw_only=True):
    """What was missing; identity, authority and right are looked up again."""

    materials: Materials = []
    """What the complainant states, such as ``signature``. Kinds of proof count only by documents (``evidence``)."""
    evidence: Documents = []
    """The caller's documents. Their kinds count as materials."""


class Withdraw(In, frozen=True, kw_only=True):
    """The complainant withdraws the claim."""

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
    """Of a holder, only what it states; its kinds of proof count only by documents (``evidence``)."""
    evidence: Documents = []
    """The caller's documents; their kinds count as materials."""


class ItemExplanation(In, frozen=True, kw_only=True):
    """What the complainant says about one listing of its claim."""

    listing: Link
    """The listing's link, as in ``listings``."""
    text: ItemWords

    def __post_init__(self) -> None:
        _normalise(self, "text", ITEM_WORDS_MOST, nested=True)


class ExplainedClaim(SubmitClaim, frozen=True, kw_only=True):
    """A claim as it is filed by HTTP: the complainant may explain it."""

    explanation: Words | None = None
    """Why the listings infringe, in the complainant's own words."""
    explanations: Annotated[list[ItemExplanation], Meta(max_length=300)] = []
    """The same about single listings, one each."""

    def __post_init__(self) -> None:
        _normalise(self, "explanation", WORDS_MOST)


class WordedCounter(Counter, frozen=True, kw_only=True):
    """A counter as it is filed by HTTP."""

    text: Words | None = None
    """Why the claim is wrong, in the seller's own words."""

    def __post_init__(self) -> None:
        _normalise(self, "text", WORDS_MOST)


class WordedResponse(Respond, frozen=True, kw_only=True):
    """A response as it is filed by HTTP."""

    text: Words | None = None
    """What the holder says to the counter, in its own words."""

    def __post_init__(self) -> None:
        _normalise(self, "text", WORDS_MOST)


class WordedComplaint(Complain, frozen=True, kw_only=True):
    """A complaint as it is filed by HTTP."""

    text: Words | None = None
    """Why the decision is wrong, in the party's own words."""

    def __post_init__(self) -> None:
        _normalise(self, "text", WORDS_MOST)


class Decide(In, frozen=True, kw_only=True):
    """A reviewer's decision."""

    decision: Literal["uphold", "refuse", "complete", "incomplete", "restore", "confirm", "reverse"]
    code: Id | None = None
    """Reason code of a refusal (policy: ``refusals``) or of a decision about a complaint (``appeals``)."""
    revision: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """The item's revision that was looked at; by default that of the lease."""
    lease: Token | None = None
    """Token of the lease (``POST /v1/review/lease``). Only an operator may decide without one, which is marked."""


class TakeLease(In, frozen=True, kw_only=True):
    """Which cases a reviewer wants: the most urgent one that fits every filter, and up to ``count`` of its claim."""

    count: Annotated[int, Meta(ge=1, le=50)] = 1
    state: State | None = None
    reason: Id | None = None
    right_type: RightType | None = None
    severity: Literal["general", "serious"] | None = None
    lane: Lane | None = None
    profile: Id | None = None
    claim: Id | None = None


class SomeCases(In, frozen=True, kw_only=True):
    """Cases of a lease. None named: all of them."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=50)] | None = None


class HandOver(SomeCases, frozen=True, kw_only=True):
    """Cases of a lease to hand over to another person."""

    to: Id


class AddNote(In, frozen=True, kw_only=True):
    """A note on a case, for staff. Not for personal data: name parties by their account ids."""

    text: Text


class DeclareConflicts(In, frozen=True, kw_only=True):
    """All accounts about which a reviewer may not decide. Accounts that are not named are removed."""

    accounts: Annotated[list[Id], Meta(max_length=500)]
    reviewer: Id | None = None
    """Operators only: whose conflicts. The reviewer cannot remove what an operator has set."""


class FindMisuse(In, frozen=True, kw_only=True):
    """A reviewer's finding about an account's intent, based on one of its documents or on a claim that it filed."""

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


class DecideBrake(In, frozen=True, kw_only=True):
    """A reviewer's decision on a complaint about what holds an account's claims back."""

    decision: Literal["release", "confirm"]
    code: Id
    """Reason code (policy: ``appeals.reasons``)."""


class NameDocuments(In, frozen=True, kw_only=True):
    """Documents of the caller to name in a right or in its account."""

    evidence: Annotated[list[Id], Meta(min_length=1, max_length=20)]


class ExecuteDeclaration(In, frozen=True, kw_only=True):
    """The caller executes the *Declaration on Joining the Good-faith Takedown Mechanism*."""

    version: Id
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    """Hash of the text that was read. Exactly that text is executed."""
    name: Line
    """Who signs. Kept encrypted."""
    capacity: Line
    """In what capacity, e.g. managing director. Kept encrypted."""


class Digest(In, frozen=True, kw_only=True):
    """An hour of the caller's day."""

    hour: Annotated[int, Meta(ge=0, le=23)]
    zone: Annotated[str, Meta(min_length=1, max_length=40)]
    """IANA name of the time zone, such as `Europe/Berlin`."""


class ChooseChannels(In, frozen=True, kw_only=True):
    """How the caller wants to receive messages, the preferred channel first."""

    order: Annotated[list[Literal["email", "webhook", "inbox"]], Meta(min_length=1, max_length=3)]
    """Channels that are not named follow, for a message that no other channel takes."""
    digest: Digest | None = None
    """Sends a day's receipts and outcomes in one message at that hour. None: each by itself.

    Messages that set a time limit are never held back.
    """


class NameDomain(In, frozen=True, kw_only=True):
    """A domain that the caller controls."""

    domain: Annotated[str, Meta(min_length=1, max_length=253)]
    """Such as `brand.example`, also in other scripts."""


class AddWebhook(In, frozen=True, kw_only=True):
    """A new webhook of the caller."""

    url: Annotated[str, Meta(min_length=1, max_length=500)]
    kinds: Annotated[list[Id], Meta(max_length=50)] = []
    """Kinds of message to send it, such as `outcome`. Empty: all. Messages that begin a window are always sent."""


class ChangeWebhook(In, frozen=True, kw_only=True):
    """Whether a webhook is in use."""

    status: Literal["enabled", "disabled"]


class ConfirmWebhook(In, frozen=True, kw_only=True):
    """The code that was sent to the webhook's URL."""

    code: Annotated[str, Meta(min_length=1, max_length=40)]


class ReplayWebhook(In, frozen=True, kw_only=True):
    """What to send a webhook again: one message, or those sent since a time."""

    message: Id | None = None
    since: Time | None = None

    def __post_init__(self) -> None:
        _utc(self, "since")


class ChallengeEnded(In, frozen=True, kw_only=True):
    """Result of a call that asks a webhook's owner to confirm."""

    id: Id
    ask: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    result: Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^[a-z0-9_]+$(?!\n)")]
    """HTTP status, or a word."""
    over: bool
    """The call was accepted, or must not be tried again."""


class TakeChallenges(In, frozen=True, kw_only=True):
    """Results of calls, and how many more are wanted."""

    ended: Annotated[list[ChallengeEnded], Meta(max_length=100)] = []
    most: Annotated[int, Meta(ge=0, le=100)]


class ContactIds(In, frozen=True, kw_only=True):
    """Accounts whose contacts another service needs."""

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


WORDED: Final[dict[str, type[In]]] = {
    "submit_claim": ExplainedClaim,
    "counter": WordedCounter,
    "respond": WordedResponse,
    "complain": WordedComplaint,
}
"""Requests with which a party may say something in its own words, as they are filed by HTTP. A topic, which could not
erase it, has them without these fields."""
_WORDS_IN: Final = frozenset({"text", "explanation", "explanations"})


def worded(request: In) -> bool:
    """Whether a party says something in its own words with a claim or command."""
    return any(getattr(request, name, None) for name in _WORDS_IN)


def is_worded(kind: str, field: str | None) -> bool:
    """Whether a field of a request is one in which a party says something in its own words."""
    return field in _WORDS_IN and kind in WORDED and field in WORDED[kind].__struct_fields__


def decode(body: bytes | memoryview, kind: type[In]) -> Any:
    """Decode JSON strictly.

    Raises:
        msgspec.ValidationError: naming the field.
        msgspec.DecodeError: not JSON.
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
    """The request as an upstream sends it: with its target, and on whose behalf."""
    fields: list[tuple[str, Any, Any]] = [("on_behalf_of", Id | None, None)]
    if target:
        fields += [(name, Id | None, None) for name in ("item", "claim", "submission", "listing")]
    made = msgspec.defstruct(
        f"{kind.__name__}ByTopic",
        fields,
        bases=(kind,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
    )
    made.__doc__ = f"{kind.__doc__} Filed for `on_behalf_of`, if given." + (
        " Applies to `item`, or to the items of `claim` or of the claim that the upstream's event `submission` filed;"
        " with `listing`, only to that listing's item."
        if target
        else ""
    )
    return cast(type[In], made)


BY_TOPIC: Final[dict[str, type[In]]] = {
    "goodfaith.request.submit_claim.v1": _addressed(SubmitClaim, target=False),
    **{f"goodfaith.request.{name}.v1": _addressed(kind, target=True) for name, kind in COMMANDS.items()},
}
"""CloudEvents type of an upstream's record -> its data."""
