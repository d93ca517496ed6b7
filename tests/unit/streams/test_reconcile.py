"""Comparing at a common position: whatever comes in which batches, the counts are those of exactly that position."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.streams import reconcile, registry
from services.streams.fold import Partition, PositionPassed, Record
from services.streams.reconcile import Comparison, Snapshot
from shared.topics import ACCOUNTS, VERIFICATION
from tests.unit.streams.made import BEGIN, histories
from tests.unit.streams.test_fold import Store, run
from tools.contracts import CARRIES

LATER = BEGIN + dt.timedelta(days=3)


class Database:
    """Says what it was given."""

    def __init__(self, upto: int, counts: dict[str, int], behind: int = 0) -> None:
        self.truth = Snapshot(upto, LATER, counts)
        self.behind = behind

    def position(self, view: str, partition: int) -> int:
        """Behind for so many questions."""
        self.behind -= 1
        return -2 if self.behind >= 0 else self.truth.upto

    def snapshot(self, view: str, partition: int) -> Snapshot:
        """The truth."""
        return self.truth


def last(events: list[Record], upto: int) -> int:
    """Sequence of verification's last event among the first so many."""
    found = [int(event.meta.id.rpartition(".")[2]) for event in events[:upto] if event.topic == VERIFICATION.name]
    return max(found, default=-1)


async def compared(events: list[Record], size: int, here: int, there: int, counts: dict[str, int]) -> Comparison | None:
    """Fold ``here`` events, compare with a database at ``there``, and fold the rest in batches."""
    store, partition = Store(), Partition(0, registry.VIEWS)
    run([events[:here]], store, partition)
    asked = asyncio.create_task(reconcile.reconcile("items", partition, Database(last(events, there), counts, 1)))
    while not (partition._stops or asked.done()):
        await asyncio.sleep(0)
    rest = events[here:]
    for begin in range(0, len(rest), size):
        async with partition.lock:
            run([rest[begin : begin + size]], store, partition)
    return await asyncio.wait_for(asked, 5)


@settings(max_examples=25)
@given(histories(), st.data())
def test_counts_are_taken_exactly_there(events: list[Record], data: st.DataObject) -> None:
    here = data.draw(st.integers(0, len(events)))
    there = data.draw(st.integers(here, len(events)))
    counts = run([events[:there]]).totals["items"].counts(LATER)
    found = asyncio.run(compared(events, data.draw(st.integers(1, 9)), here, there, counts))
    assert found == Comparison("items", 0, last(events, there), 0)
    wrong = {**counts, "state/REJECTED": counts.get("state/REJECTED", 0) + 3}
    found = asyncio.run(compared(events, 3, here, there, wrong))
    assert found is not None
    assert (found.difference, list(found.differing)) == (3, ["state/REJECTED"])


def test_a_database_that_stays_behind_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "PATIENCE_S", 0.0)
    partition = Partition(0, registry.VIEWS)
    partition.positions["verification.0@verification.events"] = 7
    assert asyncio.run(reconcile.reconcile("items", partition, Database(6, {}))) is None


def test_a_position_that_lies_behind_is_told() -> None:
    async def ask() -> Any:
        partition = Partition(0, registry.VIEWS)
        partition.positions["verification.0@verification.events"] = 7
        return await partition.counts_at("items", "verification.0@verification.events", 6, LATER)

    with pytest.raises(PositionPassed):
        asyncio.run(ask())


def test_a_partition_that_is_given_up_ends_the_comparison_alone() -> None:
    shown: list[Any] = []

    async def go() -> None:
        partition = Partition(0, registry.VIEWS)
        rounds = reconcile.Reconciler(lambda: {0: partition}, Database(5, {}), lambda *found: shown.append(found))
        going = asyncio.create_task(rounds.round())
        for _ in reconcile.TRUTHS:
            while not partition._stops:
                await asyncio.sleep(0)
            partition.close()
            await asyncio.sleep(0)
        await asyncio.wait_for(going, 5)

    asyncio.run(go())
    assert shown == []


def test_an_accounts_place_in_the_log_is_looked_for_by_all_that_its_topic_carries() -> None:
    """When this fails: the index `event_log_accounts` has to be made again as well, by a migration."""
    assert set(reconcile.ACCOUNT_TYPES) == set(CARRIES[ACCOUNTS.name])
    index = Path("services/intake/migrations/versions/0001_initial.sql").read_text(encoding="utf-8")
    assert all(f"'{name}'" in index for name in reconcile.ACCOUNT_TYPES)
