"""The tables of keys and entities (columns: migration 0001)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from services.enforcement.entities import Sums
from services.enforcement.penalties import NEVER
from services.enforcement.sanctions import EntityRecord, Ground
from shared.db import unnest
from shared.events import SellerKey, StandingChanged
from shared.policy import Entity

LOCK: Final = 0x600DE771
"""Advisory lock under which entities are counted, one transaction at a time."""

LINKED_COLUMNS: Final = "entity, entity_points, entity_strikes, entity_violations, entity_grounds"
"""Columns of ``standings`` that ``linked`` takes, in the order in which ``linked_row`` returns them."""

_KEYS = "select seller, kind, digest from seller_keys where seller = any(%s)"
_CUT = """
    delete from seller_keys k using unnest(%s::text[], %s::text[], %s::text[]) as n(seller, kind, digest)
    where k.kind = n.kind and k.digest = n.digest and k.seller = n.seller"""
_LINK = """
    insert into seller_keys (seller, kind, digest) select * from unnest(%s::text[], %s::text[], %s::text[])
    on conflict do nothing"""
_MARK = "insert into entity_work (seller, kind, digest) select * from unnest(%s::text[], %s::text[], %s::text[])"
_WORK = "select id, seller, kind, digest from entity_work order by id limit %s"
_DONE = "delete from entity_work where id = any(%s)"
_DUE = "select entity from entities where next_change <= %s order by next_change limit %s"
_HOLDERS = """
    select n.kind, n.digest, h.seller, c.kind is not null as common
    from unnest(%s::text[], %s::text[], %s::int[]) as n(kind, digest, most)
    left join common_keys c on c.kind = n.kind and c.digest = n.digest
    left join lateral (select seller from seller_keys k where k.kind = n.kind and k.digest = n.digest limit n.most) h on true"""
_LINKED_BY = """
    select m.seller from unnest(%s::text[], %s::text[]) as n(kind, digest)
    join seller_keys k on k.kind = n.kind and k.digest = n.digest join entity_members m on m.seller = k.seller"""
_COMMON = "insert into common_keys (kind, digest) select * from unnest(%s::text[], %s::text[]) on conflict do nothing"
_UNCOMMON = """
    delete from common_keys c using unnest(%s::text[], %s::text[]) as n(kind, digest)
    where c.kind = n.kind and c.digest = n.digest"""
_FELLOWS = """
    select f.seller, f.entity from entity_members f where f.entity in (select entity from entity_members where seller = any(%s))"""
_MEMBERS = "select seller from entity_members where entity = any(%s)"
_ENTITIES = """
    select entity, general_points, serious_strikes, violations, next_change, grounds, last, warned
    from entities where entity = any(%s)"""
_HISTORIES = """
    select seller, claim, severity, at, entry from violations
    where seller = any(%s) and in_force"""
_WARNINGS = """
    select seller, began from sanctions where seller = any(%s) and measures = '' and state <> 'lifted'"""
_ENTRIES = "select seller, entries from standings where seller = any(%s)"
_SAVE = """
    insert into entities (entity, general_points, serious_strikes, violations, next_change, grounds, last, warned, counted_at)
    select n.entity, n.points, n.strikes, n.violations, n.next, n.grounds, n.last, n.warned::timestamptz[], n.at
    from unnest(%s::text[], %s::int[], %s::int[], %s::int[], %s::timestamptz[], %s::text[], %s::timestamptz[], %s::text[],
        %s::timestamptz[]) as n(entity, points, strikes, violations, next, grounds, last, warned, at)
    on conflict (entity) do update set general_points = excluded.general_points, serious_strikes = excluded.serious_strikes,
        violations = excluded.violations, next_change = excluded.next_change, grounds = excluded.grounds, last = excluded.last,
        warned = excluded.warned, counted_at = excluded.counted_at"""
_JOIN = """
    insert into entity_members (seller, entity, entries) select * from unnest(%s::text[], %s::text[], %s::int[])
    on conflict (seller) do update set entity = excluded.entity, entries = excluded.entries"""
_LEAVE = "delete from entity_members where seller = any(%s)"
_END = "delete from entities where entity = any(%s)"
_TELL = "insert into relinked (partition, seller) select * from unnest(%s::int[], %s::text[])"
_TAKE = """
    delete from relinked where id in (
        select id from relinked where partition = any(%s) order by id limit %s for update skip locked)
    returning id, partition, seller"""
_OF = """
    select m.seller, m.entries, e.entity, e.general_points, e.serious_strikes, e.violations, e.grounds, e.last, e.warned
    from entity_members m join entities e using (entity) where m.seller = any(%s)"""
_RULES = """
    insert into entity_rules (rules) values (%s) on conflict (one) do update set rules = excluded.rules
    where entity_rules.rules <> excluded.rules returning 1"""
_MARK_ALL = "insert into entity_work (seller) select distinct seller from seller_keys"

_grounds = msgspec.json.Decoder(tuple[Ground, ...])
_entity = msgspec.json.Decoder(EntityRecord)


class Mark(Struct, frozen=True):
    """An account whose history has changed, or that got or lost ``key``."""

    id: int
    seller: str
    key: SellerKey | None


class EntityStanding(Struct, frozen=True):
    """An entity's standing."""

    sums: Sums
    grounds: tuple[Ground, ...]
    last: dt.datetime | None
    warned: tuple[dt.datetime, ...]

    def same(self, other: EntityStanding) -> bool:
        """Whether its accounts need not be told: at most the end of the sums has moved."""
        sums = msgspec.structs.replace(self.sums, next_change=other.sums.next_change)
        return msgspec.structs.replace(self, sums=sums) == other


