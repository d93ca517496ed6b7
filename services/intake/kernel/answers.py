"""What the API answers: structs of their own, so that no column becomes public by accident."""

from __future__ import annotations

import datetime as dt
from typing import Generic, Literal, TypeVar

from msgspec import Struct

from services.intake.kernel.requests import Register
from shared.events import Lane, RightType, Triage
from shared.standing import Sanction

T = TypeVar("T")


class Problem(Struct, kw_only=True, omit_defaults=True):
    """RFC 9457, with the field that is wrong and how to cure it."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    cure: str | None = None
    instance: str | None = None


class Page(Struct, Generic[T], kw_only=True):
    """A part of a list; ``next`` is the cursor of the following part, null at the end."""

    items: list[T]
    next: str | None = None


class AccountOpened(Struct, kw_only=True):
    """A new account. The token is shown this once."""

    account: str
    role: str
    token: str
    expires: dt.datetime


class TokenIssued(Struct, kw_only=True):
    """A further token of the caller. Shown this once."""

    account: str
    id: str
    name: str
    token: str
    expires: dt.datetime


class TokenOut(Struct, kw_only=True):
    """A token that is in force; the token itself is shown once only, when it is issued."""

    id: str
    name: str
    created: dt.datetime
    expires: dt.datetime
    current: bool = False
    """Whether it is the one that this request carries."""


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
    """What an erasure did. ``stays``: what it left, and why; ``documents_kept`` of them go by themselves later."""

    account: str
    already: bool
    """It had been erased before."""
    forced: bool
    matters: dict[str, int]
    """What it was party to that is not over."""
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
    """An account and what happened to it, latest first, at most 100."""

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
    """Fields that were made plain: they are kept otherwise than they were given."""


class RightChange(Struct, kw_only=True):
    """Something that happened to a right; ``was`` and ``now`` are what the kind is about."""

    kind: str
    by: str
    at: dt.datetime
    was: str | None
    now: str | None
    code: str | None


class RightWithHistory(RightOut, kw_only=True):
    """A right and what happened to it, latest first, at most 100."""

    history: list[RightChange]


class CodeRequested(Struct, kw_only=True):
    """A code is on its way to the address on file."""

    again_at: dt.datetime
    """When a further one may be asked for."""


class CodeFor(Struct, kw_only=True):
    """Internal: a code for the sending of a message."""

    code: str


class CodesFor(Struct, kw_only=True):
    """Internal: codes by notice; one with nothing to confirm is missing."""

    codes: dict[str, CodeFor]


class AuthorisationOut(Struct, kw_only=True):
    """An authorisation; ``rights`` null: all of the principal's."""

    id: str
    agent: str
    principal: str
    rights: list[str] | None
    territory: list[str] | None
    expires_at: dt.datetime | None
    status: Literal["active", "ended", "expired"]
    granted_at: dt.datetime


class Changed(Struct, kw_only=True):
    """What came of a request to change a right or an authorisation. Open items that it concerns are told within seconds."""

    changed: bool
    """False: it was so already, and nothing was written."""


class ItemAccepted(Struct, kw_only=True):
    """An item of an accepted claim."""

    item: str
    listing: str


class ClaimAccepted(Struct, kw_only=True):
    """An accepted claim. From now on it can be read."""

    claim: str
    accepted_at: dt.datetime
    lane: Lane
    items: list[ItemAccepted]
    held_until: dt.date | None = None
    """Only while the processing of the account's claims is suspended: the day (UTC) on which that of this one begins."""


class CommandAccepted(Struct, kw_only=True):
    """A command and the item that it is about."""

    command: str
    item: str


class CommandsAccepted(Struct, kw_only=True):
    """Accepted commands. Whether each was applied or refused is told by ``/v1/commands/{id}``."""

    claim: str
    accepted_at: dt.datetime
    commands: list[CommandAccepted]
    proposed: list[str] = []
    """Items of a decision that another person has to look at first."""


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
    """Of an item that was refused: how to cure it, in the reader's language."""
    missing: list[str] = []
    original: str | None = None
    recurs: str | None = None
    """The upheld item whose listing has returned as this one's."""
    noticed_at: dt.datetime | None = None
    due: dt.datetime | None = None
    sla_due: dt.datetime | None = None
    handled_at: dt.datetime | None = None
    sla: Literal["met", "missed"] | None = None
    counter_round: int = 0
    triage: Triage | None = None
    """Reviewers and operators only: what the rules made of it."""


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
    """When the party said that it had read it."""
    contacts: list[ContactOut]


