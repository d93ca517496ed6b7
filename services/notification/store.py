"""Notification's tables, and who may write them.

- ``message_items``: one row per (item, revision, kind, party) to tell. **Workers only insert**, each for the items of
  its own partitions, in the transaction that reads the event; the primary key prevents duplicates. ``message`` is
  null until the item is in a message. ``facts`` is a JSON object (``domain.Facts``). A notice to an account is a row
  too: its id takes the place of item and claim, the account that of the listing, its kind begins with
  ``domain.ACCOUNT``, and ``facts`` is the notice itself. So it gets a message of its own.
- ``messages``: a message exists once it is closed. **Only a sending process closes**, holding the advisory lock
  ``COLLECT``. One transaction reads the rows whose ``message`` is null, decides (``domain.gather``), stamps them and
  inserts the message with ``items`` and ``revisions``. So workers of different partitions never wait for each other,
  an item is in exactly one message (it is stamped once, under the lock), and none is lost: a row not yet committed
  stays null and is found by the next round. Each statement after the lock sees what the previous holder committed
  (READ COMMITTED).
- ``messages.state``: ``queued`` -> ``sending`` (committed before the first byte is sent) -> ``sent`` -> ``delivered``
  (confirmed as arrived), or ``failed`` (a bug in rendering; set it to ``queued`` again once it is fixed).
  ``due_wall`` is when a sender may take the message: at once, after a pause, or when another sender's lease has
  expired. A message taken in state ``sending`` has an unknown outcome: it is sent again and counted in ``repeats``.
  ``attempts`` counts sendings begun, ``tries`` temporary refusals (4xx).
- ``messages.route``: which kind of process takes it. A channel that failed permanently is added to ``tried``, and the
  message is ``queued`` again (a bounce comes after ``sent``); ``channels.choose`` finds the next channel, in the end
  the inbox. ``sent_at`` is the first sending, which is announced once. ``channel``, ``result`` and ``digest`` are
  those of the last sending.
- ``deliveries``, ``announcements``: ``history.py``. ``announcements`` are written in the same transaction as ``sent``;
  the owner of the partition deletes them in the transaction that appends the events to its log.
- ``bouncing``: the address, as a keyed hash, from which a party's mail bounced (``bounce_store.py``). It counts while
  the party has that address.
- Beginning of a window: ``windows.py``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.notification import bounce_store, history, windows
from services.notification.domain import (
    ACCOUNT,
    DIGEST,
    HELD,
    Facts,
    GatheredMessage,
    ItemRevision,
    Pending,
    WindowRule,
    WindowStart,
    announcement_of,
    notices_of,
    unreached_of,
    window_rule,
)
from services.notification.types import UNREACHABLE, Announcement, HistoryEntry, Item, ItemRows, Message, PutOff, Sent
from shared.db import columns
from shared.events import AccountNotice, MessageSent

SCHEMA: Final = "notification"
UNREACHED: Final = "goodfaith.notice.unreached.v1"
COLLECT: Final = 0x600DC011
"""Advisory lock under which messages are closed."""

_INSERT = """
    insert into message_items (item, revision, kind, party, claim, claim_size, partition, listing, facts,
        traceparent, opened_wall, held)
    select n.*, %s, n.kind = any(%s) and exists (select from digests d where d.account = n.party and d.hour is not null)
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[],
        %s::text[]) as n(item, revision, kind, party, claim, claim_size, partition, listing, facts, traceparent)
    on conflict do nothing"""
PENDING_COLUMNS: Final = ", ".join(Pending.__struct_fields__)
_PENDING = f"""
    select {PENDING_COLUMNS} from message_items
    where message is null and not held order by opened_wall limit %s"""
_PENDING_OF_WEBHOOKS = f"""
    select {PENDING_COLUMNS} from message_items i
    where message is null and not held and exists (select from channels c where c.party = i.party and c.webhooks <> '[]')
    order by opened_wall limit %s"""
_STAMP = """
    update message_items as t set message = n.message
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[]) as n(item, revision, kind, party, message)
    where t.item = n.item and t.revision = n.revision and t.kind = n.kind and t.party = n.party and t.message is null"""
_CLOSE = """
    insert into messages (id, claim, party, kind, items, revisions, opened_wall, route)
    select n.id, n.claim, n.party, n.kind, u.items, u.revisions, n.opened, n.route
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
        as n(id, claim, party, kind, opened, route)
    join (select message, array_agg(item order by place) as items, array_agg(revision order by place) as revisions
        from unnest(%s::text[], %s::int[], %s::text[]) with ordinality as t(item, revision, message, place)
        group by message) as u on u.message = n.id"""
_TAKE = """
    update messages as t set due_wall = clock_timestamp() + %s * interval '1 second', holder = %s
    from (select id, state from messages
          where state in ('queued', 'sending') and route = %s and due_wall <= clock_timestamp()
          order by due_wall limit %s for update skip locked) as n
    where t.id = n.id
    returning t.id, t.claim, t.party, t.kind, t.items, t.revisions, n.state, t.tries, t.opened_wall, t.tried,
        t.sent_at is null as first, t.result"""
_READ = """
    select t.id, t.claim, t.party, t.kind, t.items, t.revisions, t.state, t.tries, t.opened_wall, t.tried,
        t.sent_at is null as first, t.result from messages t where t.id = any(%s)"""
_FACTS = """
    select i.message, i.item, i.revision, i.partition, i.claim_size, i.facts, i.claim, i.traceparent
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[]) as n(item, revision, kind, party)
    join message_items i on i.item = n.item and i.revision = n.revision and i.party = n.party
        and (i.kind = n.kind or i.message = n.kind)"""
_SENDING = """
    update messages set state = 'sending', attempts = attempts + 1, repeats = repeats + (state = 'sending')::int
    where id = any(%s) and holder = %s and due_wall > clock_timestamp() and state in ('queued', 'sending') returning id"""
_SENT = """
    update messages as t set state = case when n.delivered then 'delivered' else 'sent' end, holder = null, channel = n.channel, result = n.result, template = n.template,
        version = n.version, digest = n.digest, locale = n.locale, edition = n.edition, rendered_at = n.rendered_at,
        address = n.address, tried = t.tried || n.failed,
        delivered_at = coalesce(t.delivered_at, case when n.delivered then %s end),
        sent_at = coalesce(t.sent_at, %s), sent_wall = coalesce(t.sent_wall, %s),
        begins = coalesce(t.begins, n.begins), deemed_at = case when t.begun_at is null then n.deemed_at else t.deemed_at end,
        begun_at = coalesce(t.begun_at, n.begun_at), begun_by = coalesce(t.begun_by, case when n.begun_at is not null then 'sent' end)
    from (select id, channel, result, template, version, digest, locale, edition, rendered_at, address, delivered,
              case when failed is null then '{}'::text[] else array[failed] end as failed, begins, deemed_at, begun_at
          from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[],
                  %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::bool[], %s::text[],
                  %s::text[], %s::timestamptz[], %s::timestamptz[])
              as u(id, channel, result, template, version, digest, locale, edition, rendered_at, address, delivered, failed, begins, deemed_at, begun_at)) as n
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending')
    returning t.id, t.begins is not null and t.begun_at is null
        and (t.delivered_at is not null or t.read_at is not null) as may_begin"""
_PUT_OFF = """
    update messages as t set state = n.state, holder = null, result = n.result,
        route = coalesce(n.route, t.route),
        tries = case when n.route is null then t.tries + n.tries else 0 end,
        tried = case when n.failed is null then t.tried else t.tried || n.failed end,
        due_wall = clock_timestamp() + n.pause * interval '1 second'
    from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::float8[], %s::text[], %s::text[])
        as n(id, state, tries, result, pause, route, failed)
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending') returning t.id"""
_OLDEST = """
    select least((select min(opened_wall) from message_items where message is null and not held),
                 (select min(opened_wall) from messages
                  where state in ('queued', 'sending') and route = %s and result is distinct from 'quiet'
                    and result is distinct from 'centre'))"""

