"""Counts entities: ``python -m services.enforcement entities``.

The accounts of one business lie on different partitions, and a ledger worker writes only what it owns. So it leaves a
mark for each change, in the same transaction. This process takes marks, counts the entities that they touch in one
snapshot, and queues every account whose entity has changed for the worker that owns it. All of that and the deletion of
the marks is one transaction: a killed process loses nothing. An advisory lock lets only one process count; others wait.

If an account's worker changes something meanwhile, that leaves a mark. If the worker does not know yet that the account
is linked, it sees from the number of entries, when it takes the account from the queue, that something is missing, and
marks it then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Final

import msgspec
import sqlalchemy as sa
import structlog

from services.enforcement import entities, entities_store
from services.enforcement.entities import AccountViolation
from services.enforcement.entities_store import EntityStanding, Mark
from shared import clock, db, metrics, policy
from shared.events import SellerKey
from shared.runtime.rounds import run_rounds
from shared.settings import Settings
from shared.topics import partition_of

log = structlog.get_logger(__name__)
NAME: Final = "enforcement-entities"
COUNTED = metrics.counter("goodfaith_entities_counted_total", "Entities counted.", of=NAME)
RELINKED = metrics.counter(
    "goodfaith_sellers_relinked_total",
    "Accounts that were queued because their entity's accounts or standing changed.",
    of=NAME,
    do="many at once: do more accounts share keys, or has the policy changed?",
)
COMMON = metrics.counter(
    "goodfaith_keys_common_total",
    "Keys that no longer link anybody because more accounts share them than the policy allows.",
    of=NAME,
    do="grows: check whether `[penalties.entity.links]` is too low, or the marketplace reports its own keys",
)
WALKED = metrics.gauge(
    "goodfaith_entity_walked",
    "Linked accounts in the last batch of marks that had any.",
    of=NAME,
    do="thousands: keys link accounts that do not belong together",
)

_IDLE_S: Final = 0.25
_BATCH: Final = 500


class Counting:
    """Takes marks, counts entities and queues their accounts; ``once`` is one round, in one transaction."""

    def __init__(self, settings: Settings, *, batch: int = _BATCH) -> None:
        current = policy.current(settings.penalties_profile)
        self._rules = current.penalties
        self._version = f"{current.version} {msgspec.json.encode(self._rules.entity).decode()}"
        self._partitions = settings.partitions
        self._batch = batch
        self._engine = db.connect(settings.present("database"), schema="enforcement", name=NAME).execution_options(
            isolation_level="REPEATABLE READ"
        )
        self._followed = False

    def once(self) -> int:
        """Count what is marked or due; returns the number of marks and entities."""
        with self._engine.begin() as connection:
            if not entities_store.lock(connection):
                return 0
            followed = not self._followed and entities_store.follow(connection, self._version)
            now, _ = clock.read(connection)
            marks = entities_store.work(connection, self._batch)
            due = entities_store.due(connection, now, self._batch)
            counted, told = self._count(connection, marks, due, now) if marks or due else (0, 0)
            entities_store.done(connection, marks)
        self._followed = True
        COUNTED.inc(counted)
        RELINKED.inc(told)
        return len(marks) + len(due) + followed

    def _count(self, connection: sa.Connection, marks: list[Mark], due: list[str], now: dt.datetime) -> tuple[int, int]:
        """Count the entities that are touched; returns how many they are, and how many accounts are queued."""
        touched = {mark.seller for mark in marks} | entities_store.members(connection, due)
        touched |= self._rekeyed(connection, {mark.key for mark in marks if mark.key is not None})
        keys, before = self._walk(connection, touched)
        WALKED.set(len(before.keys() | {seller for sellers in keys.values() for seller in sellers}))
        linked = entities.components(keys, self._rules.entity)
        found = {entities.entity_id(members): members for members in linked}
        counted = self._counted(connection, found, now)
        stored = entities_store.stored(connection, {*before.values(), *found})
        was: dict[str, set[str]] = {}
        for seller, entity in before.items():
            was.setdefault(entity, set()).add(seller)
        tell: set[str] = set()
        for entity, members in found.items():
            tell |= set(members) - was.get(entity, set())
            known = stored.get(entity)
            if known is None or not counted[entity].same(known):
                tell.update(members)
        together = {seller for members in linked for seller in members}
        tell |= before.keys() - together
        entities_store.save(connection, counted, now)
        versions = entities_store.entries(connection, together)
        entities_store.join(
            connection,
            [(seller, entity, versions.get(seller, 0)) for entity, members in found.items() for seller in members],
        )
        entities_store.leave(connection, before.keys() - together, was.keys() - found.keys())
        entities_store.changed(
            connection, [(partition_of(seller, self._partitions), seller) for seller in sorted(tell)]
        )
        return len(found), len(tell)

    def _rekeyed(self, connection: sa.Connection, keys: Collection[SellerKey]) -> set[str]:
        """Accounts that are linked by these changed keys, or were until now."""
        rules = self._rules.entity
        holders, common = entities_store.holders(connection, [key for key in keys if key.kind in rules.links], rules)
        many = {key for key, sellers in holders.items() if len(sellers) > rules.links[key.kind]}
        COMMON.inc(len(many - common))
        entities_store.become_rare(connection, common - many)
        cut = entities_store.become_common(connection, many - common)
        return cut.union(*(sellers for key, sellers in holders.items() if key not in many))

    def _walk(
        self, connection: sa.Connection, touched: Collection[str]
    ) -> tuple[dict[SellerKey, set[str]], dict[str, str]]:
        """Everything linked with these accounts, now or at the last count.

        Returns:
            the accounts of each key that links, and the entity of each account as counted last.
        """
        rules = self._rules.entity
        linking: dict[SellerKey, set[str]] = {}
        looked: set[SellerKey] = set()
        before: dict[str, str] = {}
        known: set[str] = set()
        frontier = set(touched)
        while frontier:
            known |= frontier
            fellows = entities_store.fellows(connection, frontier)
            before.update(fellows)
            keys = {
                key
                for held in entities_store.keys(connection, frontier).values()
                for key in held
                if key.kind in rules.links
            } - looked
            looked |= keys
            holders, common = entities_store.holders(connection, keys, rules)
            found = {
                key: sellers
                for key, sellers in holders.items()
                if key not in common and entities.links(key, len(sellers), rules)
            }
            linking |= found
            frontier = set(fellows).union(*found.values()) - known
        return linking, before

    def _counted(
        self, connection: sa.Connection, found: dict[str, tuple[str, ...]], now: dt.datetime
    ) -> dict[str, EntityStanding]:
        sellers = [seller for members in found.values() for seller in members]
        own: dict[str, list[AccountViolation]] = {}
        for seller, claim, severity, at, entry in entities_store.histories(connection, sellers):
            own.setdefault(seller, []).append(AccountViolation(seller, claim, severity, at, entry))
        warned = entities_store.warnings(connection, sellers)
        return {
            entity: counted(
                [v for seller in members for v in own.get(seller, ())],
                self._rules,
                now,
                [at for seller in members for at in warned.get(seller, ())],
            )
            for entity, members in found.items()
        }

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def counted(
    violations: Collection[AccountViolation], rules: policy.Penalties, now: dt.datetime, warned: Iterable[dt.datetime]
) -> EntityStanding:
    """An entity's standing, as it is stored."""
    sums, grounds = entities.count(violations, rules, now)
    return EntityStanding(sums, grounds, max((own.at for own in violations), default=None), tuple(sorted(set(warned))))


def run(settings: Settings) -> None:
    """Count until SIGTERM or SIGINT; waits while the database is unavailable."""
    run_rounds(settings, NAME, lambda: Counting(settings), _IDLE_S)
