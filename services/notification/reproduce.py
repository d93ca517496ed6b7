"""Reproduces a sent message from its template and version, language, facts and the contacts now on file. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.notification import payload
from services.notification.domain import SECRET, deadline
from services.notification.render import (
    MASK,
    UNCONFIRMED,
    Contact,
    MessageItem,
    Rendered,
    edition,
    mail,
    render,
    render_notice,
    render_unconfirmed,
)
from services.notification.types import Item, Message
from shared.events import AccountNotice


@dataclass(frozen=True, slots=True)
class SentMessage:
    """The stored data of a sent message. ``sent_wall`` is wall time, other times are business time."""

    id: str
    claim: str
    party: str
    kind: str
    channel: str
    template: str
    version: int
    locale: str
    edition: str
    rendered_at: dt.datetime
    sent_wall: dt.datetime
    digest: str
    claim_size: int = 1
    items: Sequence[MessageItem] = ()
    notice: AccountNotice | None = None

    @property
    def parties(self) -> list[str]:
        """Accounts whose contacts the message may contain."""
        found = {self.party}
        for item in self.items[:1]:
            found.update(filter(None, (item.facts.complainant, item.facts.principal, item.facts.seller)))
        return sorted(found)


def again(
    kept: SentMessage, contacts: Mapping[str, Contact | None], right_number: str | None, *, site: str, sender: str
) -> tuple[Rendered, bytes]:
    """The message as it was rendered, and the bytes from which its digest was computed.

    Raises:
        ValueError: it was mailed and there is no longer an address, or it went to a webhook and its template is no
            longer in use.
        jinja2.TemplateError: the template no longer exists.
    """
    if kept.channel == "webhook":
        return _called(kept, contacts, right_number, site)
    if kept.template == UNCONFIRMED:
        shown = render_unconfirmed(
            id=kept.id,
            account=kept.party,
            ends=deadline(kept.kind, [told.facts for told in kept.items], kept.rendered_at),
            now=kept.rendered_at,
            locale=kept.locale,
            version=kept.version,
        )
    elif kept.notice is not None:
        shown = render_notice(
            id=kept.id,
            notice=kept.notice,
            party=contacts.get(kept.party),
            now=kept.rendered_at,
            locale=kept.locale,
            secret=MASK if kept.kind in SECRET else None,
            template=(kept.template, kept.version),
        )
    else:
        shown = render(
            id=kept.id,
            claim=kept.claim,
            party=kept.party,
            kind=kept.kind,
            items=kept.items,
            claim_size=kept.claim_size,
            contacts=contacts,
            right_number=right_number,
            site=site,
            now=kept.rendered_at,
            locale=kept.locale,
            version=kept.version,
        )
    if kept.channel != "email":
        return shown, f"{shown.subject}\n{shown.body}".encode()
    to = contacts.get(kept.party)
    if to is None or not to.email:
        raise ValueError("there is no longer an address")
    return shown, mail(shown, id=kept.id, sender=sender, to=to, at=kept.rendered_at)


def _called(
    kept: SentMessage, contacts: Mapping[str, Contact | None], right_number: str | None, site: str
) -> tuple[Rendered, bytes]:
    """The body that a webhook was sent."""
    message = Message(
        kept.id,
        kept.claim,
        kept.party,
        kept.kind,
        unknown=False,
        tries=0,
        opened_wall=kept.sent_wall,
        claim_size=kept.claim_size,
        items=[Item(told.id, 0, 0, told.facts, told.claim) for told in kept.items],
        notice=kept.notice,
    )
    then = {a: None if contact is None else replace(contact, language=kept.locale) for a, contact in contacts.items()}
    raw, shown = payload.body(message, then, right_number, site=site, now=kept.rendered_at)
    if (shown.template, shown.version) != (kept.template, kept.version):
        raise ValueError(
            "the template has been replaced, and what a webhook was sent is not rendered from an older one"
        )
    return shown, raw


def differences(
    kept: SentMessage, contacts: Mapping[str, Contact | None], changed: Mapping[str, dt.datetime]
) -> list[str]:
    """Known reasons why the reproduced message may differ from the one sent.

    Args:
        changed: by account, wall time of the last change of its contact.
    """
    found = []
    for account in kept.parties:
        at = changed.get(account)
        if contacts.get(account) is None:
            found.append(f"the contact of {account} is no longer on file (erased), or never was")
        elif at is not None and at > kept.sent_wall:
            found.append(f"the contact of {account} was changed on {at:%Y-%m-%d %H:%M} UTC, after the sending")
    if kept.edition and edition(kept.template, kept.version, kept.locale) != kept.edition:
        found.append(f"template {kept.template}, version {kept.version}, or its translation was edited since")
    return found