class Inbox(Page[MessageOut], kw_only=True):
    """A page of messages; ``unread``: how many of the inbox are not read, counted up to 1,000."""

    unread: int


class MessageRead(Struct, kw_only=True):
    """The receipt of a message; ``read_at`` is that of the first time."""

    message: str
    read_at: dt.datetime


class ContactFor(Struct, kw_only=True):
    """Internal: a contact for the sending of a message."""

    account: str
    name: str
    address: str
    email: str
    language: str = "en"
    """Of messages to it."""
    confirmed: bool = False
    """The address was confirmed to be the account's."""


class ContactsFor(Struct, kw_only=True):
    """Internal: contacts by account; one without a contact is missing."""

    contacts: dict[str, ContactFor]


class DigestOut(Struct, kw_only=True):
    """The hour at which receipts and outcomes come together."""

    hour: int
    zone: str


class ChannelsOut(Struct, kw_only=True):
    """In which order the caller's channels are tried, and whether it is told once a day."""

    order: list[str]
    digest: DigestOut | None = None


class ChallengeOut(Struct, kw_only=True):
    """How a webhook's URL is sent the code that confirms it. Wall times."""

    expires_at: dt.datetime
    """Until when the code is good."""
    again_at: dt.datetime
    """When a further one may be asked for."""
    calls: int
    """Calls made with it."""
    next_at: dt.datetime | None
    """When it is called next, unless a call before is taken."""
    result: str | None
    """What came of the last call: HTTP status, or a word."""


class WebhookOut(Struct, kw_only=True):
    """A webhook of the caller's."""

    id: str
    url: str
    kinds: list[str]
    status: Literal["pending", "enabled", "disabled"]
    """`pending`: nobody has confirmed it yet, and nothing goes there."""
    challenge: ChallengeOut | None
    """Of a pending one."""
    reason: str | None
    """Why it is disabled: `owner`, `gone` (it answered 410), `failing`."""
    secrets: int
    """Secrets that sign at present."""
    made_at: dt.datetime
    changed_at: dt.datetime


class WebhookSecret(Struct, kw_only=True):
    """A webhook's new secret. Shown this once."""

    id: str
    secret: str
    """For the verification of signatures, as the Standard Webhooks specification has it."""
    former_until: dt.datetime | None = None
    """Until when the former secret signs as well (wall time)."""


class WebhookFor(Struct, kw_only=True):
    """Internal: where a webhook is, and what signs for it now."""

    id: str
    url: str
    secrets: list[str]
    kinds: list[str]
    generation: int


class WebhooksOf(Struct, kw_only=True):
    """Internal: the webhooks that an account has in use."""

    webhooks: list[WebhookFor]


class ChallengeFor(Struct, kw_only=True):
    """Internal: a webhook that is to be sent its code."""

    id: str
    ask: int
    url: str
    secrets: list[str]
    code: str
    expires_at: dt.datetime


class ChallengesFor(Struct, kw_only=True):
    """Internal: webhooks that are to be called for their owners to confirm."""

    challenges: list[ChallengeFor]


class WebhooksFor(Struct, kw_only=True):
    """Internal: webhooks by account; an account without any is missing."""

    webhooks: dict[str, WebhooksOf]


class ClaimFacts(Struct, kw_only=True):
    """Internal: what a message says of a claim."""

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
    """Internal: facts of claims; an unknown one is missing."""

    claims: dict[str, ClaimFacts]


class EvidenceOut(Struct, kw_only=True):
    """A document. ``named_in``: claims, rights and accounts that it was named in, for its owner and staff."""

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
    """Where the file can be fetched until then, by whoever has the link. Relative to this API's address."""

    url: str
    expires: dt.datetime


class EvidenceRead(Struct, kw_only=True):
    """A link that was given out, or a file; wall time."""

    id: int
    reader: str
    what: Literal["link", "file"]
    at: dt.datetime


class EvidenceNamed(Struct, kw_only=True):
    """Documents that were named in something."""

    about: str
    documents: list[str]


class CountsOut(Struct, kw_only=True):
    """Settled items of a window, how many were upheld, had been taken down, came back by a successful counter; and the rates
    (``upheld / settled``, ``restored / taken_down``), rounded for reading: what is decided is decided in whole numbers."""

    settled: int
    upheld: int
    taken_down: int
    restored: int
    takedown_rate: float | None
    counter_rate: float | None


