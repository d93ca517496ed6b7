"""One small run of the whole fleet that is over, which these modules look at, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from deploy.local.stack import Stack
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.integration.small_run import SmallRun


@pytest.fixture(scope="package")
def run() -> Iterator[SmallRun]:
    """The run, its processes stopped. A test that tampers with what it left puts it back, or is the last."""
    # not above: a conftest is loaded before warnings of libraries are put aside
    from services.ops.verify.verify import verify_stack
    from tests.integration.small_run import SmallRun
    from tests.integration.views_of import watched

    stack = Stack.start(ROOT, f"test-{os.getpid()}-run")
    run = SmallRun(stack, {"GOODFAITH_RECONCILE_S": "1"})
    try:
        run.play()
        report = verify_stack(run.settings, wait_s=60)
        assert report.clean, report.kinds
        run.views = watched(run)
        run.freeze()
        run.fleet.stop()
        yield run
    finally:
        run.close()
        stack.destroy()
