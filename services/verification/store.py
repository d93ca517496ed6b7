"""Verification's tables: the states of a whole batch in one query each way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from services.verification.item import Item
from shared.events import Listing, State

_item = msgspec.json.Decoder(Item).decode
_listing = msgspec.json.Decoder(Listing).decode
_encode = msgspec.json.Encoder().encode

Triple = tuple[str, str, str]
"""(listing, right, reason): two open claims on the same one are duplicates."""

_BY_ID = "select body from items where item = any(%s)"
_WAITING = "select body from items where waits and listing = any(%s)"
_BLOCKING = """
    select i.listing, i.right_id, i.reason, i.item
    from unnest(%s::text[], %s::text[], %s::text[]) as t(listing, right_id, reason)
    join items i on i.blocks and i.listing = t.listing and i.right_id = t.right_id and i.reason = t.reason"""
_PAST = """
    select listing, right_id, reason, item, false from items where listing = any(%s) and state in ('REJECTED', 'RESTORED')
    union all
    select listing, right_id, reason, item, true from items where blocks and listing = any(%s) and state like 'UPHELD%%'"""
_DUPLICATES = "select body from items where original = %s and state = 'DUPLICATE' order by item"
_LISTINGS = "select listing, body from listings where listing = any(%s)"
# earliest first in each partition, each up to its own watermark
_DUE = """
    select i.partition, i.body from unnest(%s::int[], %s::timestamptz[]) as p(partition, upto)
    cross join lateral (
        select partition, body from items
        where partition = p.partition and next_due <= p.upto and listing <> all(%s::text[])
        order by next_due limit %s
    ) i"""
_SAVE = """
    insert into items (item, partition, claim, listing, right_id, reason, state, original, blocks, waits, next_due, revision, body)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::boolean[], %s::boolean[], %s::timestamptz[], %s::int[], %s::text[])
    on conflict (item) do update set state = excluded.state, original = excluded.original, blocks = excluded.blocks,
        waits = excluded.waits, next_due = excluded.next_due, revision = excluded.revision, body = excluded.body"""
_SAVE_LISTINGS = """
    insert into listings (listing, body) select * from unnest(%s::text[], %s::text[])
    on conflict (listing) do update set body = excluded.body"""


def _items(connection: sa.Connection, sql: str, parameters: tuple[object, ...]) -> list[Item]:
    return [_item(body) for (body,) in connection.exec_driver_sql(sql, parameters)]


def items(connection: sa.Connection, ids: Iterable[str]) -> list[Item]:
    """Items by id; unknown ids are left out."""
    wanted = sorted(set(ids))
    return _items(connection, _BY_ID, (wanted,)) if wanted else []


def waiting(connection: sa.Connection, listings: Iterable[str]) -> list[Item]:
    """Items that wait for the marketplace to say what these listings are."""
    wanted = sorted(set(listings))
    return _items(connection, _WAITING, (wanted,)) if wanted else []


def duplicates(connection: sa.Connection, original: str) -> list[Item]:
    """Items that were found to duplicate ``original``, oldest id first."""
    return _items(connection, _DUPLICATES, (original,))


def blocking(connection: sa.Connection, triples: Iterable[Triple]) -> list[tuple[Triple, str]]:
    """The open or upheld items of triples: one at most, but for a duplicate that a complaint has set free."""
    wanted = sorted(set(triples))
    if not wanted:
        return []
    rows = connection.exec_driver_sql(_BLOCKING, tuple(list(column) for column in zip(*wanted, strict=True)))
    return [((listing, right, reason), item) for listing, right, reason, item in rows]


def past(connection: sa.Connection, listings: Iterable[str]) -> list[tuple[str, str, str, str, bool]]:
    """(listing, right, reason, item, upheld) of what was decided about listings: upheld, or refused and restored."""
    wanted = sorted(set(listings))
    return [tuple(row) for row in connection.exec_driver_sql(_PAST, (wanted, wanted))] if wanted else []


def listings(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Listing]:
    """What the marketplace last said of these listings."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    return {listing: _listing(body) for listing, body in connection.exec_driver_sql(_LISTINGS, (wanted,))}


def due(
    connection: sa.Connection, watermarks: dict[int, dt.datetime], parked: Iterable[str], limit: int
) -> list[tuple[int, Item]]:
    """(partition, item) of items with a deadline at or before the partition's watermark."""
    if not watermarks:
        return []
    rows = connection.exec_driver_sql(_DUE, (list(watermarks), list(watermarks.values()), list(parked), limit))
    return [(partition, _item(body)) for partition, body in rows]


def save(connection: sa.Connection, changed: Sequence[tuple[int, Item]]) -> None:
    """Write (partition, item) pairs; each item at most once."""
    if changed:
        columns = zip(*(_row(partition, item) for partition, item in changed), strict=True)
        connection.exec_driver_sql(_SAVE, tuple(list(column) for column in columns))


def _row(partition: int, item: Item) -> tuple[object, ...]:
    return (
        item.item, partition, item.claim, item.listing, item.right, item.reason, item.state.value, item.original,
        item.blocks, waits(item), item.next_due, item.revision, _encode(item).decode(),
    )  # fmt: skip


def waits(item: Item) -> bool:
    """Whether the item waits for the marketplace to say what its listing is (row 3)."""
    if item.state is State.UNDER_REVIEW:
        # the look-up was given up, and may still be answered
        return item.flagged and item.seller is None
    return item.on_site and item.state is State.RECEIVED


def save_listings(connection: sa.Connection, changed: dict[str, Listing]) -> None:
    """Write what the marketplace said."""
    if changed:
        bodies = [_encode(listing).decode() for listing in changed.values()]
        connection.exec_driver_sql(_SAVE_LISTINGS, (list(changed), bodies))
