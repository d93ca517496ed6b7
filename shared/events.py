"""The vocabulary: every event and command that crosses a topic, one msgspec type each.

On the wire each is a CloudEvents 1.0 structured-mode JSON document (``Envelope``). ``docs/reference/asyncapi.json``
and the JSON Schemas next to it are generated from these types; a test fails when they are stale.

Rules of evolution: a field is added with a default, never renamed or removed. Unknown fields are ignored. Unknown
types of others are counted and skipped. An unknown type of ours, or a known one in a higher version, is set aside as
a dead letter until a version runs that can read it.

Personal data never appears here: parties are ids; texts and proofs are references to what intake keeps.

All times are aware UTC datetimes of business time (``shared.clock``) unless a name ends in ``_wall``.

One module, although it has more than 600 lines: it is the list of everything that is said between services.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

# `$` alone would let a trailing newline pass; the look-ahead means the same in Python and in JSON Schema's dialect
Id = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)")]
"""An identifier of ours or of an upstream: printable, bounded, safe in a topic key, a URL and a log line."""

RightType = Literal["trademark", "copyright", "design", "utility_model", "invention", "geographical_indication"]
Role = Literal["holder", "seller", "reviewer", "operator", "upstream", "system"]
Lane = Literal["express", "standard", "bulk"]
"""Priority in admission and tier in metrics: good faith; everyone else; over quota or unregistered."""
Moment = Literal["sent", "delivered", "read", "deemed"]
"""What a window runs from: the message was sent, delivered or read, or the policy deems it received."""


class State(StrEnum):
    """Where an item is in its life cycle (docs/reference/lifecycle.md)."""

    RECEIVED = "RECEIVED"
    DUPLICATE = "DUPLICATE"
    LINK_INVALID = "LINK_INVALID"
    NEEDS_INFO = "NEEDS_INFO"
    LAPSED = "LAPSED"
    UNDER_REVIEW = "UNDER_REVIEW"
    REJECTED = "REJECTED"
    NOTIFIED = "NOTIFIED"
    UPHELD = "UPHELD"
    UPHELD_BY_DEFAULT = "UPHELD_BY_DEFAULT"
    COUNTERED = "COUNTERED"
    HOLDER_RESPONSE = "HOLDER_RESPONSE"
    PLATFORM_REVIEW = "PLATFORM_REVIEW"
    UPHELD_AFTER_COUNTER = "UPHELD_AFTER_COUNTER"
    RESTORED = "RESTORED"
    LITIGATION = "LITIGATION"
    WITHDRAWN = "WITHDRAWN"
    SUSPENDED = "SUSPENDED"
    APPEALED = "APPEALED"


UPHELD: Final = frozenset({State.UPHELD, State.UPHELD_BY_DEFAULT, State.UPHELD_AFTER_COUNTER})
ENDED: Final = frozenset(
    {State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.REJECTED, State.RESTORED, State.WITHDRAWN}
)
"""States without a takedown. No deadline leaves them, only the exits in the table."""
SETTLED: Final = UPHELD | ENDED
"""States in which no timer runs: "settled" in docs/explanation/domain.md. (The 24 hours belong to the item.)"""


DECISIONS: Final[dict[State, tuple[str, ...]]] = {
    State.UNDER_REVIEW: ("uphold", "refuse"),
    State.COUNTERED: ("complete", "incomplete"),
    State.PLATFORM_REVIEW: ("uphold", "restore"),
    State.APPEALED: ("confirm", "reverse"),
}
"""What a person can decide, by state. An item in one of these states is in the review queue."""


class Envelope(Struct, kw_only=True, omit_defaults=True):
    """CloudEvents 1.0 with the extensions ``partitionkey``, ``correlationid`` (the claim), ``causationid`` and ``previous``."""

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Meta(min_length=1, max_length=200)]
    source: Annotated[str, Meta(min_length=1, max_length=200)]
    type: Annotated[str, Meta(min_length=1, max_length=120)]
    subject: str | None = None
    time: dt.datetime | None = None
    datacontenttype: str = "application/json"
    partitionkey: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    previous: Annotated[int, Meta(ge=0)] | None = None
    """In our events: number of the row that the log published before it to the same topic and partition; 0: none."""
    data: msgspec.Raw = msgspec.Raw(b"null")

    def __post_init__(self) -> None:
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("time: needs a time zone (RFC 3339, for example 2026-11-24T12:00:00Z)")


class Data(Struct, frozen=True, omit_defaults=True):
    """Base of all event data. ``omit_defaults`` keeps records small; readers fill in the defaults."""


# ---------------------------------------------------------------------------------------------- intake.events, by listing


class Record(Data, frozen=True, kw_only=True):
    """A complainant's items settled in the window of the good-faith statistic, as last judged."""

    settled: int
    upheld: int = 0
    countered: int = 0
    """Restored, or withdrawn as an error, after a takedown."""
    declined: int = 0
    """Never taken down."""


