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
        "ignore:unclosed <(socket|ssl):ResourceWarning",  # kafka-python, after a connection that was refused
    ):
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(scope="session", autouse=True)
def put_aside() -> Iterator[None]:
    """What is ignored is met while it is ignored: once the last test has ended all warnings are errors again."""
    yield
    gc.collect()


FIRST = ("faults", "e2e", "integration", "unit")
"""Folders by how long their tests take: what is long must not begin last."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first."""
    items.sort(key=lambda item: FIRST.index(item.path.relative_to(TESTS).parts[0]))


SHARED = ("tests/faults", "tests/e2e", "tests/integration/after_a_run")
"""Folders whose tests share a fleet."""


class ByFleet(LoadScopeScheduling):
    """When tests are run by several processes, one of them runs a folder that shares a fleet whole, else a module.

    Not by xdist's own groups: with pytest 9.2 they do nothing (xdist 3.8 writes them into `Node._nodeid`, which is read no more).
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder in SHARED else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFleet:
    """Hand the tests out by fleet."""
    return ByFleet(config, log)


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
