"""Streams while workers are killed at random, freeze and wake. Minutes long: `make streams`, not part of `make test`."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.integration.streams_parts import Rig, wait
from tests.patience import PATIENCE_S

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not os.environ.get("STREAMS_FAULTS"), reason="minutes long: make streams"),
    pytest.mark.timeout(900),
]
STEPS = ("read", "folded", "acknowledged", "written")


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    """An installation of streams."""
    made = Rig(stack, tmp_path, GOODFAITH_SESSION_TIMEOUT_MS="10000")
    yield made
    made.close()


def test_a_worker_that_slept_through_its_session_spoils_nothing(rig: Rig) -> None:
    """SIGSTOP amid a load, until another has its partitions; then it wakes, with a batch in hand."""
    rig.items(range(100))
    rig.start("a")
    rig.start("b")
    rig.wait_ready("a", "b")
    rig.items(range(2000))
    rig.processes["a"][0].send_signal(signal.SIGSTOP)
    rig.items(range(500), seed=1)
    wait(lambda: json.loads(rig.get("b", "/ready") or "{}").get("partitions") == 4, 120, lambda: rig.log("b"))
    rig.processes["a"][0].send_signal(signal.SIGCONT)
    rig.items(range(500, 700), seed=2)
    wait(rig.caught_up, 180, lambda: rig.log("b") + rig.log("a"))
    wait(lambda: json.loads(rig.get("a", "/ready") or "{}").get("partitions") == 2, 120, lambda: rig.log("a"))
    assert rig.changelogged() == rig.expected()


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_is_killed_at_a_step_spoils_nothing(rig: Rig, step: str) -> None:
    """At each step; recovered on its own disk, and then on an empty one."""
    rig.items(range(300))
    # the second time: a batch gathers for a fifth of a second, so these items fill only a few
    assert rig.start("a", crash_at=f"streams:{step}:2").wait(120) == -signal.SIGKILL
    rig.start("a")
    rig.items(range(200, 400), seed=1)
    wait(lambda: rig.get("a", "/ready") and rig.caught_up(), 120, lambda: rig.log("a"))
    expected = rig.expected()
    assert rig.changelogged() == expected
    rig.processes["a"][0].terminate()
    assert rig.processes["a"][0].wait(PATIENCE_S) == 0
    assert rig.on_disk("a") == expected
    rig.start("fresh")
    rig.wait_ready("fresh")
    rig.processes["fresh"][0].terminate()
    assert rig.processes["fresh"][0].wait(PATIENCE_S) == 0
    assert rig.on_disk("fresh") == expected


def test_kills_at_random_lose_nothing_and_double_nothing(rig: Rig) -> None:
    """Two workers under load, one or the other killed with -9 every few seconds, twelve times."""
    draw = random.Random(os.environ.get("STREAMS_FAULTS"))
    names = ("a", "b")
    for name in names:
        rig.start(name)
    rig.wait_ready(*names)
    for number in range(12):
        rig.items(range(number * 150, number * 150 + 300), seed=number)
        time.sleep(draw.uniform(0, 4))
        victim = draw.choice(names)
        rig.processes[victim][0].kill()
        rig.processes[victim][0].wait()
        rig.start(victim)
    rig.wait_ready(*names)
    wait(rig.caught_up, 240, lambda: rig.log("a") + rig.log("b"))
    assert rig.changelogged() == rig.expected()
