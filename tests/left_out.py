"""Which tests may be skipped in CI: those that another CI step runs, and those for which no time is left.

A missing tool is no reason: install it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from deploy.local.stack import ENVIRONMENT

END = "GOODFAITH_TESTS_END"
"""The variable with the Unix time in seconds after which no test may start."""
LATE = "no time left"
ACCEPTED = (
    LATE,
    "minutes long: make streams",
    "these are about containers: make test-docker",
    "broker or database come from elsewhere",  # in `make test-docker`; `make test` runs these on its own processes
    "no version before is here",  # nothing is released, or the clone has no tags
)
"""Prefixes of the reasons accepted in CI."""

own_processes = pytest.mark.skipif(
    any(os.environ.get(name) for name in (*ENVIRONMENT.values(), "GOODFAITH_STACK")),
    reason="broker or database come from elsewhere; these tests are about our own processes",
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start no test and no fixture after the end."""
    if time.time() > float(os.environ.get(END) or "inf"):
        pytest.skip(LATE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Report skipped tests as failed in CI, unless the reason is accepted."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    # an expected failure is reported as skipped too, without such a reason
    if not (os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    if not reason.startswith(ACCEPTED):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}"
