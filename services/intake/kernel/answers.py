"""The API's answers, as structs of their own so that no column becomes public by accident."""

from __future__ import annotations

import datetime as dt
from typing import Generic, Literal, TypeVar

from msgspec import Struct

from services.intake.kernel.requests import Register
from shared.events import Lane, RightType, Triage
from shared.standing import Sanction

T = TypeVar("T")


class Problem(Struct, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem, with the field that is wrong and how to cure it."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    cure: str | None = None
    instance: str | None = None


class Page(Struct, Generic[T], kw_only=True):
    """A page of a list. ``next`` is the cursor of the next page, null at the end."""

    items: list[T]
    next: str | None = None


class AccountOpened(Struct, kw_only=True):
    """A new account. The token is shown only this once."""

    account: str
    role: str
    token: str
    expires: dt.datetime


class TokenIssued(Struct, kw_only=True):
    """Another token of the caller, shown only this once."""

    account: str
    id: str
    name: str
    token: str
    expires: dt.datetime


class TokenOut(Struct, kw_only=True):
    """A token that is in force. The token itself is shown only once, when it is issued."""

    id: str
    name: str
    created: dt.datetime
    expires: dt.datetime
    current: bool = False
    """Whether this request carries it."""


class TokensRevoked(Struct, kw_only=True):
    """Ids of the tokens that were revoked."""

    revoked: list[str]


class AccountOut(Struct, kw_only=True):
    """An account as its owner sees it."""

    id: str
    role: Literal["holder", "seller", "reviewer", "operator", "upstream"]
    kind: Literal["person", "company"]
    identity_verified: bool
    good_faith: bool
    registered: bool
    opened_at: dt.datetime
    has_contact: bool
    email_confirmed: bool
    state: Literal["applied", "email_confirmed", "verified", "suspended", "closed"]
    canary: bool = False
    """What it files is left out of every figure."""


class AccountErased(Struct, kw_only=True):
    """What an erasure did. ``stays``: what it left, and why. ``documents_kept`` are deleted automatically later."""

    account: str
    already: bool
    """It had already been erased."""
    forced: bool
    matters: dict[str, int]
    """What it was party to that is still open."""
    contact: bool
    tokens: int
    webhooks: int
    documents_going: int
    documents_kept: int
    stays: dict[str, str]


class AccountChange(Struct, kw_only=True):
    """Something that happened to an account."""

    kind: str
    by: str
    at: dt.datetime
    code: str | None


class AccountWithHistory(AccountOut, kw_only=True):
    """An account and its history, latest first, at most 100 entries."""

    history: list[AccountChange]


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
    pending_reason: Literal["proof_missing", "right_registered_elsewhere", "mark_mixed_script", "refused"] | None
    """Why a pending right is not in force."""
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


class RightWithHistory(RightOut, kw_only=True):
    """A right and its history, latest first, at most 100 entries."""

    history: list[RightChange]


class CodeRequested(Struct, kw_only=True):
    """A code is on its way to the address on file."""

    again_at: dt.datetime
    """When another code may be requested."""


class CodeFor(Struct, kw_only=True):
    """Internal: a code to send in a message."""

    code: str


class CodesFor(Struct, kw_only=True):
    """Internal: codes by notice. Notices with nothing to confirm are missing."""

    codes: dict[str, CodeFor]


class AuthorisationOut(Struct, kw_only=True):
    """An authorisation. ``rights`` null: all of the principal's rights."""

    id: str
    agent: str
    principal: str
    rights: list[str] | None
    territory: list[str] | None
    expires_at: dt.datetime | None
    status: Literal["active", "ended", "expired"]
    granted_at: dt.datetime


class Changed(Struct, kw_only=True):
    """Result of changing a right or an authorisation. Open items that it concerns are told within seconds."""

    changed: bool
    """False: it was so already, so nothing was written."""


class ItemAccepted(Struct, kw_only=True):
    """An item of an accepted claim."""

    item: str
    listing: str


class ClaimAccepted(Struct, kw_only=True):
    """An accepted claim. It can be read from now on."""

    claim: str
    accepted_at: dt.datetime
    lane: Lane
    items: list[ItemAccepted]
    held_until: dt.date | None = None
    """Only while the processing of the account's claims is suspended: the day (UTC) on which this claim's begins."""


class CommandAccepted(Struct, kw_only=True):
    """A command and the item that it is about."""

    command: str
    item: str


class CommandsAccepted(Struct, kw_only=True):
    """Accepted commands. ``/v1/commands/{id}`` says whether each was applied or refused."""

    claim: str
    accepted_at: dt.datetime
    commands: list[CommandAccepted]
    proposed: list[str] = []
    """Items whose decision needs a second person's look first."""


class ClaimOut(Struct, kw_only=True):
    """A claim, with the number of items in each state."""

    id: str
    complainant: str
    principal: str
    right: str
    right_type: RightType
    reason: str
    profile: str
    lane: Lane
    size: int
    accepted_at: dt.datetime
    states: dict[str, int]
    via: str | None = None
    """The upstream's account that filed it for the complainant."""


class ItemOut(Struct, kw_only=True):
    """An item. ``revision`` 0: accepted, not yet taken up by verification."""

    id: str
    claim: str
    listing: str
    on_site: bool
    link: str
    complainant: str
    principal: str
    seller: str | None
    right: str
    right_type: RightType
    reason: str
    lane: Lane
    state: str
    revision: int
    accepted_at: dt.datetime
    changed_at: dt.datetime
    held: bool = False
    upheld: bool = False
    settled: bool = False
    code: str | None = None
    cure: str | None = None
    """For a refused item: how to cure it, in the reader's language."""
    missing: list[str] = []
    original: str | None = None
    recurs: str | None = None
    """The upheld item whose listing has come back as this one."""
    noticed_at: dt.datetime | None = None
    due: dt.datetime | None = None
    sla_due: dt.datetime | None = None
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    counter_round: int = 0
    triage: Triage | None = None
    """For reviewers and operators only: what the triage rules found."""


class ChangeOut(Struct, kw_only=True):
    """One change of one item."""

    item: str
    listing: str
    revision: int
    type: str
    state: str
    by: str
    code: str | None
    at: dt.datetime


class CommandOut(Struct, kw_only=True):
    """A command and what became of it; ``detail`` says why it was refused and how to cure it."""

    id: str
    claim: str
    item: str
    kind: str
    role: str
    accepted_at: dt.datetime
    status: Literal["accepted", "applied", "refused"]
    code: str | None
    detail: str | None
    via: str | None = None
    """The upstream's account that filed it for the party."""


class ContactOut(Struct, kw_only=True):
    """Contact data of a counterpart, released by the life cycle (rows 7 and 12)."""

    account: str
    part: Literal["complainant", "principal", "seller"]
    name: str
    address: str
    email: str


class MessageOut(Struct, kw_only=True):
    """A message as sent: template, version and digest instead of its text."""

    id: str
    claim: str | None
    """Null: it is about the account itself."""
    about: str | None
    """The right, authorisation or document that a message without a claim is about."""
    kind: str
    items: list[str]
    channel: str
    template: str
    version: int
    digest: str
    sent_at: dt.datetime
    read_at: dt.datetime | None
    """When the party said that it had read the message."""
    contacts: list[ContactOut]


class Inbox(Page[MessageOut], kw_only=True):
    """A page of messages. ``unread``: unread messages in the whole inbox, counted up to 1,000."""

    unread: int


class MessageRead(Struct, kw_only=True):
    """The receipt of a message. ``read_at`` is when it was first read."""

    message: str
    read_at: dt.datetime


class ContactFor(Struct, kw_only=True):
    """Internal: the contact to send a message to."""

    account: str
    name: str
    address: str
    email: str
    language: str = "en"
    """Language of messages to it."""
    confirmed: bool = False
    """Whether the address was confirmed to be the account's."""


class ContactsFor(Struct, kw_only=True):
    """Internal: contacts by account. Accounts without one are missing."""

    contacts: dict[str, ContactFor]


class DigestOut(Struct, kw_only=True):
    """The hour at which receipts and outcomes are sent in one message."""

    hour: int
    zone: str


class ChannelsOut(Struct, kw_only=True):
    """The order in which the caller's channels are tried, and its daily digest, if any."""

    order: list[str]
    digest: DigestOut | None = None


class ChallengeOut(Struct, kw_only=True):
    """How far sending a webhook's URL its confirmation code has come. All times are wall times."""

    expires_at: dt.datetime
    """When the code expires."""
    again_at: dt.datetime
    """When another code may be requested."""
    calls: int
    """Calls made with this code."""
    next_at: dt.datetime | None
    """When it is called next, unless an earlier call is accepted."""
    result: str | None
    """Result of the last call: HTTP status, or a word."""


class WebhookOut(Struct, kw_only=True):
    """One of the caller's webhooks."""

    id: str
    url: str
    kinds: list[str]
    status: Literal["pending", "enabled", "disabled"]
    """`pending`: not confirmed yet, so nothing is sent there."""
    challenge: ChallengeOut | None
    """Only of a pending webhook."""
    reason: str | None
    """Why it is disabled: `owner`, `gone` (it answered 410), `failing`."""
    secrets: int
    """How many secrets sign at present."""
    made_at: dt.datetime
    changed_at: dt.datetime


class WebhookSecret(Struct, kw_only=True):
    """A webhook's new secret, shown only this once."""

    id: str
    secret: str
    """For verifying signatures as in the Standard Webhooks specification."""
    former_until: dt.datetime | None = None
    """Until when the former secret also signs (wall time)."""


class WebhookFor(Struct, kw_only=True):
    """Internal: a webhook's URL, and the secrets that sign for it now."""

    id: str
    url: str
    secrets: list[str]
    kinds: list[str]
    generation: int


class WebhooksOf(Struct, kw_only=True):
    """Internal: an account's webhooks that are in use."""

    webhooks: list[WebhookFor]


class ChallengeFor(Struct, kw_only=True):
    """Internal: a webhook to send its confirmation code to."""

    id: str
    ask: int
    url: str
    secrets: list[str]
    code: str
    expires_at: dt.datetime


class ChallengesFor(Struct, kw_only=True):
    """Internal: webhooks to call so that their owners can confirm them."""

    challenges: list[ChallengeFor]


class WebhooksFor(Struct, kw_only=True):
    """Internal: webhooks by account. Accounts without any are missing."""

    webhooks: dict[str, WebhooksOf]


class ClaimFacts(Struct, kw_only=True):
    """Internal: what a message says about a claim."""

    claim: str
    complainant: str
    principal: str
    right: str
    right_type: RightType
    right_number: str | None
    reason: str
    profile: str
    size: int
    accepted_at: dt.datetime


class ClaimsFacts(Struct, kw_only=True):
    """Internal: facts about claims. Unknown claims are missing."""

    claims: dict[str, ClaimFacts]


class EvidenceOut(Struct, kw_only=True):
    """A document. ``named_in``: claims, rights and accounts that name it, shown to its owner and staff."""

    id: str
    owner: str
    kinds: list[str]
    media_type: str
    name: str | None
    size: int
    sha256: str
    uploaded_at: dt.datetime
    named_in: list[str] = []


class EvidenceLink(Struct, kw_only=True):
    """A link to a file, relative to this API's address. Anyone who has it can fetch the file until it expires."""

    url: str
    expires: dt.datetime


class EvidenceRead(Struct, kw_only=True):
    """A link or file that was given out, at a wall time."""

    id: int
    reader: str
    what: Literal["link", "file"]
    at: dt.datetime


class EvidenceNamed(Struct, kw_only=True):
    """Documents that were named, and in what."""

    about: str
    documents: list[str]


class CountsOut(Struct, kw_only=True):
    """Settled items of a window: how many were upheld, had been taken down, and came back by a successful counter.

    The rates (``upheld / settled``, ``restored / taken_down``) are rounded for reading. Decisions use whole numbers.
    """

    settled: int
    upheld: int
    taken_down: int
    restored: int
    takedown_rate: float | None
    counter_rate: float | None


class MissOut(Struct, kw_only=True):
    """A rate that misses its threshold, for a reason or overall (null)."""

    reason: str | None
    rate: Literal["takedown", "counter"]
    part: int
    whole: int


class FiguresOut(Struct, kw_only=True):
    """Figures of a window, both days included, against the policy's thresholds."""

    window_from: dt.date
    window_to: dt.date
    overall: CountsOut
    reasons: dict[str, CountsOut]
    verdict: Literal["meets", "misses", "too_few"]
    misses: list[MissOut]
    takedown_rate: str
    counter_rate: str
    min_items: int
    reason_min_items: int
    policy: str


class GoodFaithOut(Struct, kw_only=True):
    """An account's standing in the good-faith mechanism, and its figures now (today's included).

    ``demote_on``: when a warned account leaves if its figures still miss; ``barred_until``: first day on which it may
    rejoin.
    """

    account: str
    member: bool
    state: Literal["out", "in", "warned"]
    how: Literal["declaration", "statistic", "staff"] | None
    since: dt.date | None
    demote_on: dt.date | None
    barred_until: dt.date | None
    figures: FiguresOut


class GoodFaithChange(Struct, kw_only=True):
    """A change of an account's standing, and the figures that it rests on."""

    id: int
    day: dt.date
    at: dt.datetime
    kind: str
    by: str
    state: Literal["out", "in", "warned"]
    demote_on: dt.date | None
    barred_until: dt.date | None
    figures: FiguresOut


class DeclarationOut(Struct, kw_only=True):
    """The declaration's text in force, for the account to execute."""

    version: str
    sha256: str
    text: str


class DeclarationExecuted(Struct, kw_only=True):
    """An executed declaration. The signatory is null once the account's key has been erased."""

    id: int
    version: str
    sha256: str
    executed_at: dt.datetime
    name: str | None
    capacity: str | None


class MisuseFigures(Struct, kw_only=True):
    """What an account's notices are weighed by, over a window with both days included.

    ``notices``: claims with an unfounded item, and findings; ``number``: unfounded items, and findings; ``share``: of
    the settled items those that were unfounded, rounded for reading; ``weight``: gravity and intent together;
    ``knowingly``: a finding says that it was done knowingly; ``again``: items filed, and findings, since the last step
    began or ended; ``grounds``: how many for which ground.
    """

    window_from: dt.date
    window_to: dt.date
    settled: int
    unfounded: int
    notices: int
    number: int
    share: float | None
    weight: int
    knowingly: bool
    again: int
    grounds: dict[str, int]
    policy: str


class MisuseRule(Struct, kw_only=True):
    """When a measure follows: all of ``notices``, ``number``, ``share`` and ``weight`` are reached, and ``again`` and
    ``after`` since the last step."""

    measure: Literal["warning", "quota", "suspension"]
    notices: int
    number: int
    share: str
    weight: int
    again: int
    after: str
    lasts: str | None
    items: int | None


class MeasureOut(Struct, kw_only=True):
    """A measure against misuse, and the figures that it rests on.

    ``until``: first day (UTC) on which it no longer applies, null: until the record is good again; ``items``: items
    per day under a quota; ``complain_until``: deadline for a complaint (``POST /v1/misuse/{measure}/complaint``).
    """

    id: str
    kind: Literal["warning", "quota", "suspension"]
    state: Literal["on", "over", "lifted", "reversed", "fallen"]
    day: dt.date
    at: dt.datetime
    until: dt.date | None
    items: int | None
    prior: str | None
    finding: str | None
    ended: dt.date | None
    complain_until: dt.datetime
    complaint: Literal["open", "confirmed", "reversed"] | None
    complained_at: dt.datetime | None
    complaint_code: str | None
    decided_at: dt.datetime | None
    figures: MisuseFigures


class MisuseOut(Struct, kw_only=True):
    """Where an account stands, by which rules, and its last 50 measures, latest first (``history`` has all).

    ``used``: items filed today, if there is a quota; ``held``: items that wait for the end of a suspension.
    """

    account: str
    state: Literal["clear", "warning", "quota", "suspension"]
    until: dt.date | None
    items: int | None
    used: int | None
    held: int
    figures: MisuseFigures
    rules: list[MisuseRule]
    measures: list[MeasureOut]


class FindingOut(Struct, kw_only=True):
    """A reviewer's finding, and what rests on the document: ``rights`` that are not lost, and ``claims`` with items
    that have not ended (up to 200 each). Have the rights refused or lost (``/v1/rights/{right_id}``), and decide the
    claims again.

    ``state``: ``proposed`` waits for a second reviewer; ``measure``: the one that began with it at once.
    """

    id: str
    account: str
    kind: Literal["forged_document", "knowingly_false", "none"]
    state: Literal["proposed", "in_force", "refused", "reversed"]
    document: str | None
    claim: str | None
    code: str
    by: str
    second: str | None
    day: dt.date
    at: dt.datetime
    measure: str | None
    rights: list[str]
    claims: list[str]


class MeasureComplaint(Struct, kw_only=True):
    """An open complaint against a measure. ``statement`` is null if there is none or the account's key was erased."""

    measure: str
    account: str
    kind: Literal["warning", "quota", "suspension"]
    finding: str | None
    at: dt.datetime
    statement: str | None


class MisuseChange(Struct, kw_only=True):
    """What happened to a measure, and the figures that it rests on."""

    id: int
    measure: str
    day: dt.date
    at: dt.datetime
    kind: str
    by: str
    figures: MisuseFigures


class Alive(Struct, kw_only=True):
    """The process answers. ``publishing``: whether accepted requests are being published.

    If ``delayed``, they are durable and have waited for ``delayed_s`` seconds.
    """

    ok: bool = True
    publishing: Literal["current", "delayed", "unknown"] = "unknown"
    delayed_s: float | None = None


class CaseOut(Struct, kw_only=True):
    """A case of the review queue. The item's whole history is at ``/v1/claims/{claim}/timeline``."""

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
    since: dt.datetime
    reviewer: str | None
    """Who holds it now; ``expires``: until when (wall time)."""
    expires: dt.datetime | None
    assignee: str | None
    """Whom it was handed to."""
    decided: bool
    """A decision is on its way."""
    decisions: list[str]
    """The decisions that are possible."""


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


class Lifted(Struct, kw_only=True):
    """An operator's request to lift a sanction."""

    by: str
    reason: str
    note: str | None
    at: dt.datetime


class SellerSanction(Struct, kw_only=True):
    """A sanction as staff sees it."""

    sanction: Sanction
    lift: Lifted | None = None


class LiftAccepted(Struct, kw_only=True):
    """The request is durable. Enforcement lifts the sanction when it receives it; the `state` then says so."""

    command: str
    sanction: str
    accepted_at: dt.datetime


class OwnSanction(Struct, kw_only=True):
    """A sanction as the seller sees it."""

    sanction: Sanction
    why: str
    """In the reader's language."""
    undone: list[str]
    """How it ends or is undone, in the reader's language."""


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
