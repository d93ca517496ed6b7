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
- ``deliveries``: the append-only history of a message by channel, written in the transaction that changes the
  message.
- ``bouncing``: the address, as a keyed hash, from which a party's mail bounced. It counts while the party has that
  address.
- ``announcements``: written in the same transaction as ``sent``. The owner of the partition deletes them in the
  transaction that appends the events to its log.
- Beginning of a window: ``begins`` (the event that begins it under the policy) and ``deemed_at`` are written with
  ``sent``; ``delivered_at`` and ``read_at`` by the process that learns of it (``begin_windows``); ``begun_by`` and
  ``begun_at``, with the announcements, by the first process to find that the windows begin, once, under the message's
  row lock. None of these ever changes, except ``deemed_at``: until a window has begun, it counts from the latest
  sending.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa

from services.notification.channels import bad_address
from services.notification.domain import (
    ACCOUNT,
    DIGEST,
    HELD,
    Begins,
    Begun,
    Collected,
    Facts,
    Pending,
    announcement_of,
    beginning,
    begins,
    notices_of,
)
from shared.db import columns
from shared.events import AccountNotice, DeliveryChanged, MessageSent

SCHEMA: Final = "notification"
_NOTICE: Final = "goodfaith.notice.sent.v1"
COLLECT: Final = 0x600DC011

_INSERT = """
    insert into message_items (item, revision, kind, party, claim, claim_size, partition, listing, facts,
        traceparent, opened_wall, held)
    select n.*, %s, n.kind = any(%s) and exists (select from digests d where d.account = n.party and d.hour is not null)
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[],
        %s::text[]) as n(item, revision, kind, party, claim, claim_size, partition, listing, facts, traceparent)
    on conflict do nothing"""
_PULL = """
    delete from announcements where id = any(array(
        select id from announcements where partition = any(%s) and listing <> all(%s) order by id limit %s))
    returning id, partition, listing, message, type, payload, traceparent"""
_PENDING = """
    select claim, kind, party, item, revision, claim_size, partition, listing, opened_wall from message_items
    where message is null and not held order by opened_wall limit %s"""
_PENDING_OF_WEBHOOKS = """
    select claim, kind, party, item, revision, claim_size, partition, listing, opened_wall from message_items i
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
        t.sent_at is null, t.result"""
_READ = """
    select t.id, t.claim, t.party, t.kind, t.items, t.revisions, t.state, t.tries, t.opened_wall, t.tried,
        t.sent_at is null, t.result from messages t where t.id = any(%s)"""
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
    returning t.id, t.begins is not null and t.begun_at is null and (t.delivered_at is not null or t.read_at is not null)"""
_HOLD = "select id, party from messages where id = any(%s) order by id for update"
_LEARN = """
    update messages as t set
        delivered_at = case when %s = 'delivered' then coalesce(t.delivered_at, n.at) else t.delivered_at end,
        read_at = case when %s = 'read' then coalesce(t.read_at, n.at) else t.read_at end
    from unnest(%s::text[], %s::timestamptz[]) as n(id, at) where t.id = n.id"""
_CAME = """
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
_PUT_OFF = """
    update messages as t set state = n.state, holder = null, result = n.result,
        route = coalesce(n.route, t.route),
        tries = case when n.route is null then t.tries + n.tries else 0 end,
        tried = case when n.failed is null then t.tried else t.tried || n.failed end,
        due_wall = clock_timestamp() + n.pause * interval '1 second'
    from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::float8[], %s::text[], %s::text[])
        as n(id, state, tries, result, pause, route, failed)
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending') returning t.id"""
_NOTE = """
    insert into deliveries (message, party, channel, state, reason, at)
    select n.*, %s from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) as n"""
_REPORTED = """
    select m.claim, m.party, m.kind, m.state, m.channel, m.address, 'email' = any(m.tried), i.partition, i.listing, i.facts,
        (select count(*) from deliveries d where d.message = m.id)
    from messages m join message_items i on i.item = m.items[1] and i.revision = m.revisions[1] and i.party = m.party
        and (i.kind = m.kind or (m.kind = 'digest' and i.message = m.id))
    where m.id = %s for update of m"""
_DELIVERED = "update messages set state = 'delivered' where id = %s"
_BOUNCED = """
    update messages set state = 'queued', route = 'email', tried = tried || 'email'::text, tries = 0, result = 'bounced',
        due_wall = clock_timestamp() where id = %s"""
