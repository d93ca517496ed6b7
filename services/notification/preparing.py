"""Prepares messages for mailing: asks intake for contacts, numbers and codes, chooses the channel, and renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
import structlog

from services.notification import bounce_store, centre
from services.notification.channels import Channel, address_key
from services.notification.domain import SECRET, deadline
from services.notification.intake_client import IntakeClient
from services.notification.render import (
    MASK,
    Contact,
    MessageItem,
    Rendered,
    mail,
    render,
    render_notice,
    render_unconfirmed,
)
from services.notification.routing import channel
from services.notification.types import UNREACHABLE, Failure, Message, PutOff
from services.notification.webhook_store import Preference, preferences, sent_at
from shared import clock
from shared.events import AccountNotice
from shared.settings import Settings

log = structlog.get_logger(__name__)

GIVE_UP: Final = 30
"""Temporary refusals (4xx), over some 6 hours, after which a message is left in the inbox."""


@dataclass(slots=True)
class PreparedMessage:
    """A message ready to be sent; without ``to`` it goes to the inbox, for the reason ``why``."""

    message: Message
    rendered: Rendered
    to: str | None
    raw: bytes
    why: str = ""
    masked: bytes | None = None
    """The message without its code, from which the digest is computed; None if it has no code."""
    address: str | None = None
    """Keyed hash of ``to``."""
    failure: Failure | None = None
    """The channel that was given up for this one."""
    other: Channel = "inbox"
    """The channel to try if e-mail fails."""
    lost: bool = False
    """In the inbox, it would reach nobody."""


def state_before(message: Message) -> str:
    """The state to which a message that was not tried returns."""
    return "sending" if message.unknown else "queued"


class Preparer:
    """Prepares the messages of one sender."""

    def __init__(self, settings: Settings, engine: sa.Engine, intake: IntakeClient) -> None:
        self.settings = settings
        self._engine = engine
        self._intake = intake

    def prepare(self, messages: Sequence[Message]) -> tuple[list[PreparedMessage], list[PutOff]]:
        """Messages to mail or to leave in the inbox, and those that go by another channel or cannot be rendered.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        contacts, unowned = self._intake.reach({party for message in messages for party in message.parties})
        claims = [message.claim for message in messages if message.notice is None]
        numbers = self._intake.right_numbers(claims) if claims else {}
        secrets = [message.notice.notice for message in messages if message.notice and message.kind in SECRET]
        codes = self._intake.codes(secrets) if secrets else {}
        with self._engine.connect() as connection:
            now, _ = clock.read(connection)
            days = self.settings.bounce_days
            bouncing = bounce_store.bouncing(connection, (message.party for message in messages), days)
            preferred = preferences(connection, (message.party for message in messages))
            before = [message.id for message in messages if not message.first]
            sent = sent_at(connection, before) if before else {}
        prepared: list[PreparedMessage] = []
        back: list[PutOff] = []
        for message in messages:
            to = contacts.get(message.party)
            # a repeat says what the first sending said: the windows run from then
            at = sent.get(message.id, now)
            try:
                address = None if to is None or not to.email else self._key_of(to.email)
                bounces = address is not None and bouncing.get(message.party) == address
                # what was sent before has begun its window then, if it began one: the address was lost since
                lost = message.kind == "seller_notice" and message.first and message.party in unowned
                why, failure = self._unreachable(message, to, bounces)
                preference = preferred.get(message.party, Preference())
                ways = (message.kind, preference.order, preference.webhooks, message.tried)
                in_centre = self.settings.centre_key is not None and centre.is_for_seller(message)
                other = channel(*ways, mail=False, centre=in_centre)
                first = channel(*ways, centre=in_centre)
                if (why and other == "webhook") or first == "webhook":
                    state = state_before(message)
                    back.append(PutOff(message, state, why or "preferred", route="webhook", failure=failure))
                    continue
                if first == "centre" or (why and other == "centre"):
                    if failure is not None:
                        back.append(PutOff(message, state_before(message), why, failure=failure))
                        continue
                    why = centre.WAITS
                if not why and first == "inbox":
                    why = "preferred"
                if not why and to is not None and not to.confirmed and message.kind not in SECRET:
                    one = self._unconfirmed(message, to, at)
                elif message.notice is not None:
                    one = self._notice(message, message.notice, to, codes, at, why)
                else:
                    one = self._about_claim(message, to, contacts, numbers.get(message.claim), at, why)
                if lost and one.to is None and why != centre.WAITS:
                    one.why = UNREACHABLE
                one.address, one.failure, one.other, one.lost = address, failure, other, lost
                prepared.append(one)
            except Exception as error:
                # a bug of ours; log no traceback, which would show contact data
                log.error("rendering failed", message=message.id, kind=message.kind, error=type(error).__name__)
                back.append(PutOff(message, "failed", "failed"))
        return prepared, back

    def _unreachable(self, message: Message, to: Contact | None, bounces: bool) -> tuple[str, Failure | None]:
        """Why this message cannot go by e-mail ("" if it can), and the failure to record."""
        if to is None or not to.email:
            return "no_contact", None
        if "email" in message.tried:
            return "bounced", None
        if bounces and message.kind not in SECRET:
            # a code was requested for that address, so send it even if earlier mail bounced
            return "bouncing", None
        if message.tries >= GIVE_UP:
            return "gave_up", Failure("email", "gave_up")
        return "", None

    def _key_of(self, address: str) -> str | None:
        """The keyed hash by which an address is remembered; None without a mail key."""
        key = self.settings.mail_key
        return None if key is None else address_key(key.get_secret_value(), address)

    def _mail(self, message: Message, rendered: Rendered, to: Contact, at: datetime) -> bytes:
        return mail(rendered, id=message.id, sender=self.settings.smtp_from, to=to, at=at)

    def _about_claim(
        self,
        message: Message,
        to: Contact | None,
        contacts: dict[str, Contact | None],
        right_number: str | None,
        at: datetime,
        why: str,
    ) -> PreparedMessage:
        rendered = render(
            id=message.id,
            claim=message.claim,
            party=message.party,
            kind=message.kind,
            items=[MessageItem(item.item, item.facts) for item in message.items],
            claim_size=message.claim_size,
            contacts=contacts,
            right_number=right_number,
            site=self.settings.marketplace_url,
            now=at,
        )
        if why or to is None:
            return PreparedMessage(message, rendered, None, plain(rendered), why)
        return PreparedMessage(message, rendered, to.email, self._mail(message, rendered, to, at))

    def _unconfirmed(self, message: Message, to: Contact, at: datetime) -> PreparedMessage:
        """A mail that says only that there is a message, for an address that may be a stranger's."""
        rendered = render_unconfirmed(
            id=message.id,
            account=message.party,
            ends=deadline(message.kind, [item.facts for item in message.items], at),
            now=at,
            locale=to.language,
        )
        return PreparedMessage(message, rendered, to.email, self._mail(message, rendered, to, at))

    def _notice(
        self,
        message: Message,
        notice: AccountNotice,
        to: Contact | None,
        codes: dict[str, str | None],
        at: datetime,
        why: str,
    ) -> PreparedMessage:
        """A message to an account about itself. A code in it is never stored."""
        needs = message.kind in SECRET
        code = codes.get(notice.notice) if needs else None
        rendered = render_notice(id=message.id, notice=notice, party=to, secret=MASK if needs else None, now=at)
        if why in ("", "gave_up") and needs and code is None:
            why = "outdated"
        if why or to is None:
            return PreparedMessage(message, rendered, None, plain(rendered), why)
        masked = self._mail(message, rendered, to, at)
        if not needs:
            return PreparedMessage(message, rendered, to.email, masked)
        whole = render_notice(id=message.id, notice=notice, party=to, secret=code, now=at)
        return PreparedMessage(message, rendered, to.email, self._mail(message, whole, to, at), masked=masked)


def plain(rendered: Rendered) -> bytes:
    """What the inbox's digest is computed from."""
    return f"{rendered.subject}\n{rendered.body}".encode()
