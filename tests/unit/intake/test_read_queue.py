"""Turns at the reading threads: one caller cannot starve the rest, and nothing waits without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.kernel import read_queue as turns
from services.intake.kernel.read_queue import WAITING_MAX, WAITING_OF_ONE, Turns
from shared.refusals import Refused


class Work:
    """Holds turns until it is told to let go."""

    def __init__(self, of_one: int) -> None:
        self.turns = Turns(of_one)
        self.running: list[str | None] = []
        self.refused: list[int] = []
        self.go = asyncio.Event()

    async def _one(self, who: str | None) -> None:
        turns.caller.set(who)
        try:
            async with self.turns.turn():
                self.running.append(who)
                await self.go.wait()
                self.running.remove(who)
        except Refused as refused:
            self.refused.append(refused.status)

    def start(self, *whose: str | None) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._one(who)) for who in whose]


def run(work: Coroutine[Any, Any, None]) -> None:
    copy_context().run(asyncio.run, work)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_caller_takes_its_share_and_no_more() -> None:
    async def check() -> None:
        work = Work(2)
        tasks = work.start(*["flood"] * 60, "a", "b", None, None, None)
        await settle()
        assert sorted(work.running, key=str) == [None, None, None, "a", "b", "flood", "flood"]
        work.go.set()
        await asyncio.gather(*tasks)
        assert work.running == []
        assert not work.turns._lines
        assert work.turns._all == 0

    run(check())


def test_what_waits_is_bounded() -> None:
    async def check() -> None:
        work = Work(1)
        tasks = work.start(*["flood"] * (WAITING_OF_ONE + 3))
        await settle()
        assert work.refused == [429, 429]
        tasks += work.start(*[f"caller {n}" for n in range(WAITING_MAX)])
        await settle()
        assert work.refused.count(503) == WAITING_OF_ONE + 1
        work.go.set()
        await asyncio.gather(*tasks)
        assert not work.turns._lines

    run(check())


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=30), st.integers(1, 3))
def test_who_goes_away_leaves_its_place_to_others(asked: list[tuple[str, bool]], of_one: int) -> None:
    async def check() -> None:
        work = Work(of_one)
        tasks = work.start(*[who for who, _ in asked])
        await settle()
        for task, (_, gone) in zip(tasks, asked, strict=True):
            if gone:
                task.cancel()
        await settle()
        for who in "ab":
            left = sum(1 for one, gone in asked if one == who and not gone)
            running = work.running.count(who)
            # a cancelled one that had run is still in the list, as it did not come to its end
            assert running >= min(left, of_one)
        work.go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not work.turns._lines
        assert work.turns._all == 0

    run(check())


def test_a_refusal_says_when_to_come_again() -> None:
    async def check() -> None:
        work = Work(1)
        tasks = work.start(*["flood"] * (WAITING_OF_ONE + 1))
        await settle()
        turns.caller.set("flood")
        with pytest.raises(Refused) as caught:
            async with work.turns.turn():
                pass
        assert (caught.value.status, caught.value.retry_after) == (429, 1)
        work.go.set()
        await asyncio.gather(*tasks)

    run(check())
