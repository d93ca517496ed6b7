"""The short form of `make attack`: no attack succeeds, and an honest client is served during each."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from labs.attacks.attack import ATTACKS
from tests.conftest import ROOT

pytestmark = [pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(600)]


def test_no_attack_succeeds() -> None:
    # a process of its own, as `make attack` has it
    command = [
        sys.executable,
        "-m",
        "services.ops.cli",
        "lab",
        "attack",
        "--short",
        "--json",
        "--stack",
        f"test-{os.getpid()}-attack",
    ]
    environment = {**os.environ, "GOODFAITH_STATE_DIR": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT.parent, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    happened = {
        one["attack"]: one["happened"] or one["error"] for one in found["results"] if one["succeeded"] or one["error"]
    }
    assert not happened, (happened, done.stderr[-3000:])
    assert (found["attacks"], found["succeeded"], found["unknown"]) == (len(ATTACKS), 0, [])
    assert all(one["honest"]["served"] > 0 for one in found["results"])
    assert done.returncode == 0
