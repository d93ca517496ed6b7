"""Every worker is killed at every step of its loop while claims flow; then a zombie, and a record that nobody can read."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from deploy.local.fleet import settings_of
from deploy.local.processes import Fleet, Process
from services.operator.faults import Faults, Plan, Submitter
from services.operator.verify import Report, verify_stack
from shared import topics

pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.timeout(600)]

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
_names = itertools.count()


class Pump:
    """Files small claims, by HTTP and by topic, and acts on them, until told to stop; keeps the outside record."""

    def __init__(self, fleet: Fleet) -> None:
        self.run = Faults(fleet.stack, fleet, Plan(4000, 3, f"p{next(_names)}"))
        self.run.prepare()
        self._stop = threading.Event()
        self._submitter = Submitter(self.run.plan, self.run.settings, self.run.tokens, rate=15, step=lambda: None)
        claims = self.run.plan.claims()
        self.run.plan.claims = lambda: itertools.takewhile(lambda _: not self._stop.is_set(), claims)  # type: ignore[method-assign]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._submitter.run(lambda _: None)))
        self._thread.start()

    def finish(self) -> None:
        """File no more; wait until all is answered and at rest; nothing may be lost or double."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "requests stay unanswered"
        self.run.fleet.wait_ready(60)
        self.run.settle(120)
        lost, doubled = self.run.compare(self._submitter.record)
        assert (lost, doubled, self._submitter.record.contradictions) == ([], [], [])
        self.run.close()


@pytest.fixture
def pump(fleet: Fleet) -> Iterator[Pump]:
    pump = Pump(fleet)
    yield pump
    pump._stop.set()
    pump._thread.join(60)


def clean(fleet: Fleet) -> None:
    report = verify_stack(settings_of(fleet.stack))
    assert report.clean, report.kinds


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
    until = time.monotonic() + 240
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
    pump.finish()
    clean(fleet)


def test_a_zombie_of_verification_writes_nothing(fleet: Fleet, pump: Pump) -> None:
    """SIGSTOP past the session timeout, a second worker takes over, SIGCONT: all is judged once."""
    zombie = fleet["verification.0"]
    time.sleep(2)
    zombie.signal(signal.SIGSTOP)
    second = Fleet.start(fleet.stack, {"verification": 2})["verification.1"]
    try:
        second.wait_ready(90)
        time.sleep(3)
        zombie.signal(signal.SIGCONT)
        time.sleep(3)
        pump.finish()
        assert zombie.alive(), "the zombie lives on as an ordinary member"
    finally:
        zombie.signal(signal.SIGCONT)
        second.terminate()
    zombie.wait_ready(60)
    clean(fleet)


def test_a_record_that_nobody_can_read_takes_no_process_down(fleet: Fleet, pump: Pump) -> None:
    """It is parked with its key, in every worker that reads it; all else goes on."""
    settings = settings_of(fleet.stack)
    pids = {process.name: process.pid for process in fleet}
    producer: Any = KafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    for topic in (topics.INTAKE, topics.VERIFICATION):
        producer.send(settings.topic_prefix + topic.name, key=b"poisoned", value=b'{"specversion":"1.0",', partition=0)
    producer.close()
    time.sleep(5)
    pump.finish()
    assert {process.name: process.pid for process in fleet if process.alive()} == pids, "something was restarted"
    report: Report = verify_stack(settings)
    assert (report.counts["lost"], report.counts["doubled"]) == (0, 0), report.kinds
    assert report.counts["problems"] > 0, "it is parked, and verify says so"
    assert {kind["kind"] for kind in report.kinds} <= {"parked", "foreign-record"}, report.kinds