_MARK = """
    insert into bouncing (party, address, reason, since, since_wall)
    select n.*, %s, %s from unnest(%s::text[], %s::text[], %s::text[]) as n
    on conflict (party) do update set address = excluded.address, reason = excluded.reason, since = excluded.since,
        since_wall = excluded.since_wall"""
_MARKED = """
    select party, address from bouncing
    where party = any(%s) and since_wall > clock_timestamp() - %s * interval '1 day'"""
_ANNOUNCE = """
    insert into announcements (partition, listing, message, type, payload, traceparent)
    select * from unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"""
_OLDEST = """
    select least((select min(opened_wall) from message_items where message is null and not held),
                 (select min(opened_wall) from messages
                  where state in ('queued', 'sending') and route = %s and result is distinct from 'quiet'))"""

_UNTRACED: Final[Mapping[str, str]] = {}
_facts = msgspec.json.Decoder(Facts)
_notice = msgspec.json.Decoder(AccountNotice)
_encode = msgspec.json.Encoder().encode


# --------------------------------------------------------------------------------------------------- the worker's


@dataclass(slots=True)
class Rows:
    """Rows of ``message_items`` to insert, by column."""

    items: list[str] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    parties: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    traces: list[str | None] = field(default_factory=list)


def insert(connection: sa.Connection, rows: Rows, wall: dt.datetime) -> None:
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


def pull(
    connection: sa.Connection, partitions: Sequence[int], parked: Iterable[str], room: int
) -> list[tuple[int, int, str, str, str, str, str | None]]:
    """Delete and return announcements: (id, partition, listing, message, type, payload, trace context), oldest first.

    Announcements of keys that wait for a dead letter (``parked``) stay, so a key's events keep their order.
    """
    rows = connection.exec_driver_sql(_PULL, (list(partitions), list(parked), room))
    return sorted((tuple(row) for row in rows), key=lambda row: row[0])


# --------------------------------------------------------------------------------------------------- the sender's


@dataclass(slots=True)
class Item:
    """An item in a message."""

    item: str
    revision: int
    partition: int
    facts: Facts
    claim: str = ""


@dataclass(slots=True)
class Message:
    """A message that this sender holds. ``unknown``: an earlier sending began, and its outcome is unknown."""

    id: str
    claim: str
    party: str
    kind: str
    unknown: bool
    tries: int
    opened_wall: dt.datetime
    claim_size: int = 1
    items: list[Item] = field(default_factory=list)
    notice: AccountNotice | None = None
    """A notice to an account about itself; ``items`` is then empty."""
    partition: int = 0
    """The notice's partition."""
    tried: Sequence[str] = ()
    """Channels that failed permanently."""
    first: bool = True
    """Whether it was never sent by any channel; otherwise it has been announced already."""
    result: str | None = None
    """Result of the previous try."""
    traces: list[str] = field(default_factory=list)
    """Trace contexts of its items that are traced."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A channel that failed permanently for a message, which now goes by another one.

    Args:
        outcome: one of ``channels.Outcome``: ``refused`` or ``gave_up``.
        reason: enhanced mail status, HTTP status or a word of ours; never a server's text.
        address: keyed hash of an address to remember because it takes no mail at all.
    """

    channel: str
    outcome: Literal["refused", "gave_up"]
    reason: str | None = None
    address: str | None = None


@dataclass(slots=True)
class Sent:
    """A message that a channel has accepted, for ``finish``.

    Args:
        address: keyed hash of the address that it went to.
        delivered: whether the channel's answer says that it arrived (a webhook's 2xx).
        failure: the channel that was tried just before and failed.
        trace: trace context of the sending, if it is traced.
    """

    message: Message
    channel: str
    result: str
    template: str
    version: int
    digest: str
    locale: str = "en"
    edition: str = ""
    rendered_at: dt.datetime | None = None
    address: str | None = None
    delivered: bool = False
    failure: Failure | None = None
    trace: str | None = None


@dataclass(slots=True)
class PutOff:
    """A message given back, to be taken again after ``pause_s``. State ``sending`` records that an outcome is unknown.

    Args:
        route: the other channel that it takes from now on.
        failure: why this channel is given up.
    """

    message: Message
    state: str
    result: str
    pause_s: float = 0.0
    tried: bool = False
    route: str | None = None
    failure: Failure | None = None


def lock_collect(connection: sa.Connection) -> bool:
    """Try to take the lock for closing messages; it is held until the end of the transaction."""
    return bool(connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s)", (COLLECT,)).scalar_one())


