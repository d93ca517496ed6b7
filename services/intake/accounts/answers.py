"""The answers of accounts, tokens, contacts, channels and webhooks.

Answers are structs of their own, in all parts of intake, so that no column becomes public by accident.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct


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
    documents: list[str] | None
    """Documents that a verification rests on."""
    seen: str | None
    """Where else the owner's identity was seen."""


class DomainSeen(Struct, kw_only=True):
    """A domain that an account has named. That the account controls it is a signal, and verifies nobody."""

    id: str
    domain: str
    """In ASCII, as DNS has it: letters of other scripts do not pass for ours."""
    state: Literal["pending", "verified", "failed", "removed"]
    """Whether the record was found in its DNS."""
    reason: Literal["no_record", "other_record", "alias", "too_long", "no_answer", "not_checked"] | None
    """Why it was not, the last time. A domain that is verified stays so for three days."""
    since: dt.datetime | None
    """Since when it is verified (wall time)."""
    seen_at: dt.datetime | None
    """When its record was last seen (wall time)."""
    mail_since: dt.datetime | None
    """When the account confirmed the address on file, if that is at this domain."""


class DomainOut(DomainSeen, kw_only=True):
    """One of the caller's domains, and the TXT record to publish for it."""

    name: str
    """Where the record is to be."""
    record: str
    """The record's text. Anybody may read it."""
    due_at: dt.datetime | None
    """When it is looked up next; null: not until you ask."""


class AccountWithHistory(AccountOut, kw_only=True):
    """An account, its domains and its history, latest first, at most 100 entries."""

    history: list[AccountChange]
    domains: list[DomainSeen]


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
    """Internal: contacts by account. Accounts without one are missing; of those, the ones whose inbox nobody owns."""

    contacts: dict[str, ContactFor]
    unowned: list[str]


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
