"""Fixtures of all tests: Hypothesis profiles and the real stack."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from deploy.local.processes import Fleet
from deploy.local.stack import Stack

pytest_plugins = ("tests.left_out",)

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent / ".local"

# ci: the same examples in every run, so that a failure repeats; dev: new ones each time.
# No deadline: a busy machine is no failure of the code.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, except those of libraries that we cannot fix."""
    for ignored in (
        "ignore:(read|open)_text is deprecated:DeprecationWarning",  # kafka-python, loading its schemas
        "ignore:unclosed <(socket|ssl):ResourceWarning",  # kafka-python, after a refused connection
    ):
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(scope="session", autouse=True)
def collect_garbage() -> Iterator[None]:
    """Collect what libraries leave open while its warnings are ignored; after the last test all warnings are errors."""
    yield
    gc.collect()


FIRST = ("faults", "integration/test_runtime.py", "e2e", "integration", "unit")
"""Folders of tests, and a module that takes as long as one, the slowest first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start slow tests first, so that none is left at the end; long ones, of which CI may leave some out, last."""
    long = config.getoption("markexpr") == "thorough"
    items.sort(key=lambda item: (_timeout_s(item) if long else 0.0, _place(item)))


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(TESTS).as_posix()
    return next(place for place, start in enumerate(FIRST) if path.startswith(start))


def _timeout_s(item: pytest.Item) -> float:
    """The seconds that a test may take, if it declares them."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0.0


SHARED = ("tests/faults", "tests/e2e", "tests/integration/after_a_run")
"""Folders whose tests share a fleet."""


class ByFleet(LoadScopeScheduling):
    """With several processes, one of them runs a whole folder that shares a fleet, or else a whole module.

    xdist's own groups do nothing with pytest 9.2: xdist 3.8 writes them into `Node._nodeid`, which pytest no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder in SHARED else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFleet:
    """Distribute the tests by fleet."""
    return ByFleet(config, log)


def _sweep() -> None:
    """Destroy the stacks of test runs that were killed."""
    for folder in ROOT.glob("test-*"):
        pid = folder.name.removeprefix("test-").partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            Fleet.end(folder)
            Stack(ROOT, folder.name).destroy()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Broker and database of this session: those that the environment names, or a local stack, destroyed at the end."""
    _sweep()
    stack = Stack.start(ROOT, f"test-{os.getpid()}")
    yield stack
    Fleet.end(stack.dir)
    stack.destroy()
