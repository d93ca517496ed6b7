"""`python -m labs.bench.standings`: one more violation of a seller with 10,000, and a recount of 100,000 sellers.

It runs on a database of its own, with rows as the ledger's worker writes them. It times that worker's own batch (load,
decide, save; not the log and the commit, which all workers share) and the functions of `goodfaith standing recompute`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from pathlib import Path

import msgspec
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.enforcement import penalties, sanctions
from services.enforcement.ledger import EnforcementLedger
from services.enforcement.penalties import Entry, Seller, Violation
from services.ops import recompute
from shared import db, migrate, policy
from shared.events import ViolationChanged
from shared.runtime import Incoming, Tx
from shared.settings import Settings

ENTRIES = 10_000
SELLERS = 100_000
EACH = 5
ROUNDS = 200
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def fill(connection: sa.Connection, sellers: int, entries: int, prefix: str) -> None:
    """Write sellers with this many violations each, general and serious, over the last year."""
    newest = policy.current("ipp")
    rules = newest.penalties
    columns: dict[str, list[object]] = {}
    standings: dict[str, list[object]] = {}
    for number in range(sellers):
        name = f"{prefix}-{number}"
        seller = Seller(name, number % 24, complete=True)
        some = [
            (
                NOW - DAY * 364 * (entries - nth) / entries,
                f"c-{nth:06}",
                "serious" if nth % 7 == 6 else "general",
            )
            for nth in range(entries)
        ]
        costs, seller.tail = penalties.assess(some, rules)  # type: ignore[arg-type]
        for nth, (cost, (at, claim, severity)) in enumerate(zip(costs, some, strict=True), 1):
            entry = Entry(f"{name}.{nth}", cost)
            seller.history[claim] = Violation(claim, True, cost.ledger, at, entry)
            row = {
                "seller": name,
                "claim": claim,
                "in_force": True,
                "severity": severity,
                "at": at,
                "entry": entry.entry,
                "ledger": cost.ledger,
                "points": cost.points,
                "effective_at": at,
                "expires_at": cost.expires_at,
            }
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
        penalties.recount(seller, rules, NOW)
        live = [violation.entry for violation in seller.history.values() if violation.entry is not None]
        open_grounds = sanctions.open_grounds(sanctions.grounds(live, rules, NOW), live, newest.version, NOW)
        general, serious = sanctions.levels(open_grounds)
        row = {
            "seller": name,
            "partition": seller.partition,
            "general_points": seller.general_points,
            "serious_strikes": seller.serious_strikes,
            "violations": seller.violations,
            "repeat_offender": True,
            "general_level": general,
            "serious_level": serious,
            "next_change": seller.next_change,
            "changed_at": NOW,
            "entries": entries,
            "tail": msgspec.json.encode(seller.tail).decode(),
            "open_grounds": msgspec.json.encode(open_grounds).decode(),
        }
        for key, value in row.items():
            standings.setdefault(key, []).append(value)
    db.copy(connection, "violations", columns)
    db.copy(connection, "standings", standings)


def one_more(engine: sa.Engine, settings: Settings) -> dict[str, float]:
    """Milliseconds for one more violation, alone and in a batch of ``ROUNDS``."""
    service = EnforcementLedger(settings)

    def incoming(number: int) -> Incoming:
        at = NOW + dt.timedelta(seconds=number)
        data = ViolationChanged(
            seller="many-0",
            claim=f"d-{number:06}",
            item=f"i-{number}",
            listing="l",
            severity="general",
            in_force=True,
            revision=1,
            at=at,
        )
        return Incoming("enforcement.violations", 0, number, "many-0", f"x.{number}", "", data)

    def batch(connection: sa.Connection, records: list[Incoming]) -> tuple[float, float]:
        now = NOW + dt.timedelta(seconds=1000)
        begun = time.perf_counter()
        tx = Tx(connection, now, now, list(range(24)), {}, frozenset())
        made = service.open(tx, records)
        loaded = time.perf_counter()
        for record in records:
            list(made.apply(record))
        decided = time.perf_counter()
        made.save()
        return decided - loaded, time.perf_counter() - begun

    alone: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        with engine.begin() as connection:
            alone.append(batch(connection, [incoming(number)]))
    with engine.begin() as connection:
        together = batch(connection, [incoming(ROUNDS + number) for number in range(ROUNDS)])
    middle = ROUNDS // 2
    return {
        "decided_ms": round(sorted(d for d, _ in alone)[middle] * 1000, 3),
        "alone_ms": round(sorted(w for _, w in alone)[middle] * 1000, 3),
        "in_batch_ms": round(together[1] / ROUNDS * 1000, 3),
    }


def main() -> None:
    """Run the benchmark from the command line; print one JSON object."""
    sellers = int(sys.argv[1]) if len(sys.argv) > 1 else SELLERS
    stack = Stack.start(Path(".local"), "bench-standings")
    try:
        migrate.migrate(stack.admin_url, stack.role_passwords("enforcement"))
        settings = Settings(database=stack.role_url("enforcement"))
        engine = db.connect(stack.role_url("enforcement"), schema="enforcement", name="bench")
        for first in range(0, sellers, 20_000):
            with engine.begin() as connection:
                fill(connection, min(20_000, sellers - first), EACH, f"few{first}")
        with engine.begin() as connection:
            fill(connection, 1, ENTRIES, "many")
        admin = db.administer(stack.admin_url, autocommit=True)
        with admin.connect() as connection:
            connection.exec_driver_sql("vacuum analyze enforcement.standings, enforcement.violations")
        admin.dispose()
        begun = time.perf_counter()
        found = recompute.whole(stack.admin_url, "ipp", os.cpu_count() or 1)
        took = time.perf_counter() - begun
        result = {
            "entries": ENTRIES,
            **one_more(engine, settings),
            **found.as_json(),
            "recompute_s": round(took, 1),
        }
        engine.dispose()
        print(json.dumps(result))
    finally:
        stack.destroy()


if __name__ == "__main__":
    main()
