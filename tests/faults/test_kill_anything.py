"""`goodfaith lab faults` in short: everything is killed with -9 at least once under load, nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# with a fleet next to the others': of two cores too much for `make test`
pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(900)]


def test_anything_may_be_killed() -> None:
    # a process of its own, as `make faults` has it: kafka-python forgets sockets when the broker dies, here an error
    command = [
        sys.executable,
        "-m",
        "services.ops.cli",
        "lab",
        "faults",
        "--json",
        "--stack",
        f"test-{os.getpid()}-kill",
    ]
    command += ["--only", "kill", "--items", "1000", "--rate", "60", "--every", "1.2", "--seed", "7"]
    environment = {**os.environ, "GOODFAITH_STATE_DIR": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT.parent, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, 0), found
    assert done.returncode == 0, done.stderr
    found = found["kill"]
    assert found["items"] == 1000
    assert set(found["kills_by_process"]) == {
        "broker",
        "database",
        "marketplace.0",
        "intake-api.0",
        "intake-worker.0",
        "intake-inbound.0",
        "verification.0",
        "enforcement-worker.0",
        "enforcement-ledger.0",
        "enforcement-entities.0",
        "verification-api.0",
        "enforcement-api.0",
        "notification-worker.0",
        "notification-sender.0",
        "notification-webhooks.0",
        "notification-bounces.0",
        "notification-api.0",
        "streams.0",
        "watch.0",
    }
    assert found["close"] > 0, "no counter came close to its deadline"
    # the load was not refused away: people acted
    assert found["commands"] > 50
