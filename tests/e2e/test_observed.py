"""The fleet under a real Prometheus and Alertmanager: all is scraped, the rules hold, and a fault comes to the pager."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from deploy.prometheus.rules import records
from labs.drills.alerts import PrometheusClient
from labs.drills.runbooks import Engineer
from labs.pager import Pager
from services.observer.boards import PANELS
from services.observer.observing import look_once
from shared import metrics
from tests.e2e.world import World
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def test_every_process_is_scraped(world: World, observer: PrometheusClient) -> None:
    expected = {process.name for process in world.fleet} | {"prometheus", "alertmanager"}
    world.until(lambda: expected == {labels["instance"] for labels, value in observer.query("up") if value == 1})
    jobs = {labels["instance"]: labels["job"] for labels, _ in observer.query("up")}
    assert all(jobs[process.name] == process.name.rpartition(".")[0] for process in world.fleet)


def test_every_rule_evaluates(world: World, observer: PrometheusClient) -> None:
    def rules() -> dict[str, str]:
        return {rule["name"]: f"{rule['health']} {rule.get('lastError', '')}".strip() for rule in observer.rules()}

    world.until(lambda: "unknown" not in rules().values())
    found = rules()
    assert {name: health for name, health in found.items() if health != "ok"} == {}
    assert {rule.name for rule in records()} <= set(found)


def test_every_figure_of_the_boards_has_an_answer(world: World, observer: PrometheusClient) -> None:
    """Of every query that asks for something that a process of this fleet exports."""
    running = {process.name.rpartition(".")[0] for process in world.fleet}
    declared = metrics.load()

    def asked_for(name: str) -> bool:
        if name.startswith("goodfaith:"):
            return "streams" in running
        one = declared.get(re.sub("_(bucket|count|sum)$", "", name)) or declared.get(name)
        return not name.startswith("goodfaith_") if one is None else bool(running & set(one.processes))

    panels = [
        panel
        for panel in PANELS.values()
        if not panel.optional and all(asked_for(name) for query in panel.queries for name in query.series())
    ]
    url = world.stack.observers()["prometheus"]

    def missing() -> dict[str, str]:
        snapshot = look_once(url, panels, timeout_s=10)
        assert snapshot.trouble == ""
        return {panel.key: error for panel in panels if (error := snapshot.answer(panel).error)}

    assert len(panels) > 25
    until = time.monotonic() + PATIENCE_S
    while (lacking := missing()) and time.monotonic() < until:
        time.sleep(0.5)
    assert lacking == {}


def test_enforcement_stops_and_the_runbook_helps(
    world: World, observer: PrometheusClient, pager: Pager, tmp_path: Path
) -> None:
    """Fault, pager, runbook, quiet: on a clock that goes 60 times as fast."""
    alert = "ProcessDown"
    holder, seller = world.account("h-observed"), world.account("s-observed", "seller")
    right, links = world.right(holder), world.offer(seller, "observed-1")
    begun = time.monotonic()
    world.kill("enforcement-worker")
    claim = world.file(holder, right, links)
    fired = pager.wait(lambda note: note.alert == alert and note.firing, since=begun, timeout_s=240)
    assert fired is not None, observer.firing()

    engineer = Engineer(world.stack, tmp_path)
    first, *_ = engineer.steps(alert, "Do this")
    ran = engineer.run(first)
    assert not ran.broken, ran
    world.notified(claim.items[0])
    assert pager.wait_resolved(alert, since=begun, timeout_s=240) is not None, observer.firing()
    world.start("enforcement-worker")  # runs: the step was another's, so that only its new process is learned here