_facts = msgspec.json.Decoder(Facts)
_notice = msgspec.json.Decoder(AccountNotice)
_encode = msgspec.json.Encoder().encode


# --------------------------------------------------------------------------------------------------- the worker's


def insert(connection: sa.Connection, rows: ItemRows, wall: dt.datetime) -> None:
    """Insert rows to tell; existing rows are left unchanged."""
    if rows.items:
        connection.exec_driver_sql(
            _INSERT,
            (
                wall,
                list(HELD),
                rows.items,
                rows.revisions,
                rows.kinds,
                rows.parties,
                rows.claims,
                rows.sizes,
                rows.partitions,
                rows.listings,
                rows.facts,
                rows.traces,
            ),
        )


# --------------------------------------------------------------------------------------------------- the senders'


def lock_collect(connection: sa.Connection) -> bool:
    """Try to take the lock for closing messages; it is held until the end of the transaction."""
    return bool(connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s)", (COLLECT,)).scalar_one())


def pending(connection: sa.Connection, limit: int, *, webhooks: bool = False) -> list[Pending]:
    """The oldest rows that are in no message yet; with ``webhooks``, only those of parties with webhooks."""
    query = _PENDING_OF_WEBHOOKS if webhooks else _PENDING
    return [Pending(*row) for row in connection.exec_driver_sql(query, (limit,))]