def pending(connection: sa.Connection, limit: int, *, webhooks: bool = False) -> list[Pending]:
    """The oldest rows that are in no message yet; with ``webhooks``, only those of parties with webhooks."""
    query = _PENDING_OF_WEBHOOKS if webhooks else _PENDING
    return [Pending(*row) for row in connection.exec_driver_sql(query, (limit,))]


def close(connection: sa.Connection, messages: Sequence[Collected], routes: Mapping[str, str]) -> None:
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
        inserts.append((id_, first.claim, first.party, first.kind, opened, routes.get(id_, "email")))
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
    for id_, claim, party, kind, items, revisions, state, tries, opened, tried, first, result in rows:
        messages[id_] = Message(
            id_, claim, party, kind, state == "sending", tries, opened, tried=tried, first=first, result=result
        )
        for index, (item, revision) in enumerate(zip(items, revisions, strict=True)):
            # rows of a digest keep their own kinds and are found by their message
            keys.append((item, revision, id_ if kind == DIGEST else kind, party))
            order[id_, item, revision] = index
    if messages:
        for id_, item, revision, partition, size, facts, claim, trace in connection.exec_driver_sql(
            _FACTS, columns(keys)
        ):
            messages[id_].claim_size = size
            if trace is not None:
                messages[id_].traces.append(trace)
            if messages[id_].kind.startswith(ACCOUNT):
                messages[id_].notice, messages[id_].partition = _notice.decode(facts), partition
                continue
            messages[id_].items.append(Item(item, revision, partition, _facts.decode(facts), claim))
    for message in messages.values():
        message.items.sort(key=lambda item: order[message.id, item.item, item.revision])
    return sorted(messages.values(), key=lambda message: message.opened_wall)


def sending(connection: sa.Connection, holder: str, messages: Sequence[Message]) -> list[Message]:
    """Record that sending begins; returns the messages whose lease still holds."""
    if not messages:
        return []
    rows = connection.exec_driver_sql(_SENDING, ([message.id for message in messages], holder))
    ours = {row[0] for row in rows}
    return [message for message in messages if message.id in ours]


def finish(
    connection: sa.Connection, holder: str, sent: Sequence[Sent], now: dt.datetime, wall: dt.datetime
) -> list[Sent]:
    """Record messages as sent at ``now`` (business time) and announce them; returns those still held by this sender.

    Idempotent: call it again after a commit with an unknown outcome.
    """
    if not sent:
        return []
    plans = [_plan(one.message, now) for one in sent]
    pairs = list(zip(sent, plans, strict=True))
    columns = (
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
        [None if plan is None else plan.by for plan in plans],
        [None if plan is None else plan.deemed_at for plan in plans],
        [now if plan is not None and plan.by == "sent" and one.message.first else None for one, plan in pairs],
    )
    rows = connection.exec_driver_sql(_SENT, (now, now, wall, *columns, holder)).all()
    ours = {row[0] for row in rows}
    done = [one for one in sent if one.message.id in ours]
    out: list[tuple[int, str, str, str, str]] = []
    notes: list[_Note] = []
    for one in done:
        message = one.message
        key = _key(message)
        if one.failure is not None:
            notes.append(_failed(message, one.failure))
            out.append(_changed(message, key, one.failure.channel, one.failure.outcome, one.failure.reason, now))
        reason = one.result if one.result != "sent" else None
        notes.append((message.id, message.party, one.channel, "sent", reason))
        if message.first:
            out += _announced(one, now)
        else:
            out.append(_changed(message, key, one.channel, "sent", reason, now, digest=one.digest))
        if one.delivered:
            notes.append((message.id, message.party, one.channel, "delivered", None))
            out.append(_changed(message, key, one.channel, "delivered", None, now))
    traces = {one.message.id: one.trace for one in done if one.trace is not None}
    _write(connection, notes, out, now, traces)
    _mark(connection, [one for one in done if one.failure], now, wall)
    # already known to be delivered or read: by the channel's answer, or by news that arrived before this commit
    _begin(connection, [row[0] for row in rows if row[1]], now, traces)
    return done


def _plan(message: Message, now: dt.datetime) -> Begins | None:
    return begins(message.kind, message.items[0].facts.policy, now) if message.items else None


