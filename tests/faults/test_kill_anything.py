"""`goodfaith faults` in short: everything is killed with -9 at least once under load, nothing is lost or done twice."""

from __future__ import annotations

import pytest

from deploy.local.processes import Fleet
from services.operator.faults import Faults, Plan

pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.timeout(600)]


def test_anything_may_be_killed(fleet: Fleet) -> None:
    run = Faults(fleet.stack, fleet, Plan(1500, 7, "short"))
    try:
        run.prepare()
        outcome = run.run(every=1.5, rate=60, seed=7, progress=lambda _: None, tell=lambda _: None)
    finally:
        run.close()
    found = outcome.json()
    assert {name: found[name] for name in ("lost", "doubled", "problems")} == {
        "lost": 0,
        "doubled": 0,
        "problems": 0,
    }, found
    assert outcome.items == 1500
    assert {kill.name for kill in outcome.kills} == {
        "broker", "database", "marketplace.0", "intake-api.0", "intake-worker.0", "intake-inbound.0", "verification.0",
        "enforcement-worker.0", "enforcement-ledger.0", "notification-worker.0", "notification-sender.0",
    }  # fmt: skip
    # the load was not refused away: people acted, and their acts took effect
    assert outcome.verified.totals["outcomes"].get("WITHDRAWN", 0) > 0
    assert outcome.verified.counts["commands"] > 50