def close(connection: sa.Connection, messages: Sequence[GatheredMessage], routes: Mapping[str, str]) -> None:
    """Close messages; the advisory lock must be held.

    Args:
        routes: by message id, the channel to try first; e-mail if missing.

    Raises:
        RuntimeError: a row was already in a message (the lock was not held).
    """
    if not messages:
        return
    stamps: list[tuple[str, int, str, str, str]] = []
    inserts = []
    for message in messages:
        id_ = message.id
        stamps += [(row.item, row.revision, row.kind, row.party, id_) for row in message.rows]
        first = message.rows[0]
        opened = min(row.opened_wall for row in message.rows)
        inserts.append((id_, first.claim, first.party, message.kind, opened, routes.get(id_, "email")))
    stamped = connection.exec_driver_sql(_STAMP, columns(stamps)).rowcount
    if stamped != len(stamps):
        raise RuntimeError(f"{len(stamps)} rows to stamp, {stamped} were free")
    items, revisions, _, _, ids = columns(stamps)
    connection.exec_driver_sql(_CLOSE, (*columns(inserts), items, revisions, ids))


def take(connection: sa.Connection, holder: str, lease_s: float, limit: int, route: str = "email") -> list[Message]:
    """Lease due messages of a route, oldest first, with their items."""
    return _filled(connection, connection.exec_driver_sql(_TAKE, (lease_s, holder, route, limit)))


def read(connection: sa.Connection, ids: Sequence[str]) -> list[Message]:
    """Messages by id, as ``take`` returns them, but without a lease: the caller holds them in another way."""
    return _filled(connection, connection.exec_driver_sql(_READ, (list(ids),)))


def _filled(connection: sa.Connection, rows: Iterable[Any]) -> list[Message]:
    messages: dict[str, Message] = {}
    keys: list[tuple[str, int, str, str]] = []
    order: dict[tuple[str, str, int], int] = {}
    for row in rows:
        messages[row.id] = Message(
            row.id,
            row.claim,
            row.party,
            row.kind,
            row.state == "sending",
            row.tries,
            row.opened_wall,
            tried=row.tried,
            first=row.first,
            result=row.result,
        )
        for index, (item, revision) in enumerate(zip(row.items, row.revisions, strict=True)):
            # rows of a digest keep their own kinds and are found by their message
            keys.append((item, revision, row.id if row.kind == DIGEST else row.kind, row.party))
            order[row.id, item, revision] = index
    if messages:
        for row in connection.exec_driver_sql(_FACTS, columns(keys)):
            message = messages[row.message]
            message.claim_size = row.claim_size
            if row.traceparent is not None:
                message.traces.append(row.traceparent)
            if message.kind.startswith(ACCOUNT):
                message.notice, message.partition = _notice.decode(row.facts), row.partition
                continue
            message.items.append(Item(row.item, row.revision, row.partition, _facts.decode(row.facts), row.claim))
    for message in messages.values():
        message.items.sort(key=lambda item: order[message.id, item.item, item.revision])
    return sorted(messages.values(), key=lambda message: message.opened_wall)


def sending(connection: sa.Connection, holder: str, messages: Sequence[Message]) -> list[Message]:
    """Record that sending begins; returns the messages whose lease still holds."""
    if not messages:
        return []
    ours = set(connection.exec_driver_sql(_SENDING, ([message.id for message in messages], holder)).scalars())
    return [message for message in messages if message.id in ours]


def finish(
    connection: sa.Connection, holder: str, sent: Sequence[Sent], now: dt.datetime, wall: dt.datetime
) -> list[Sent]:
    """Record messages as sent at ``now`` (business time) and announce them; returns those still held by this sender.

    Idempotent: call it again after a commit with an unknown outcome.
    """
    if not sent:
        return []
    rules = [_window_rule(one, now) for one in sent]
    pairs = list(zip(sent, rules, strict=True))
    values = (
        [one.message.id for one in sent],
        [one.channel for one in sent],
        [one.result for one in sent],
        [one.template for one in sent],
        [one.version for one in sent],
        [one.digest for one in sent],
        [one.locale for one in sent],
        [one.edition for one in sent],
        [one.rendered_at for one in sent],
        [one.address for one in sent],
        [one.delivered for one in sent],
        [None if one.failure is None else one.failure.channel for one in sent],
        [None if rule is None else rule.by for rule in rules],
        [None if rule is None else rule.deemed_at for rule in rules],
        [now if rule is not None and rule.by == "sent" and one.message.first else None for one, rule in pairs],
    )
    rows = connection.exec_driver_sql(_SENT, (now, now, wall, *values, holder)).all()
    ours = {row.id for row in rows}
    done = [one for one in sent if one.message.id in ours]
    out: list[Announcement] = []
    entries: list[HistoryEntry] = []
    for one in done:
        message = one.message
        key = history.key_of(message)
        if one.failure is not None:
            entries.append(history.failed(message, one.failure))
            out.append(history.changed(message, key, one.failure.channel, one.failure.outcome, one.failure.reason, now))
        reason = one.result if one.result != "sent" else None
        entries.append(HistoryEntry(message.id, message.party, one.channel, "sent", reason))
        if message.first:
            out += _announced(one, now)
        else:
            out.append(history.changed(message, key, one.channel, "sent", reason, now, digest=one.digest))
        if one.delivered:
            entries.append(HistoryEntry(message.id, message.party, one.channel, "delivered", None))
            out.append(history.changed(message, key, one.channel, "delivered", None, now))
    traces = {one.message.id: one.trace for one in done if one.trace is not None}
    history.write(connection, entries, out, now, traces)
    bounce_store.remember(connection, [one for one in done if one.failure], now, wall)
    # already known to be delivered or read: by the channel's answer, or by news that arrived before this commit
    windows.begin(connection, [row.id for row in rows if row.may_begin], now, traces)
    return done


