"""The worker where the group, the broker or a retention comes between: partitions taken away amid a step, records deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError
from aiokafka.errors import KafkaError as AioKafkaError
from faust.types import TP
from kafka.errors import InvalidReplicationFactorError

from services.streams import generations, tables
from services.streams.app import REFILL, Consumer
from services.streams.changelog import WriteAbandoned
from services.streams.fold import topic_source
from services.streams.ownership import Links, OwnedPartition, Ownership
from services.streams.reading import STALLED_S, Reading
from services.streams.registry import VIEWS
from services.streams.steps import Steps
from services.streams.worker import Worker
from shared.settings import Settings
from shared.topics import INTAKE, VIOLATIONS

CHANGELOG = TP("log", 0)


class Db(dict[bytes, bytes]):
    """A table in memory."""

    writes = 0

    def items(self) -> Any:
        """An iterator, as RocksDB's."""
        return iter(list(super().items()))

    def write(self, _batch: Any) -> None:
        """Only counted."""
        self.writes += 1


class FakeOwnership(Ownership):
    """Ownership whose loading can be interrupted."""

    loading: Callable[[], None] = staticmethod(lambda: None)

    async def load(self, number: int, persisted: int | None) -> OwnedPartition:
        part = await super().load(number, persisted)
        self.loading()
        return part


class FakeReading(Reading):
    """Reading that only records its seeks."""

    def __init__(self, ownership: Ownership, fail: Callable[[BaseException], None]) -> None:
        super().__init__(ownership, fail)
        self.sought_at: list[tuple[str, int]] = []

    def seek(self, part: OwnedPartition, name: str, offset: int) -> None:
        self.sought_at.append((name, offset))


class FakeWorker(Worker):
    """A worker on a made-up group, broker and table: one partition, assigned in generation 5."""

    def __init__(self, persisted: int | None = None, highwater: int | None = None, refill: bool = False) -> None:
        super().__init__(Settings(partitions=1))  # type: ignore[call-arg, unused-ignore]
        self.db = Db()
        self.firsts, self.ends_at = 0, 0
        self.away = False
        self.assigned: set[TP] = {CHANGELOG}
        self.written: list[Any] = []
        self.ownership: FakeOwnership = FakeOwnership(self.settings, VIEWS, self.health)
        self.reading: FakeReading = FakeReading(self.ownership, self.fail)
        self.steps = Steps(self.ownership, self.reading, lambda _step: None)
        recovery = SimpleNamespace(
            active_tps={CHANGELOG},
            active_highwaters={CHANGELOG: highwater},
            _generation_id=5,
            signal_recovery_start=asyncio.Event(),
        )
        consumer = SimpleNamespace(assignment=lambda: self.assigned, _commit=self._take_commit)
        self.app = SimpleNamespace(
            consumer_generation_id=5, tables=SimpleNamespace(recovery=recovery), consumer=consumer, crash_reason=None
        )
        data = SimpleNamespace(persisted_offset=lambda _tp: persisted, _db_for_partition=lambda _number: self.db)
        self.changelog = SimpleNamespace(topic="log", ends={}, write=self._append)
        outside = SimpleNamespace(beginning_offsets=self._firsts, end_offsets=self._ends)
        self.names = {name: name for name in self._topics} | ({"refill": REFILL} if refill else {})
        self.ownership.links = Links(self.app, SimpleNamespace(data=data), self.changelog, outside, self.names)

    async def _take_commit(self, offsets: Any) -> bool:
        return bool(offsets)

    async def _append(self, _number: int, rows: Any, going_on: Callable[[], bool]) -> int:
        if not going_on():
            raise WriteAbandoned
        self.written.append(rows)
        self.ownership.loading()
        return 7

    async def _firsts(self, tps: Any) -> dict[Any, int]:
        if self.away:
            raise KafkaConnectionError
        return dict.fromkeys(tps, self.firsts)

    async def _ends(self, tps: Any) -> dict[Any, int]:
        self.ownership.loading()
        return dict.fromkeys(tps, self.ends_at)

    def rebalance(self) -> None:
        """The group assigns partitions again."""
        self.app.consumer_generation_id = 6

    def own(self) -> OwnedPartition:
        """The partition, recovered."""
        part = OwnedPartition(0, VIEWS)
        part.generation, part.filled = 5, REFILL not in self.names.values()
        self.ownership.parts, self.ownership.open = {0: part}, frozenset({0})
        return part


