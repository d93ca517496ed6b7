"""The worker by seller: violations in; penalty entries and standings out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from prometheus_client import Counter

from services.enforcement import penalties
from services.enforcement.penalties import Entry, Item, Penalty, Seller, Tail, Violation, Written
from shared import policy
from shared.events import Data, PenaltyEntered, ViolationChanged
from shared.policy import Penalties
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx
from shared.settings import Settings
from shared.topics import LEDGER, VIOLATIONS, Topic

ENTRIES = Counter("goodfaith_penalty_entries_total", "Entries of the penalty ledgers.", ["ledger", "kind"])

_ENTERED: Final = "goodfaith.penalty.entered.v1"
_STANDING: Final = "goodfaith.standing.changed.v1"

_SELLERS = """
    select seller, partition, general_points, serious_strikes, violations, next_change, entries, tail from standings
    where seller = any(%s)"""
_DUE = """
    select seller, partition, general_points, serious_strikes, violations, next_change, entries, tail from standings
    where partition = any(%s) and next_change <= %s and seller <> all(%s::text[]) order by next_change limit %s"""
_CLAIMS = """
    select v.seller, v.claim, v.in_force, v.severity, v.at, v.entry, v.ledger, v.points, v.effective_at, v.expires_at
    from violations v join unnest(%s::text[], %s::text[]) as n(seller, claim) using (seller, claim)"""
_HISTORY = """
    select seller, claim, in_force, severity, at, entry, ledger, points, effective_at, expires_at
    from violations where seller = any(%s) and in_force"""
_ITEMS = """
    select i.seller, i.claim, i.item, i.listing, i.revision, i.in_force, i.severity, i.at
    from violation_items i join unnest(%s::text[], %s::text[]) as n(seller, claim) using (seller, claim)"""
_SAVE_SELLERS = """
    insert into standings (seller, partition, general_points, serious_strikes, violations, repeat_offender, general_level,
        general_consequence, serious_level, serious_consequence, next_change, changed_at, entries, tail)
    select * from unnest(%s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::bool[], %s::int[],
        %s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::int[], %s::text[])
    on conflict (seller) do update set general_points = excluded.general_points, serious_strikes = excluded.serious_strikes,
        violations = excluded.violations, repeat_offender = excluded.repeat_offender, general_level = excluded.general_level,
        general_consequence = excluded.general_consequence, serious_level = excluded.serious_level,
        serious_consequence = excluded.serious_consequence, next_change = excluded.next_change,
        changed_at = excluded.changed_at, entries = excluded.entries, tail = excluded.tail"""
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


class EnforcementLedger:
    """Service ``enforcement-ledger``."""

    name = "enforcement-ledger"
    schema = "enforcement"
    prefix = "ledger_"
    reads: Sequence[Topic] = (VIOLATIONS,)
    keyed_like = frozenset({LEDGER.name})
    queue = ""
    raw = False
    keeps_time = False

    def __init__(self, settings: Settings) -> None:
        # one profile's penalties for all: a ledger is the seller's, not one item's
        self.rules: Penalties = policy.current(settings.penalties_profile).penalties

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """No queue."""
        return ()

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load sellers, the batch's claims with their items, and the whole history where it is needed."""
        ledger = Ledgers(self.rules, tx)
        ledger.load([record.data for record in incoming if isinstance(record.data, ViolationChanged)])
        return ledger


def _seller(row: Sequence[Any]) -> Seller:
    seller = Seller(*row[:7])
    seller.tail = _tail.decode(row[7])
    return seller


def _violation(row: Sequence[Any]) -> Violation:
    _, claim, in_force, severity, at, entry, ledger, points, effective_at, expires_at = row
    live = None if entry is None else Entry(entry, Penalty(claim, ledger, points, effective_at, expires_at))
    return Violation(claim, in_force, severity, at, live)