def _announced(one: Sent, now: dt.datetime) -> Iterator[tuple[int, str, str, str, str]]:
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
        account_told = announcement_of(event, message.notice)
        payload = _encode(account_told).decode()
        yield message.partition, message.party, message.id, "goodfaith.account.told.v1", payload
        return
    partitions = {item.facts.listing: item.partition for item in message.items}
    plan = _plan(message, now)
    if plan is not None and plan.by == "sent":
        told = [(item.item, item.revision, item.facts.listing) for item in message.items]
        begun = Begun("sent", now)
        for notice in notices_of(message.id, message.claim, message.kind, now, begun, told):
            yield partitions[notice.listing], notice.listing, message.id, _NOTICE, _encode(notice).decode()
    yield *_key(message), message.id, "goodfaith.message.sent.v1", _encode(event).decode()


_Note = tuple[str, str, str, str, str | None]
"""A row of ``deliveries``: message, party, channel, state, reason."""


def _failed(message: Message, failure: Failure) -> _Note:
    return message.id, message.party, failure.channel, failure.outcome, failure.reason


def _key(message: Message) -> tuple[int, str]:
    """Partition and key of the events about a message."""
    if message.notice is not None:
        return message.partition, message.party
    first = message.items[0]
    return first.partition, first.facts.listing


def _changed(
    message: Message,
    key: tuple[int, str],
    channel: str,
    state: Literal["sent", "delivered", "bounced", "refused", "gave_up"],
    reason: str | None,
    now: dt.datetime,
    *,
    digest: str | None = None,
) -> tuple[int, str, str, str, str]:
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
    return *key, message.id, "goodfaith.delivery.changed.v1", _encode(event).decode()


def announce(
    connection: sa.Connection, out: Sequence[tuple[int, str, str, str, str]], traces: Mapping[str, str] = _UNTRACED
) -> None:
    """Queue events for publication: (partition, key, subject, type, payload).

    Args:
        traces: by subject, the trace contexts of those that are traced.
    """
    if out:
        connection.exec_driver_sql(_ANNOUNCE, (*columns(out), [traces.get(row[2]) for row in out]))


def _write(
    connection: sa.Connection,
    notes: Sequence[_Note],
    out: Sequence[tuple[int, str, str, str, str]],
    now: dt.datetime,
    traces: Mapping[str, str] = _UNTRACED,
) -> None:
    if notes:
        connection.exec_driver_sql(_NOTE, (now, *columns(notes)))
    announce(connection, out, traces)


def _mark(connection: sa.Connection, done: Sequence[Sent | PutOff], now: dt.datetime, wall: dt.datetime) -> None:
    """Remember addresses that accept no mail."""
    marks = {
        one.message.party: (one.message.party, one.failure.address, one.failure.reason or "")
        for one in done
        if one.failure is not None and one.failure.address is not None
    }
    if marks:
        connection.exec_driver_sql(_MARK, (now, wall, *columns(sorted(marks.values()))))


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
    ours = {row[0] for row in rows}
    done = [one for one in messages if one.message.id in ours]
    notes: list[_Note] = []
    out = []
    for one in done:
        if one.failure is not None:
            notes.append(_failed(one.message, one.failure))
            out.append(
                _changed(
                    one.message, _key(one.message), one.failure.channel, one.failure.outcome, one.failure.reason, now
                )
            )
        if one.state == "failed":
            notes.append((one.message.id, one.message.party, "email", "failed", one.result))
    _write(connection, notes, out, now)
    _mark(connection, done, now, wall)


# --------------------------------------------------------------------------------------------- when a window begins


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
    whose: dict[str, str] = {row[0]: row[1] for row in connection.exec_driver_sql(_HOLD, (sorted(set(ids)),))}
    first: dict[str, dt.datetime] = {}
    for id_, time, party in zip(ids, times, parties or map(whose.get, ids), strict=True):
        if id_ in whose and whose[id_] == party and (id_ not in first or time < first[id_]):
            first[id_] = time
    if first:
        connection.exec_driver_sql(_LEARN, (moment, moment, list(first), list(first.values())))
    if first and moment == "read":
        _came(connection, first, now)
    return _begin(connection, list(first), now)


def _came(connection: sa.Connection, read: Mapping[str, dt.datetime], now: dt.datetime) -> None:
    """Record messages that were read as delivered too, unless that is already known."""
    notes: list[_Note] = []
    out = []
    for id_, claim, party, kind, partition, listing, at, opened in connection.exec_driver_sql(
        _CAME, (list(read), list(read.values()))
    ):
        message = Message(id_, claim, party, kind, False, 0, opened)
        notes.append((id_, party, "inbox", "delivered", "read"))
        out.append(_changed(message, (partition, listing), "inbox", "delivered", "read", at))
    _write(connection, notes, out, now)


