"""Digests: one message per day for a party that asked for it. Receipts and outcomes wait for its hour and go together.

A message that starts a window is never held back (``domain.HELD`` and ``WINDOW_KINDS`` have no kind in common). Rows
of ``message_items`` that wait are marked ``held`` when they are inserted; ``digests`` records which parties asked and
when their next digest is due (business time). Senders close digests, under the lock for all closing (store.py). A
digest is a message of kind ``digest``; its rows keep their own kinds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from services.notification import store
from services.notification.domain import GatheredMessage, Pending
from shared.db import columns
from shared.events import AccountChannels

MOST: Final = 1000
"""Most items in one digest; further items go in another one."""
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
_ROWS: Final = f"""
    select {store.PENDING_COLUMNS} from message_items
    where message is null and held and party = %s order by opened_wall, item, revision limit %s"""
_NEXT: Final = "update digests set next_at = %s where account = %s"


def next_at(after: dt.datetime, hour: int, zone: str) -> dt.datetime:
    """When that hour next begins in the zone after ``after`` (aware), in UTC. A skipped hour counts as the next."""
    local = ZoneInfo(zone)
    day = after.astimezone(local).date()
    while True:
        at = dt.datetime.combine(day, dt.time(hour), local).astimezone(dt.UTC)
        if at > after:
            return at
        day += dt.timedelta(days=1)


def fold(connection: sa.Connection, changes: Iterable[AccountChannels], now: dt.datetime) -> None:
    """Record which parties want a digest. Rows that wait for a party that no longer wants one are released."""
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
    """Release rows that were marked ``held`` while another transaction turned off their party's digest.

    The closing lock must be held. Visits each party with held rows, not each row. Returns how many rows were released.
    """
    count: int = connection.exec_driver_sql(_STRAYS).rowcount
    return count


def close(connection: sa.Connection, now: dt.datetime, route: Callable[[str], str]) -> int:
    """Close the digests due at ``now`` (business time); returns how many. The closing lock must be held.

    Args:
        route: the channel to try first for an account.
    """
    closed = 0
    for due in connection.exec_driver_sql(_DUE, (now, AT_ONCE)).all():
        rows = [Pending(*row) for row in connection.exec_driver_sql(_ROWS, (due.account, MOST))]
        if rows:
            message = GatheredMessage(rows, digest=True)
            store.close(connection, [message], {message.id: route(due.account)})
            closed += 1
        if len(rows) < MOST:  # otherwise the rest goes in another digest at once
            connection.exec_driver_sql(_NEXT, (next_at(now, due.hour, due.zone), due.account))
    return closed
