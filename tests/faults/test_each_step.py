"""Every worker is killed at every step of its loop while claims flow; then a zombie."""

from __future__ import annotations

import signal
import time

import pytest

from deploy.local.processes import Fleet, Process
from tests.faults.pump import HANGS_S, Pump, clean
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.timeout(6 * HANGS_S)]

LOOP = ("after_poll", "before_commit", "after_commit", "after_produce", "before_offsets")
SENDER = ("after_take", "after_sending", "after_send", "before_commit", "after_commit")
# process -> (its worker's name, steps)
WORKERS = {
    "intake-worker.0": ("intake", LOOP),
    "intake-inbound.0": ("intake-inbound", LOOP),
    "verification.0": ("verification", LOOP),
    "enforcement-worker.0": ("enforcement", LOOP),
    "enforcement-ledger.0": ("enforcement-ledger", LOOP),
    "notification-worker.0": ("notification", LOOP),
    "notification-sender.0": ("notification-sender", SENDER),
    "marketplace.0": ("marketplace", LOOP),
}


def restart(process: Process, crash_at: str | None) -> None:
    process.env.pop("GOODFAITH_CRASH_AT", None)
    if crash_at is not None:
        process.env["GOODFAITH_CRASH_AT"] = crash_at
    process.terminate()
    process.start()


def test_killed_at_every_step(fleet: Fleet, pump: Pump) -> None:
    """All workers at once, each on its own way through its steps: as one dies, it starts again with the next."""
    left = {name: list(steps) for name, (_, steps) in WORKERS.items()}
    current: dict[str, str] = {}
    died: set[tuple[str, str]] = set()
    for number, name in enumerate(left):
        current[name] = left[name].pop(0)
        restart(fleet[name], f"{WORKERS[name][0]}:{current[name]}:{1 + number % 3}")
    until = time.monotonic() + 3 * HANGS_S
    while current:
        assert time.monotonic() < until, f"not reached: {current}"
        for name in list(current):
            if fleet[name].alive():
                continue
            step = current.pop(name)
            died.add((name, step))
            if left[name]:
                current[name] = left[name].pop(0)
                restart(fleet[name], f"{WORKERS[name][0]}:{current[name]}:{1 + len(left[name]) % 3}")
            else:
                restart(fleet[name], None)
        time.sleep(0.1)
    assert died == {(name, step) for name, (_, steps) in WORKERS.items() for step in steps}
    for name in WORKERS:
        # log lines are JSON: this one would be of a process that ended by an error, not by our hand
        assert "\nTraceback" not in fleet[name].log_path.read_text(), name
    pump.finish()
    clean(fleet)


def test_a_zombie_of_verification_writes_nothing(fleet: Fleet, pump: Pump) -> None:
    """SIGSTOP past the session timeout, a second worker takes over, SIGCONT: all is judged once."""
    zombie = fleet["verification.0"]
    time.sleep(2)
    zombie.signal(signal.SIGSTOP)
    second = Fleet.start(fleet.stack, {"verification": 2})["verification.1"]
    try:
        second.wait_ready(PATIENCE_S)
        time.sleep(3)
        zombie.signal(signal.SIGCONT)
        time.sleep(3)
        pump.finish()
        assert zombie.alive(), "the zombie lives on as an ordinary member"
    finally:
        zombie.signal(signal.SIGCONT)
        second.terminate()
    zombie.wait_ready(PATIENCE_S)
    clean(fleet)
