"""Workers own what there is: while a topic is missing, next to a member that hands out nothing, and when there are too many of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, NewPartitions
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from deploy.local.stack import Stack
from shared import topics
from tests.integration.test_runtime import PARTITIONS, Rig
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
OTHER = topics.NOTIFICATION.name
OUTSIDE = topics.MARKETPLACE_LISTINGS.name


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(stack, tmp_path)
    yield rig
    rig.close()


def shown(rig: Rig, name: str, topic: str = "") -> float:
    """A metric, summed over the workers."""
    return sum(rig.shown(number).get((name, topic), 0.0) for number in range(len(rig.processes)))


@contextmanager
def load(rig: Rig) -> Iterator[list[int]]:
    """Records sent the whole time, at some tens a second; their numbers."""
    sent: list[int] = []
    enough = threading.Event()

    def send() -> None:
        while not enough.wait(0.02):
            rig.send(len(sent))
            sent.append(len(sent))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("seconds", [1, 5, pytest.param(60, marks=[pytest.mark.thorough, pytest.mark.timeout(300)])])
def test_a_topic_that_is_missing_for_a_while(rig: Rig, seconds: int) -> None:
    """Both workers keep their partitions, read the other topic on, and find the new topic when it comes."""
    workers = [rig.start(also=(OTHER,)), rig.start(also=(OTHER,))]
    name = rig.settings.topic_prefix + OTHER
    admin: Any = KafkaAdminClient(bootstrap_servers=rig.stack.kafka)
    with load(rig) as sent:
        rig.until(lambda: rig.count() > 50 and shown(rig, "consumer_assigned_partitions") == PARTITIONS)
        admin.delete_topics([name])
        rig.until(lambda: name not in admin.list_topics())
        until, before = time.monotonic() + seconds, len(sent)
        rig.until(lambda: rig.count() > before)
        time.sleep(max(until - time.monotonic(), 0))
        rig.until(lambda: name in topics.create(rig.settings) or name in admin.list_topics())
        rig.until(lambda: shown(rig, "unread_gone_partitions", OTHER) == PARTITIONS, 90)
        before = len(sent)
        rig.until(lambda: rig.count() > before)
    admin.close()
    rig.until(lambda: rig.count() == len(sent))
    rig.check(range(len(sent)))
    assert [worker.poll() for worker in workers] == [None, None]
    rig.until(lambda: shown(rig, "missing_topics") == 0)
    assert shown(rig, "consumer_assigned_partitions") == PARTITIONS
    if seconds >= 5:
        assert "topic is missing" in rig.logs()


class Grudging(RangePartitionAssignor):  # type: ignore[misc]
    """A leader as older versions may be: it hands out nothing the first times, as if it did not know the topics."""

    left = 2

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        others = len(members) > 1
        if others and cls.left:
            cls.left -= 1
            return {one.member_id: ConsumerProtocolAssignment(0, [], b"") for one in members}
        return super().assign(cluster, members)


def test_a_worker_that_was_given_nothing_joins_again_and_says_so(rig: Rig) -> None:
    """Its group is stable and it gets heartbeats answered: nothing but its own look tells it."""
    leader: Any = KafkaConsumer(
        bootstrap_servers=rig.stack.kafka,
        group_id=rig.settings.topic_prefix + "echo",
        enable_auto_commit=False,
        partition_assignment_strategy=[Grudging],
        session_timeout_ms=6_000,
        heartbeat_interval_ms=300,
    )
    leader.subscribe([rig.settings.topic_prefix + topics.INTAKE.name])
    enough = threading.Event()

    def lead() -> None:
        while not enough.is_set():
            leader.poll(timeout_ms=500)

    thread = threading.Thread(target=lead, daemon=True)
    thread.start()
    try:
        rig.until(lambda: len(leader.assignment()) == PARTITIONS)
        rig.start()
        rig.until(lambda: shown(rig, "consumer_assigned_partitions") == PARTITIONS / 2, 90)
    finally:
        enough.set()
        thread.join()
        leader.close()
    assert Grudging.left == 0
    assert shown(rig, "consumer_rejoins_total") >= 1
    assert "partitions without owner: [0, 1, 2, 3]: joining again" in rig.logs()
    for number in range(100):
        rig.send(number)
    rig.until(lambda: rig.count() == 100, 90)
    rig.check(range(100))


def test_a_worker_for_which_no_partition_is_left_stays_and_waits(rig: Rig) -> None:
    for _ in range(PARTITIONS + 1):
        rig.start()

    def owned() -> list[float]:
        return sorted(
            rig.shown(number).get(("consumer_assigned_partitions", ""), -1.0) for number in range(len(rig.processes))
        )

    rig.until(lambda: owned() == [0.0, *[1.0] * PARTITIONS], 90)
    looked = sum(rig.shown(number)["consumer_rebalances_total", ""] for number in range(len(rig.processes)))
    # with a session timeout of 2 s it looks after 6
    time.sleep(10)
    assert shown(rig, "consumer_rejoins_total") == 0
    assert sum(rig.shown(number)["consumer_rebalances_total", ""] for number in range(len(rig.processes))) == looked
    # it takes over as soon as one goes
    loser = next(n for n in range(len(rig.processes)) if rig.shown(n)["consumer_assigned_partitions", ""] == 1.0)
    rig.processes[loser].terminate()
    assert rig.processes[loser].wait(PATIENCE_S) == 0
    for number in range(100):
        rig.send(number)
    rig.until(lambda: rig.count() == 100, 90)


def test_partitions_added_to_a_topic_of_ours_stop_nobody(rig: Rig) -> None:
    rig.start(also=(OTHER, OUTSIDE))
    name = rig.settings.topic_prefix + OTHER
    admin: Any = KafkaAdminClient(bootstrap_servers=rig.stack.kafka)
    with load(rig) as sent:
        rig.until(lambda: rig.count() > 20)
        admin.create_partitions({name: NewPartitions(2 * PARTITIONS)})
        second = rig.start(also=(OTHER, OUTSIDE))
        rig.until(lambda: rig.shown(1).get(("consumer_assigned_partitions", "")) == PARTITIONS / 2)
        before = len(sent)
        rig.until(lambda: rig.count() > before)
    admin.close()
    rig.until(lambda: rig.count() == len(sent))
    rig.check(range(len(sent)))
    assert second.poll() is None


def test_partitions_added_to_a_topic_from_outside_stop_its_readers_which_say_why(rig: Rig) -> None:
    """Its writers spread keys over all of them: going on would pass over what nobody reads."""
    reader = rig.start(also=(OUTSIDE,))
    for number in range(50):
        rig.send(number)
    rig.until(lambda: rig.count() == 50)
    admin: Any = KafkaAdminClient(bootstrap_servers=rig.stack.kafka)
    admin.create_partitions({rig.settings.topic_prefix + OUTSIDE: NewPartitions(2 * PARTITIONS)})
    admin.close()
    rig.until(
        lambda: f"{OUTSIDE} has {2 * PARTITIONS} partitions, GOODFAITH_PARTITIONS is {PARTITIONS}" in rig.logs(), 90
    )
    assert reader.poll() is None, "it waits for the topic to be created again"
    rig.send(50)
    time.sleep(3)
    assert rig.count() == 50