def _window_rule(one: Sent, now: dt.datetime) -> WindowRule | None:
    message = one.message
    if not message.items:
        return None
    return window_rule(message.kind, message.items[0].facts.policy, now, reached=one.result != UNREACHABLE)


def _announced(one: Sent, now: dt.datetime) -> Iterator[Announcement]:
    """Announcements of a message sent for the first time."""
    message = one.message
    event = MessageSent(
        message=message.id,
        claim=message.claim,
        party=message.party,
        kind=message.kind,
        items=tuple(item.item for item in message.items),
        channel=one.channel,
        template=one.template,
        version=one.version,
        digest=one.digest,
        sent_at=now,
        locale=one.locale,
        edition=one.edition,
        rendered_at=one.rendered_at,
    )
    if message.notice is not None:
        payload = _encode(announcement_of(event, message.notice)).decode()
        yield Announcement(message.partition, message.party, message.id, "goodfaith.account.told.v1", payload)
        return
    partitions = {item.facts.listing: item.partition for item in message.items}
    rule = _window_rule(one, now)
    items = [ItemRevision(item.item, item.revision, item.facts.listing) for item in message.items]
    if rule is not None and rule.by != "sent" and one.result == UNREACHABLE:
        for lost in unreached_of(message.id, message.claim, now, items):
            payload = _encode(lost).decode()
            yield Announcement(partitions[lost.listing], lost.listing, message.id, UNREACHED, payload)
    if rule is not None and rule.by == "sent":
        for notice in notices_of(message.id, message.claim, message.kind, now, WindowStart("sent", now), items):
            payload = _encode(notice).decode()
            yield Announcement(partitions[notice.listing], notice.listing, message.id, windows.NOTICE, payload)
    yield Announcement(*history.key_of(message), message.id, "goodfaith.message.sent.v1", _encode(event).decode())


def put_off(
    connection: sa.Connection, holder: str, messages: Sequence[PutOff], now: dt.datetime, wall: dt.datetime
) -> None:
    """Give messages back. A channel that is given up is recorded and published."""
    if not messages:
        return
    rows = connection.exec_driver_sql(
        _PUT_OFF,
        (
            [one.message.id for one in messages],
            [one.state for one in messages],
            [int(one.tried) for one in messages],
            [one.result for one in messages],
            [one.pause_s for one in messages],
            [one.route for one in messages],
            [None if one.failure is None else one.failure.channel for one in messages],
            holder,
        ),
    )
    ours = set(rows.scalars())
    done = [one for one in messages if one.message.id in ours]
    entries: list[HistoryEntry] = []
    out = []
    for one in done:
        message, failure = one.message, one.failure
        if failure is not None:
            entries.append(history.failed(message, failure))
            key = history.key_of(message)
            out.append(history.changed(message, key, failure.channel, failure.outcome, failure.reason, now))
        if one.state == "failed":
            entries.append(HistoryEntry(message.id, message.party, "email", "failed", one.result))
    history.write(connection, entries, out, now)
    bounce_store.remember(connection, done, now, wall)


def processes(connection: sa.Connection, name: str) -> int:
    """How many processes of a kind are connected now, including this one; they share the rate limits."""
    found: int = connection.exec_driver_sql(
        "select count(distinct application_name) from pg_stat_activity"
        " where usename = current_user and starts_with(application_name, %s)",
        (f"{name}-",),
    ).scalar_one()
    return max(1, found)


def oldest(connection: sa.Connection, route: str) -> dt.datetime | None:
    """When the oldest message or row that still waits for this channel, or for any, arose (wall time).

    Messages that wait for quiet hours to end, or for the message centre's receipt, do not count: they are not late.
    """
    value: dt.datetime | None = connection.exec_driver_sql(_OLDEST, (route,)).scalar_one()
    return value
