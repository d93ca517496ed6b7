"""Verification's tables: one query loads the states of a whole batch, one saves them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa

from services.verification.item import UPHELD, Item, PastDecision
from services.verification.recurrence import MOST, Traits, UpheldItem, owners_of, plain, traits
from shared.content import bulk_of, content_of, digest, without_bulk
from shared.db import columns
from shared.events import Listing, State

_item = msgspec.json.Decoder(Item).decode
_listing = msgspec.json.Decoder(Listing).decode
_encode = msgspec.json.Encoder().encode

Triple = tuple[str, str, str]
"""(listing, right, reason): two open claims with the same triple are duplicates."""

_BY_ID = "select body from items where item = any(%s)"
_WAITING = "select body from items where waits and listing = any(%s)"
_BLOCKING = """
    select i.listing, i.right_id, i.reason, i.item
    from unnest(%s::text[], %s::text[], %s::text[]) as t(listing, right_id, reason)
    join items i on i.blocks and i.listing = t.listing and i.right_id = t.right_id and i.reason = t.reason"""
_VIOLATIONS = """
    select o.owner, (select count(distinct u.claim) from (
        select claim from upheld where owner = o.owner order by upheld_at desc limit 50) u) as claims
    from unnest(%s::text[]) as o(owner)"""
_PAST = """
    select listing, right_id, reason, item, false from items where listing = any(%s) and state in ('REJECTED', 'RESTORED')
    union all
    select listing, right_id, reason, item, true from items where blocks and listing = any(%s) and state like 'UPHELD%%'"""
_DUPLICATES = "select body from items where original = %s and state = 'DUPLICATE' order by item"
_LISTINGS = "select listing, body, digest from listings where listing = any(%s)"
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
REVISIONS: Final = 20
"""Most later revisions of a listing that are kept; those on which items are judged are kept in any case."""


def _watched(row: str) -> str:
    """SQL: an item is judged on the listing of ``row``, and there is room for its content, or it is there already."""
    there = f"from snapshots s where s.listing = {row}.listing"
    judged = f"(exists (select {there} and s.filed) or exists (select from listings k where k.listing = {row}.listing and k.filed))"
    room = f"(select count(*) {there} and not s.filed) < {REVISIONS}"
    return f"({judged} and ({room} or exists (select {there} and s.digest = {row}.digest)))"


_AGAIN: Final = """
    on conflict (listing, digest) do update set until = excluded.until, filed = snapshots.filed or excluded.filed"""
# what a listing showed is copied only when something else takes its place
_SAVE_LISTINGS = f"""
    with told as (
        select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::bool[])
            as t(listing, body, bulk, digest, at, filed)
    ), replaced as (
        insert into snapshots (listing, digest, body, bulk, seen_at, until, filed)
        select l.listing, l.digest, l.body, l.bulk, l.seen_at, told.at, l.filed from listings l join told using (listing)
        where l.digest <> coalesce(told.digest, '') and (l.filed or {_watched("l")}) {_AGAIN}
    )
    insert into listings (listing, body, bulk, digest, seen_at, filed)
    select listing, body, bulk, digest, at, filed from told
    on conflict (listing) do update set body = excluded.body, bulk = excluded.bulk, digest = excluded.digest,
        seen_at = case when listings.digest = excluded.digest then listings.seen_at else excluded.seen_at end,
        filed = excluded.filed or (listings.filed and listings.digest is not distinct from excluded.digest)"""
_SAVE_PASSED = f"""
    insert into snapshots (listing, digest, body, bulk, seen_at, until, filed)
    select n.listing, n.digest, n.body, n.bulk, n.at, n.at, n.filed
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::bool[])
        as n(listing, body, bulk, digest, at, filed)
    where n.filed or {_watched("n")} {_AGAIN}"""
# rows of version 0.2.0 have no digest yet
_SAVE_FILED = """
    update listings l set filed = true, digest = n.digest from unnest(%s::text[], %s::text[]) as n(listing, digest)
    where l.listing = n.listing and coalesce(l.digest, n.digest) = n.digest and not l.filed"""

_UPHELD_OF = """
    select o.owner, u.item, u.claim, u.listing, u.right_id, u.reason, u.profile, u.upheld_at, u.title, u.picture
    from unnest(%s::text[]) as o(owner) cross join lateral (
        select * from upheld where owner = o.owner order by upheld_at desc limit %s
    ) u"""
_SAVE_UPHELD = """
    insert into upheld (item, owner, claim, listing, right_id, reason, profile, upheld_at, title, picture)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                         %s::text[], %s::text[])
    on conflict (item, owner) do update set upheld_at = excluded.upheld_at, title = excluded.title, picture = excluded.picture"""
_RECURRENCES = """
    select r.listing, r.right_id from unnest(%s::text[], %s::text[]) as t(listing, right_id)
    join recurrences r on r.listing = t.listing and r.right_id = t.right_id"""
_SAVE_RECURRENCES = """
    insert into recurrences (listing, right_id, item) select * from unnest(%s::text[], %s::text[], %s::text[])
    on conflict do nothing"""
JUDGED = frozenset({State.REJECTED, State.LAPSED, State.RESTORED, State.WITHDRAWN})
"""Ends after which the right's owner knows the listing: that it is a near copy is no news."""

