"""Where topics begin and end, asked of the real broker by one consumer again and again."""

from __future__ import annotations

import uuid

import pytest
from kafka import TopicPartition

from deploy.local.stack import Stack
from shared import kafka_links, topics
from shared.settings import Settings

pytestmark = pytest.mark.stack


def test_topics_that_a_consumer_has_not_heard_of_are_answered_for_beside_others(stack: Stack) -> None:
    settings = Settings(kafka=stack.kafka, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3)
    topics.create(settings)
    known, *others = (
        [TopicPartition(settings.topic_prefix + topic.name, number) for number in range(3)]
        for topic in (topics.INTAKE, topics.VERIFICATION, topics.LEDGER)
    )
    consumer = kafka_links.consumer(settings, enable_auto_commit=False)
    try:
        assert consumer.end_offsets(known) == dict.fromkeys(known, 0)
        for places in others:
            assert consumer.beginning_offsets([*known, *places]) == dict.fromkeys([*known, *places], 0)
    finally:
        consumer.close()