class Triage(Data, frozen=True, kw_only=True):
    """How the policy's rules scored an item when it came to review, and the band of the score."""

    score: int
    band: Literal["uphold", "refuse", "review"]
    rules: dict[Id, int] = msgspec.field(default_factory=dict)
    """Rules that fired, with their weights."""
    lacks: tuple[Id, ...] = ()
    """Findings of the policy's ``needs`` that are not there; empty if one way is complete, or the policy has none."""
    signals: dict[Id, float] = msgspec.field(default_factory=dict)
    """Every signal that was known, whether a rule looks at it or not. Empty: recorded before they were kept."""


BrakeReason = Literal["probation", "rate"]
"""Why only a person decides what an account files: too few of its items are settled to tell, or it filed much more than
it used to."""
AuditedOutcome = Literal["upheld_by_rule", "refused_by_rule", "upheld_by_default", "restored_by_default"]
"""What happens without a person: a rule's decision, or what follows from a silence, of a party or of ours."""


RecordSize = Literal["0", "1-19", "20-199", "200+"]
"""Size class of a complainant: how many of its items were settled when it filed. From 20 on a record tells something."""


def record_size(settled: int) -> RecordSize:
    """The size class of a complainant."""
    return "0" if settled < 1 else "1-19" if settled < 20 else "20-199" if settled < 200 else "200+"


class Audit(Data, frozen=True, kw_only=True):
    """A person decides on an item without seeing what a rule or a silence made of it.

    Of a rule's decision this is instead of it: the item waits for the person. A silence has had its effect before.
    """

    outcome: AuditedOutcome
    size: RecordSize
    """Of the complainant."""
    found: Literal["agrees", "overturned"] | None = None
    """None: nobody has decided yet."""


class ItemSubmitted(Data, frozen=True, kw_only=True):
    """One listing x one right x one reason of an accepted claim. From intake."""

    item: Id
    claim: Id
    claim_size: int
    listing: Id
    on_site: bool = True
    """False: the link does not lead to a listing of this site; ``listing`` is then a digest of the link."""
    complainant: Id
    """Account that files: an agent, or the principal itself."""
    principal: Id
    """Owner of the right."""
    right: Id
    right_type: RightType
    right_status: Literal["active", "expired", "lost", "pending"] = "active"
    right_registered: bool = True
    """False: a copyright that is in no register."""
    reason: Id
    profile: Id
    policy: Id
    """Version of the policy that the item is handled under for its whole life."""
    lane: Lane = "standard"
    good_faith: bool = False
    identity_verified: bool = False
    authority: Literal["owner", "authorised", "missing"] = "missing"
    materials: tuple[Id, ...] = ()
    """Kinds of proof on file by reference, e.g. ``ownership``, ``statement``."""
    abroad: bool = False
    """The holder does not reside in the country of the profile's law: it may have longer to answer."""
    mark: Annotated[str, Meta(max_length=200)] | None = None
    """The words of a trade mark, as registered."""
    record: Record | None = None
    """The complainant's record, if it has one yet."""
    recurs: Id | None = None
    """The upheld item whose listing has returned as a near copy: the system files this one, no party does (row 20)."""
    canary: bool = False
    """Filed by a canary: handled like any other item, but no figure counts it (docs/how-to/canary.md)."""
    brake: BrakeReason | None = None
    """Only a person decides: its complainant is on probation, or filed much more than it used to."""
    sellers: tuple[Id, ...] = ()
    """Sellers whose shops the claim names: if the listing is another's, only a person decides."""
    accepted_at: dt.datetime


class Command(Data, frozen=True, kw_only=True):
    """A party's request about one item. It is in time if ``accepted_at <= deadline``, however late it is read."""

    command: Id
    item: Id
    claim: Id
    listing: Id
    by: Id
    """Account that makes the request."""
    role: Role
    accepted_at: dt.datetime


class AddInformation(Command, frozen=True, kw_only=True):
    """Row 5: the complainant adds what was missing."""

    identity_verified: bool = False
    authority: Literal["owner", "authorised", "missing"] = "missing"
    right_status: Literal["active", "expired", "lost", "pending"] = "active"
    materials: tuple[Id, ...] = ()


class Withdraw(Command, frozen=True, kw_only=True):
    """Row 18: the complainant withdraws the item."""

    ground: Literal["error", "settled", "licensed"]


class Accept(Command, frozen=True, kw_only=True):
    """Row 8: the seller accepts the takedown."""


class Counter(Command, frozen=True, kw_only=True):
    """Row 10: the seller's counter-notification; ``materials`` are the kinds of element it contains."""

    materials: tuple[Id, ...] = ()