Pair = tuple[str, str]
"""(listing, right)"""


def _items(connection: sa.Connection, sql: str, parameters: tuple[object, ...]) -> list[Item]:
    return [_item(body) for (body,) in connection.exec_driver_sql(sql, parameters)]


def items(connection: sa.Connection, ids: Iterable[str]) -> list[Item]:
    """Items by id; unknown ids are left out."""
    wanted = sorted(set(ids))
    return _items(connection, _BY_ID, (wanted,)) if wanted else []


def waiting(connection: sa.Connection, listings: Iterable[str]) -> list[Item]:
    """Items that wait for the marketplace's answer about these listings."""
    wanted = sorted(set(listings))
    return _items(connection, _WAITING, (wanted,)) if wanted else []


def duplicates(connection: sa.Connection, original: str) -> list[Item]:
    """Items that were found to duplicate ``original``, in order of their ids."""
    return _items(connection, _DUPLICATES, (original,))


def blocking(connection: sa.Connection, triples: Iterable[Triple]) -> list[tuple[Triple, str]]:
    """The open or upheld items of triples: at most one each, except when a complaint has freed a duplicate."""
    wanted = sorted(set(triples))
    if not wanted:
        return []
    rows = connection.exec_driver_sql(_BLOCKING, columns(wanted))
    return [((listing, right, reason), item) for listing, right, reason, item in rows]


def past(connection: sa.Connection, listings: Iterable[str]) -> list[PastDecision]:
    """Decisions about listings."""
    wanted = sorted(set(listings))
    return [PastDecision(*row) for row in connection.exec_driver_sql(_PAST, (wanted, wanted))] if wanted else []


class KnownListing(NamedTuple):
    """What the marketplace last said about a listing, as far as rules read it, and the digest of all that it shows."""

    listing: Listing
    content: str | None


def listings(connection: sa.Connection, ids: Iterable[str]) -> dict[str, KnownListing]:
    """What the marketplace last said about these listings."""
    wanted = sorted(set(ids))
    found: dict[str, KnownListing] = {}
    if wanted:
        for name, body, content in connection.exec_driver_sql(_LISTINGS, (wanted,)):
            listing = _listing(body)
            # version 0.2.0 kept no digest, and nothing but a title
            found[name] = KnownListing(listing, digest(content_of(listing)) if content is None else content)
    return found


def due(
    connection: sa.Connection, watermarks: dict[int, dt.datetime], blocked: Iterable[str], limit: int
) -> list[tuple[int, Item]]:
    """(partition, item) of items with a deadline at or before the partition's watermark."""
    if not watermarks:
        return []
    rows = connection.exec_driver_sql(_DUE, (list(watermarks), list(watermarks.values()), list(blocked), limit))
    return [(partition, _item(body)) for partition, body in rows]


def save(connection: sa.Connection, changed: Sequence[tuple[int, Item]]) -> None:
    """Write (partition, item) pairs; each item at most once."""
    if changed:
        connection.exec_driver_sql(_SAVE, columns(_row(partition, item) for partition, item in changed))


def _row(partition: int, item: Item) -> tuple[object, ...]:
    return (
        item.item,
        partition,
        item.claim,
        item.listing,
        item.right,
        item.reason,
        item.state.value,
        item.original,
        item.blocks,
        item.waits,
        item.next_due,
        item.revision,
        _encode(item).decode(),
    )


def upheld_of(connection: sa.Connection, owners: Iterable[str]) -> dict[str, list[UpheldItem]]:
    """Upheld items by owner (``recurrence.owners``), latest first, at most ``recurrence.MOST`` per owner."""
    wanted = sorted(set(owners))
    found: dict[str, list[UpheldItem]] = {}
    if wanted:
        rows = connection.exec_driver_sql(_UPHELD_OF, (wanted, MOST))
        for owner, item, claim, listing, right, reason, profile, upheld_at, title, picture in rows:
            # stored as a version before may have read it
            found.setdefault(owner, []).append(
                UpheldItem(item, claim, listing, right, reason, profile, upheld_at, Traits(plain(title), picture))
            )
    return found


