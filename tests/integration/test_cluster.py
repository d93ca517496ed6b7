"""Three brokers that replicate each other: what two have acknowledged survives any one of them, and one alone acknowledges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from deploy.local.cluster import NODES
from deploy.local.stack import Stack
from tests.conftest import ROOT
from tests.left_out import own_processes
from tests.patience import PATIENCE_S

pytestmark = [
    pytest.mark.stack,
    pytest.mark.thorough,
    pytest.mark.timeout(600),
    own_processes,
]


@pytest.fixture
def three() -> Iterator[Stack]:
    stack = Stack(ROOT, f"test-{os.getpid()}-three")
    try:
        yield Stack.start(ROOT, stack.name, brokers=3)
    finally:
        stack.destroy()


def produce(stack: Stack, count: int, timeout_s: float = PATIENCE_S, *, idempotent: bool = True) -> list[bytes]:
    """What was acknowledged of so many records."""
    most_ms = int(timeout_s * 1000)
    # the client takes no delivery time that is shorter than a request's
    options: dict[str, Any] = {
        "delivery_timeout_ms": most_ms,
        "max_block_ms": most_ms,
        "request_timeout_ms": min(most_ms, 30_000),
        "enable_idempotence": idempotent,
    }
    found = []
    producer = KafkaProducer(bootstrap_servers=stack.kafka, acks="all", **options)
    try:
        for number in range(count):
            value = f"{os.urandom(4).hex()}-{number}".encode()
            try:
                producer.send("kept", value, partition=0).get(timeout=timeout_s + 5)
            except KafkaError:
                break
            found.append(value)
    finally:
        with suppress(KafkaError):
            producer.close(timeout=5)
    return found


def test_what_was_acknowledged_survives_and_one_alone_acknowledges_nothing(three: Stack) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=three.kafka)) as admin:
        kept = NewTopic("kept", 1, 3, topic_configs={"min.insync.replicas": "2"})
        admin.create_topics([kept], wait_for_metadata=True)
        (topic,) = admin.describe_topics(["kept"])
        leader = NODES[topic["partitions"][0]["leader_id"] - 1]
    others = [name for name in NODES if name != leader]
    before = produce(three, 20)
    assert len(before) == 20
    three.kill_kafka(leader)
    without = produce(three, 20)
    assert len(without) == 20, "another leads"
    three.kill_kafka(others[0])
    # its number would come from the controller, of which there is none: such a producer sends nothing at all
    assert produce(three, 1, timeout_s=8.0, idempotent=False) == [], "nobody else has it"
    three.start_kafka(leader, others[0])
    after = produce(three, 20)
    with closing(KafkaConsumer(bootstrap_servers=three.kafka, auto_offset_reset="earliest")) as consumer:
        place = TopicPartition("kept", 0)
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        there: list[bytes] = []
        while consumer.position(place) < end:
            there += [record.value for record in consumer.poll(timeout_ms=1_000).get(place, [])]
    known = {*before, *without, *after}
    assert [value for value in there if value in known] == [*before, *without, *after]
