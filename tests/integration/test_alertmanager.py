"""The real Alertmanager on our configuration: what a page mutes, it mutes there, and nothing else."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import prometheus
from deploy.local.prometheus import Plan, Server
from deploy.prometheus import areas, rules
from deploy.prometheus.model import Alert
from deploy.prometheus.routing import INHIBITIONS
from labs.drills.runbooks import RUNBOOKS, blocks
from labs.pager import Note, Pager, pages
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(
    "alertmanager" in prometheus.missing() or shutil.which("amtool") is None,
    reason="Alertmanager is not installed: sh deploy/local/setup.sh prometheus",
)
SPEED = 60.0
ALERTS = {alert.name: alert for alert in rules.alerts()}


@pytest.fixture
def pager() -> Iterator[Pager]:
    with Pager() as pager:
        yield pager


@pytest.fixture
def alertmanager(tmp_path: Path, pager: Pager) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prometheus.configure(
        tmp_path, tmp_path / "targets.json", {"prometheus": 1, "alertmanager": port}, Plan(1.0, SPEED, pager.url)
    )
    server = Server("alertmanager", tmp_path / "alertmanager", tmp_path / "log", port)
    server.launch()
    try:
        server.wait_ready()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield client
    finally:
        server.kill()


def labels(name: str, **more: str) -> dict[str, str]:
    return {"alertname": name, **ALERTS[name].all_labels(), **more}


def fires(alertmanager: httpx.Client, *alerts: dict[str, str], seconds: int = 3_600) -> None:
    """Not resolved while the test looks; with a negative number they are."""
    ends = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()
    alertmanager.post("/api/v2/alerts", json=[{"labels": one, "endsAt": ends} for one in alerts]).raise_for_status()


def sides(rule: dict[str, list[str]]) -> tuple[list[Alert], list[Alert]]:
    """Alerts on both sides of an inhibition."""

    def matching(matchers: list[str]) -> list[Alert]:
        found = []
        for alert in ALERTS.values():
            own = labels(alert.name)
            wanted = [re.fullmatch(r'(\w+)=~?"(.*)"', one) for one in matchers]
            if all(match and re.fullmatch(match[2], own.get(match[1], "")) for match in wanted):
                found.append(alert)
        return found

    return matching(rule["source_matchers"]), matching(rule["target_matchers"])


def test_each_inhibition_mutes_in_its_area_and_nowhere_else(alertmanager: httpx.Client, pager: Pager) -> None:
    """Each rule has an area of its own here, and with it a bystander: the same consequence in another area."""
    expected: set[tuple[str, str]] = set()
    muted: set[tuple[str, str]] = set()
    causes, others = [], []
    for number, rule in enumerate(INHIBITIONS):
        sources, targets = sides(rule)
        assert sources, rule
        assert targets, rule
        if "area" not in rule.get("equal", ()) or sources[0].layer == "platform":
            continue  # a platform page mutes everywhere: see below
        here, there = f"here-{number}", f"there-{number}"
        pairs = {(sources[0].name, targets[0].name), (sources[-1].name, targets[-1].name)}
        for place, (source, target) in enumerate(sorted(pairs)):
            causes.append(labels(source, area=f"{here}-{place}"))
            others += [labels(target, area=f"{here}-{place}"), labels(target, area=f"{there}-{place}")]
            expected |= {(source, f"{here}-{place}"), (target, f"{there}-{place}")}
            muted.add((target, f"{here}-{place}"))
    assert len(muted) > 8
    fires(alertmanager, *causes)
    heard(pager, len(causes))
    fires(alertmanager, *others)
    received = heard(pager, len(expected))
    assert {(note.alert, note.labels["area"]) for note in received} == expected
    assert not muted & expected


def heard(pager: Pager, count: int) -> list[Note]:
    """Everything that came, some time after as much came as is expected."""
    until = time.monotonic() + PATIENCE_S
    while len({tuple(sorted(note.labels.items())) for note in pager.notes()}) < count and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2.0)
    return pager.notes()


def test_a_dead_broker_is_one_page(alertmanager: httpx.Client, pager: Pager) -> None:
    """Though everything else fires as well, in every area."""
    others = [
        labels(name, **({} if alert.area else {"area": area}))
        for name, alert in ALERTS.items()
        if alert.layer not in ("platform", "meta", "")
        for area in ("claims", "sellers", "figures")
    ]
    fires(alertmanager, labels("BrokerDown"))
    heard(pager, 1)
    fires(alertmanager, labels("BrokerOfflinePartitions"), *others)
    assert pages(heard(pager, 1)) == ["BrokerDown"]
    assert {note.alert for note in pager.notes()} == {"BrokerDown"}, "no ticket either"


def test_what_follows_from_a_page_is_muted_after_it_as_well(alertmanager: httpx.Client, pager: Pager) -> None:
    """Of the page itself only its Aftermath is left, which reaches nobody's pager."""
    after = labels("Aftermath", page="ConsumerLag", layer="flow", area="claims")
    fires(alertmanager, after)
    heard(pager, 1)
    fires(alertmanager, labels("CanaryOld"), labels("DeliveryLate", area="elsewhere"))
    received = heard(pager, 2)
    assert pages(received) == ["DeliveryLate"]
    assert {note.receiver for note in received if note.alert == "Aftermath"} <= {"nobody"}


def test_processes_that_die_together_are_one_page(alertmanager: httpx.Client, pager: Pager) -> None:
    jobs = ("verification", "enforcement-ledger", "streams", "canary")
    fires(alertmanager, *(labels("ProcessDown", job=job, area=areas.area_of({"job": job})) for job in jobs))
    received = heard(pager, len(jobs))
    assert pages(received) == ["ProcessDown"]
    assert {note.labels["job"] for note in received} == set(jobs)


@pytest.mark.parametrize("alert", ["UnreadGone", "DatabaseWentBack"])
def test_a_runbook_that_stops_everything_silences_what_that_would_raise(
    alert: str, alertmanager: httpx.Client, pager: Pager
) -> None:
    """By its own commands: the alert itself stays audible, and afterwards everything is."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    silence, expire = [block for block in blocks(text, "Do this") if "amtool" in block]
    env = {**os.environ, "GOODFAITH_ALERTMANAGER_URL": str(alertmanager.base_url).rstrip("/")}
    other = labels("RulesFail")  # nothing but a silence mutes it

    def run(command: str) -> None:
        done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(silence)
    fires(alertmanager, labels(alert, area="elsewhere"), other)
    assert pages(heard(pager, 1)) == [alert]
    with subprocess.Popen(["sh", "-c", expire], env=env) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):  # what it holds back is still firing
            waiting.wait(3)
        fires(alertmanager, other, seconds=-1)
        assert waiting.wait(PATIENCE_S) == 0
    fires(alertmanager, other)
    assert pages(heard(pager, 2)) == [alert, "RulesFail"]
