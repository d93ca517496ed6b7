"""Tables of sanctions and of commands on sellers (columns: migration 0001)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from services.enforcement.sanctions import Account, OpenGrounds, Sanction
from shared.db import unnest
from shared.events import SellerCommand

ACCOUNT_COLUMNS = "open_grounds, sanctions, seq, measures, until, confirmed, result, resend_at, tries"
"""Columns of ``standings`` that ``account`` takes, in the order in which ``account_row`` returns them."""
SANCTION_COLUMNS = """seller, number, scope, ledger, level, measures, withheld, entry, claim, began, ends, state, cause, over_at,
    stands, reason, after"""
"""Columns that ``sanction`` takes: all of the table but its id."""

# what `Sanction.matters` says, in SQL
_MATTERING = f"""
    select {SANCTION_COLUMNS}
    from sanctions where seller = any(%s) and (state = 'in_force' or stands or (measures = '' and state <> 'lifted')
        or (scope = 'entity' and cause in ('timer', 'operator')))
    order by seller, number"""
_SAVE = """
    insert into sanctions (seller, number, sanction, scope, ledger, level, measures, withheld, entry, claim, began, ends, state,
        cause, over_at, stands, reason, after)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[], %s::timestamptz[], %s::bool[], %s::text[],
        %s::timestamptz[])
    on conflict (seller, number) do update set scope = excluded.scope, state = excluded.state, cause = excluded.cause,
        over_at = excluded.over_at, stands = excluded.stands, reason = excluded.reason"""
_DELIVER = """
    insert into seller_deliveries (command, seller, partition, seq, body)
    select * from unnest(%s::text[], %s::text[], %s::int[], %s::int[], %s::text[]) on conflict (command) do nothing"""
# older commands on the seller need not be sent any more: they would have no effect
_SUPERSEDE = """
    delete from seller_deliveries d using unnest(%s::text[], %s::int[]) as n(seller, seq)
    where d.seller = n.seller and d.seq < n.seq"""
_PULL = """
    delete from seller_receipts where id in (
        select id from seller_receipts where partition = any(%s) order by id limit %s for update skip locked)
    returning id, partition, command, seller, seq, result"""
_TAKE = """
    update seller_deliveries set tries = tries + 1, next_wall = now() + %s * interval '1 second'
    where command in (
        select command from seller_deliveries where next_wall <= now() order by next_wall limit %s for update skip locked)
    returning body"""
_ANSWERED = """
    with gone as (delete from seller_deliveries where command = any(%s::text[]) returning command, partition, seller, seq)
    insert into seller_receipts (partition, command, seller, seq, result)
    select g.partition, g.command, g.seller, g.seq, n.result
    from gone g join unnest(%s::text[], %s::text[]) as n(command, result) using (command)"""
_FAILED = """
    update seller_deliveries d set error = n.error, next_wall = now() + least(2 ^ least(tries, 10), 300) * interval '1 second'
    from unnest(%s::text[], %s::text[]) as n(command, error) where d.command = n.command"""
_GIVE_BACK = "update seller_deliveries set tries = tries - 1, next_wall = now() where command = any(%s::text[])"

_RESEND = """
    select seller from standings where partition = any(%s) and resend_at <= %s and seller <> all(%s::text[])
    order by resend_at limit %s"""

_open_grounds = msgspec.json.Decoder(OpenGrounds)
_command = msgspec.json.Decoder(SellerCommand)


def account(row: Any) -> Account:
    """From a row of ``standings`` with ``seller`` and ``ACCOUNT_COLUMNS``, without sanctions."""
    return Account(
        row.seller,
        _open_grounds.decode(row.open_grounds),
        row.sanctions,
        row.seq,
        _split(row.measures),
        row.until,
        row.confirmed,
        row.result,
        row.resend_at,
        row.tries,
    )


def account_row(account: Account) -> tuple[Any, ...]:
    """As a row of ``ACCOUNT_COLUMNS``."""
    return (
        msgspec.json.encode(account.open_grounds).decode(),
        account.made,
        account.seq,
        ",".join(account.measures),
        account.until,
        account.confirmed,
        account.result,
        account.resend_at,
        account.tries,
    )


def _split(measures: str) -> tuple[Any, ...]:
    return tuple(measures.split(",")) if measures else ()


def sanction(row: Any) -> Sanction:
    """From a row of ``SANCTION_COLUMNS``."""
    return Sanction(
        row.seller,
        row.number,
        row.scope,
        row.ledger,
        row.level,
        _split(row.measures),
        _split(row.withheld),
        row.entry,
        row.claim,
        row.began,
        row.ends,
        row.state,
        row.cause,
        row.over_at,
        row.stands,
        row.reason,
        row.after,
    )


def sanction_row(sanction: Sanction) -> tuple[Any, ...]:
    """As a row of the table."""
    s = sanction
    return (
        s.seller,
        s.number,
        s.sanction,
        s.scope,
        s.ledger,
        s.level,
        ",".join(s.measures),
        ",".join(s.withheld),
        s.entry,
        s.claim,
        s.began,
        s.ends,
        s.state,
        s.cause,
        s.over_at,
        s.stands,
        s.reason,
        s.after,
    )


def sanctions(connection: sa.Connection, sellers: Collection[str]) -> list[Sanction]:
    """Sanctions on which a later decision depends (``Sanction.matters``), by seller and number."""
    if not sellers:
        return []
    return [sanction(row) for row in connection.exec_driver_sql(_MATTERING, (sorted(sellers),))]


def save(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write changed sanctions (``sanction_row``)."""
    unnest(connection, _SAVE, rows)


# ------------------------------------------------------------------------------------------------------ HTTP adapter


def deliver(connection: sa.Connection, commands: Sequence[tuple[int, SellerCommand]]) -> None:
    """Queue (partition, command) for ``delivery``; commands that are queued already stay unchanged."""
    if commands:
        newest = {command.seller: command.seq for _, command in commands}
        connection.exec_driver_sql(
            _DELIVER,
            (
                [command.command for _, command in commands],
                [command.seller for _, command in commands],
                [partition for partition, _ in commands],
                [command.seq for _, command in commands],
                [msgspec.json.encode(command).decode() for _, command in commands],
            ),
        )
        connection.exec_driver_sql(_SUPERSEDE, (list(newest), list(newest.values())))


def pull(connection: sa.Connection, partitions: Sequence[int], room: int) -> Sequence[Any]:
    """Take receipts out of the queue, oldest first: (id, partition, command, seller, seq, result)."""
    return sorted(connection.exec_driver_sql(_PULL, (list(partitions), room)), key=lambda row: row.id)


def take(connection: sa.Connection, limit: int, lease_s: float) -> list[SellerCommand]:
    """Take due commands; each becomes due again after ``lease_s`` wall seconds."""
    return [_command.decode(body) for (body,) in connection.exec_driver_sql(_TAKE, (lease_s, limit))]


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


def due(
    connection: sa.Connection, partitions: Sequence[int], wall: dt.datetime, but: Collection[str], limit: int
) -> list[str]:
    """Sellers whose command under way must be sent again."""
    rows = connection.exec_driver_sql(_RESEND, (list(partitions), wall, list(but), limit))
    return [seller for (seller,) in rows]
