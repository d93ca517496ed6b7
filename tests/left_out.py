"""A test that skips itself fails in CI, unless another command of CI runs it: a missing tool has to be installed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

ELSEWHERE = (
    "minutes long: make streams",
    "these are about containers: make test-docker",
    "broker or database come from elsewhere",  # in `make test-docker`; `make test` runs these on its own processes
    "no version before is here",  # a shallow clone has no history
)
"""How the reasons begin that are accepted in CI."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Report skipped tests as failed in CI."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    # an expected failure counts as skipped too, but has no reason of this form
    if not (os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    if not reason.startswith(ELSEWHERE):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}"
