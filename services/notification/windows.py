"""When the windows that a message begins have begun: records it once and announces it.

``begins`` (the event that begins the windows under the policy) and ``deemed_at`` are written with ``sent``;
``delivered_at`` and ``read_at`` by the process that learns of it (``begin_windows``); ``begun_by`` and ``begun_at``,
with the announcements, by the first process to find that the windows begin, once, under the message's row lock. None
of these ever changes, except ``deemed_at``: until a window has begun, it counts from the latest sending.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa

from services.notification import history
from services.notification.domain import ItemRevision, WindowStart, notices_of, window_start
from services.notification.types import Announcement, HistoryEntry, Message
from shared.db import columns

NOTICE: Final = "goodfaith.notice.sent.v1"

_LOCK = "select id, party from messages where id = any(%s) order by id for update"
_LEARN = """
    update messages as t set
        delivered_at = case when %s = 'delivered' then coalesce(t.delivered_at, n.at) else t.delivered_at end,
        read_at = case when %s = 'read' then coalesce(t.read_at, n.at) else t.read_at end
    from unnest(%s::text[], %s::timestamptz[]) as n(id, at) where t.id = n.id"""
_ARRIVED = """
    update messages as m set state = 'delivered', delivered_at = coalesce(m.delivered_at, n.at)
    from unnest(%s::text[], %s::timestamptz[]) as n(id, at), message_items i
    where m.id = n.id and m.state = 'sent' and i.item = m.items[1] and i.revision = m.revisions[1] and i.party = m.party
        and (i.kind = m.kind or (m.kind = 'digest' and i.message = m.id))
    returning m.id, m.claim, m.party, m.kind, i.partition, i.listing, n.at, m.opened_wall"""
_OPEN = """
    select id, claim, kind, party, items, revisions, begins, sent_at, delivered_at, read_at, deemed_at from messages
    where id = any(%s) and begins is not null and begun_at is null order by id for update"""
_DEEMED = """
    select id from messages where begun_at is null and deemed_at <= %s and state not in ('queued', 'sending', 'failed')
    order by deemed_at limit %s for update skip locked"""
_BEGUN = """
    update messages as t set begun_at = n.at, begun_by = n.by
    from unnest(%s::text[], %s::timestamptz[], %s::text[]) as n(id, at, by) where t.id = n.id"""
_KEYS = """
    select i.message, i.item, i.revision, i.partition, i.listing
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[]) as n(item, revision, kind, party)
    join message_items i on i.item = n.item and i.revision = n.revision and i.kind = n.kind and i.party = n.party"""

_encode = msgspec.json.Encoder().encode


def begin_windows(
    connection: sa.Connection,
    ids: Sequence[str],
    moment: Literal["delivered", "read"],
    at: dt.datetime | Sequence[dt.datetime],
    *,
    parties: Sequence[str] | None = None,
    now: dt.datetime,
) -> list[str]:
    """Record that messages were delivered or read, and begin the windows that start with that under the policy.

    Call this in the transaction that learns of it, for messages of any kind and state. Calls may be repeated, out of
    order, or earlier than the record of the sending: a window begins only once.

    Args:
        at: business time of the event, one for all messages or one for each.
        parties: the party that each message must belong to; others are ignored.
        now: business time.

    Returns:
        The messages whose windows this call began.
    """
    if not ids:
        return []
    times = [at] * len(ids) if isinstance(at, dt.datetime) else list(at)
    party_of = {row.id: row.party for row in connection.exec_driver_sql(_LOCK, (sorted(set(ids)),))}
    first: dict[str, dt.datetime] = {}
    for id_, time, party in zip(ids, times, parties or map(party_of.get, ids), strict=True):
        if id_ in party_of and party_of[id_] == party and (id_ not in first or time < first[id_]):
            first[id_] = time
    if first:
        connection.exec_driver_sql(_LEARN, (moment, moment, list(first), list(first.values())))
    if first and moment == "read":
        _arrived(connection, first, now)
    return begin(connection, list(first), now)


def _arrived(connection: sa.Connection, read: Mapping[str, dt.datetime], now: dt.datetime) -> None:
    """Record messages that were read as delivered too, unless that is already known."""
    entries = []
    out = []
    for row in connection.exec_driver_sql(_ARRIVED, (list(read), list(read.values()))):
        message = Message(row.id, row.claim, row.party, row.kind, False, 0, row.opened_wall)
        entries.append(HistoryEntry(row.id, row.party, "inbox", "delivered", "read"))
        out.append(history.changed(message, (row.partition, row.listing), "inbox", "delivered", "read", row.at))
    history.write(connection, entries, out, now)


def deem(connection: sa.Connection, now: dt.datetime, limit: int = 200) -> int:
    """Begin the windows of messages that count as received by ``now`` (business time); returns how many."""
    ids = list(connection.exec_driver_sql(_DEEMED, (now, limit)).scalars())
    return len(begin(connection, ids, now))


def begin(
    connection: sa.Connection, ids: Sequence[str], now: dt.datetime, traces: Mapping[str, str] = history.UNTRACED
) -> list[str]:
    """Begin and announce the windows of messages that are due; those that have begun are left unchanged.

    Args:
        now: business time.
        traces: by message, the trace contexts of those that are traced.
    """
    if not ids:
        return []
    begun: dict[str, tuple[WindowStart, Any]] = {}
    keys: list[tuple[str, int, str, str]] = []
    for row in connection.exec_driver_sql(_OPEN, (list(ids),)).mappings():
        found = window_start(
            row["begins"],
            sent_at=row["sent_at"],
            delivered_at=row["delivered_at"],
            read_at=row["read_at"],
            deemed_at=row["deemed_at"],
            now=now,
        )
        if found is not None:
            begun[row["id"]] = (found, row)
            pairs = zip(row["items"], row["revisions"], strict=True)
            keys += [(item, revision, row["kind"], row["party"]) for item, revision in pairs]
    if not begun:
        return []
    connection.exec_driver_sql(
        _BEGUN, (list(begun), [found.at for found, _ in begun.values()], [found.by for found, _ in begun.values()])
    )
    key_of: dict[tuple[str, str, int], tuple[int, str]] = {
        (row.message, row.item, row.revision): (row.partition, row.listing)
        for row in connection.exec_driver_sql(_KEYS, columns(keys))
    }
    out = []
    for id_, (found, row) in begun.items():
        pairs = zip(row["items"], row["revisions"], strict=True)
        items = [ItemRevision(item, revision, key_of[id_, item, revision][1]) for item, revision in pairs]
        for notice in notices_of(id_, row["claim"], row["kind"], row["sent_at"], found, items):
            key = key_of[id_, notice.item, notice.revision]
            out.append(Announcement(*key, id_, NOTICE, _encode(notice).decode()))
    history.announce(connection, out, traces)
    return list(begun)
