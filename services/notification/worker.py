"""Collects what to tell the parties and publishes what was sent. store.py explains how workers share a message."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from services.notification import bounce_store, centre, digests, history, store, webhook_store, windows
from services.notification.domain import ACCOUNT, Facts, facts_of, messages_for, notice_of
from services.notification.types import ItemRows
from shared.events import (
    TYPES,
    AccountChannels,
    AccountErased,
    AccountNotice,
    AccountTold,
    CentreMessage,
    CentreReceipt,
    DeliveryChanged,
    ItemChanged,
    MessageRead,
    MessageSent,
    NoticeSent,
    NoticeUnreached,
    SanctionChanged,
    WebhookDisabled,
)
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx
from shared.topics import ACCOUNTS, CENTRE_MESSAGES, CENTRE_RECEIPTS, LEDGER, NOTIFICATION, VERIFICATION, Topic

QUEUE: Final = "@queue"
_encode = msgspec.json.Encoder().encode
_decoders: Final = {
    name: msgspec.json.Decoder(TYPES[name])
    for name in (
        "goodfaith.notice.sent.v1",
        "goodfaith.notice.unreached.v1",
        "goodfaith.message.sent.v1",
        "goodfaith.account.told.v1",
        "goodfaith.delivery.changed.v1",
        "goodfaith.webhook.disabled.v1",
        centre.COMMAND,
    )
}


class NotificationBatch:
    """One batch: rows to tell parties about, and events about what was sent."""

    def __init__(self, tx: Tx, handed: Mapping[str, str]) -> None:
        self._tx = tx
        self._handed = handed
        self._receipts: list[CentreReceipt] = []
        self._rows = ItemRows()
        self._channels: list[AccountChannels] = []
        self._read: list[MessageRead] = []
        self._erased: list[str] = []

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        data = incoming.data
        if isinstance(data, ItemChanged):
            self._collect(incoming, data)
        elif isinstance(data, AccountNotice):
            self._collect_notice(incoming, data)
        elif isinstance(data, SanctionChanged):
            notice = notice_of(data)
            if notice is not None:
                self._collect_notice(incoming, notice)
        elif isinstance(data, AccountErased):
            self._erased.append(data.account)
        elif isinstance(data, MessageRead):
            self._read.append(data)
        elif isinstance(data, AccountChannels):
            self._channels.append(data)
        elif isinstance(data, CentreReceipt):
            centre.check(data, incoming.key, self._handed)
            self._receipts.append(data)
        # the rest comes from the service's own queue, or is a row of it that was a dead letter
        elif isinstance(data, AccountTold):
            return (_published(incoming, data.message, data.sent_at, None, data.message),)
        elif isinstance(data, CentreMessage):
            now = self._tx.now
            return (_published(incoming, data.message, now, None, data.message, CENTRE_MESSAGES),)
        elif isinstance(data, WebhookDisabled):
            return (_published(incoming, data.webhook, data.at, None, None),)
        elif isinstance(data, DeliveryChanged):
            return (_published(incoming, data.message, data.at, data.claim, data.message),)
        elif isinstance(data, NoticeSent):
            return (_published(incoming, data.item, data.begins, data.claim, data.message),)
        elif isinstance(data, NoticeUnreached):
            return (_published(incoming, data.item, data.at, data.claim, data.message),)
        elif isinstance(data, MessageSent):
            return (_published(incoming, data.message, data.sent_at, data.claim, data.message),)
        return ()  # a refused command is reported by the command resource

    def _collect(self, incoming: Incoming, change: ItemChanged) -> None:
        messages = messages_for(incoming.type, change)
        if not messages:
            return
        facts: Facts = facts_of(change)
        text = _encode(facts).decode()
        rows = self._rows
        for kind, party in messages:
            rows.items.append(change.item)
            rows.revisions.append(change.revision)
            rows.kinds.append(kind)
            rows.parties.append(party)
            rows.claims.append(change.claim)
            rows.sizes.append(change.claim_size)
            rows.partitions.append(incoming.partition)
            rows.listings.append(change.listing)
            rows.facts.append(text)
            rows.traces.append(incoming.trace)

    def _collect_notice(self, incoming: Incoming, notice: AccountNotice) -> None:
        rows = self._rows
        rows.items.append(notice.notice)
        rows.revisions.append(1)
        rows.kinds.append(ACCOUNT + notice.kind)
        rows.parties.append(notice.account)
        rows.claims.append(notice.notice)
        rows.sizes.append(1)
        rows.partitions.append(incoming.partition)
        rows.listings.append(notice.account)
        rows.facts.append(_encode(notice).decode())
        rows.traces.append(incoming.trace)

    def due(self, limit: int) -> Sequence[Due]:
        return ()

    def fire(self, due: Due) -> Iterable[Outgoing]:
        return ()

    def save(self) -> None:
        store.insert(self._tx.connection, self._rows, self._tx.wall)
        digests.fold(self._tx.connection, self._channels, self._tx.now)
        if self._channels:
            webhook_store.fold(self._tx.connection, self._channels)
        if self._erased:
            bounce_store.forget(self._tx.connection, self._erased)
        if self._read:
            windows.begin_windows(
                self._tx.connection,
                [read.message for read in self._read],
                "read",
                [read.read_at for read in self._read],
                parties=[read.account for read in self._read],
                now=self._tx.now,
            )

        centre.receive(self._tx, self._receipts)

    def marks(self) -> dict[int, dt.datetime]:
        return {}


def _published(
    incoming: Incoming,
    subject: str,
    at: dt.datetime,
    claim: str | None,
    message: str | None,
    topic: Topic = NOTIFICATION,
) -> Outgoing:
    """The announcement as an event of our log, keyed as it was queued."""
    return Outgoing(incoming.partition, topic, incoming.key, incoming.type, incoming.data, subject, at, claim, message)


class Notification:
    """The worker's interface to the runtime."""

    name = "notification"
    schema = store.SCHEMA
    prefix = ""
    reads: Sequence[Topic] = (VERIFICATION, ACCOUNTS, LEDGER, CENTRE_RECEIPTS)
    keyed_like = frozenset({NOTIFICATION.name, CENTRE_MESSAGES.name})
    queue = "announcements"
    raw = False
    keeps_time = False

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Announcements of the owned partitions, deleted in the same transaction."""
        pulled = []
        for row in history.pull(tx.connection, tx.partitions, tx.blocked, room):
            id_ = f"{row.subject}.{row.id}"
            raw = row.payload.encode()
            # a complete envelope, so the row can be replayed if it becomes a dead letter
            envelope = b'{"specversion":"1.0","id":"%b","source":"/goodfaith/notification","type":"%b","data":%b}' % (
                id_.encode(),
                row.type.encode(),
                raw,
            )
            data = _decoders[row.type].decode(raw)
            entry = Incoming(QUEUE, row.partition, row.id, row.key, id_, row.type, data, raw=envelope)
            if row.trace is not None:
                entry.traced, entry.parent = True, row.trace
            pulled.append(entry)
        return pulled

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load what was handed to the message centre, as far as receipts name it."""
        receipts = [one.data for one in incoming if isinstance(one.data, CentreReceipt)]
        return NotificationBatch(tx, centre.handed(tx.connection, receipts))
