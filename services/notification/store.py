"""Notification's tables, and who may write what.

- ``message_items``: one row for each thing to tell, (item, revision, kind, party). **Workers only insert**, each for the
  items of its own partitions, in the transaction that reads the event; the primary key lets nothing be told twice.
  ``message`` is null until the item is in a message. ``facts`` is a JSON object (``domain.Facts``). A notice to an
  account is a row too: its id stands for item and claim, the account for the listing, its kind begins with
  ``domain.ACCOUNT``, and ``facts`` is the notice itself; so it is in a message of its own.
- ``messages``: a message exists once it is closed. **Only a sender closes**, holding the advisory lock ``COLLECT``: one
  transaction reads the rows whose ``message`` is null, decides (``domain.gather``), stamps them and inserts the message
  with ``items`` and ``revisions``. So workers of different partitions never wait for each other, an item is in exactly
  one message (it is stamped once, under the lock), and none is lost: what was not yet committed stays null, and is
  found by the next round. Each statement after the lock sees what the previous holder committed (READ COMMITTED).
- ``messages.state``: ``queued`` -> ``sending`` (committed before the first byte goes out) -> ``sent``, or ``failed`` (a
  bug in rendering; set it to ``queued`` again once it is mended). ``due_wall`` is when a sender may take it: at once,
  after a pause, or when another sender's lease has run out. A message taken in state ``sending`` has an unknown outcome:
  it is sent again and counted in ``repeats``. ``attempts`` counts sendings begun, ``tries`` refusals for now (4xx).
- ``announcements``: written with ``sent``, in one transaction; the owner of the partition deletes them in the transaction
  that appends the events to its log.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.notification.domain import ACCOUNT, Collected, Facts, Pending, announcement_of, announcements
from shared.events import AccountNotice, MessageSent, NoticeSent

SCHEMA: Final = "notification"
COLLECT: Final = 0x600DC011

_INSERT = """
    insert into message_items (item, revision, kind, party, claim, claim_size, partition, listing, facts, opened_wall)
    select n.*, %s from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[]) as n
    on conflict do nothing"""
_PULL = """
    delete from announcements where id = any(array(
        select id from announcements where partition = any(%s) and listing <> all(%s) order by id limit %s))
    returning id, partition, listing, message, type, payload"""
_PENDING = """
    select claim, kind, party, item, revision, claim_size, partition, listing, opened_wall from message_items
    where message is null order by opened_wall limit %s"""
_STAMP = """
    update message_items as t set message = n.message
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[]) as n(item, revision, kind, party, message)
    where t.item = n.item and t.revision = n.revision and t.kind = n.kind and t.party = n.party and t.message is null"""
_CLOSE = (
    "insert into messages (id, claim, party, kind, items, revisions, opened_wall) values (%s, %s, %s, %s, %s, %s, %s)"
)
_TAKE = """
    update messages as t set due_wall = clock_timestamp() + %s * interval '1 second', holder = %s
    from (select id, state from messages where state in ('queued', 'sending') and due_wall <= clock_timestamp()
          order by due_wall limit %s for update skip locked) as n
    where t.id = n.id
    returning t.id, t.claim, t.party, t.kind, t.items, t.revisions, n.state, t.tries, t.opened_wall"""
_FACTS = """
    select i.message, i.item, i.revision, i.partition, i.claim_size, i.facts
    from unnest(%s::text[], %s::int[], %s::text[], %s::text[]) as n(item, revision, kind, party)
    join message_items i on i.item = n.item and i.revision = n.revision and i.kind = n.kind and i.party = n.party"""
_SENDING = """
    update messages set state = 'sending', attempts = attempts + 1, repeats = repeats + (state = 'sending')::int
    where id = any(%s) and holder = %s and due_wall > clock_timestamp() and state in ('queued', 'sending') returning id"""
_SENT = """
    update messages as t set state = 'sent', holder = null, channel = n.channel, result = n.result, template = n.template,
        version = n.version, digest = n.digest, locale = n.locale, edition = n.edition, rendered_at = n.rendered_at,
        sent_at = %s, sent_wall = %s
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
        as n(id, channel, result, template, version, digest, locale, edition, rendered_at)
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending') returning t.id"""
_PUT_OFF = """
    update messages as t set state = n.state, holder = null, tries = t.tries + n.tries, result = n.result,
        due_wall = clock_timestamp() + n.pause * interval '1 second'
    from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::float8[]) as n(id, state, tries, result, pause)
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending')"""
_ANNOUNCE = """
    insert into announcements (partition, listing, message, type, payload)
    select * from unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[])"""
_OLDEST = """
    select least((select min(opened_wall) from message_items where message is null),
                 (select min(opened_wall) from messages where state in ('queued', 'sending')))"""

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


def insert(connection: sa.Connection, rows: Rows, wall: dt.datetime) -> None:
    """Enter what is to be told; what is there already is left."""
    if rows.items:
        connection.exec_driver_sql(
            _INSERT,
            (
                wall, rows.items, rows.revisions, rows.kinds, rows.parties, rows.claims, rows.sizes, rows.partitions,
                rows.listings, rows.facts,
            ),
        )  # fmt: skip


def pull(
    connection: sa.Connection, partitions: Sequence[int], parked: Iterable[str], room: int
) -> list[tuple[int, int, str, str, str, str]]:
    """Take announcements away: (id, partition, listing, message, type, payload), oldest first.

    Those of parked keys stay, so that a key's events keep their order.
    """
    rows = connection.exec_driver_sql(_PULL, (list(partitions), list(parked), room))
    return sorted(
        (id_, partition, listing, message, type_, payload) for id_, partition, listing, message, type_, payload in rows
    )