class MissOut(Struct, kw_only=True):
    """A rate that is not kept, of a reason or (null) overall."""

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
    """Where an account stands with the good-faith takedown mechanism, and its figures now (today's included).

    ``demote_on``: of a warned account, when it leaves if its figures still miss; ``barred_until``: first day on which it may come
    in again.
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
    """A change of an account's standing, and the numbers that it stood on."""

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
    """The text in force, to be executed."""

    version: str
    sha256: str
    text: str


class DeclarationExecuted(Struct, kw_only=True):
    """An executed declaration; the signatory is null once the account's key was erased."""

    id: int
    version: str
    sha256: str
    executed_at: dt.datetime
    name: str | None
    capacity: str | None


class MisuseFigures(Struct, kw_only=True):
    """What an account's notices are weighed by, over a window, both days included.

    ``notices``: claims with an unfounded item, and findings; ``number``: unfounded items, and findings; ``share``: unfounded items of settled ones, rounded for reading; ``weight``: gravity and
    intent together; ``knowingly``: a finding says that it was done knowingly; ``again``: items filed, and findings, since the last step
    began or ended; ``grounds``: why, and how many.
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
    """From when on a measure follows: all of ``notices``, ``number``, ``share`` and ``weight``; ``again`` and ``after`` since the
    last step."""

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
    """A measure against misuse, and the numbers that it stands on.

    ``until``: first day (UTC) on which it runs no more, null: until the record is good again; ``items``: of a quota, items a day;
    ``complain_until``: when it may be complained of at the latest (``POST /v1/misuse/{measure}/complaint``).
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
    """Where an account stands, by which rules, and its measures, latest first (the last 50; all: ``history``).

    ``used``: items filed today, while there is a quota; ``held``: items that wait for the end of a suspension.
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
    """A reviewer's finding, and what rests on the document: ``rights`` that are not lost, ``claims`` with items that have not ended
    (up to 200 each). Have the rights refused or lost (``/v1/rights/{right_id}``), and decide the claims anew.

    ``state``: ``proposed`` waits for a second reviewer; ``measure``: that which began with it at once.
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
    """An open complaint against a measure; ``statement`` is null if there is none, or the account's key was erased."""

    measure: str
    account: str
    kind: Literal["warning", "quota", "suspension"]
    finding: str | None
    at: dt.datetime
    statement: str | None


class MisuseChange(Struct, kw_only=True):
    """What happened to a measure, and the numbers that it stood on."""

    id: int
    measure: str
    day: dt.date
    at: dt.datetime
    kind: str
    by: str
    figures: MisuseFigures


class Alive(Struct, kw_only=True):
    """The process answers. ``publishing``: whether what is accepted goes on; ``delayed`` it waits, durably, for so many seconds."""

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
    """A deadline of ours has passed: offered before all others."""
    due: dt.datetime | None
    since: dt.datetime
    reviewer: str | None
    """Who holds it now; ``expires``: until when (wall time)."""
    expires: dt.datetime | None
    assignee: str | None
    """For whom it was left."""
    decided: bool
    """A decision is on its way."""
    decisions: list[str]
    """What may be decided."""


class LeaseOut(Struct, kw_only=True):
    """A lease: ``token`` is shown this once, and null where there was nothing to take, or for a heartbeat."""

    token: str | None
    expires: dt.datetime | None
    """When the first of the cases is free again (wall time), unless there is a heartbeat before."""
    cases: list[CaseOut]
    codes: dict[str, str]
    """Reason codes that a decision may need, and what each says to the parties."""


class NoteOut(Struct, kw_only=True):
    """A note on an item; for staff."""

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
    """That an operator asked for a sanction to be lifted."""

    by: str
    reason: str
    note: str | None
    at: dt.datetime


class SellerSanction(Struct, kw_only=True):
    """A sanction as staff sees it."""

    sanction: Sanction
    lift: Lifted | None = None


class LiftAccepted(Struct, kw_only=True):
    """It is durable, and lifted as soon as enforcement has it; the sanction's `state` then says so."""

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
    """Of these, an operator's without a lease."""
    proposed: int
    """First or second looks of four eyes that were no decision yet."""
    refused: int
    """Decisions that the item's owner refused."""
    median_s: float | None
    """Median of wall seconds from lease to decision."""
    agreed: int
    compared: int
    agreement: float | None
    """Share of looks, of those that another person looked at as well, that said what was decided in the end."""
    confirmed: int
    appealed: int
    confirmation: float | None
    """Share of decisions confirmed, of those that a complaint was decided about."""


class ReviewFigures(Struct, kw_only=True):
    """The queue now, and reviewers by day."""

    queue: list[QueueDepth]
    reviewers: list[ReviewerDay]
    next: str | None = None