class Respond(Command, frozen=True, kw_only=True):
    """Rows 13 and 14: the holder accepts or rejects the counter."""

    accept: bool


class ReportAction(Command, frozen=True, kw_only=True):
    """Row 16: a court or authority action was filed; ``proof`` refers to a document."""

    proof: Id | None = None


class ReportResult(Command, frozen=True, kw_only=True):
    """Row 21: how the court or authority action ended."""

    outcome: Literal["holder", "seller", "ended"]
    proof: Id | None = None


class Complain(Command, frozen=True, kw_only=True):
    """Row 19: a complaint against the decision that ended the item's case, by the side it went against.

    Identity, authority and right are what intake knows of a complaining holder's side; they are left out for a seller.
    """

    identity_verified: bool = False
    authority: Literal["owner", "authorised", "missing"] = "missing"
    right_status: Literal["active", "expired", "lost", "pending"] = "active"
    materials: tuple[Id, ...] = ()


class Decide(Command, frozen=True, kw_only=True):
    """Rows 6, 7, 12, 17 and 19: a reviewer's decision.

    ``uphold``/``refuse`` under review, ``complete``/``incomplete`` on a counter, ``uphold``/``restore`` on platform review,
    ``confirm``/``reverse`` on a complaint.
    """

    decision: Literal["uphold", "refuse", "complete", "incomplete", "restore", "confirm", "reverse"]
    code: Id | None = None
    """Reason code of a refusal (policy: ``refusals``), or of a decision on a complaint (``appeals.reasons``)."""
    revision: Annotated[int, Meta(ge=0)] | None = None
    """Revision of the item that the reviewer saw; refused as stale if the item has left that state since."""
    looked: Annotated[tuple[Id, ...], Meta(max_length=10)] = ()
    """Who looked at it before, under four eyes. If a complaint follows, they count as having decided it too."""
    break_glass: bool = False
    """Decided by an operator at once and alone, without a lease on the case."""


class ChangeRight(Command, frozen=True, kw_only=True):
    """Row 22: the right or authorisation that an item rests on changed; by ``system``."""

    status: Literal["active", "expired", "lost", "unauthorised"]
    materials: tuple[Id, ...] = ()
    """What a right in force proves by itself: ``ownership``, since somebody accepted its documents."""


class PicturesCompared(Data, frozen=True, kw_only=True):
    """How surely a right's pictures are in those that an item's listing showed. From intake, once for an item at most.

    Not published if nothing was compared, if only pictures that prove nothing were (a design's), or if nothing was
    found and some picture could not be seen.
    """

    item: Id
    claim: Id
    listing: Id
    content: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    """SHA-256 of what the listing showed then, as in ``ItemChanged``."""
    match: Annotated[float, Meta(ge=0, le=1)]
    """Score of the surest finding; 0: none was found, and all pictures were seen."""
    at: dt.datetime


class AccountNotice(Data, frozen=True, kw_only=True):
    """A notice to an account's owner about the account: one message each. From intake, keyed by account."""

    notice: Id
    account: Id
    kind: Id
    """Kind of notice, which selects the message's template, e.g. ``right_expiring``."""
    about: Id | None = None
    """The right, authorisation or document that it is about."""
    figures: dict[Id, int | float | str] = msgspec.field(default_factory=dict)
    """Numbers, dates and codes that the message states. Neither personal data nor secrets."""
    at: dt.datetime


class ClaimFiled(Data, frozen=True, kw_only=True):
    """A claim was accepted: one event per claim. From intake, keyed by the account that filed it."""

    claim: Id
    account: Id
    """The complainant: an agent, or the principal itself."""
    items: Annotated[int, Meta(ge=1)]
    right_type: RightType
    channel: Id
    """How it came in: ``http``, ``kafka``, ``canary``; ``recurrence``: filed by the system for the account."""
    canary: bool = False
    """Whether a canary filed it; then no figure counts it."""
    at: dt.datetime
    """When it was accepted, in business time."""


class AccountErased(Data, frozen=True, kw_only=True):
    """A subject was erased: its keys are destroyed and its account closed. From intake, keyed by account; ids only."""

    account: Id
    by: Id
    """Operator's account, or ``operator`` at the command line."""
    forced: bool = False
    """Erased although it was a party to something unfinished."""
    reason: Id | None = None
    open_items: int = 0
    at: dt.datetime


class MessageRead(Data, frozen=True, kw_only=True):
    """An account has read a message in its inbox: one event per message. From intake, keyed by account."""

    message: Id
    account: Id
    read_at: dt.datetime