def deem(connection: sa.Connection, now: dt.datetime, limit: int = 200) -> int:
    """Begin the windows of messages that count as received by ``now`` (business time); returns how many."""
    ids = list(connection.exec_driver_sql(_DEEMED, (now, limit)).scalars())
    return len(_begin(connection, ids, now))


def _begin(
    connection: sa.Connection, ids: Sequence[str], now: dt.datetime, traces: Mapping[str, str] = _UNTRACED
) -> list[str]:
    """Begin and announce windows that are due; those that have begun are left unchanged."""
    if not ids:
        return []
    begun: dict[str, tuple[Begun, Any]] = {}
    keys: list[tuple[str, int, str, str]] = []
    for row in connection.exec_driver_sql(_OPEN, (list(ids),)).mappings():
        found = beginning(
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
    places: dict[tuple[str, str, int], tuple[int, str]] = {}
    for id_, item, revision, partition, _, facts, _, _ in connection.exec_driver_sql(_FACTS, columns(keys)):
        places[id_, item, revision] = (partition, _facts.decode(facts).listing)
    out: list[tuple[int, str, str, str, str]] = []
    for id_, (found, row) in begun.items():
        pairs = zip(row["items"], row["revisions"], strict=True)
        told = [(item, revision, places[id_, item, revision][1]) for item, revision in pairs]
        notices = notices_of(id_, row["claim"], row["kind"], row["sent_at"], found, told)
        for notice in notices:
            partition, listing = places[id_, notice.item, notice.revision]
            out.append((partition, listing, id_, _NOTICE, _encode(notice).decode()))
    announce(connection, out, traces)
    return list(begun)


# --------------------------------------------------------------------------------------------- what comes back later

REPORTS: Final = 50
"""Most history rows of a message; further reports that change nothing are not recorded."""


def report(
    connection: sa.Connection,
    id: str,
    outcome: Literal["delivered", "bounced", "delayed", "relayed"],
    reason: str,
    now: dt.datetime,
    wall: dt.datetime,
) -> Literal["noted", "unknown", "busy", "late"]:
    """Record a delivery report about one of our e-mails.

    A bounce gives the message back to the senders, which find another channel. An address that accepts no mail at all
    is remembered.

    Returns:
        ``unknown``: there is no such message. ``busy``: it is being sent right now; the report must be sent again.
        ``late``: the message already went by another channel, or the report says nothing new.
    """
    row = connection.exec_driver_sql(_REPORTED, (id,)).one_or_none()
    if row is None:
        return "unknown"
    claim, party, kind, state, channel, address, given_up, partition, listing, facts, notes = row
    if given_up:
        return "late"  # it is already going by another channel
    if state in ("queued", "sending"):
        return "busy"
    if channel != "email" or state == "failed" or (outcome == "delivered" and state == "delivered"):
        return "late"
    if outcome in ("delayed", "relayed") and (notes >= REPORTS or state == "delivered"):
        return "late"
    message = Message(id, claim, party, kind, False, 0, wall)
    if kind.startswith(ACCOUNT):
        message.notice = _notice.decode(facts)
    out = []
    if outcome == "delivered":
        connection.exec_driver_sql(_DELIVERED, (id,))
        begin_windows(connection, [id], "delivered", now, now=now)
        _begin(connection, [id], now)
    elif outcome == "bounced":
        connection.exec_driver_sql(_BOUNCED, (id,))
        if address is not None and bad_address(reason):
            connection.exec_driver_sql(_MARK, (now, wall, [party], [address], [reason]))
    if outcome in ("delivered", "bounced"):
        out.append(_changed(message, (partition, listing), "email", outcome, reason, now))
    _write(connection, [(id, party, "email", outcome, reason)], out, now)
    return "noted"


def forget(connection: sa.Connection, parties: Sequence[str]) -> None:
    """Forget the bounced addresses (keyed hashes) of parties that were erased."""
    connection.exec_driver_sql("delete from bouncing where party = any(%s)", (sorted(set(parties)),))


def bouncing(connection: sa.Connection, parties: Iterable[str], days: float) -> dict[str, str]:
    """By party, the keyed hash of the address that bounced within the last ``days`` days."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_MARKED, (sorted(set(parties)), days))}


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

    Messages that wait for quiet hours to end do not count: they are not late.
    """
    value: dt.datetime | None = connection.exec_driver_sql(_OLDEST, (route,)).scalar_one()
    return value
