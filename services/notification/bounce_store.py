"""Delivery reports and addresses that accept no mail (table ``bouncing``)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import sqlalchemy as sa

from services.notification import history, windows
from services.notification.channels import bad_address
from services.notification.domain import ACCOUNT
from services.notification.types import HistoryEntry, Message, PutOff, Sent
from shared.db import columns
from shared.events import AccountNotice

REPORTS: Final = 50
"""Most history rows of a message; further reports that change nothing are not recorded."""

_REPORTED = """
    select m.claim, m.party, m.kind, m.state, m.channel, m.address, 'email' = any(m.tried) as given_up, i.partition,
        i.listing, i.facts, (select count(*) from deliveries d where d.message = m.id) as entries
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

_notice = msgspec.json.Decoder(AccountNotice)


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
    if row.given_up:
        return "late"  # it is already going by another channel
    if row.state in ("queued", "sending"):
        return "busy"
    if row.channel != "email" or row.state == "failed" or (outcome == "delivered" and row.state == "delivered"):
        return "late"
    if outcome in ("delayed", "relayed") and (row.entries >= REPORTS or row.state == "delivered"):
        return "late"
    message = Message(id, row.claim, row.party, row.kind, False, 0, wall)
    if row.kind.startswith(ACCOUNT):
        message.notice = _notice.decode(row.facts)
    out = []
    if outcome == "delivered":
        connection.exec_driver_sql(_DELIVERED, (id,))
        windows.begin_windows(connection, [id], "delivered", now, now=now)
    elif outcome == "bounced":
        connection.exec_driver_sql(_BOUNCED, (id,))
        if row.address is not None and bad_address(reason):
            connection.exec_driver_sql(_MARK, (now, wall, [row.party], [row.address], [reason]))
    if outcome in ("delivered", "bounced"):
        out.append(history.changed(message, (row.partition, row.listing), "email", outcome, reason, now))
    history.write(connection, [HistoryEntry(id, row.party, "email", outcome, reason)], out, now)
    return "noted"


def remember(connection: sa.Connection, done: Sequence[Sent | PutOff], now: dt.datetime, wall: dt.datetime) -> None:
    """Remember addresses that accept no mail, from the channels that failed."""
    marks = {
        one.message.party: (one.message.party, one.failure.address, one.failure.reason or "")
        for one in done
        if one.failure is not None and one.failure.address is not None
    }
    if marks:
        connection.exec_driver_sql(_MARK, (now, wall, *columns(sorted(marks.values()))))


def forget(connection: sa.Connection, parties: Sequence[str]) -> None:
    """Forget the bounced addresses (keyed hashes) of parties that were erased."""
    connection.exec_driver_sql("delete from bouncing where party = any(%s)", (sorted(set(parties)),))


def bouncing(connection: sa.Connection, parties: Iterable[str], days: float) -> dict[str, str]:
    """By party, the keyed hash of the address that bounced within the last ``days`` days."""
    return {row.party: row.address for row in connection.exec_driver_sql(_MARKED, (sorted(set(parties)), days))}