class LinkedEntity(Struct, frozen=True):
    """The entity of an account, as the ledger's worker knows it; ``sums`` lack their end."""

    entity: EntityRecord
    sums: Sums

    def same(self, other: LinkedEntity) -> bool:
        """Whether entity and sums are those of ``other``, whenever they were reached."""
        return (self.entity.entity, self.sums) == (other.entity.entity, other.sums)

    def standing(self, own: StandingChanged) -> StandingChanged:
        """An account's standing, with that of its entity added."""
        return msgspec.structs.replace(
            own,
            entity=self.entity.entity,
            entity_points=self.sums.general_points,
            entity_strikes=self.sums.serious_strikes,
            entity_violations=self.sums.violations,
        )


def entity(text: str) -> EntityRecord:
    """From ``standings.entity_grounds``."""
    return _entity.decode(text)


def linked(row: Any) -> LinkedEntity | None:
    """From a row of ``standings`` with ``LINKED_COLUMNS``; None if the account is in no entity."""
    if row.entity is None:
        return None
    sums = Sums(row.entity_points, row.entity_strikes, row.entity_violations)
    return LinkedEntity(entity(row.entity_grounds), sums)


def linked_row(linked: LinkedEntity | None) -> tuple[Any, ...]:
    """As a row of ``LINKED_COLUMNS``."""
    if linked is None:
        return (None, 0, 0, 0, None)
    sums = linked.sums
    return (
        linked.entity.entity,
        sums.general_points,
        sums.serious_strikes,
        sums.violations,
        msgspec.json.encode(linked.entity).decode(),
    )


def standing(row: Any) -> EntityStanding:
    """From a row of ``entities``."""
    sums = Sums(row.general_points, row.serious_strikes, row.violations, row.next_change)
    return EntityStanding(sums, _grounds.decode(row.grounds), row.last, tuple(row.warned))


# ------------------------------------------------------------------------------------------------------- by the ledger


