"""The session's fleet on a stack of its own, which these tests share, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from tests.conftest import ROOT

if TYPE_CHECKING:
    from labs.drills.alerts import PrometheusClient
    from labs.pager import Pager
    from tests.e2e.world import World

SPEED = 60
"""How much faster the rules' clock goes: what waits 15 minutes waits 15 seconds."""

ORDER = (
    "test_life_of_a_claim",
    "test_time_of_right",
    "test_fairness",
    "test_registry",
    "test_good_faith",
    "test_examples",
    "test_traces",
    "test_observed",
    "test_canary",
    "test_no_secrets",
    "test_hostile_records",
)
"""What looks at everything comes late, and what leaves rubbish behind last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules of this folder in their order, in the places that they have."""
    places = [place for place, item in enumerate(items) if item.path.parent.name == "e2e" and item.path.stem in ORDER]
    mine = sorted((items[place] for place in places), key=lambda item: ORDER.index(item.path.stem))
    for place, item in zip(places, mine, strict=True):
        items[place] = item


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """Broker, database and all processes, the clock standing; destroyed at the end."""
    # not above: a conftest is loaded before warnings of libraries are put aside
    from tests.e2e.world import World

    stack = Stack.start(ROOT, f"test-{os.getpid()}-e2e")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOODFAITH_STATE_DIR", str(ROOT))
            world = World(stack)
        yield world
        world.close()
    finally:
        Fleet.end(stack.dir)
        stack.destroy()


@pytest.fixture(scope="package")
def pager() -> Iterator[Pager]:
    """Where Alertmanager's notifications go."""
    from labs.pager import Pager

    with Pager() as pager:
        yield pager


@pytest.fixture(scope="package")
def observer(world: World, pager: Pager) -> Iterator[PrometheusClient]:
    """The real Prometheus, which looks at the whole fleet with our rules; CI must have it."""
    from deploy.local import prometheus
    from labs.drills.alerts import PrometheusClient

    if prometheus.missing() and not os.environ.get("CI"):
        pytest.skip("Prometheus is not installed")
    world.stack.observe(prometheus.Plan(scrape_s=1.0, speed=SPEED, sink=pager.url))
    observer = PrometheusClient(world.stack.observers()["prometheus"])
    yield observer
    observer.close()
