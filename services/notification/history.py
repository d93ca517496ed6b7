"""What happened to messages: the history in ``deliveries``, and the queue of events to publish (``announcements``).

Both are written in the transaction that changes the messages.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import sqlalchemy as sa

from services.notification.domain import ACCOUNT
from services.notification.types import Announcement, Failure, HistoryEntry, Message, QueuedAnnouncement
from shared.db import columns
from shared.events import DeliveryChanged

UNTRACED: Final[Mapping[str, str]] = {}
"""Trace contexts of announcements of which none is traced."""

_ANNOUNCE = """
    insert into announcements (partition, listing, message, type, payload, traceparent)
    select * from unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"""
_PULL = """
    delete from announcements where id = any(array(
        select id from announcements where partition = any(%s) and listing <> all(%s) order by id limit %s))
    returning id, partition, listing, message, type, payload, traceparent"""
_NOTE = """
    insert into deliveries (message, party, channel, state, reason, at)
    select n.*, %s from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) as n"""

_encode = msgspec.json.Encoder().encode


def pull(
    connection: sa.Connection, partitions: Sequence[int], blocked: Iterable[str], room: int
) -> list[QueuedAnnouncement]:
    """Delete up to ``room`` announcements and return them, oldest first.

    Announcements of keys that wait for a dead letter (``blocked``) stay, so a key's events keep their order.
    """
    rows = connection.exec_driver_sql(_PULL, (list(partitions), list(blocked), room))
    return sorted(QueuedAnnouncement(*row) for row in rows)


def announce(connection: sa.Connection, out: Sequence[Announcement], traces: Mapping[str, str] = UNTRACED) -> None:
    """Queue events for publication.

    Args:
        traces: by subject, the trace contexts of those that are traced.
    """
    if out:
        connection.exec_driver_sql(_ANNOUNCE, (*columns(out), [traces.get(one.subject) for one in out]))


def write(
    connection: sa.Connection,
    entries: Sequence[HistoryEntry],
    out: Sequence[Announcement],
    now: dt.datetime,
    traces: Mapping[str, str] = UNTRACED,
) -> None:
    """Add entries to the history as of ``now`` (business time), and queue events for publication."""
    if entries:
        connection.exec_driver_sql(_NOTE, (now, *columns(entries)))
    announce(connection, out, traces)


def failed(message: Message, failure: Failure) -> HistoryEntry:
    """The entry about a channel that was given up."""
    return HistoryEntry(message.id, message.party, failure.channel, failure.outcome, failure.reason)


def key_of(message: Message) -> tuple[int, str]:
    """Partition and key of the events about a message."""
    if message.notice is not None:
        return message.partition, message.party
    first = message.items[0]
    return first.partition, first.facts.listing


def changed(
    message: Message,
    key: tuple[int, str],
    channel: str,
    state: Literal["sent", "delivered", "bounced", "refused", "gave_up"],
    reason: str | None,
    now: dt.datetime,
    *,
    digest: str | None = None,
) -> Announcement:
    """The event about a message's new state on a channel. ``key``: partition and key (``key_of``)."""
    event = DeliveryChanged(
        message=message.id,
        claim=None if message.kind.startswith(ACCOUNT) else message.claim,
        party=message.party,
        kind=message.kind,
        channel=channel,
        state=state,
        reason=reason,
        digest=digest,
        at=now,
    )
    return Announcement(*key, message.id, "goodfaith.delivery.changed.v1", _encode(event).decode())