# --------------------------------------------------------------------------------------------------- the sender's


@dataclass(slots=True)
class Item:
    """An item as a message tells of it."""

    item: str
    revision: int
    partition: int
    facts: Facts


@dataclass(slots=True)
class Message:
    """A message that this sender holds. ``unknown``: an earlier sending began and nobody knows how it ended."""

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
    """What an account is told of itself; ``items`` is empty then."""
    partition: int = 0
    """The notice's."""


@dataclass(slots=True)
class Sent:
    """A delivered message, for ``finish``."""

    message: Message
    channel: str
    result: str
    template: str
    version: int
    digest: str
    locale: str = "en"
    edition: str = ""
    rendered_at: dt.datetime | None = None


@dataclass(slots=True)
class PutOff:
    """A message given back: taken again after ``pause_s``. ``state`` ``sending`` keeps an unknown outcome in mind."""

    message: Message
    state: str
    result: str
    pause_s: float = 0.0
    tried: bool = False


def _columns(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """Rows as arrays for ``unnest``."""
    return tuple(map(list, zip(*rows, strict=True)))


def lock_collect(connection: sa.Connection) -> bool:
    """Try to be the one who closes messages, until the transaction's end."""
    return bool(connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s)", (COLLECT,)).scalar_one())


def pending(connection: sa.Connection, limit: int) -> list[Pending]:
    """The oldest rows that are in no message yet."""
    return [Pending(*row) for row in connection.exec_driver_sql(_PENDING, (limit,))]


def close(connection: sa.Connection, messages: Sequence[Collected]) -> None:
    """Close messages; the advisory lock must be held.

    Raises:
        RuntimeError: a row was in a message already (the lock was not held).
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
        inserts.append(
            (
                id_, first.claim, first.party, first.kind, [row.item for row in message.rows],
                [row.revision for row in message.rows], opened,
            )
        )  # fmt: skip
    stamped = connection.exec_driver_sql(_STAMP, _columns(stamps)).rowcount
    if stamped != len(stamps):
        raise RuntimeError(f"{len(stamps)} rows to stamp, {stamped} were free")
    connection.exec_driver_sql(_CLOSE, inserts)


def take(connection: sa.Connection, holder: str, lease_s: float, limit: int) -> list[Message]:
    """Lease due messages, oldest first, with the items that they tell of."""
    messages: dict[str, Message] = {}
    keys: list[tuple[str, int, str, str]] = []
    order: dict[tuple[str, str, int], int] = {}
    for id_, claim, party, kind, items, revisions, state, tries, opened in connection.exec_driver_sql(
        _TAKE, (lease_s, holder, limit)
    ):
        messages[id_] = Message(id_, claim, party, kind, state == "sending", tries, opened)
        for index, (item, revision) in enumerate(zip(items, revisions, strict=True)):
            keys.append((item, revision, kind, party))
            order[id_, item, revision] = index
    if messages:
        for id_, item, revision, partition, size, facts in connection.exec_driver_sql(_FACTS, _columns(keys)):
            messages[id_].claim_size = size
            if messages[id_].kind.startswith(ACCOUNT):
                messages[id_].notice, messages[id_].partition = _notice.decode(facts), partition
                continue
            messages[id_].items.append(Item(item, revision, partition, _facts.decode(facts)))
    for message in messages.values():
        message.items.sort(key=lambda item: order[message.id, item.item, item.revision])
    return sorted(messages.values(), key=lambda message: message.opened_wall)


def sending(connection: sa.Connection, holder: str, messages: Sequence[Message]) -> list[Message]:
    """Note that sending begins; returns those whose lease still holds."""
    if not messages:
        return []
    rows = connection.exec_driver_sql(_SENDING, ([message.id for message in messages], holder))
    ours = {row[0] for row in rows}
    return [message for message in messages if message.id in ours]


def finish(
    connection: sa.Connection, holder: str, sent: Sequence[Sent], now: dt.datetime, wall: dt.datetime
) -> list[Sent]:
    """Note messages as sent at ``now`` (business time) and announce them; returns those that were still this sender's.

    Idempotent: after a commit of unknown outcome it may be called again.
    """
    if not sent:
        return []
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
    )
    ours = {row[0] for row in connection.exec_driver_sql(_SENT, (now, wall, *columns, holder))}
    done = [one for one in sent if one.message.id in ours]
    out: list[tuple[int, str, str, str, str]] = []
    for one in done:
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
            out.append((message.partition, message.party, message.id, "goodfaith.account.told.v1", payload))
            continue
        partitions = {item.facts.listing: item.partition for item in message.items}
        told = [(item.item, item.revision, item.facts.listing) for item in message.items]
        for type_, data in announcements(event, told):
            listing = data.listing if isinstance(data, NoticeSent) else message.items[0].facts.listing
            out.append((partitions[listing], listing, message.id, type_, _encode(data).decode()))
    if out:
        connection.exec_driver_sql(_ANNOUNCE, _columns(out))
    return done


def put_off(connection: sa.Connection, holder: str, messages: Sequence[PutOff]) -> None:
    """Give messages back."""
    if messages:
        connection.exec_driver_sql(
            _PUT_OFF,
            (
                [one.message.id for one in messages],
                [one.state for one in messages],
                [int(one.tried) for one in messages],
                [one.result for one in messages],
                [one.pause_s for one in messages],
                holder,
            ),
        )


def oldest(connection: sa.Connection) -> dt.datetime | None:
    """When the oldest thing that is still to be told came up (wall time)."""
    value: dt.datetime | None = connection.exec_driver_sql(_OLDEST).scalar_one()
    return value
