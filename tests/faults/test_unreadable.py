"""A record that cannot be read. The last file of this folder: its dead letters stay in the stack, and verify reports them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kafka import KafkaProducer

from deploy.local.fleet import settings_of
from deploy.local.processes import Fleet
from services.ops.verify.verify import Report, verify_stack
from shared import topics
from tests.faults.pump import HANGS_S, Pump

pytestmark = [pytest.mark.faults, pytest.mark.stack, pytest.mark.timeout(4 * HANGS_S)]


def test_a_record_that_nobody_can_read_takes_no_process_down(fleet: Fleet, pump: Pump) -> None:
    """It becomes a dead letter and blocks its key in every worker that reads it; all else goes on."""
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
    assert report.counts["problems"] > 0, "it is a dead letter, and verify says so"
    assert {kind["kind"] for kind in report.kinds} <= {"dead-letter", "foreign-record"}, report.kinds
