"""`python -m labs.bench.headline`: the two headline figures after a replay, by Prometheus' rules and by SQL.

It replays all notices of the sample on a stack of its own, observed by a real Prometheus. When the system is idle, it
compares the recording rules with what `goodfaith target` counts and the stream views with the database, and counts
each process's series. It prints JSON, and exits with 1 if anything differs.

A replay puts months of business time into minutes, but Prometheus knows only wall time: its windows contain the whole
replay. So they are compared with all time by SQL. Windows themselves are tested in
``tests/integration/after_a_run/test_target.py`` and by promtool.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from typing import Final

import httpx

from deploy.local import fleet, prometheus
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.local.up import bring_up, destroy
from labs.exposition import samples
from labs.notices import SAMPLE, read
from labs.population.command import SETTINGS
from labs.replay import execute
from labs.view_checks import compared
from services.ops import target
from services.ops.terminal import print_json
from services.ops.verify.verify import verify_stack
from shared import clock, db

SCRAPE_S: Final = 5.0
REST_S: Final = 300.0
MOST_SERIES: Final = 5_000
"""A process may export this many series (docs/reference/metrics.md)."""
QUERIES: Final = {
    "met": 'goodfaith:sla_outcomes:total{outcome="met"}',
    "missed": 'goodfaith:sla_outcomes:total{outcome="missed"}',
    "taken_down": 'goodfaith:takedowns:total{outcome="taken_down"}',
    "declined": 'goodfaith:takedowns:total{outcome="declined"}',
    **{f"handled_within_24h ({window})": f"goodfaith:handled_in_time:ratio_{window}" for window in ("1h", "1d", "30d")},
    **{f"takedown_rate ({window})": f"goodfaith:takedown:ratio_{window}" for window in ("1h", "1d", "30d")},
}


def by_sql(stack: Stack) -> dict[str, float]:
    """The figures by SQL, under the names of ``QUERIES``."""
    engine = db.administer(stack.admin_url, pooled=False)
    with engine.connect() as connection:
        found = target.count(connection, clock.read(connection)[0])["all"].as_json()
    engine.dispose()
    return {name: found[name.partition(" ")[0]] for name in QUERIES}


def by_rules(stack: Stack) -> dict[str, float]:
    """The figures that Prometheus answers now; a rule without an answer is left out."""
    found = {}
    for name, expr in QUERIES.items():
        answer = httpx.get(f"{stack.prometheus_url()}/api/v1/query", params={"query": expr}, timeout=30).json()
        for one in answer["data"]["result"]:
            found[name] = round(float(one["value"][1]), 6)
    return found


def series(processes: Fleet) -> dict[str, int]:
    """Number of samples that each process exports now."""
    return {process.name: len(samples(process)) for process in processes}


def main() -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, help="replay only this many notices")
    parser.add_argument("--stack", default="headline")
    given = parser.parse_args()
    notices = list(read(SAMPLE, given.limit))
    first = dt.datetime.combine(notices[0].date, dt.time(), dt.UTC)
    destroy(given.stack)
    settings = {**SETTINGS, "GOODFAITH_RECONCILE_S": "5"}
    stack, processes = bring_up(given.stack, env=settings, begins=first, observe=prometheus.Plan(SCRAPE_S))
    try:
        report = execute(stack, notices, quiet=True)
        proof = verify_stack(fleet.settings_of(stack), wait_s=120)
        views = compared(processes, dt.datetime.now(dt.UTC), within_s=REST_S)
        truth = by_sql(stack)
        # a rule sees a scrape, or another rule's result, one evaluation later
        until = time.monotonic() + 12 * SCRAPE_S
        while (found := by_rules(stack)) != truth and time.monotonic() < until:
            time.sleep(1)
        exported = series(processes)
    finally:
        destroy(given.stack)
    equal = found == truth and not any(views.values()) and proof.clean and max(exported.values()) < MOST_SERIES
    print_json(
        {
            "notices": report.notices,
            "items": report.items,
            "lost": proof.counts["lost"],
            "doubled": proof.counts["doubled"],
            "problems": proof.counts["problems"],
            "sql": truth,
            "prometheus": found,
            "reconciliation": views,
            "series": exported,
            "equal": equal,
        }
    )
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
