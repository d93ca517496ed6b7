"""How pages are counted, and how fast the rules' clock goes in a drill."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.prometheus.model import LAYERS, dump
from labs.drills.alerts import ALERTS, SCRAPE_S, SHARE, SLOWEST, SPEED, STARTS, pace
from labs.drills.exercise import of_canary
from labs.drills.faults import DRILLS
from labs.pager import Note, Notes, pages


def told(at: float, *alerts: tuple[str, str, bool], severity: str = "page") -> tuple[float, bytes]:
    """A notification of (alert, instance, firing)."""
    rows = [
        {
            "status": "firing" if firing else "resolved",
            "labels": {"alertname": name, "instance": instance, "severity": severity},
        }
        for name, instance, firing in alerts
    ]
    return at, json.dumps({"receiver": "pager", "alerts": rows}).encode()


def noted(*notifications: tuple[float, bytes]) -> list[Note]:
    notes = Notes()
    for at, body in notifications:
        notes.take(body, at)
    return notes.notes()


def test_an_alert_pages_once_until_all_its_instances_are_resolved() -> None:
    assert pages(
        noted(
            told(1, ("Down", "a", True)),
            told(2, ("Down", "a", True), ("Down", "b", True)),
            told(3, ("Down", "a", False), ("Down", "b", True)),
            told(4, ("Down", "a", True), ("Down", "b", False)),
            told(5, ("Down", "a", False)),
        )
    ) == ["Down"]


def test_an_alert_that_comes_back_pages_again() -> None:
    assert pages(noted(told(1, ("Down", "a", True)), told(2, ("Down", "a", False)), told(3, ("Down", "a", True)))) == [
        "Down",
        "Down",
    ]


def test_a_ticket_is_no_page() -> None:
    assert pages(noted(told(1, ("Parked", "a", True), severity="ticket"), told(2, ("Old", "a", True)))) == ["Old"]


def test_only_the_canary_is_excused_while_it_stands_still() -> None:
    def note(alert: str, **labels: str) -> Note:
        return Note(0.0, "pager", alert, True, labels, {})

    assert of_canary(note("CanaryOld", area="claims"))
    assert of_canary(note("ProcessDown", area="canary"))
    assert not of_canary(note("ProcessDown", area="claims"))


def test_the_clock_is_as_fast_as_the_machine() -> None:
    assert pace(0.01, 1.0) == SPEED
    assert pace(2.0, 1.0) == 3.7, "7.5 s of 15 for a scrape, rounded down"
    assert pace(0.01, 60.0) == ALERTS["ProcessDown"].after_s / (STARTS * 60.0)
    assert pace(600.0, 1.0) == pace(0.01, 6_000.0) == 1.0, "never slower than in an installation"
    assert pace(0.0, 0.0) == SPEED


@pytest.mark.parametrize("half", [1.0, 2.0, 4.0])
def test_a_machine_half_as_fast_has_twice_the_time(half: float) -> None:
    """In wall time: between two scrapes, and until a process that starts counts as dead."""
    speed = pace(1.25 * half, 15.0 * half)
    assert SCRAPE_S / speed * SHARE >= 1.25 * half
    assert ALERTS["ProcessDown"].after_s / speed >= STARTS * 15.0 * half


def test_a_drill_is_not_muted_by_the_drill_before_it() -> None:
    """An alert that paged keeps muting its consequences. Only drills after the platform's wait until that is over."""
    places = [LAYERS.index(drill.rule.layer) for drill in DRILLS]
    until = len(places) - places[::-1].index(0)
    assert places[:until] == sorted(places[:until], reverse=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(("others", "expected"), [("0.2x20", 0.2), ("8x20", 8.0)])
def test_one_frozen_process_does_not_slow_the_clock(others: str, expected: float, tmp_path: Path) -> None:
    """Its scrape lasts until it times out. If all scrapes do, the machine is slow."""
    series = {f'scrape_duration_seconds{{instance="{number}"}}': others for number in range(20)}
    series['scrape_duration_seconds{instance="canary.0"}'] = "8x20"
    look = {"expr": SLOWEST[0], "eval_time": "60s", "exp_samples": [{"labels": "{}", "value": expected}]}
    world = {
        "interval": "5s",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [look],
    }
    path = tmp_path / "test.yaml"
    path.write_text(dump({"tests": [world]}), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
