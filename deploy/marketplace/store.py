"""The marketplace's tables (columns: migration 0001)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from deploy.marketplace.domain import Page
from shared.events import MarketplaceCommand, Receipt

_PAGES = """
    select listing, partition, seller, title, locale, entity, ended, measure, seq, image_hash from listings where listing = any(%s)"""
_SAVE = """
    insert into listings (listing, partition, seller, title, locale, entity, ended, measure, seq, image_hash)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::int[], %s::text[])
    on conflict (listing) do update set seller = excluded.seller, title = excluded.title, locale = excluded.locale,
        entity = excluded.entity, ended = excluded.ended, measure = excluded.measure, seq = excluded.seq,
        image_hash = excluded.image_hash"""
_PULL = """
    delete from queue where id in (
        select id from queue where partition = any(%s) order by id limit %s for update skip locked)
    returning id, partition, kind, body"""
_QUEUE = "insert into queue (partition, kind, body) select * from unnest(%s::int[], %s::text[], %s::text[])"
_PENDING = "select count(*) from queue where kind in ('seed', 'sellers')"
_ASK = """
    insert into answers (command, listing, seq) values (%s, %s, %s) on conflict (command) do nothing returning command"""
_ANSWER = "select listing, seq, result from answers where command = %s"
_ANSWERED = """
    update answers a set result = n.result from unnest(%s::text[], %s::text[]) as n(command, result)
    where a.command = n.command"""


def pages(connection: sa.Connection, ids: Collection[str]) -> dict[str, Page]:
    """The listings that exist."""
    if not ids:
        return {}
    return {row[0]: Page(*row) for row in connection.exec_driver_sql(_PAGES, (list(ids),))}


def save(connection: sa.Connection, pages: Collection[Page]) -> None:
    """Write changed listings."""
    if pages:
        columns = zip(
            *[
                (p.listing, p.partition, p.seller, p.title, p.locale, p.entity, p.ended, p.measure, p.seq, p.image_hash)
                for p in pages
            ],
            strict=True,
        )
        connection.exec_driver_sql(_SAVE, tuple(map(list, columns)))


def pull(connection: sa.Connection, partitions: Sequence[int], room: int) -> Sequence[tuple[Any, ...]]:
    """Take queue rows out, oldest first: (id, partition, kind, body)."""
    return sorted(tuple(row) for row in connection.exec_driver_sql(_PULL, (list(partitions), room)))


def queue(connection: sa.Connection, kind: str, rows: Sequence[tuple[int, str]]) -> None:
    """Queue rows of (partition, body)."""
    if rows:
        partitions, bodies = zip(*rows, strict=True)
        connection.exec_driver_sql(_QUEUE, (list(partitions), [kind] * len(rows), list(bodies)))


def pending(connection: sa.Connection) -> int:
    """Seed rows that were not taken in yet."""
    return int(connection.exec_driver_sql(_PENDING).scalar_one())


def ask(connection: sa.Connection, command: MarketplaceCommand) -> bool:
    """Enter a command by its id; False when it is known."""
    row = connection.exec_driver_sql(_ASK, (command.command, command.listing, command.seq)).first()
    return row is not None


def answer(connection: sa.Connection, command: str) -> Receipt | None:
    """The receipt of a command that came by HTTP, once it was carried out."""
    row = connection.exec_driver_sql(_ANSWER, (command,)).first()
    if row is None or row[2] is None:
        return None
    return Receipt(command=command, listing=row[0], seq=row[1], result=row[2])


def answered(connection: sa.Connection, receipts: Collection[Receipt]) -> None:
    """Note the results of commands that came by HTTP."""
    if receipts:
        connection.exec_driver_sql(_ANSWERED, ([r.command for r in receipts], [r.result for r in receipts]))
