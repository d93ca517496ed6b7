"""Body and headers of a webhook call, as the Standard Webhooks specification defines them. Pure.

The body says what the e-mail would say, as text and as fields. It contains contact data if the text does. It is
rendered again for each try and never stored; only its digest is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from services.notification.domain import ACCOUNT, DIGEST, deadline
from services.notification.render import Contact, MessageItem, Rendered, render, render_notice
from services.notification.types import Item, Message
from shared.events import AccountNotice
from shared.marketplace import listing_url
from shared.webhook_signatures import signed_headers

AGENT: Final = "goodfaith-webhooks/1"
CHALLENGE: Final = "webhook.challenge"


class ItemBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item in a message."""

    item: str
    listing: str
    link: str
    state: str
    code: str | None = None
    missing: tuple[str, ...] = ()
    original: str | None = None
    due: dt.datetime | None = None
    claim: str | None = None
    """This and the following fields: only in a digest, whose items may belong to several claims."""
    right: str | None = None
    right_type: str | None = None
    reason: str | None = None
    policy: str | None = None


class Data(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The message. Claim, right, reason and policy apply to all items; a digest has them per item."""

    message: str
    party: str
    claim: str | None = None
    about: str | None = None
    right: str | None = None
    right_type: str | None = None
    reason: str | None = None
    policy: str | None = None
    deadline: dt.datetime | None = None
    """Until when the party may act; only in a message that begins a window."""
    items: tuple[ItemBody, ...] = ()
    figures: dict[str, int | float | str] = {}
    subject: str
    text: str
    locale: str
    template: str
    version: int


class Body(Struct, frozen=True, kw_only=True):
    """The body of a call. ``type`` is the message's kind; ``timestamp`` is business time."""

    type: str
    timestamp: dt.datetime
    data: Data


class ChallengeData(Struct, frozen=True, kw_only=True):
    """The code with which a webhook's owner confirms it. No field holds outside input."""

    webhook: str
    code: str
    expires_at: dt.datetime
    confirm: str


class ChallengeBody(Struct, frozen=True, kw_only=True):
    """The body sent to a webhook before it is in use; ``timestamp`` is wall time."""

    type: str
    timestamp: dt.datetime
    data: ChallengeData


_encode = msgspec.json.Encoder().encode


def body(
    message: Message,
    contacts: Mapping[str, Contact | None],
    right_number: str | None,
    *,
    site: str,
    now: dt.datetime,
) -> tuple[bytes, Rendered]:
    """The body of a message as of ``now`` (business time), and the rendered text in it.

    Args:
        contacts: of the party and of those that the message discloses.
        site: base of the listings' public links.

    Raises:
        jinja2.TemplateError: a template is wrong or missing.
    """
    if message.notice is not None:
        return _notice(message, message.notice, contacts.get(message.party), now)
    told = [MessageItem(item.item, item.facts) for item in message.items]
    shown = render(
        id=message.id,
        claim=message.claim,
        party=message.party,
        kind=message.kind,
        items=told,
        claim_size=message.claim_size,
        contacts=contacts,
        right_number=right_number,
        site=site,
        now=now,
        pages=False,
    )
    facts = message.items[0].facts
    several = message.kind == DIGEST
    data = Data(
        message=message.id,
        party=message.party,
        claim=None if several else message.claim,
        right=None if several else facts.right,
        right_type=None if several else facts.right_type,
        reason=None if several else facts.reason,
        policy=None if several else facts.policy,
        deadline=deadline(message.kind, [one.facts for one in told], now),
        items=tuple(_item(one, site, several=several) for one in message.items),
        subject=shown.subject,
        text=shown.body,
        locale=shown.locale,
        template=shown.template,
        version=shown.version,
    )
    return _encode(Body(type=message.kind, timestamp=now, data=data)), shown


def _item(one: Item, site: str, *, several: bool) -> ItemBody:
    facts = one.facts
    told = ItemBody(
        item=one.item,
        listing=facts.listing,
        link=listing_url(site, facts.listing),
        state=facts.state.value,
        code=facts.code,
        missing=facts.missing,
        original=facts.original,
        due=facts.due,
    )
    if not several:
        return told
    return msgspec.structs.replace(
        told, claim=one.claim, right=facts.right, right_type=facts.right_type, reason=facts.reason, policy=facts.policy
    )


def _notice(message: Message, notice: AccountNotice, to: Contact | None, now: dt.datetime) -> tuple[bytes, Rendered]:
    shown = render_notice(id=message.id, notice=notice, party=to, secret=None, now=now, pages=False)
    data = Data(
        message=message.id,
        party=message.party,
        about=notice.about,
        figures=notice.figures,
        subject=shown.subject,
        text=shown.body,
        locale=shown.locale,
        template=shown.template,
        version=shown.version,
    )
    return _encode(Body(type=ACCOUNT + notice.kind, timestamp=now, data=data)), shown


def challenge(webhook: str, code: str, expires: dt.datetime, now: dt.datetime) -> bytes:
    """The body that asks a webhook's owner to confirm it."""
    data = ChallengeData(
        webhook=webhook, code=code, expires_at=expires, confirm=f"POST /v1/webhooks/{webhook}/confirmation"
    )
    return _encode(ChallengeBody(type=CHALLENGE, timestamp=now, data=data))


def headers(id: str, raw: bytes, secrets: Sequence[str], at: dt.datetime) -> dict[str, str]:
    """Headers of a call made ``at`` (wall time, UTC), signed with each secret.

    Raises:
        ValueError: a secret is malformed.
    """
    return {
        "content-type": "application/json; charset=utf-8",
        "user-agent": AGENT,
        **signed_headers(id, raw, secrets, at),
    }
