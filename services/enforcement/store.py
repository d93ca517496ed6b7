"""Tables of holds (columns: migration 0001): one query loads a batch, one saves it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from services.enforcement.domain import Hold, Listing
from services.enforcement.statements import NewStatement
from shared.db import columns, unnest
from shared.events import MarketplaceCommand

_LISTING_COLUMNS = ", ".join(one.name for one in fields(Listing))
_HOLD_COLUMNS = ", ".join(f"h.{one.name}" for one in fields(Hold))
_LISTINGS = f"select {_LISTING_COLUMNS} from listings where listing = any(%s)"
_HOLDS = f"select {_HOLD_COLUMNS} from holds h where item = any(%s)"
_WAITING = f"""
    select {_HOLD_COLUMNS}
    from listings l join holds h on h.listing = l.listing and h.waits > l.confirmed
    where l.listing = any(%s) and l.confirmed < l.seq"""
_DUE = f"""
    select {_LISTING_COLUMNS} from listings
    where partition = any(%s) and resend_at <= %s and listing <> all(%s::text[]) order by resend_at limit %s"""
_SAVE_LISTINGS = """
    insert into listings (listing, partition, holds, seq, action, confirmed, result, resend_at, tries)
    select * from unnest(%s::text[], %s::int[], %s::int[], %s::int[], %s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::int[])
    on conflict (listing) do update set holds = excluded.holds, seq = excluded.seq, action = excluded.action,
        confirmed = excluded.confirmed, result = excluded.result, resend_at = excluded.resend_at, tries = excluded.tries"""
_SAVE_HOLDS = """
    insert into holds (item, listing, claim, revision, held, waits, seller, violation)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bool[], %s::int[], %s::text[], %s::bool[])
    on conflict (item) do update set revision = excluded.revision, held = excluded.held, waits = excluded.waits,
        seller = excluded.seller, violation = excluded.violation"""
_DELIVER = """
    insert into deliveries (command, listing, partition, seq, action, traceparent)
    select * from unnest(%s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[])
    on conflict (command) do nothing"""
# older commands on the listing need not be sent any more: they would have no effect
_SUPERSEDE = """
    delete from deliveries d using unnest(%s::text[], %s::int[]) as n(listing, seq)
    where d.listing = n.listing and d.seq < n.seq"""
_PULL = """
    delete from receipts where id in (
        select id from receipts where partition = any(%s) order by id limit %s for update skip locked)
    returning id, partition, command, listing, seq, result, traceparent"""
_TAKE = """
    update deliveries set tries = tries + 1, next_wall = now() + %s * interval '1 second'
    where command in (select command from deliveries where next_wall <= now() order by next_wall limit %s for update skip locked)
    returning command, listing, partition, seq, action, traceparent"""
_ANSWERED = """
    with gone as (
        delete from deliveries where command = any(%s::text[]) returning command, partition, listing, seq, traceparent)
    insert into receipts (partition, command, listing, seq, result, traceparent)
    select g.partition, g.command, g.listing, g.seq, n.result, g.traceparent
    from gone g join unnest(%s::text[], %s::text[]) as n(command, result) using (command)"""
_FAILED = """
    update deliveries d set error = n.error, next_wall = now() + least(2 ^ least(tries, 10), 300) * interval '1 second'
    from unnest(%s::text[], %s::text[]) as n(command, error) where d.command = n.command"""
_GIVE_BACK = "update deliveries set tries = tries - 1, next_wall = now() where command = any(%s::text[])"

_KEEP_STATEMENTS = """
    insert into statements (puid, item, revision, policy, body)
    select * from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::text[]) on conflict (puid) do nothing"""
# a statement that is taken becomes due again after its lease
_TAKE_STATEMENTS = """
    update statements set tries = tries + 1, next_wall = now() + %s * interval '1 second'
    where puid in (select puid from statements where state = 'waiting' and next_wall <= now()
                   order by next_wall, puid limit %s for update skip locked)
    returning puid, body"""
_END_STATEMENTS = """
    update statements s set state = n.state, error = n.error, ended_wall = now()
    from unnest(%s::text[], %s::text[], %s::text[]) as n(puid, state, error)
    where s.puid = n.puid and s.state = 'waiting'"""
_POSTPONE_STATEMENTS = """
    update statements set error = %s, next_wall = now() + least(2 ^ least(tries, 10), 300) * (0.5 + random() / 2) * interval '1 second'
    where puid = any(%s::text[]) and state = 'waiting'"""
_STATEMENTS_WAITING = """
    select count(*) filter (where state = 'waiting'), count(*) filter (where state = 'refused'),
        min(made_wall) filter (where state = 'waiting')
    from statements where state <> 'sent'"""


def listings(connection: sa.Connection, ids: Collection[str]) -> dict[str, Listing]:
    """States of the listings that have one."""
    if not ids:
        return {}
    return {row.listing: Listing(*row) for row in connection.exec_driver_sql(_LISTINGS, (list(ids),))}


def holds(connection: sa.Connection, items: Collection[str], receipted: Collection[str]) -> dict[str, Hold]:
    """Holds of ``items``, and those that wait for a receipt on the listings ``receipted``."""
    found = {}
    if items:
        found = {row.item: Hold(*row) for row in connection.exec_driver_sql(_HOLDS, (list(items),))}
    if receipted:
        found |= {row.item: Hold(*row) for row in connection.exec_driver_sql(_WAITING, (list(receipted),))}
    return found


def due(
    connection: sa.Connection, partitions: Sequence[int], wall: dt.datetime, but: Collection[str], limit: int
) -> list[Listing]:
    """Listings whose command under way must be sent again."""
    rows = connection.exec_driver_sql(_DUE, (list(partitions), wall, list(but), limit))
    return [Listing(*row) for row in rows]


def save(connection: sa.Connection, listings: Collection[Listing], holds: Collection[Hold]) -> None:
    """Write changed states."""
    unnest(
        connection,
        _SAVE_LISTINGS,
        [
            (x.listing, x.partition, x.holds, x.seq, x.action, x.confirmed, x.result, x.resend_at, x.tries)
            for x in listings
        ],
    )
    unnest(
        connection,
        _SAVE_HOLDS,
        [(x.item, x.listing, x.claim, x.revision, x.held, x.waits, x.seller, x.violation) for x in holds],
    )


# ------------------------------------------------------------------------------------------------------ HTTP adapter


def deliver(connection: sa.Connection, commands: Sequence[tuple[int, MarketplaceCommand, str | None]]) -> None:
    """Queue (partition, command, trace context if traced) for ``delivery``.

    Commands that are queued already stay unchanged.
    """
    if commands:
        newest = {command.listing: command.seq for _, command, _ in commands}
        connection.exec_driver_sql(
            _DELIVER,
            (
                [command.command for _, command, _ in commands],
                [command.listing for _, command, _ in commands],
                [partition for partition, _, _ in commands],
                [command.seq for _, command, _ in commands],
                [command.action for _, command, _ in commands],
                [trace for _, _, trace in commands],
            ),
        )
        connection.exec_driver_sql(_SUPERSEDE, (list(newest), list(newest.values())))


def pull(connection: sa.Connection, partitions: Sequence[int], room: int) -> Sequence[Any]:
    """Take receipts out of the queue, oldest first: (id, partition, command, listing, seq, result, trace context)."""
    return sorted(connection.exec_driver_sql(_PULL, (list(partitions), room)), key=lambda row: row.id)


def take(connection: sa.Connection, limit: int, lease_s: float) -> list[tuple[MarketplaceCommand, str | None]]:
    """Take due commands, with the trace context if traced; each becomes due again after ``lease_s`` wall seconds."""
    rows = connection.exec_driver_sql(_TAKE, (lease_s, limit))
    return [
        (MarketplaceCommand(command=command, listing=listing, action=action, seq=seq), trace)
        for command, listing, _, seq, action, trace in rows
    ]


def answered(connection: sa.Connection, results: dict[str, str]) -> None:
    """Turn answered commands (id -> result) into receipts for the worker; skips those answered already."""
    if results:
        commands = sorted(results)
        connection.exec_driver_sql(_ANSWERED, (commands, commands, [results[command] for command in commands]))


def failed(connection: sa.Connection, errors: dict[str, str]) -> None:
    """Note why commands (id -> reason) were not answered; each is due again after a pause that doubles per try."""
    if errors:
        connection.exec_driver_sql(_FAILED, (list(errors), list(errors.values())))


def give_back(connection: sa.Connection, commands: Sequence[str]) -> None:
    """Make commands that were taken but not tried due at once."""
    if commands:
        connection.exec_driver_sql(_GIVE_BACK, (list(commands),))


# ------------------------------------------------------------------------------------------------ statements of reasons


def keep_statements(connection: sa.Connection, statements: Sequence[NewStatement]) -> None:
    """Keep statements for sending; those kept already stay unchanged."""
    if statements:
        rows = sorted((made.puid, made.item, made.revision, made.policy, made.body) for made in statements)
        connection.exec_driver_sql(_KEEP_STATEMENTS, columns(rows))


def take_statements(connection: sa.Connection, limit: int, lease_s: float) -> list[tuple[str, str]]:
    """Take (puid, body) of due statements; each becomes due again after ``lease_s`` wall seconds."""
    return [(puid, body) for puid, body in connection.exec_driver_sql(_TAKE_STATEMENTS, (lease_s, limit))]


def end_statements(connection: sa.Connection, ends: Sequence[tuple[str, str, str | None]]) -> None:
    """Record how statements ended: (puid, ``sent`` or ``refused``, why); skips those that ended already."""
    if ends:
        connection.exec_driver_sql(_END_STATEMENTS, columns(sorted(ends)))


def postpone_statements(connection: sa.Connection, puids: Sequence[str], error: str) -> None:
    """Put statements off by 1 to 300 wall seconds, longer with each try."""
    connection.exec_driver_sql(_POSTPONE_STATEMENTS, (error, list(puids)))


def statements_waiting(connection: sa.Connection) -> tuple[int, int, dt.datetime | None]:
    """How many statements wait, how many were refused, and since when (wall time) the oldest has waited."""
    waiting, refused, oldest = connection.exec_driver_sql(_STATEMENTS_WAITING).one()
    return waiting, refused, oldest
