"""Some of the declared faults in short, on stacks of their own: nothing that was acknowledged is lost or done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("only", [("leaders", "two down", "recreated", "upstream"), ("failover", "frozen")])
def test_nothing_is_lost(only: tuple[str, ...]) -> None:
    # a process of its own, as `make faults` has it
    command = [
        sys.executable,
        "-m",
        "services.ops.cli",
        "lab",
        "faults",
        "--json",
        "--stack",
        f"test-{os.getpid()}-fault",
    ]
    command += ["--items", "400", "--rate", "20", *(word for name in only for word in ("--only", name))]
    environment = {**os.environ, "GOODFAITH_STATE_DIR": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT.parent, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.get("failed") == [], (found, done.stderr[-3000:])
    assert [one["fault"] for one in found["results"]] == list(only)
    assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, 0)
    assert all(one["items"] >= 400 and one["recovery_s"] > 0 for one in found["results"])
    assert all(one["close"] > 0 for one in found["results"]), "no counter came close to its deadline"