def keys(connection: sa.Connection, sellers: Collection[str]) -> dict[str, set[SellerKey]]:
    """Keys of accounts, as reported last."""
    found: dict[str, set[SellerKey]] = {seller: set() for seller in sellers}
    for seller, kind, digest in connection.exec_driver_sql(_KEYS, (sorted(sellers),)):
        found[seller].add(SellerKey(kind, digest))
    return found


def tell(
    connection: sa.Connection, cut: Iterable[tuple[str, SellerKey]], linked: Iterable[tuple[str, SellerKey]]
) -> None:
    """Record the keys that accounts lost and got."""
    for statement, pairs in ((_CUT, cut), (_LINK, linked)):
        unnest(connection, statement, [(seller, key.kind, key.digest) for seller, key in sorted(pairs)])


def mark(connection: sa.Connection, marks: Iterable[tuple[str, SellerKey | None]]) -> None:
    """Have entities counted again, because of an account's history or one of its keys."""
    unnest(
        connection,
        _MARK,
        [(seller, None if key is None else key.kind, None if key is None else key.digest) for seller, key in marks],
    )


def take(connection: sa.Connection, partitions: Sequence[int], room: int) -> list[tuple[int, int, str]]:
    """Take accounts whose entity has changed out of the queue, oldest first: (id, partition, seller).

    Includes sellers whose key waits for a dead letter: the worker sets these rows aside, as rows in the queue keep it
    awake.
    """
    rows = connection.exec_driver_sql(_TAKE, (list(partitions), room))
    return sorted((id_, partition, seller) for id_, partition, seller in rows)


def of(connection: sa.Connection, sellers: Collection[str]) -> dict[str, tuple[int, LinkedEntity]]:
    """By account in an entity: the account's number of entries at the last count, and the entity's standing."""
    return {
        row.seller: (
            row.entries,
            LinkedEntity(
                EntityRecord(row.entity, _grounds.decode(row.grounds), row.last or NEVER, tuple(row.warned)),
                Sums(row.general_points, row.serious_strikes, row.violations),
            ),
        )
        for row in connection.exec_driver_sql(_OF, (sorted(sellers),))
    }


# -------------------------------------------------------------------------------------------------------- by entities


def lock(connection: sa.Connection) -> bool:
    """Take the lock until the transaction ends; False if another process has it."""
    return bool(connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s)", (LOCK,)).scalar())


def follow(connection: sa.Connection, rules: str) -> bool:
    """Mark every account that has a key if the rules have changed; returns whether they have."""
    if connection.exec_driver_sql(_RULES, (rules,)).first() is None:
        return False
    connection.exec_driver_sql("delete from common_keys")
    connection.exec_driver_sql(_MARK_ALL)
    return True


def work(connection: sa.Connection, limit: int) -> list[Mark]:
    """Marks, oldest first."""
    return [
        Mark(id_, seller, None if kind is None else SellerKey(kind, digest))
        for id_, seller, kind, digest in connection.exec_driver_sql(_WORK, (limit,))
    ]


def done(connection: sa.Connection, marks: Iterable[Mark]) -> None:
    """Delete marks."""
    ids = [mark.id for mark in marks]
    if ids:
        connection.exec_driver_sql(_DONE, (ids,))


def due(connection: sa.Connection, now: dt.datetime, limit: int) -> list[str]:
    """Entities with an entry or a violation that has ended."""
    return list(connection.exec_driver_sql(_DUE, (now, limit)).scalars())


def holders(
    connection: sa.Connection, wanted: Collection[SellerKey], rules: Entity
) -> tuple[dict[SellerKey, set[str]], set[SellerKey]]:
    """Accounts of each key, at most one more than the policy lets it link, and which keys are known to be common."""
    found: dict[SellerKey, set[str]] = {key: set() for key in wanted}
    common = set()
    some = sorted(wanted)
    if some:
        columns = (
            [key.kind for key in some],
            [key.digest for key in some],
            [rules.links.get(key.kind, 0) + 1 for key in some],
        )
        for row in connection.exec_driver_sql(_HOLDERS, columns):
            key = SellerKey(row.kind, row.digest)
            if row.common:
                common.add(key)
            if row.seller is not None:
                found[key].add(row.seller)
    return found, common


