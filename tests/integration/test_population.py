"""A small population through the whole system: everything that it files is judged, and its figures add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import policy

ROOT = Path(__file__).resolve().parents[2]
ITEMS, STOLEN = 60, 20


@pytest.mark.stack
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_population_is_judged_and_its_figures_add_up(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("GOODFAITH_")}
    # composed titles, whatever this machine's cache has
    env["XDG_CACHE_HOME"] = str(tmp_path)
    arguments = ["--items", str(ITEMS), "--seed", "4", "--stolen", str(STOLEN), "--stack", f"test-{os.getpid()}-people"]
    done = subprocess.run(
        [sys.executable, "-m", "services.ops.cli", "lab", "population", *arguments, "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["clean"]
    assert found["items"] == ITEMS
    assert found["titles"] == "composed"
    assert found["policies"] == [policy.current("ipp").version]
    assert 0.75 < found["true_rate"] < 0.85
    # everything was decided, by somebody: what is lawful and was not taken down was refused
    lawful = round(ITEMS * (1 - found["true_rate"]))
    taken = round(ITEMS * found["takedown_rate"])
    assert 0 <= found["wrongful_undone"] <= found["wrongful"] <= lawful
    assert taken - found["wrongful"] <= ITEMS - lawful
    assert 0 < found["precision_low95"] <= found["precision"] <= 1
    assert 0 < found["automatic_share"] <= 1
    assert 0 < found["within_24h"] <= 1
    assert 0 < found["stolen"] <= STOLEN
    stopped = found["stolen_account_stopped_after"]
    assert stopped is None or 0 <= stopped < STOLEN
