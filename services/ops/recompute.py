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
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption, YesOption

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
_SELLERS: Final = "update enforcement.standings set open_grounds = '{}', due_at = '2000-01-01Z' where seller = any(%s)"
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
    differing_entities: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Add the result of another share."""
        self.sellers += other.sellers
        self.violations += other.violations
        self.entities += other.entities
        self.penalties += other.penalties
        self.standings += other.standings
        self.differing_entities += other.differing_entities

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
            "entity_differences": len(self.differing_entities),
            "examples": [*self.differing[:EXAMPLES], *sorted(self.differing_entities)[:EXAMPLES]],
        }


def build(connection: sa.Connection, rules: Policy, share: int = 0, count: int = 1) -> Found:
    """Rebuild one share of the sellers and entities, and compare it with what is stored."""
    found = Found()
    for name, rows in _groups(connection, _ROWS.format(share=share, count=count), "seller"):
        found.sellers += 1
        _seller(name, rows, rules, found)
    for name, rows in _groups(connection, _ENTITIES.format(share=share, count=count), "entity"):
        found.entities += 1
        _entity(name, rows, rules, found)
    return found


def _groups(connection: sa.Connection, sql: str, name: str) -> Iterator[tuple[str, list[Any]]]:
    options = {"stream_results": True, "yield_per": 5_000}
    result = connection.exec_driver_sql(sql, execution_options=options)
    for value, rows in itertools.groupby(result, key=attrgetter(name)):
        yield value, list(rows)


def _seller(name: str, rows: list[Any], policy: Policy, found: Found) -> None:
    from services.enforcement import penalties, sanctions
    from services.enforcement.penalties import Entry, Seller, Violation

    rules = policy.penalties
    stored = rows[0]
    violations = {row.claim: row for row in rows if row.claim is not None}
    found.violations += len(violations)
    costs, _ = penalties.assess(((row.at, row.claim, row.severity) for row in violations.values()), rules)
    seller = Seller(name, 0, complete=True)
    same = True
    for cost in costs:
        row = violations[cost.claim]
        entered = (row.ledger, row.points, row.effective_at, row.expires_at)
        same = same and (cost.ledger, cost.points, cost.effective_at, cost.expires_at) == entered
        seller.history[cost.claim] = Violation(cost.claim, True, row.severity, row.at, Entry(row.entry or "", cost))
    if not same:
        found.penalties.append(name)
    penalties.recount(seller, rules, stored.changed_at)
    entries = [violation.entry for violation in seller.history.values() if violation.entry is not None]
    at = stored.changed_at
    open_grounds = sanctions.open_grounds(sanctions.grounds(entries, rules, at), (), policy.version, at)
    levels = sanctions.levels(open_grounds)
    built = (seller.general_points, seller.serious_strikes, seller.violations, *levels, seller.next_change)
    there = (stored.general_points, stored.serious_strikes, stored.violations)
    if built != (*there, stored.general_level, stored.serious_level, stored.next_change):
        found.standings.append(name)


def _entity(name: str, rows: list[Any], policy: Policy, found: Found) -> None:
    from services.enforcement import entities, entities_store
    from services.enforcement.entities import AccountViolation

    stored = entities_store.standing(rows[0])
    violations = [
        AccountViolation(row.seller, row.claim, row.severity, row.at, row.entry)
        for row in rows
        if row.seller is not None
    ]
    if entities.count(violations, policy.penalties, rows[0].counted_at) != (stored.sums, stored.grounds):
        found.differing_entities.append(name)


def share(url: str, profile: str, number: int, count: int) -> Found:
    """Rebuild one share, in a process of its own."""
    from shared import db, policy

    engine = db.administer(url, pooled=False)
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            return build(connection, policy.current(profile), number, count)
    finally:
        engine.dispose()


def whole(url: str, profile: str, jobs: int) -> Found:
    """Rebuild everything in several processes. Each reads a snapshot of its own."""
    found = Found()
    if jobs == 1:
        return share(url, profile, 0, 1)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(share, url, profile, number, jobs) for number in range(jobs)]:
            found.add(future.result())
    return found


def apply(connection: sa.Connection, sellers: Iterable[str], entities: Iterable[str]) -> None:
    """Have the ledger's workers assess these sellers again, and these entities counted again."""
    connection.exec_driver_sql(_LOCK)
    connection.exec_driver_sql(_SELLERS, (list(sellers),))
    connection.exec_driver_sql(_MARK, (list(entities),))


def recompute(
    apply_: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Have the owners assess again what differs, or only report it.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Number of parallel processes; 0: one per core.")] = 0,
    stack: StackOption = "default",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Rebuild ledgers, standings and entities from the violations by the policy in force, and compare.

    Exit code 1 if anything differs from what is stored.
    """
    from services.ops import installation
    from services.ops.terminal import confirm, console, print_json, progress
    from shared import db

    confirm("Have what differs assessed again, which may impose or lift sanctions?", yes=yes or not apply_)
    settings = installation.settings(stack)
    url = settings.database.get_secret_value()
    begun = time.monotonic()
    with progress("rebuilding ledgers, standings and entities"):
        found = whole(url, settings.penalties_profile, jobs or os.cpu_count() or 1)
    if apply_ and (found.differing or found.differing_entities):
        engine = db.administer(url, pooled=False)
        with engine.begin() as connection:
            apply(connection, found.differing, found.differing_entities)
        engine.dispose()
    told = {**found.as_json(), "applied": apply_, "seconds": round(time.monotonic() - begun, 1)}
    for name, value in told.items():
        console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
    if json:
        print_json(told)
    if found.differing or found.differing_entities:
        raise typer.Exit(EXIT_FOUND)
