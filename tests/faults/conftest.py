"""A stack for these tests alone: what others leave in a database is not ours to verify."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from tests.conftest import ROOT, _sweep

if TYPE_CHECKING:
    from tests.faults.pump import Pump


@pytest.fixture(scope="package")
def fleet() -> Iterator[Fleet]:
    """Everything up, with the settings of `goodfaith lab faults`."""
    # not before pytest is configured: kafka-python warns when it is loaded
    from deploy.local.up import prepare
    from labs.faults import load_run

    _sweep()
    stack = Stack.start(ROOT, f"test-{os.getpid()}-faults")
    try:
        prepare(stack, {**load_run.ENVIRONMENT, "GOODFAITH_PARTITIONS": "4"})
        yield Fleet.start(stack).wait_ready(180)
    finally:
        Fleet.end(stack.dir)
        stack.destroy()


@pytest.fixture
def pump(fleet: Fleet) -> Iterator[Pump]:
    """Claims that flow during a test."""
    from tests.faults.pump import Pump

    pump = Pump(fleet)
    yield pump
    pump.close()
