"""The marketplace's tables (columns: `tables.py`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from deploy.marketplace.domain import Page, Seller
from shared.content import Content
from shared.events import MarketplaceCommand, Receipt, SellerCommand, SellerReceipt

_PAGES = """
    select listing, partition, seller, title, locale, entity, ended, measure, seq, image_hash, content
    from listings where listing = any(%s)"""
_SAVE = """
    insert into listings (listing, partition, seller, title, locale, entity, ended, measure, seq, image_hash, content)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::int[],
        %s::text[], %s::text[])
    on conflict (listing) do update set seller = excluded.seller, title = excluded.title, locale = excluded.locale,
        entity = excluded.entity, ended = excluded.ended, measure = excluded.measure, seq = excluded.seq,
        image_hash = excluded.image_hash, content = excluded.content"""
_content = msgspec.json.Decoder(Content).decode
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

_SELLERS = "select seller, partition, measures, until, seq from sellers where seller = any(%s)"
_OFFERING = "select distinct seller from listings where seller = any(%s)"
_SAVE_SELLERS = """
    insert into sellers (seller, partition, measures, until, seq)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::int[])
    on conflict (seller) do update set measures = excluded.measures, until = excluded.until, seq = excluded.seq"""
_ASK_SELLER = """
    insert into seller_answers (command, seller, seq) values (%s, %s, %s) on conflict (command) do nothing returning command"""
_ANSWER_SELLER = "select seller, seq, result from seller_answers where command = %s"
_ANSWERED_SELLERS = """
    update seller_answers a set result = n.result from unnest(%s::text[], %s::text[]) as n(command, result)
    where a.command = n.command"""


def pages(connection: sa.Connection, ids: Collection[str]) -> dict[str, Page]:
    """The listings that exist."""
    if not ids:
        return {}
    rows = connection.exec_driver_sql(_PAGES, (list(ids),))
    return {row[0]: Page(*(*row[:-1], _content(row[-1]) if row[-1] else Content())) for row in rows}


def save(connection: sa.Connection, pages: Collection[Page]) -> None:
    """Write changed listings."""
    if pages:
        columns = zip(
            *[
                (
                    p.listing,
                    p.partition,
                    p.seller,
                    p.title,
                    p.locale,
                    p.entity,
                    p.ended,
                    p.measure,
                    p.seq,
                    p.image_hash,
                    msgspec.json.encode(p.content).decode(),
                )
                for p in pages
            ],
            strict=True,
        )
        connection.exec_driver_sql(_SAVE, tuple(map(list, columns)))


def pull(connection: sa.Connection, partitions: Sequence[int], room: int) -> Sequence[tuple[Any, ...]]:
    """Remove queue rows, oldest first; returns them as (id, partition, kind, body)."""
    return sorted(tuple(row) for row in connection.exec_driver_sql(_PULL, (list(partitions), room)))


def queue(connection: sa.Connection, kind: str, rows: Sequence[tuple[int, str]]) -> None:
    """Queue rows of (partition, body)."""
    if rows:
        partitions, bodies = zip(*rows, strict=True)
        connection.exec_driver_sql(_QUEUE, (list(partitions), [kind] * len(rows), list(bodies)))


def pending(connection: sa.Connection) -> int:
    """Number of seed rows that are not processed yet."""
    return int(connection.exec_driver_sql(_PENDING).scalar_one())


def ask(connection: sa.Connection, command: MarketplaceCommand) -> bool:
    """Record a command by its id; False if it is known already."""
    row = connection.exec_driver_sql(_ASK, (command.command, command.listing, command.seq)).first()
    return row is not None


def answer(connection: sa.Connection, command: str) -> Receipt | None:
    """The receipt of a command that came by HTTP; None until it has been carried out."""
    row = connection.exec_driver_sql(_ANSWER, (command,)).first()
    if row is None or row[2] is None:
        return None
    return Receipt(command=command, listing=row[0], seq=row[1], result=row[2])


def answered(connection: sa.Connection, receipts: Collection[Receipt]) -> None:
    """Record the results of commands that came by HTTP."""
    if receipts:
        connection.exec_driver_sql(_ANSWERED, ([r.command for r in receipts], [r.result for r in receipts]))


# ------------------------------------------------------------------------------------------------------------- sellers


def sellers(connection: sa.Connection, ids: Collection[str]) -> dict[str, Seller]:
    """Sellers on whom a command was carried out."""
    if not ids:
        return {}
    return {
        seller: Seller(seller, partition, tuple(measures.split(",")) if measures else (), until, seq)
        for seller, partition, measures, until, seq in connection.exec_driver_sql(_SELLERS, (list(ids),))
    }


def keep_picture(connection: sa.Connection, digest: str, media: str, data: bytes) -> None:
    """Keep a picture, once."""
    statement = "insert into pictures (sha256, media, data) values (%s, %s, %s) on conflict do nothing"
    connection.exec_driver_sql(statement, (digest, media, data))


def picture(connection: sa.Connection, digest: str) -> tuple[str, bytes] | None:
    """Media type and bytes of a picture."""
    row = connection.exec_driver_sql("select media, data from pictures where sha256 = %s", (digest,)).one_or_none()
    return None if row is None else (row[0], bytes(row[1]))


def offering(connection: sa.Connection, ids: Collection[str]) -> set[str]:
    """Those of the sellers that have or had a listing here."""
    return set(connection.exec_driver_sql(_OFFERING, (list(ids),)).scalars()) if ids else set()


def save_sellers(connection: sa.Connection, sellers: Collection[Seller]) -> None:
    """Write changed sellers."""
    if sellers:
        columns = zip(*[(s.seller, s.partition, ",".join(s.measures), s.until, s.seq) for s in sellers], strict=True)
        connection.exec_driver_sql(_SAVE_SELLERS, tuple(map(list, columns)))


def ask_seller(connection: sa.Connection, command: SellerCommand) -> bool:
    """Record a command on a seller by its id; False if it is known already."""
    row = connection.exec_driver_sql(_ASK_SELLER, (command.command, command.seller, command.seq)).first()
    return row is not None


def answer_seller(connection: sa.Connection, command: str) -> SellerReceipt | None:
    """The receipt of a command on a seller that came by HTTP; None until it has been carried out."""
    row = connection.exec_driver_sql(_ANSWER_SELLER, (command,)).first()
    if row is None or row[2] is None:
        return None
    return SellerReceipt(command=command, seller=row[0], seq=row[1], result=row[2])


def answered_sellers(connection: sa.Connection, receipts: Collection[SellerReceipt]) -> None:
    """Record the results of commands on sellers that came by HTTP."""
    if receipts:
        connection.exec_driver_sql(_ANSWERED_SELLERS, ([r.command for r in receipts], [r.result for r in receipts]))
