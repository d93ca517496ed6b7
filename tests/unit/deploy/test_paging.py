"""One fault, one page: every class of faults is played on the real rules, and what leaves is counted."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from deploy.prometheus import areas, faults, routing, rules
from deploy.prometheus.model import LAYERS, Alert, Pace, dump
from shared import metrics
from tests.unit.deploy.test_alerts import ALERTS, EVERY, inhibited_by

MARGIN_S = 120
"""A cause fires so much sooner than what it mutes: evaluation, delivery and one missed scrape fit in."""
PAGES = {name: alert for name, alert in EVERY.items() if alert.severity == "page"}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: sh deploy/local/setup.sh prometheus"
)


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "pages.yaml"
    path.write_text(dump(faults.rule_file(Pace())), encoding="utf-8")
    return path


@needs_promtool
@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.what)
def test_exactly_one_page_leaves(fault: faults.Fault, rule_file: Path, tmp_path: Path) -> None:
    """From the fault until all its consequences are over, at every minute, after Alertmanager's inhibitions."""
    path = tmp_path / "test.yaml"
    path.write_text(dump(faults.test_of(fault, str(rule_file))), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_the_page_of_a_fault() -> None:
    assert {fault.pages for fault in faults.FAULTS} == set(PAGES)
    assert len({fault.what for fault in faults.FAULTS}) == len(faults.FAULTS)


@needs_promtool
def test_without_inhibitions_one_fault_pages_many_times(rule_file: Path, tmp_path: Path) -> None:
    """The check above can fail: of what the broker's death raises, only the inhibitions keep the rest away."""
    fault = faults.FAULTS[0]
    made = faults.test_of(fault, str(rule_file))
    (look,) = made["tests"][0]["promql_expr_test"]
    look["expr"] = look["expr"].replace(faults.leaving(), faults.leaving(()))
    path = tmp_path / "test.yaml"
    path.write_text(dump(made), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1
    for alert in ("BrokerDown", "CanaryOld", "ConsumerLag", "ClaimsStalled", "OutboxOld"):
        assert f'got: {{alertname="{alert}"}}' in done.stdout + done.stderr or f'{{alertname="{alert}"}} 1E+00' in (
            done.stdout + done.stderr
        )


# ----------------------------------------------------------------------------------------------- the order of alerts


@cache
def muting() -> list[tuple[Alert, Alert]]:
    """All pairs of pages of which the first mutes the second."""
    return [
        (source, target)
        for source in PAGES.values()
        for target in PAGES.values()
        if any(
            inhibited_by(
                {"alertname": source.name, "area": area, **source.all_labels()},
                {"alertname": target.name, "area": area, **target.all_labels()},
            )
            for area in {source.area, target.area, "claims"}
        )
    ]


def test_what_mutes_fires_sooner_than_what_it_mutes() -> None:
    """Else the consequence pages before its cause is known."""
    known = {
        # while the broker is away nobody can say which partitions have a leader
        ("BrokerDown", "BrokerOfflinePartitions")
    }
    late = {
        (source.name, target.name): (source.after_s, target.after_s)
        for source, target in muting()
        if source.after_s + MARGIN_S > target.after_s and (source.name, target.name) not in known
    }
    assert late == {}


def test_no_two_pages_mute_each_other() -> None:
    pairs = {(source.name, target.name) for source, target in muting()}
    assert pairs
    assert {(source, target) for source, target in pairs if (target, source) in pairs} == set()


def test_only_a_page_and_its_aftermath_mute() -> None:
    configuration = yaml.safe_load((Path(rules.HERE).parent / "alertmanager" / "alertmanager.yml").read_text())
    for rule in configuration["inhibit_rules"]:
        assert routing.PAGED in rule["source_matchers"]
    assert {alert.name for alert in ALERTS if alert.severity == "none"} == {"Watchdog", "Aftermath"}
    assert EVERY["Watchdog"].layer not in LAYERS, "it fires always, and must mute nothing"


def test_areas_hold_the_processes_that_export_a_series() -> None:
    """An absent series is muted by the page of the process whose death makes it absent."""
    declared = metrics.load()
    for series, area in areas.SLI.items():
        one = declared.get(series) or declared[series.removesuffix("_count")]
        exporting = {areas.area_of({"job": job}) for job in one.processes}
        assert area in exporting, series
        assert area == "claims" or exporting == {area}, series


def test_an_area_in_promql_is_the_area_in_python() -> None:
    for alert in ALERTS:
        assert alert.area or "label_replace" in alert.expr or alert.name == "Aftermath", alert.name
    assert areas.area_of({"job": "enforcement-ledger"}) == areas.area_of({"group": "enforcement-ledger"}) == "sellers"
    assert areas.area_of({"job": "notification-bounces"}) == "notification-bounces"
    assert {areas.area_of({"group": group}) for group in faults.GROUPS if group != "streams"} == {"claims", "sellers"}