def run(made: FakeWorker, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """In a loop; what ended the worker, if anything did, is in ``made._ended``."""

    async def go() -> Any:
        made._ended = asyncio.get_running_loop().create_future()
        return await work()

    return asyncio.run(go())


def failed(made: FakeWorker) -> bool:
    """Whether it is to start again."""
    assert made._ended is not None
    return made._ended.done()


def test_a_changelog_of_one_record_is_not_an_empty_one() -> None:
    made = FakeWorker(persisted=0, highwater=0)
    run(made, made._recovered)
    assert not failed(made)
    assert made.changelog.ends == {0: 1}
    assert made.ownership.parts[0].generation == 5


@pytest.mark.parametrize("beyond", [8, 9])
def test_a_table_is_discarded_only_when_it_is_ahead_of_the_broker(beyond: int) -> None:
    """What was known of the changelog's end may be old."""
    made = FakeWorker(persisted=8, highwater=3)
    made.ends_at = beyond
    run(made, made._recovered)
    assert made.ownership.discard is (beyond == 8)
    assert made.changelog.ends == ({} if beyond == 8 else {0: 9})


@pytest.mark.parametrize("persisted", [None, 8])
def test_a_take_over_that_is_overtaken_opens_and_discards_nothing(persisted: int | None) -> None:
    made = FakeWorker(persisted=persisted, highwater=3)
    made.ownership.loading = made.rebalance
    run(made, made._recovered)
    assert (made.ownership.open, made.ownership.parts, made.ownership.discard, failed(made)) == (
        frozenset(),
        {},
        False,
        False,
    )


def test_a_take_over_that_begins_after_the_next_rebalance_does_nothing() -> None:
    made = FakeWorker()
    made.rebalance()
    run(made, made._recovered)
    assert made.ownership.open == frozenset()


def test_a_step_that_outlives_its_partition_writes_no_table() -> None:
    made = FakeWorker()
    part = made.own()
    made.ownership.loading = made.rebalance
    assert not run(made, lambda: made.steps.write(part, [], part.read, [], ()))
    assert made.written, "the changelog took it"
    assert made.db.writes == 0
    assert part.torn, "so it is loaded again"
    assert not run(made, lambda: made.steps.write(part, [], part.read, [], ()))
    assert len(made.written) == 1, "and nothing more is written"


def test_only_who_has_the_partition_is_confirmed() -> None:
    made = FakeWorker()
    made.own()
    made.assigned = {CHANGELOG, TP(INTAKE.name, 0)}
    assert run(made, lambda: made.ownership.confirmed(0))
    made.assigned = {TP(INTAKE.name, 0)}
    assert not run(made, lambda: made.ownership.confirmed(0))
    made.assigned = set()
    assert not run(made, lambda: made.ownership.confirmed(0))


def test_a_step_without_anything_new_writes_nothing() -> None:
    made = FakeWorker()
    made.own().read.next[INTAKE.name] = 4
    repeated = SimpleNamespace(topic=INTAKE.name, offset=3)
    run(made, lambda: made.steps.step(0, [repeated]))
    assert not made.written


def test_a_torn_partition_that_stays_ours_is_loaded_anew() -> None:
    made = FakeWorker()
    part = made.own()
    made.assigned = {CHANGELOG, TP(INTAKE.name, 0)}
    part.torn = made.ownership.suspect = True
    run(made, made.ownership.clear_up)

    async def mend() -> None:
        async with part.fold.lock:
            made._restart_if_torn()
            assert not failed(made), "a step has it in hand"
        made._restart_if_torn()

    run(made, mend)
    assert failed(made)


@pytest.mark.parametrize("nothing", [False, True])
def test_what_was_deleted_is_not_waited_for(nothing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes of other partitions."""
    made = FakeWorker()
    part = made.own()
    made.ends_at = made.firsts = 0 if nothing else 9
    now = 1000.0
    monkeypatch.setattr("services.streams.reading.time.monotonic", lambda: now)
    run(made, made.reading.look)
    now += STALLED_S + 1
    made.ownership.folded_at = now
    run(made, made.reading.look)
    assert made.reading.sought_at == ([] if nothing else [(name, 9) for name in made.names])
    assert part.fold.positions.get(topic_source(VIOLATIONS.name), -1) == (-1 if nothing else 8)
    assert part.read.missed == (0 if nothing else 9 * len(made.names))


def test_what_a_refill_brings_is_not_missed_and_what_it_does_not_is() -> None:
    made = FakeWorker(refill=True)
    part = made.own()
    made.reading.miss(part, part.read, INTAKE.name, 9)
    assert part.read.missed == 0
    made.reading.miss(part, part.read, INTAKE.name, 12)
    assert part.read.missed == 3


def test_a_partition_is_compared_when_its_refill_is_folded() -> None:
    made = FakeWorker(refill=True)
    part = made.own()
    made.ends_at = 5
    run(made, made.reading.look)
    assert not made.filled()
    part.read.next[REFILL] = 5
    run(made, made.reading.look)
    assert list(made.filled()) == [0]


def test_a_topic_that_begins_anew_is_counted_anew() -> None:
    made = FakeWorker()
    part = made.own()
    part.read.next[VIOLATIONS.name] = 9
    part.fold.positions[topic_source(VIOLATIONS.name)] = 8
    run(made, lambda: made.reading.restart(part, VIOLATIONS.name))
    assert topic_source(VIOLATIONS.name) not in part.fold.positions
    made.db[tables.READ] = tables.encode(tables.ReadPositions({VIOLATIONS.name: 3}))
    made.db[b"positions\x000/" + topic_source(VIOLATIONS.name).encode()] = tables.encode([8])
    loaded = run(made, lambda: made.ownership.load(0, None))
    assert loaded.fold.positions[topic_source(VIOLATIONS.name)] == 2


def test_a_broker_that_is_away_makes_no_record_follow() -> None:
    made = FakeWorker()
    part = made.own()
    made.away = True
    message = SimpleNamespace(tp=TP(INTAKE.name, 0), offset=4)
    assert not run(made, lambda: made.reading.follows(part, part.read.copy(), INTAKE.name, message))
    assert made.reading.sought_at == [(INTAKE.name, 0)]


def test_a_broker_that_is_away_at_the_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_settings: Settings) -> int:
        raise InvalidReplicationFactorError

    monkeypatch.setattr(generations, "current", refuse)
    assert asyncio.run(FakeWorker().run()) is False


def test_a_member_whose_membership_ended_in_an_error_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends() -> None:
        raise AioKafkaError("no broker was known")

    async def scenario() -> None:
        membership = asyncio.ensure_future(ends())
        coordinator = SimpleNamespace(_coordination_task=membership, _error_consumed_fut=None, _pending_exception=None)
        coordinator.check_errors = partial(GroupCoordinator.check_errors, coordinator)
        member = Consumer.__new__(Consumer)
        member._thread = SimpleNamespace(_consumer=SimpleNamespace(_coordinator=coordinator))
        member.check_group()  # it has not ended yet

        worker = FakeWorker()
        worker._ended = asyncio.get_running_loop().create_future()
        worker.app.consumer.check_group = member.check_group
        monkeypatch.setattr("services.streams.worker.LOOK_S", 0)
        watching = asyncio.ensure_future(worker._watch())
        assert await asyncio.wait_for(worker._ended, 5) == "failed"
        watching.cancel()

    asyncio.run(scenario())
