"""Tables of ledgers: standings, violations with their items, and entries (columns: migration 0001)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.enforcement import entities_store, penalties, sanctions, sanctions_store
from services.enforcement.entities_store import LinkedEntity
from services.enforcement.penalties import Entry, Item, LedgerRow, Penalty, Seller, Tail, Violation
from services.enforcement.sanctions import Account
from shared.db import columns, unnest
from shared.policy import Penalties

_COLUMNS: Final = f"""seller, partition, general_points, serious_strikes, violations, next_change, entries, tail, changed_at,
        {sanctions_store.ACCOUNT_COLUMNS}, {entities_store.LINKED_COLUMNS}"""
_SELLERS = f"select {_COLUMNS} from standings where seller = any(%s)"
_DUE = f"""
    select {_COLUMNS} from standings
    where partition = any(%s) and due_at <= %s and seller <> all(%s::text[]) order by due_at limit %s"""
_CLAIMS = """
    select v.seller, v.claim, v.in_force, v.severity, v.at, v.entry, v.ledger, v.points, v.effective_at, v.expires_at
    from violations v join unnest(%s::text[], %s::text[]) as n(seller, claim) using (seller, claim)"""
_HISTORY = """
    select seller, claim, in_force, severity, at, entry, ledger, points, effective_at, expires_at
    from violations where seller = any(%s) and in_force"""
_ITEMS = """
    select i.seller, i.claim, i.item, i.listing, i.revision, i.in_force, i.severity, i.at
    from violation_items i join unnest(%s::text[], %s::text[]) as n(seller, claim) using (seller, claim)"""
_SAVE_SELLERS = f"""
    insert into standings (seller, partition, general_points, serious_strikes, violations, repeat_offender, general_level,
        general_consequence, serious_level, serious_consequence, next_change, changed_at, entries, tail, due_at,
        {sanctions_store.ACCOUNT_COLUMNS}, {entities_store.LINKED_COLUMNS})
    select * from unnest(%s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::bool[], %s::int[],
        %s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::int[], %s::text[], %s::timestamptz[],
        %s::text[], %s::int[], %s::int[], %s::text[], %s::timestamptz[], %s::int[], %s::text[], %s::timestamptz[], %s::int[],
        %s::text[], %s::int[], %s::int[], %s::int[], %s::text[])
    on conflict (seller) do update set general_points = excluded.general_points, serious_strikes = excluded.serious_strikes,
        violations = excluded.violations, repeat_offender = excluded.repeat_offender, general_level = excluded.general_level,
        general_consequence = excluded.general_consequence, serious_level = excluded.serious_level,
        serious_consequence = excluded.serious_consequence, next_change = excluded.next_change,
        changed_at = excluded.changed_at, entries = excluded.entries, tail = excluded.tail, due_at = excluded.due_at,
        open_grounds = excluded.open_grounds, sanctions = excluded.sanctions, seq = excluded.seq, measures = excluded.measures,
        until = excluded.until, confirmed = excluded.confirmed, result = excluded.result, resend_at = excluded.resend_at,
        tries = excluded.tries, entity = excluded.entity, entity_points = excluded.entity_points,
        entity_strikes = excluded.entity_strikes, entity_violations = excluded.entity_violations,
        entity_grounds = excluded.entity_grounds"""
_SAVE_VIOLATIONS = """
    insert into violations (seller, claim, in_force, severity, at, entry, ledger, points, effective_at, expires_at)
    select * from unnest(%s::text[], %s::text[], %s::bool[], %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::int[],
        %s::timestamptz[], %s::timestamptz[])
    on conflict (seller, claim) do update set in_force = excluded.in_force, severity = excluded.severity, at = excluded.at,
        entry = excluded.entry, ledger = excluded.ledger, points = excluded.points, effective_at = excluded.effective_at,
        expires_at = excluded.expires_at"""
_SAVE_ITEMS = """
    insert into violation_items (seller, claim, item, listing, revision, in_force, severity, at)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::bool[], %s::text[], %s::timestamptz[])
    on conflict (seller, claim, item) do update set revision = excluded.revision, in_force = excluded.in_force,
        severity = excluded.severity, at = excluded.at"""
_WRITE = """
    insert into ledger_entries (entry, seller, claim, ledger, kind, points, reverses, effective_at, expires_at)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[],
        %s::timestamptz[], %s::timestamptz[])"""

_tail = msgspec.json.Decoder(Tail)


@dataclass(frozen=True, slots=True)
class StoredSeller:
    """A seller as stored, without history: standing, sanctions that matter, and entity."""

    seller: Seller
    account: Account
    linked: LinkedEntity | None
    changed_at: dt.datetime


def sellers(connection: sa.Connection, names: Collection[str]) -> list[StoredSeller]:
    """The sellers that have a standing."""
    return _sellers(connection, connection.exec_driver_sql(_SELLERS, (sorted(names),)))


def due(
    connection: sa.Connection,
    partitions: Sequence[int],
    now: dt.datetime,
    *,
    but: Collection[str],
    known: Collection[str],
    limit: int,
) -> tuple[list[str], list[StoredSeller]]:
    """Sellers with an entry, a violation or a sanction that has ended by ``now`` (business time), without ``but``.

    Returns:
        their names, the longest overdue first, and those that are not ``known``.
    """
    rows = connection.exec_driver_sql(_DUE, (list(partitions), now, list(but), limit)).all()
    return [row.seller for row in rows], _sellers(connection, [row for row in rows if row.seller not in known])


def _sellers(connection: sa.Connection, rows: Iterable[Any]) -> list[StoredSeller]:
    found = {}
    for row in rows:
        seller = Seller(
            row.seller,
            row.partition,
            row.general_points,
            row.serious_strikes,
            row.violations,
            row.next_change,
            row.entries,
            _tail.decode(row.tail),
        )
        account = sanctions_store.account(row)
        found[row.seller] = StoredSeller(seller, account, entities_store.linked(row), row.changed_at)
    for sanction in sanctions_store.sanctions(connection, found.keys()):
        found[sanction.seller].account.sanctions.append(sanction)
    return list(found.values())


def violations(connection: sa.Connection, pairs: Collection[tuple[str, str]]) -> list[tuple[str, Violation]]:
    """(seller, violation) of these (seller, claim), with all their items."""
    pairs = sorted(pairs)
    found = {(row.seller, row.claim): _violation(row) for row in connection.exec_driver_sql(_CLAIMS, columns(pairs))}
    for row in connection.exec_driver_sql(_ITEMS, columns(pairs)):
        item = Item(row.item, row.listing, row.revision, row.in_force, row.severity, row.at)
        found[row.seller, row.claim].items[row.item] = item
    return [(seller, violation) for (seller, _), violation in found.items()]


def histories(connection: sa.Connection, names: Collection[str]) -> list[tuple[str, Violation]]:
    """(seller, violation) of all violations in force of these sellers, without items."""
    return [(row.seller, _violation(row)) for row in connection.exec_driver_sql(_HISTORY, (sorted(names),))]


def _violation(row: Any) -> Violation:
    entry = None
    if row.entry is not None:
        entry = Entry(row.entry, Penalty(row.claim, row.ledger, row.points, row.effective_at, row.expires_at))
    return Violation(row.claim, row.in_force, row.severity, row.at, entry)


def violation_row(violation: Violation) -> tuple[object, ...]:
    """A violation as a row of its table, without the seller."""
    entry = violation.entry
    penalty = None if entry is None else entry.penalty
    return (
        violation.claim,
        violation.in_force,
        violation.severity,
        violation.at,
        None if entry is None else entry.entry,
        None if penalty is None else penalty.ledger,
        None if penalty is None else penalty.points,
        None if penalty is None else penalty.effective_at,
        None if penalty is None else penalty.expires_at,
    )


def save_sellers(
    connection: sa.Connection, stored: Iterable[tuple[StoredSeller, dt.datetime | None]], rules: Penalties
) -> None:
    """Write standings, each with the time at which it is due again (business time)."""
    rows = []
    for one, due_at in stored:
        seller, account, linked = one.seller, one.account, one.linked
        most = max(seller.violations, linked.sums.violations if linked is not None else 0)
        general, serious = sanctions.levels(account.open_grounds)
        rows.append(
            (
                seller.seller,
                seller.partition,
                seller.general_points,
                seller.serious_strikes,
                seller.violations,
                most >= rules.repeat_offender.violations,
                general,
                penalties.consequence(general, rules.general.thresholds),
                serious,
                penalties.consequence(serious, rules.serious.thresholds),
                seller.next_change,
                one.changed_at,
                seller.entries,
                msgspec.json.encode(seller.tail).decode(),
                due_at,
                *sanctions_store.account_row(account),
                *entities_store.linked_row(linked),
            )
        )
    unnest(connection, _SAVE_SELLERS, rows)


def save_violations(
    connection: sa.Connection,
    changed: Sequence[tuple[str, tuple[object, ...]]],
    items: Iterable[tuple[str, str, Item]],
    written: Iterable[LedgerRow],
) -> None:
    """Write changed violations (seller, ``violation_row``), their items (seller, claim, item), and new entries."""
    unnest(connection, _SAVE_VIOLATIONS, [(seller, *row) for seller, row in changed])
    unnest(
        connection,
        _SAVE_ITEMS,
        [
            (seller, claim, item.item, item.listing, item.revision, item.in_force, item.severity, item.at)
            for seller, claim, item in items
        ],
    )
    unnest(
        connection,
        _WRITE,
        [
            (
                row.entry,
                row.seller,
                row.penalty.claim,
                row.penalty.ledger,
                row.kind,
                row.penalty.points,
                row.reverses,
                row.penalty.effective_at,
                row.penalty.expires_at,
            )
            for row in written
        ],
    )