class WebhookKnown(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook that an account uses, without its address and secret."""

    webhook: Id
    generation: int
    """Rises each time the webhook is put back in use."""
    kinds: tuple[Id, ...] = ()
    """Kinds of message sent to it; empty: all. Messages that begin a window are always sent."""


class DigestWanted(Struct, frozen=True, kw_only=True):
    """The hour of the day, in an IANA time zone, at which an account wants receipts and outcomes together."""

    hour: Annotated[int, Meta(ge=0, le=23)]
    zone: Annotated[str, Meta(max_length=40)]


class AccountChannels(Data, frozen=True, kw_only=True):
    """How an account currently wants to be notified. Fold by the highest ``revision``."""

    account: Id
    revision: int
    order: tuple[Literal["email", "webhook", "inbox"], ...] = ()
    """Preferred channels, most preferred first; empty: the account has not chosen."""
    webhooks: tuple[WebhookKnown, ...] = ()
    digest: DigestWanted | None = None
    """None: each message is sent by itself."""
    at: dt.datetime


class Watermark(Data, frozen=True, kw_only=True):
    """All commands accepted up to ``upto`` have been published on this partition before this record."""

    upto: dt.datetime


# ---------------------------------------------------------------------------------------- verification.events, by listing


class ItemChanged(Data, frozen=True, kw_only=True):
    """An item after a change: its whole public state, so a reader folds by taking the highest ``revision``."""

    item: Id
    claim: Id
    claim_size: int
    listing: Id
    seller: Id | None = None
    complainant: Id
    principal: Id
    right: Id
    right_type: RightType
    reason: Id
    severity: Literal["general", "serious"] = "general"
    profile: Id
    policy: Id
    lane: Lane = "standard"
    revision: int
    """1 for the item's first event, then +1 each: no gaps, no forks."""
    state: State
    previous: State | None = None
    """The state before; None in the item's first event."""
    via: tuple[State, ...] = ()
    """States passed through in the same instant, in order."""
    rule: Id
    """Row of the transition table that fired, e.g. ``7-upheld-prima-facie``."""
    command: Id | None = None
    """Command that this change applied."""
    by: Role = "system"
    code: Id | None = None
    missing: tuple[Id, ...] = ()
    """Elements that are missing (NEEDS_INFO, or a counter sent back)."""
    original: Id | None = None
    """The item that this one duplicates."""
    held: bool = False
    """The item has a hold on the listing."""
    upheld: bool = False
    """A violation is in force: the seller's window lapsed, the seller accepted, or the counter failed."""
    settled: bool = False
    """No timer is running."""
    received_at: dt.datetime
    noticed_at: dt.datetime | None = None
    """When the seller's notice was sent: the seller's window begins here."""
    due: dt.datetime | None = None
    """Next deadline."""
    sla_due: dt.datetime | None = None
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    """Set once, at the earlier of handled and deadline."""
    counter_round: int = 0
    triage: Triage | None = None
    """In the change that brought the item to review; a rule may have decided it there."""
    audit: Audit | None = None
    """Since a person was asked to look at it, blind; None again if the item took another way before the answer."""
    begun_by: Moment | None = None
    """In the change that began a window: what the window runs from, unless from the sending of the notice."""
    recurs: Id | None = None
    """The upheld item that this one recurs from (row 20)."""
    abroad: bool = False
    """As filed (``ItemSubmitted``): the holder may have longer to answer a counter."""
    canary: bool = False
    """As filed (``ItemSubmitted``): no figure counts the item."""
    brake: BrakeReason | None = None
    """As filed (``ItemSubmitted``): only a person decides."""
    other_seller: bool = False
    """The claim names shops (``ItemSubmitted.sellers``), and the listing is of none of them: only a person decides."""
    content: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")] | None = None
    """In the change that took in the listing: SHA-256 of what it showed, on which the item is judged from then on."""
    unreached: bool = False
    """Its seller's notice lies in an inbox that nobody owns (row 9)."""


class RecurrenceFound(Data, frozen=True, kw_only=True):
    """Row 20: a listing is a near copy of one that was upheld against its seller or the business behind it.

    Published once per listing and right. Intake files a new claim of one item for it, unless the right, the authority
    or the account now forbids that.
    """

    listing: Id
    """The near copy."""
    seller: Id | None = None
    """Who sells it."""
    item: Id
    """The upheld item."""
    claim: Id
    """That item's."""
    before: Id
    """That item's listing."""
    right: Id
    reason: Id
    profile: Id
    title: Annotated[int, Meta(ge=0, le=100)] | None = None
    """How similar the titles are, in per cent; None: not compared."""
    distance: Annotated[int, Meta(ge=0, le=64)] | None = None
    """Bits in which the pictures' hashes differ; None: not compared."""


class CommandRefused(Data, frozen=True, kw_only=True):
    """The item's owner refused a command; nothing changed."""

    command: Id
    item: Id
    claim: Id
    listing: Id
    code: Id
    detail: str
    """Why, and how to cure it, in English; without personal data."""


# ---------------------------------------------------------------------------------------- notification.events, by listing


class NoticeSent(Data, frozen=True, kw_only=True):
    """A message that begins a window was sent: this item's window begins at ``begins``."""

    item: Id
    claim: Id
    listing: Id
    message: Id
    kind: Literal["seller_notice", "counter_forwarded", "counter_defect", "info_request"]
    revision: int
    """Revision of the item that the message is about; the window belongs to that revision's state."""
    sent_at: dt.datetime
    """When the message was handed to the party's channel."""
    begins_at: dt.datetime | None = None
    """When the window begins, unless the policy begins it with the sending."""
    begun_by: Moment = "sent"

    @property
    def begins(self) -> dt.datetime:
        """When the window begins."""
        return self.sent_at if self.begins_at is None else self.begins_at


class NoticeUnreached(Data, frozen=True, kw_only=True):
    """A seller's notice lies in an inbox that nobody owns, so this item's window does not begin.

    If the seller is reached later, a ``NoticeSent`` of the same message follows.
    """

    item: Id
    claim: Id
    listing: Id
    message: Id
    kind: Literal["seller_notice"] = "seller_notice"
    revision: int
    """Revision of the item that the message is about."""
    at: dt.datetime
    """When it was put there."""


class MessageSent(Data, frozen=True, kw_only=True):
    """A message to a party about a claim was handed over: one event per message, keyed by its first item's listing."""

    message: Id
    claim: Id
    party: Id
    kind: Id
    items: tuple[Id, ...]
    channel: Id
    template: Id
    version: int
    digest: str
    """SHA-256 of the message as sent, hex."""
    sent_at: dt.datetime
    locale: Id = "en"
    edition: str = ""
    """Hash of template and translations; empty in records made before there were languages."""
    rendered_at: dt.datetime | None = None
    """When the text was rendered, which is the date in it. None in records made before this field existed."""


class AccountTold(Data, frozen=True, kw_only=True):
    """The message of an ``AccountNotice`` was handed over (keyed by account). It begins no window."""

    message: Id
    notice: Id
    account: Id
    kind: Id
    """Kind of the notice."""
    about: Id | None = None
    channel: Id
    template: Id
    version: int
    digest: str
    """SHA-256 of the message as sent, hex; a secret in it (a code) is left out first."""
    sent_at: dt.datetime
    locale: Id = "en"
    edition: str = ""
    rendered_at: dt.datetime | None = None


class WebhookDisabled(Data, frozen=True, kw_only=True):
    """A webhook is no longer called (keyed by account). Its owner may put it back in use."""

    webhook: Id
    account: Id
    generation: int
    """Generation that was disabled; a webhook that is put back in use has a higher one."""
    reason: Literal["gone", "failing"]
    """``gone``: it answered 410. ``failing``: nothing but failures for days."""
    at: dt.datetime


class DeliveryChanged(Data, frozen=True, kw_only=True):
    """What became of a message after it was announced, keyed like the announcement. No address or server's text."""

    message: Id
    claim: Id | None = None
    party: Id
    kind: Id
    channel: Id
    state: Literal["sent", "delivered", "bounced", "refused", "gave_up"]
    """``sent``: by another channel, after the one before failed."""
    reason: Id | None = None
    """Enhanced mail status (``5.1.1``), HTTP status, or a word of ours."""
    digest: str | None = None
    """For ``sent``: SHA-256 of the message as sent, hex."""
    at: dt.datetime


# ----------------------------------------------------------------------------------------- enforcement.events, by listing


class HoldChanged(Data, frozen=True, kw_only=True):
    """The marketplace receipted one item's hold, or no receipt was needed because the listing was already down."""

    item: Id
    claim: Id
    listing: Id
    held: bool
    action: Id | None = None
    """Marketplace command that was receipted; None if the listing was already in the wanted state."""
    result: Literal["done", "unknown_listing"] = "done"
    at: dt.datetime


# ------------------------------------------------------------------- enforcement.violations and enforcement.ledger, by seller


class ViolationChanged(Data, frozen=True, kw_only=True):
    """An item's violation came into force or was undone. Re-keyed by seller for the penalty ledgers."""

    seller: Id
    claim: Id
    item: Id
    listing: Id
    severity: Literal["general", "serious"]
    in_force: bool
    revision: int
    at: dt.datetime


class PenaltyEntered(Data, frozen=True, kw_only=True):
    """An entry of a seller's penalty ledger. A reversal names the entry it reverses and has its points negated."""

    seller: Id
    entry: Id
    ledger: Literal["general", "serious"]
    claim: Id
    points: int
    kind: Literal["violation", "reversal"]
    reverses: Id | None = None
    effective_at: dt.datetime
    expires_at: dt.datetime


class StandingChanged(Data, frozen=True, kw_only=True):
    """The seller's standing after ledger entries: sums over unexpired, unreversed entries."""

    seller: Id
    general_points: int
    serious_strikes: int
    violations: int
    """Violations in the last 365 days; two or more make a repeat offender."""
    at: dt.datetime
    entity: Id | None = None
    """The business behind the seller, if it has other accounts; a digest."""
    entity_points: int = 0
    """The entity's standing: as if its accounts were one seller, and in no respect better than any of them."""
    entity_strikes: int = 0
    entity_violations: int = 0


Measure = Literal["listing_restricted", "frozen", "may_not_list", "closed"]
"""What can be imposed on a seller's account; a warning is not a measure."""


class SanctionChanged(Data, frozen=True, kw_only=True):
    """A seller's sanction began or ended: it answers a penalty threshold (docs/explanation/domain.md, "Penalties")."""

    seller: Id
    sanction: Id
    change: Literal["imposed", "lifted", "ended"]
    """``lifted``: taken back by a reversal, a cut link or an operator; ``ended``: it has run its course."""
    cause: Literal["threshold", "replaced", "timer", "expiry", "reversal", "unlinked", "operator"]
    """Why: a ``threshold`` was crossed; ``replaced`` by another sanction of the same threshold; its days are over
    (``timer``); the standing fell below the threshold by ``expiry`` or ``reversal`` of entries (an entity's also when
    an account with a violation was unlinked from it); ``unlinked`` from the entity; by an ``operator``."""
    measures: tuple[Measure, ...] = ()
    """What it imposes on the account; empty: a warning."""
    scope: Literal["own", "entity"] = "own"
    """Whose standing reached the threshold: the seller's or its entity's."""
    ledger: Literal["general", "serious"]
    level: Annotated[int, Meta(ge=1)]
    """Number of the threshold in the policy, from 1."""
    prior: bool = False
    """A warning instead of the threshold's measures: the seller had not been warned before (DSA, article 23)."""
    begins: dt.datetime
    ends: dt.datetime | None = None
    """When its days are over; None: it lasts until the standing falls below the threshold or it is lifted."""
    entry: Id
    """Ledger entry that crossed the threshold; with scope ``entity`` it may be another account's."""
    claim: Id
    """That entry's claim."""
    reason: Id | None = None
    """The operator's reason code."""
    at: dt.datetime


class LiftSanction(Data, frozen=True, kw_only=True):
    """An operator lifts a sanction that is in force. From intake, on intake.accounts, keyed by the seller's account."""

    command: Id
    account: Id
    """The seller."""
    sanction: Id
    by: Id
    """The operator's account."""
    reason: Id
    """Reason code; the operator's own words stay with intake."""
    at: dt.datetime


# ------------------------------------------------------------------------------------ marketplace.*, by listing (the port)


class MarketplaceCommand(Data, frozen=True, kw_only=True):
    """Outward: an action on a listing. Idempotent by ``command``; a lower ``seq`` of the same listing is ignored as done."""

    command: Id
    listing: Id
    action: Literal["suspend", "restore", "remove", "lookup"]
    seq: int = 0


class Receipt(Data, frozen=True, kw_only=True):
    """Inward: the marketplace has carried out a command (for ``lookup``: published the listing)."""

    command: Id
    listing: Id
    seq: int = 0
    result: Literal["done", "unknown_listing"] = "done"


class Price(Struct, frozen=True, kw_only=True):
    """A price. The amount is text, because a JSON number would be rounded."""

    amount: Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?$(?!\n)")]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
    """ISO 4217."""


class Picture(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A picture of a listing, by its hashes. Its bytes never cross a topic."""

    id: Id
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    """Of the file that ``url`` leads to."""
    url: Annotated[str, Meta(max_length=2000, pattern=r"^https?://[\x21-\x7e]+$(?!\n)")] | None = None
    pdq: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")] | None = None
    """PDQ hash, 256 bits, hex."""
    quality: Annotated[int, Meta(ge=0, le=100)] | None = None
    """Quality of the PDQ hash."""


class Listing(Data, frozen=True, kw_only=True):
    """Inward, compacted: what a listing is and shows. ``state`` ``unknown``: this site has no such listing.

    All that it shows is optional. What is left out counts as not shown, so each record has all of it.
    """

    listing: Id
    seller: Id | None = None
    state: Literal["visible", "suspended", "removed", "ended", "unknown"]
    title_digest: str | None = None
    locale: str = "en"
    entity: Id | None = None
    """Hashed key of the business behind the seller."""
    title: Annotated[str, Meta(max_length=300)] | None = None
    """As on the listing's public page."""
    image_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")] | None = None
    """Perceptual hash of the first picture: 64 bits of ``imagehash.phash``, hex."""
    revision: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    """The marketplace's number of what the listing shows; it rises with each edit."""
    brand: Annotated[str, Meta(max_length=200)] | None = None
    category: Annotated[str, Meta(max_length=300)] | None = None
    """The marketplace's category, as a path from the top: ``Shoes > Running``."""
    price: Price | None = None
    condition: Id | None = None
    """Such as ``new``, ``used``, ``refurbished``."""
    description: Annotated[str, Meta(max_length=4000)] | None = None
    images: Annotated[tuple[Picture, ...], Meta(max_length=12)] = ()
    """In the order of the page."""


# ----------------------------------------------------------------------------- marketplace.seller_*, by seller (the port)


class SellerCommand(Data, frozen=True, kw_only=True):
    """Outward: all measures that apply to a seller from now on; none set it free.

    Idempotent by ``command``; a lower ``seq`` of the same seller is ignored as done.
    """

    command: Id
    seller: Id
    seq: Annotated[int, Meta(ge=1)]
    measures: tuple[Measure, ...] = ()
    """Sorted, each once."""
    until: dt.datetime | None = None
    """When the next of them is planned to end, for display only: each ends by a further command. None: not known."""


class SellerReceipt(Data, frozen=True, kw_only=True):
    """Inward: the marketplace has carried out a command on a seller."""

    command: Id
    seller: Id
    seq: Annotated[int, Meta(ge=1)]
    result: Literal["done", "unknown_seller"] = "done"


class SellerKey(Struct, frozen=True, order=True):
    """Something that several accounts of a business share, hashed by the marketplace: never the value itself."""

    kind: Literal["registration", "payment", "device"]
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    """256 bits, hex: ``shared.marketplace.seller_key``."""


class MarketplaceSeller(Data, frozen=True, kw_only=True):
    """Inward, compacted, keyed by seller: all current keys of an account. Accounts that share a key are linked."""

    seller: Id
    keys: Annotated[tuple[SellerKey, ...], Meta(max_length=50)] = ()


class SellerContact(Data, frozen=True, kw_only=True):
    """Inward, keyed by seller: all that the marketplace knows of how to reach a seller; a higher revision replaces it.

    Nothing personal is in clear.
    """

    seller: Id
    revision: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    """The marketplace's own number, which rises with each change of the seller's data. Another one than the highest is
    ignored."""
    language: Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}$(?!\n)")] | None = None
    """BCP 47: the language of messages; English if they are not written in it."""
    sealed: Annotated[str, Meta(max_length=16_384, pattern=r"^[A-Za-z0-9+/]+={0,2}$(?!\n)")] | None = None
    """The contact data, sealed under the installation's feed key (``shared.sealing``). None: there are none."""
    gone: bool = False
    """The marketplace has erased the seller."""


class CentreMessage(Data, frozen=True, kw_only=True):
    """Outward, keyed by seller: a message for a seller's message centre. Idempotent by ``message``.

    Nothing personal is in clear.
    """

    message: Id
    seller: Id
    kind: Id
    language: Id
    """BCP 47."""
    sealed: Annotated[str, Meta(max_length=700_000, pattern=r"^[A-Za-z0-9+/]+={0,2}$(?!\n)")]
    """Subject and body, sealed under the marketplace's key (``shared.sealing``)."""


class CentreReceipt(Data, frozen=True, kw_only=True):
    """Inward, keyed by seller: what became of a message in the message centre."""

    message: Id
    seller: Id
    result: Literal["delivered", "read", "refused"]
    """``delivered``: it lies where the seller reads its messages. ``read``: the seller has opened it. ``refused``: it
    was not delivered, and will not be."""
    reason: Literal["unknown_seller", "unsealable", "unavailable"] | None = None
    """Why it was refused."""


TYPES: dict[str, type[Data]] = {
    "goodfaith.item.submitted.v1": ItemSubmitted,
    "goodfaith.command.add_information.v1": AddInformation,
    "goodfaith.command.withdraw.v1": Withdraw,
    "goodfaith.command.accept.v1": Accept,
    "goodfaith.command.counter.v1": Counter,
    "goodfaith.command.respond.v1": Respond,
    "goodfaith.command.report_action.v1": ReportAction,
    "goodfaith.command.report_result.v1": ReportResult,
    "goodfaith.command.complain.v1": Complain,
    "goodfaith.command.decide.v1": Decide,
    "goodfaith.command.change_right.v1": ChangeRight,
    "goodfaith.pictures.compared.v1": PicturesCompared,
    "goodfaith.account.notice.v1": AccountNotice,
    "goodfaith.message.read.v1": MessageRead,
    "goodfaith.account.erased.v1": AccountErased,
    "goodfaith.account.channels.v1": AccountChannels,
    "goodfaith.claim.filed.v1": ClaimFiled,
    "goodfaith.watermark.v1": Watermark,
    **{f"goodfaith.item.{state.lower()}.v1": ItemChanged for state in State},
    "goodfaith.item.handled.v1": ItemChanged,
    "goodfaith.item.window_opened.v1": ItemChanged,
    "goodfaith.item.stands.v1": ItemChanged,
    "goodfaith.item.unreached.v1": ItemChanged,
    "goodfaith.item.reached.v1": ItemChanged,
    "goodfaith.item.overdue.v1": ItemChanged,
    "goodfaith.item.reminded.v1": ItemChanged,
    "goodfaith.recurrence.found.v1": RecurrenceFound,
    "goodfaith.command.refused.v1": CommandRefused,
    "goodfaith.notice.sent.v1": NoticeSent,
    "goodfaith.notice.unreached.v1": NoticeUnreached,
    "goodfaith.message.sent.v1": MessageSent,
    "goodfaith.account.told.v1": AccountTold,
    "goodfaith.webhook.disabled.v1": WebhookDisabled,
    "goodfaith.delivery.changed.v1": DeliveryChanged,
    "goodfaith.hold.changed.v1": HoldChanged,
    "goodfaith.violation.changed.v1": ViolationChanged,
    "goodfaith.penalty.entered.v1": PenaltyEntered,
    "goodfaith.standing.changed.v1": StandingChanged,
    "goodfaith.sanction.changed.v1": SanctionChanged,
    "goodfaith.sanction.lift.v1": LiftSanction,
    "goodfaith.marketplace.command.v1": MarketplaceCommand,
    "goodfaith.marketplace.receipt.v1": Receipt,
    "goodfaith.marketplace.listing.v1": Listing,
    "goodfaith.marketplace.seller_command.v1": SellerCommand,
    "goodfaith.marketplace.seller_receipt.v1": SellerReceipt,
    "goodfaith.marketplace.seller.v1": MarketplaceSeller,
    "goodfaith.marketplace.contact.v1": SellerContact,
    "goodfaith.marketplace.message.v1": CentreMessage,
    "goodfaith.marketplace.message_receipt.v1": CentreReceipt,
}
"""CloudEvents type -> data type. A type not listed is foreign, or merely newer (``is_newer``)."""

COMMANDS: dict[str, type[Command]] = {
    name.split(".")[2]: kind for name, kind in TYPES.items() if issubclass(kind, Command)
}
"""Command name (``counter``) -> data type."""

_envelope = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder()


@cache
def _decoder(kind: type[Data]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_envelope(raw: bytes | str) -> Envelope:
    """Decode the envelope only.

    Raises:
        msgspec.DecodeError: not JSON, not UTF-8, or not a CloudEvent (ValidationError names the field).
    """
    return _envelope.decode(raw)


def decode_data(envelope: Envelope) -> Data | None:
    """Decode the data by the envelope's type; None when the type is unknown to this version of the software.

    Raises:
        msgspec.ValidationError: naming the field that does not fit.
        NewerVersion: the type is known, but only in a lower version.
    """
    kind = TYPES.get(envelope.type)
    if kind is None:
        if is_newer(envelope.type):
            raise NewerVersion(envelope.type)
        return None
    data: Data = _decoder(kind).decode(envelope.data)
    return data


class NewerVersion(ValueError):
    """A newer version of the software wrote this type of ours, and this version cannot read it."""


def is_ours(name: str) -> bool:
    """Whether a type belongs to this system, known to this version or not."""
    return name.startswith("goodfaith.")


def is_newer(name: str) -> bool:
    """Whether ``name`` is a higher version of a type in ``TYPES``."""
    stem, _, version = name.rpartition(".v")
    return version.isdigit() and int(version) > 1 and f"{stem}.v1" in TYPES


def encode(
    data: Data,
    *,
    id: str,
    source: str,
    type: str,
    subject: str | None,
    time: dt.datetime,
    key: str | None,
    correlation: str | None = None,
    causation: str | None = None,
    trace: str | None = None,
    previous: int | None = None,
) -> bytes:
    """Encode an event as a CloudEvents structured-mode JSON document."""
    # a dict, not Envelope: specversion and datacontenttype are required on the wire though they never vary
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "time": time,
        "datacontenttype": "application/json",
    }
    if subject is not None:
        document["subject"] = subject
    if key is not None:
        document["partitionkey"] = key
    if correlation is not None:
        document["correlationid"] = correlation
    if causation is not None:
        document["causationid"] = causation
    if trace is not None:
        document["traceparent"] = trace
    if previous is not None:
        document["previous"] = previous
    document["data"] = data
    return _encoder.encode(document)
