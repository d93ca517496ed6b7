"""One message a day for a party that asked for it: receipts and outcomes wait for its hour, and are told together.

What sets anybody a time is never held back (``domain.HELD`` has no kind of ``WINDOW_KINDS``). Rows of ``message_items`` that wait are
marked ``held`` when they are inserted; ``digests`` has who asked, and when its next message is due (business time). Closing is
the senders', under the lock of all closing (store.py). A digest is a message of kind ``digest``; its rows keep their own kinds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from services.notification.domain import DIGEST, Collected, Pending
from shared.db import columns
from shared.events import AccountChannels

MOST: Final = 1000
"""Items that one digest tells of; of more there are several."""
AT_ONCE: Final = 50
"""Digests closed in one transaction."""

_FOLD: Final = """
    insert into digests (account, revision, hour, zone, next_at)
    select * from unnest(%s::text[], %s::int[], %s::int[], %s::text[], %s::timestamptz[])
    on conflict (account) do update set revision = excluded.revision, hour = excluded.hour, zone = excluded.zone,
        next_at = case when (digests.hour, digests.zone) is not distinct from (excluded.hour, excluded.zone)
            then digests.next_at else excluded.next_at end
    where digests.revision < excluded.revision"""
_RELEASE: Final = """
    update message_items i set held = false from digests d
    where d.account = any(%s) and d.hour is null and i.party = d.account and i.held and i.message is null"""
_STRAYS: Final = """
    with recursive parties(party) as (
        (select party from message_items where message is null and held order by party limit 1)
        union all
        select (select i.party from message_items i where i.message is null and i.held and i.party > p.party
            order by i.party limit 1) from parties p where p.party is not null)
    update message_items i set held = false from parties p join digests d on d.account = p.party and d.hour is null
    where i.party = p.party and i.held and i.message is null"""
_DUE: Final = (
    "select account, hour, zone from digests where next_at <= %s order by next_at limit %s for update skip locked"
)
_ROWS: Final = """
    select claim, kind, party, item, revision, claim_size, partition, listing, opened_wall from message_items
    where message is null and held and party = %s order by opened_wall, item, revision limit %s"""
_STAMP: Final = """
    update message_items as t set message = %s from unnest(%s::text[], %s::int[], %s::text[]) as n(item, revision, kind)
    where t.item = n.item and t.revision = n.revision and t.kind = n.kind and t.party = %s and t.message is null"""
_CLOSE: Final = (
    "insert into messages (id, claim, party, kind, items, revisions, opened_wall, route)"
    " values (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_NEXT: Final = "update digests set next_at = %s where account = %s"


def next_at(after: dt.datetime, hour: int, zone: str) -> dt.datetime:
    """When that hour of the day begins next in the zone, after ``after`` (aware); UTC. An hour that a day does not have is the one after."""
    place = ZoneInfo(zone)
    day = after.astimezone(place).date()
    while True:
        at = dt.datetime.combine(day, dt.time(hour), place).astimezone(dt.UTC)
        if at > after:
            return at
        day += dt.timedelta(days=1)


def fold(connection: sa.Connection, changes: Iterable[AccountChannels], now: dt.datetime) -> None:
    """Note who wants one message a day from now on; what waits for a party that no longer does is told as usual."""
    newest: dict[str, AccountChannels] = {}
    for change in changes:
        if change.account not in newest or newest[change.account].revision < change.revision:
            newest[change.account] = change
    if not newest:
        return
    rows = [
        (account, one.revision, None, None, None)
        if one.digest is None
        else (account, one.revision, one.digest.hour, one.digest.zone, next_at(now, one.digest.hour, one.digest.zone))
        for account, one in sorted(newest.items())
    ]
    connection.exec_driver_sql(_FOLD, columns(rows))
    off = [account for account, one in newest.items() if one.digest is None]
    if off:
        connection.exec_driver_sql(_RELEASE, (off,))


def release(connection: sa.Connection) -> int:
    """Have told as usual what was marked to wait while its party, in another transaction, ceased to want that; the lock of
    closing must be held. Looks at each party that something waits for, not at each row. Returns how many rows."""
    count: int = connection.exec_driver_sql(_STRAYS).rowcount
    return count


def close(connection: sa.Connection, now: dt.datetime, route: Callable[[str], str]) -> int:
    """Close the digests that are due at ``now`` (business time); the lock of closing must be held. Returns how many.

    Args:
        route: the channel by which an account is told first.
    """
    closed = 0
    for account, hour, zone in connection.exec_driver_sql(_DUE, (now, AT_ONCE)).all():
        rows = [Pending(*row) for row in connection.exec_driver_sql(_ROWS, (account, MOST))]
        if rows:
            one = Collected(rows)
            stamped = connection.exec_driver_sql(
                _STAMP,
                (
                    one.id,
                    [row.item for row in rows],
                    [row.revision for row in rows],
                    [row.kind for row in rows],
                    account,
                ),
            ).rowcount
            if stamped != len(rows):
                raise RuntimeError(f"{len(rows)} rows to stamp, {stamped} were free")
            connection.exec_driver_sql(
                _CLOSE,
                (
                    one.id, rows[0].claim, account, DIGEST, [row.item for row in rows], [row.revision for row in rows],
                    rows[0].opened_wall, route(account),
                ),
            )  # fmt: skip
            closed += 1
        if len(rows) < MOST:  # else the rest goes in another one, at once
            connection.exec_driver_sql(_NEXT, (next_at(now, hour, zone), account))
    return closed