def violations(connection: sa.Connection, owners: Iterable[str]) -> dict[str, int]:
    """Claims upheld against each owner, among its latest 50 upheld items whose listings could be compared."""
    wanted = sorted(set(owners))
    return {row.owner: row.claims for row in connection.exec_driver_sql(_VIOLATIONS, (wanted,))} if wanted else {}


def recurrences(connection: sa.Connection, pairs: Iterable[Pair]) -> set[Pair]:
    """Those of the pairs about which recurrence has nothing more to say."""
    wanted = sorted(set(pairs))
    if not wanted:
        return set()
    return {(listing, right) for listing, right in connection.exec_driver_sql(_RECURRENCES, columns(wanted))}


def save_upheld(connection: sa.Connection, changed: Sequence[Item], listings: Mapping[str, Listing]) -> None:
    """Record changed items that are upheld under their owners, and delete those that no longer are."""
    rows: list[tuple[object, ...]] = []
    gone: list[str] = []
    for item in changed:
        if item.decided_at is None or item.canary:
            continue  # never decided, or a canary's
        if item.state not in UPHELD:
            gone.append(item.item)
            continue
        listing = listings.get(item.listing)
        look = None if listing is None else traits(listing)
        if listing is not None and look is not None:
            rows += [
                (
                    item.item,
                    owner,
                    item.claim,
                    item.listing,
                    item.right,
                    item.reason,
                    item.profile,
                    item.decided_at,
                    look.title,
                    look.picture,
                )
                for owner in owners_of(item, listing)
            ]
    if gone:
        connection.exec_driver_sql("delete from upheld where item = any(%s)", (gone,))
    if rows:
        connection.exec_driver_sql(_SAVE_UPHELD, columns(rows))


def save_recurrences(connection: sa.Connection, found: Mapping[Pair, str], changed: Sequence[Item]) -> None:
    """Record near copies with the item that each copies, and listings of items that have ended."""
    rows: list[tuple[str, str, str | None]] = [(*pair, item) for pair, item in found.items()]
    rows += [(item.listing, item.right, None) for item in changed if item.state in JUDGED and not item.canary]
    if rows:
        connection.exec_driver_sql(_SAVE_RECURRENCES, columns(rows))


class ToldListing(NamedTuple):
    """What the marketplace said about a listing in this batch."""

    listing: Listing
    """Without the bulk."""
    bulk: str | None
    content: str | None
    """Digest of all that it shows."""
    at: dt.datetime

    @classmethod
    def of(cls, listing: Listing, at: dt.datetime) -> ToldListing:
        """Take it from the event."""
        bulk = bulk_of(listing)
        return cls(
            without_bulk(listing),
            None if bulk is None else _encode(bulk).decode(),
            digest(content_of(listing)),
            at,
        )

    def row(self, filed: Collection[tuple[str, str]]) -> tuple[object, ...]:
        """In the order of the statements; ``filed``: (listing, digest) on which items of this batch are judged."""
        name = self.listing.listing
        body = _encode(self.listing).decode()
        return name, body, self.bulk, self.content, self.at, (name, self.content) in filed


def save_listings(
    connection: sa.Connection,
    told: Mapping[str, ToldListing],
    passed: Sequence[ToldListing],
    filed: Collection[tuple[str, str]],
) -> None:
    """Write what the marketplace said about listings, and keep what items are judged on.

    Args:
        passed: what it said in this batch, and has replaced since.
        filed: (listing, digest) on which items are judged from this batch on.
    """
    said = {(one.listing.listing, one.content) for one in (*told.values(), *passed)}
    before = sorted(pair for pair in filed if pair not in said)
    if before:
        connection.exec_driver_sql(_SAVE_FILED, columns(before))
    if told:
        connection.exec_driver_sql(_SAVE_LISTINGS, columns([one.row(filed) for one in told.values()]))
    rows: dict[tuple[str, str | None], tuple[object, ...]] = {}
    more: dict[str, int] = {}
    for one in passed:
        name = one.listing.listing
        if one.content == told[name].content:
            continue  # the listing's row has it again
        if (name, one.content) not in filed:
            more[name] = more.get(name, 0) + 1
            if more[name] > REVISIONS:
                continue
        rows[name, one.content] = one.row(filed)  # a statement may not change a row twice
    if rows:
        connection.exec_driver_sql(_SAVE_PASSED, columns(rows.values()))