class Ledgers:
    """One batch."""

    def __init__(self, rules: Penalties, tx: Tx) -> None:
        self._rules = rules
        self._tx = tx
        self._sellers: dict[str, Seller] = {}
        self._changed: dict[str, Seller] = {}
        self._items: dict[tuple[str, str, str], Item] = {}
        self._written: list[Written] = []
        self._before: dict[tuple[str, str], tuple[object, ...]] = {}

    def load(self, events: Sequence[ViolationChanged]) -> None:
        """Load what the events touch."""
        if not events:
            return
        connection = self._tx.connection
        for row in connection.exec_driver_sql(_SELLERS, (sorted({event.seller for event in events}),)):
            self._sellers[row[0]] = _seller(row)
        pairs = sorted({(event.seller, event.claim) for event in events if event.seller in self._sellers})
        if pairs:
            columns = ([seller for seller, _ in pairs], [claim for _, claim in pairs])
            for row in connection.exec_driver_sql(_CLAIMS, columns):
                self._know(row[0], _violation(row))
            for seller, claim, *item in connection.exec_driver_sql(_ITEMS, columns):
                self._sellers[seller].history[claim].items[item[0]] = Item(*item)
        # a guess, as earlier events of the batch move the end: whoever turns out to need it is loaded when it is needed
        now = self._tx.now
        self._complete(
            {
                event.seller
                for event in events
                if event.seller in self._sellers and penalties.needs_history(self._sellers[event.seller], event, now)
            }
        )

    def _know(self, seller: str, violation: Violation) -> None:
        """Take in a stored violation, unless the batch has a newer one."""
        if violation.claim not in self._sellers[seller].history:
            self._sellers[seller].history[violation.claim] = violation
            self._before[(seller, violation.claim)] = _stored(violation)

    def _complete(self, sellers: set[str]) -> None:
        if sellers:
            for row in self._tx.connection.exec_driver_sql(_HISTORY, (sorted(sellers),)):
                self._know(row[0], _violation(row))
            for seller in sellers:
                self._sellers[seller].complete = True

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Fold an item's violation in."""
        event = incoming.data
        if not isinstance(event, ViolationChanged):
            return ()
        now = self._tx.now
        seller = self._sellers.get(event.seller)
        if seller is None:
            seller = self._sellers[event.seller] = Seller(event.seller, incoming.partition)
        if penalties.needs_history(seller, event, now):
            self._complete({event.seller})
        changed = penalties.change(seller, event, self._rules, now)
        if changed is None:
            return ()
        out, written = changed
        self._changed[event.seller] = seller
        self._items[(event.seller, event.claim, event.item)] = seller.history[event.claim].items[event.item]
        self._written += written
        return self._outgoing(incoming.partition, event.seller, out, incoming.id)

    def _outgoing(self, partition: int, seller: str, out: Iterable[Data], cause: str | None) -> list[Outgoing]:
        now = self._tx.now
        made = []
        for data in out:
            if isinstance(data, PenaltyEntered):
                self._tx.count(ENTRIES, data.ledger, data.kind)
                made.append(Outgoing(partition, LEDGER, seller, _ENTERED, data, data.entry, now, data.claim, cause))
            else:
                made.append(Outgoing(partition, LEDGER, seller, _STANDING, data, seller, now, None, cause))
        return made

    def due(self, limit: int) -> Sequence[Due]:
        """Standings of which an entry or a violation has come to an end."""
        tx = self._tx
        found = []
        expired = set()
        rows = tx.connection.exec_driver_sql(_DUE, (list(tx.partitions), tx.now, list(tx.parked), limit))
        for row in rows.all():
            seller = self._sellers.setdefault(row[0], _seller(row))
            # the batch may have counted it anew already
            if seller.next_change is not None and seller.next_change <= tx.now:
                found.append(Due(seller.partition, seller.seller, seller.seller, seller.next_change))
                if not seller.complete:
                    expired.add(seller.seller)
        self._complete(expired)
        return found

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Count a standing anew."""
        seller = self._sellers[due.subject]
        self._changed[seller.seller] = seller
        if penalties.recount(seller, self._rules, self._tx.now):
            return self._outgoing(due.partition, seller.seller, [seller.standing(self._tx.now)], None)
        return ()

    def save(self) -> None:
        """Write what changed; the ledger only grows."""
        connection = self._tx.connection
        self._save_sellers(connection)
        violations = [
            (name, *_stored(violation))
            for name, seller in self._changed.items()
            for violation in seller.history.values()
            if self._before.get((name, violation.claim)) != _stored(violation)
        ]
        _unnest(connection, _SAVE_VIOLATIONS, violations)
        _unnest(
            connection,
            _SAVE_ITEMS,
            [
                (seller, claim, i.item, i.listing, i.revision, i.in_force, i.severity, i.at)
                for (seller, claim, _), i in self._items.items()
            ],
        )
        _unnest(
            connection,
            _WRITE,
            [
                (
                    row.entry, row.seller, row.penalty.claim, row.penalty.ledger, row.kind, row.penalty.points, row.reverses,
                    row.penalty.effective_at, row.penalty.expires_at,
                )
                for row in self._written
            ],
        )  # fmt: skip

    def _save_sellers(self, connection: sa.Connection) -> None:
        rules, now = self._rules, self._tx.now
        rows = []
        for s in self._changed.values():
            general, serious = s.levels(rules)
            rows.append(
                (
                    s.seller, s.partition, s.general_points, s.serious_strikes, s.violations,
                    s.violations >= rules.repeat_offender.violations,
                    general, penalties.consequence(general, rules.general.thresholds),
                    serious, penalties.consequence(serious, rules.serious.thresholds),
                    s.next_change, now, s.entries, msgspec.json.encode(s.tail).decode(),
                )
            )  # fmt: skip
        _unnest(connection, _SAVE_SELLERS, rows)

    def marks(self) -> dict[int, dt.datetime]:
        """None: watermarks are intake's."""
        return {}


def _stored(violation: Violation) -> tuple[object, ...]:
    """A violation's row, without the seller."""
    entry = violation.entry
    penalty = (None,) * 4 if entry is None else (
        entry.penalty.ledger, entry.penalty.points, entry.penalty.effective_at, entry.penalty.expires_at
    )  # fmt: skip
    return (
        violation.claim,
        violation.in_force,
        violation.severity,
        violation.at,
        entry.entry if entry else None,
        *penalty,
    )


def _unnest(connection: sa.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(statement, tuple(map(list, zip(*rows, strict=True))))
