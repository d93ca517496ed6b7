"""Time of right on the real fleet: a command counts by when it was accepted, a timer by when it was due.

Reliability tests 27, 36, 39 and 40. Processes are stopped with SIGKILL; the clock stands and is stepped.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

import pytest

from deploy.local.processes import Fleet
from tests.e2e.world import COMPLETE, HOUR, World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
MICRO = dt.timedelta(microseconds=1)
INTAKE = ("intake-api", "intake-worker", "intake-inbound")


@pytest.fixture(scope="module", autouse=True)
def proved(world: World) -> Iterator[None]:
    """All that the outages have left behind agrees."""
    yield
    world.verify()


@pytest.fixture(scope="module")
def hen(world: World) -> str:
    """A verified right holder."""
    return world.account("h-hen")


@pytest.fixture(scope="module")
def mark(world: World, hen: str) -> str:
    """Its trademark."""
    return world.right(hen)


def at(moment: str) -> dt.datetime:
    return dt.datetime.fromisoformat(moment)


def test_intake_is_down_across_a_deadline(world: World, hen: str, mark: str) -> None:
    """What reached the upstream's topic in time is in time, though intake was away for an hour around the deadline."""
    seller = world.account("s-kim", "seller")
    claim = world.file(hen, mark, world.offer(seller, "kim-1", "kim-2", "kim-3"))
    countered, silent, late = claim.items
    (due,) = {world.notified(item)["due"] for item in claim.items}
    world.to(at(due) - HOUR / 2)
    world.settle()
    world.kill(*INTAKE)
    world.relay("kim-counter", "counter", seller, item=countered, **COMPLETE)
    time.sleep(1.2)  # the broker's clock is trusted to half a second
    world.to(at(due) + HOUR / 2)
    time.sleep(1.2)
    world.relay("kim-late", "counter", seller, item=late, **COMPLETE)
    # nobody loses a right through our outage
    stored = dict(world.rows("select item, state from verification.items where claim = %s", claim.id))
    assert set(stored.values()) == {"NOTIFIED"}

    world.start(*INTAKE)
    world.reach(silent, "UPHELD_BY_DEFAULT")
    world.reach(countered, "HOLDER_RESPONSE")
    world.reach(late, "HOLDER_RESPONSE")
    # as it happened: by default as of the deadline, and the late one after that
    moments = {c["what"]: (c["item"], c["at"]) for c in world.timeline(claim) if c["what"] == "upheld_by_default"}
    assert moments["upheld_by_default"][1] == due
    assert not [c for c in world.timeline(claim, countered) if c["what"] == "upheld_by_default"]
    assert [c["at"] for c in world.timeline(claim, late) if c["what"] == "upheld_by_default"] == [due]
    for item in (countered, late):
        world.do(hen, item, "response", {"accept": True})
        world.reach(item, "RESTORED")


@pytest.mark.parametrize("away", ["intake-worker", "verification"])
def test_the_last_instant_counts(world: World, hen: str, mark: str, away: str) -> None:
    """A counter accepted an instant before the deadline and processed six hours after it wins over the timer."""
    seller = world.account(f"s-lee-{away}", "seller")
    claim = world.file(hen, mark, world.offer(seller, f"lee-{away}-1", f"lee-{away}-2"))
    countered, silent = claim.items
    (due,) = {world.notified(item)["due"] for item in claim.items}
    world.settle()
    world.to(at(due) - MICRO)
    world.kill(away)
    command = world.do(seller, countered, "counter", COMPLETE)
    assert world.call(seller, "GET", f"/v1/commands/{command}")["accepted_at"] < due
    world.to(at(due) + 6 * HOUR)
    time.sleep(0.5)
    world.start(away)
    world.reach(silent, "UPHELD_BY_DEFAULT")
    world.reach(countered, "HOLDER_RESPONSE")
    assert not [c for c in world.timeline(claim, countered) if c["what"] == "upheld_by_default"]
    assert [c["at"] for c in world.timeline(claim, silent) if c["what"] == "upheld_by_default"] == [due]
    world.do(hen, countered, "response", {"accept": True})
    world.reach(countered, "RESTORED")


def test_the_sweeper_is_late(world: World, hen: str, mark: str) -> None:
    """39: verification down for six hours over the 24-hour target: the miss is stamped at the deadline, not at the sweep."""
    seller = world.account("s-mia", "seller")
    links = world.offer(seller, "mia-1")
    world.settle()
    world.kill("enforcement-worker")  # no receipt, so the item is not handled
    claim = world.file(hen, mark, links)
    (item,) = claim.items
    target = at(world.reach(item, "NOTIFIED", sla_due=...)["sla_due"])
    world.to(target - HOUR)
    time.sleep(0.5)
    assert world.item(item)["sla"] is None
    world.kill("verification")
    world.to(target + 5 * HOUR)
    world.start("verification")
    world.reach(item, "NOTIFIED", sla="missed")
    assert [at(c["at"]) for c in world.timeline(claim, item) if c["what"] == "overdue"] == [target]
    world.start("enforcement-worker")
    assert world.notified(item)["sla"] == "missed"
    assert [c["what"] for c in world.timeline(claim, item)].count("overdue") == 1


def test_two_sweepers_at_once(world: World, hen: str, mark: str) -> None:
    """40: a second verification worker comes and one goes while forty windows end: each ends once, at its own time."""
    seller = world.account("s-ned", "seller")
    claim = world.file(hen, mark, world.offer(seller, *[f"ned-{number}" for number in range(40)]))
    world.until(lambda: world.states(claim) == {"NOTIFIED": 40})
    world.settle()
    due = world.notified(claim.items[0])["due"]
    both = Fleet.start(world.stack, {"verification": 2})
    world.past(due)
    both["verification.1"].wait_ready(180)
    world.fleet["verification.0"].kill9()
    world.until(lambda: world.states(claim) == {"UPHELD_BY_DEFAULT": 40})
    world.start("verification")
    both["verification.1"].terminate()
    ends = [c for c in world.timeline(claim) if c["what"] == "upheld_by_default"]
    assert sorted(c["item"] for c in ends) == sorted(claim.items)
    assert {c["at"] for c in ends} == {due}
