"""Fixtures of all tests: Hypothesis profiles and the real stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from deploy.local.processes import Fleet
from deploy.local.stack import Stack

ROOT = Path(__file__).resolve().parents[1] / ".local"

# ci: the same examples in every run, so that a red build is red again; dev: new ones each time.
# No deadline in either: other work on two cores is no failure of the code.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for those of libraries that we cannot mend."""
    for ignored in (
        "ignore:(read|open)_text is deprecated:DeprecationWarning",  # kafka-python, when it loads its schemas
        "ignore:unclosed <socket:ResourceWarning",  # kafka-python, after a connection that was refused
    ):
        config.addinivalue_line("filterwarnings", ignored)


def _sweep() -> None:
    """Destroy the stacks of test runs that were killed before they could do it."""
    for folder in ROOT.glob("test-*"):
        pid = folder.name.removeprefix("test-").partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            Fleet.end(folder)
            Stack(ROOT, folder.name).destroy()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A broker and a database for this session: what the environment names, else a local stack, destroyed at the end."""
    _sweep()
    stack = Stack.start(ROOT, f"test-{os.getpid()}")
    yield stack
    Fleet.end(stack.dir)
    stack.destroy()