def become_common(connection: sa.Connection, keys: Collection[SellerKey]) -> set[str]:
    """Note that keys no longer link; returns the accounts in an entity that have one of them."""
    if not keys:
        return set()
    columns = _pairs(keys)
    connection.exec_driver_sql(_COMMON, columns)
    return set(connection.exec_driver_sql(_LINKED_BY, columns).scalars())


def become_rare(connection: sa.Connection, keys: Collection[SellerKey]) -> None:
    """Note that keys may link again."""
    if keys:
        connection.exec_driver_sql(_UNCOMMON, _pairs(keys))


def fellows(connection: sa.Connection, sellers: Collection[str]) -> dict[str, str]:
    """All accounts (-> entity) of the entities that these accounts belonged to at the last count."""
    return {row.seller: row.entity for row in connection.exec_driver_sql(_FELLOWS, (sorted(sellers),))}


def members(connection: sa.Connection, entities: Collection[str]) -> set[str]:
    """Accounts of entities."""
    return set(connection.exec_driver_sql(_MEMBERS, (sorted(entities),)).scalars()) if entities else set()


def stored(connection: sa.Connection, entities: Collection[str]) -> dict[str, EntityStanding]:
    """The standings of entities at the last count."""
    if not entities:
        return {}
    rows = connection.exec_driver_sql(_ENTITIES, (sorted(entities),))
    return {row.entity: standing(row) for row in rows}


def histories(connection: sa.Connection, sellers: Collection[str]) -> list[tuple[Any, ...]]:
    """Violations in force: (seller, claim, severity, at, entry)."""
    if not sellers:
        return []
    return [tuple(row) for row in connection.exec_driver_sql(_HISTORIES, (sorted(sellers),))]


def warnings(connection: sa.Connection, sellers: Collection[str]) -> dict[str, list[dt.datetime]]:
    """When accounts were warned, without warnings that were lifted."""
    found: dict[str, list[dt.datetime]] = {}
    if sellers:
        for seller, began in connection.exec_driver_sql(_WARNINGS, (sorted(sellers),)):
            found.setdefault(seller, []).append(began)
    return found


def entries(connection: sa.Connection, sellers: Collection[str]) -> dict[str, int]:
    """Number of ledger entries by account."""
    if not sellers:
        return {}
    return {row.seller: row.entries for row in connection.exec_driver_sql(_ENTRIES, (sorted(sellers),))}


def save(connection: sa.Connection, counted: Mapping[str, EntityStanding], now: dt.datetime) -> None:
    """Write entities."""
    unnest(
        connection,
        _SAVE,
        [
            (
                entity,
                one.sums.general_points,
                one.sums.serious_strikes,
                one.sums.violations,
                one.sums.next_change,
                msgspec.json.encode(one.grounds).decode(),
                one.last,
                "{" + ",".join(f'"{at.isoformat()}"' for at in one.warned) + "}",
                now,
            )
            for entity, one in counted.items()
        ],
    )


def join(connection: sa.Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    """Put accounts into entities: (seller, entity, entries)."""
    unnest(connection, _JOIN, rows)


def leave(connection: sa.Connection, sellers: Collection[str], ended: Collection[str]) -> None:
    """Take accounts out of entities, and delete entities that have ended."""
    if sellers:
        connection.exec_driver_sql(_LEAVE, (sorted(sellers),))
    if ended:
        connection.exec_driver_sql(_END, (sorted(ended),))


def changed(connection: sa.Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Queue accounts whose entity has changed, as (partition, seller), for the workers that own them."""
    unnest(connection, _TELL, rows)


def _pairs(keys: Collection[SellerKey]) -> tuple[list[str], list[str]]:
    some = sorted(keys)
    return [key.kind for key in some], [key.digest for key in some]
