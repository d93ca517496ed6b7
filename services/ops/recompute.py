"""`goodfaith standing recompute`: rebuilds ledgers, standings and entities from the violations in force, and compares.

Use it after a change of policy, or when you doubt the sums. It writes nothing. With `--apply`, the owners of what
differs assess it again: they make and reverse entries, judge, and notify, as after any event. Sums are compared as of
the time when they were stored; what has expired since is left to the timers.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption

if TYPE_CHECKING:
    import sqlalchemy as sa

    from shared.policy import Policy

EXIT_FOUND: Final = 1
EXAMPLES: Final = 5
_ROWS: Final = """
    select s.seller, s.changed_at, s.general_points, s.serious_strikes, s.violations, s.general_level, s.serious_level, s.next_change,
        v.claim, v.severity, v.at, v.entry, v.ledger, v.points, v.effective_at, v.expires_at
    from enforcement.standings s left join enforcement.violations v on v.seller = s.seller and v.in_force
    where s.partition %% {count} = {share} order by s.seller"""
_ENTITIES: Final = """
    select n.entity, n.counted_at, n.general_points, n.serious_strikes, n.violations, n.next_change, n.grounds, n.last, n.warned,
        v.seller, v.claim, v.severity, v.at, v.entry
    from enforcement.entities n join enforcement.entity_members m on m.entity = n.entity
    left join enforcement.violations v on v.seller = m.seller and v.in_force
    where abs(hashtext(n.entity)::bigint) %% {count} = {share} order by n.entity"""
# the lock that the worker takes before it writes, so neither overwrites the other
_LOCK: Final = "select 1 from enforcement.ledger_partitions order by partition for no key update"
_SELLERS: Final = "update enforcement.standings set front = '{}', due_at = '2000-01-01Z' where seller = any(%s)"
_MARK: Final = (
    "insert into enforcement.entity_work (seller) select seller from enforcement.entity_members where entity = any(%s)"
)


@dataclass(slots=True)
class Found:
    """How much was rebuilt, and the ids of what differs."""

    sellers: int = 0
    violations: int = 0
    entities: int = 0
    penalties: list[str] = field(default_factory=list)
    standings: list[str] = field(default_factory=list)
    businesses: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Add the result of another share."""
        self.sellers += other.sellers
        self.violations += other.violations
        self.entities += other.entities
        self.penalties += other.penalties
        self.standings += other.standings
        self.businesses += other.businesses

    @property
    def differing(self) -> list[str]:
        """Sellers with any difference."""
        return sorted({*self.penalties, *self.standings})

    def as_json(self) -> dict[str, Any]:
        """Counts and some examples, for `--json`."""
        return {
            "sellers": self.sellers,
            "violations": self.violations,
            "entities": self.entities,
            "ledger_differences": len(self.penalties),
            "standing_differences": len(self.standings),
            "entity_differences": len(self.businesses),
            "examples": [*self.differing[:EXAMPLES], *sorted(self.businesses)[:EXAMPLES]],
        }


def build(connection: sa.Connection, rules: Policy, share: int = 0, count: int = 1) -> Found:
    """Rebuild one share of the sellers and entities, and compare it with what is stored."""
    found = Found()
    for name, rows in _groups(connection, _ROWS.format(share=share, count=count)):
        found.sellers += 1
        _seller(name, rows, rules, found)
    for name, rows in _groups(connection, _ENTITIES.format(share=share, count=count)):
        found.entities += 1
        _entity(name, rows, rules, found)
    return found


def _groups(connection: sa.Connection, sql: str) -> Iterator[tuple[str, list[Any]]]:
    options = {"stream_results": True, "yield_per": 5_000}
    result = connection.exec_driver_sql(sql, execution_options=options)
    for name, rows in itertools.groupby(result, key=lambda row: row[0]):
        yield name, list(rows)


def _seller(name: str, rows: list[Any], policy: Policy, found: Found) -> None:
    from services.enforcement import penalties, sanctions
    from services.enforcement.penalties import Entry, Seller, Violation

    rules = policy.penalties
    _, changed_at, *stored = rows[0][:8]
    violations = {row[8]: row for row in rows if row[8] is not None}
    found.violations += len(violations)
    costs, _ = penalties.assess(((row[10], row[8], row[9]) for row in violations.values()), rules)
    seller = Seller(name, 0, complete=True)
    same = True
    for cost in costs:
        row = violations[cost.claim]
        same = same and (cost.ledger, cost.points, cost.effective_at, cost.expires_at) == tuple(row[12:16])
        seller.history[cost.claim] = Violation(cost.claim, True, row[9], row[10], Entry(row[11] or "", cost))
    if not same:
        found.penalties.append(name)
    penalties.recount(seller, rules, changed_at)
    entries = [violation.entry for violation in seller.history.values() if violation.entry is not None]
    front = sanctions.front(sanctions.grounds(entries, rules, changed_at), (), policy.version, changed_at)
    built = [
        seller.general_points,
        seller.serious_strikes,
        seller.violations,
        *sanctions.levels(front),
        seller.next_change,
    ]
    if built != stored:
        found.standings.append(name)


def _entity(name: str, rows: list[Any], policy: Policy, found: Found) -> None:
    from services.enforcement import entities, entities_store
    from services.enforcement.entities import Own

    stored = entities_store.counted(rows[0][2:9])
    violations = [Own(*row[9:14]) for row in rows if row[9] is not None]
    if entities.count(violations, policy.penalties, rows[0][1]) != (stored.sums, stored.grounds):
        found.businesses.append(name)


def share(url: str, profile: str, place: int, count: int) -> Found:
    """Rebuild one share, in a process of its own."""
    from shared import db, policy

    engine = db.administer(url, pooled=False)
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            return build(connection, policy.current(profile), place, count)
    finally:
        engine.dispose()


def whole(url: str, profile: str, processes: int) -> Found:
    """Rebuild everything in several processes. Each reads a snapshot of its own."""
    found = Found()
    if processes == 1:
        return share(url, profile, 0, 1)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(share, url, profile, place, processes) for place in range(processes)]:
            found.add(future.result())
    return found


def apply(connection: sa.Connection, sellers: Iterable[str], businesses: Iterable[str]) -> None:
    """Have the ledger's workers assess these sellers again, and these entities counted again."""
    connection.exec_driver_sql(_LOCK)
    connection.exec_driver_sql(_SELLERS, (list(sellers),))
    connection.exec_driver_sql(_MARK, (list(businesses),))


def recompute(
    apply_: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Have the owners assess again what differs, or only report it.")
    ] = False,
    processes: Annotated[int, typer.Option(min=0, help="Number of processes; 0: one per core.")] = 0,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Rebuild ledgers, standings and entities from the violations by the policy in force, and compare.

    Exit code 1 if anything differs from what is stored.
    """
    from services.ops import installation
    from services.ops.terminal import console, print_json
    from shared import db

    settings = installation.settings(stack)
    url = settings.database.get_secret_value()
    begun = time.monotonic()
    found = whole(url, settings.penalties_profile, processes or os.cpu_count() or 1)
    if apply_ and (found.differing or found.businesses):
        engine = db.administer(url, pooled=False)
        with engine.begin() as connection:
            apply(connection, found.differing, found.businesses)
        engine.dispose()
    told = {**found.as_json(), "applied": apply_, "seconds": round(time.monotonic() - begun, 1)}
    if json:
        print_json(told)
    else:
        for name, value in told.items():
            console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
    if found.differing or found.businesses:
        raise typer.Exit(EXIT_FOUND)
