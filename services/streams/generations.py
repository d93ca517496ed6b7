"""Generations of the tables. Each has its own changelog and consumer group; workers use the highest that exists."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from services.streams.app import REFILL, TABLE, app_id, changelog_topic, refill_topic
from services.streams.registry import VIEWS
from shared import kafka_links, topics
from shared.failures import Unavailable
from shared.settings import Settings

_CLIENT: Final = "goodfaith-streams"


class LogRow(NamedTuple):
    """A row from a service's event log."""

    topic: str
    key: str
    target: int
    payload: str
    recorded_wall: dt.datetime


class NotReady(Unavailable):
    """Topics are missing or have the wrong number of partitions: ``goodfaith migrate`` has not run."""


def _admin(settings: Settings) -> Any:
    return kafka_links.admin(settings, client_id=_CLIENT)


def of_topics(settings: Settings, names: set[str]) -> list[int]:
    """The generations with a changelog among these topics, in order."""
    pattern = re.compile(re.escape(settings.topic_prefix) + r"streams-(\d{1,9})-" + TABLE + "-changelog")
    return sorted(int(found[1]) for name in names if (found := pattern.fullmatch(name)))


def newest(settings: Settings) -> int:
    """The highest generation, or 0 if there is none.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    admin = _admin(settings)
    try:
        return max(of_topics(settings, set(admin.list_topics())), default=0)
    finally:
        admin.close()


def current(settings: Settings) -> int:
    """The generation to work on. Creates the first one.

    Raises:
        NotReady: a topic is missing or has the wrong number of partitions.
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    admin = _admin(settings)
    try:
        names = set(admin.list_topics())
        wanted = {settings.topic_prefix + topic.name for view in VIEWS for topic in view.reads}
        if missing := sorted(wanted - names):
            raise NotReady(f"no topic {missing[0]}: run goodfaith migrate")
        for found in admin.describe_topics(sorted(wanted)):
            if len(found["partitions"]) != settings.partitions:
                raise NotReady(f"{found['name']} has {len(found['partitions'])} partitions, not {settings.partitions}")
        number = max(of_topics(settings, names), default=0)
        if not number:
            number = 1
            create(settings, number)
        return number
    finally:
        admin.close()


def progress(settings: Settings, number: int) -> dict[tuple[str, int], tuple[int, int]]:
    """By topic (declared name, or ``refill``) and partition: a generation's next offset, and the topic's end.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    admin = _admin(settings)
    try:
        names = {settings.topic_prefix + topic.name: topic.name for view in VIEWS for topic in view.reads}
        if (refill := refill_topic(settings, number)) in set(admin.list_topics()):
            names[refill] = REFILL
        tps = [TopicPartition(full, partition) for full in names for partition in range(settings.partitions)]
        ends = admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.LATEST), timeout_ms=10_000)
        group = app_id(settings, number)
        read = admin.list_group_offsets({group: tps})[group]
        return {
            (names[tp.topic], tp.partition): (
                max(position.offset if (position := read.get(tp)) is not None else 0, 0),
                int(ends[tp].offset),
            )
            for tp in tps
        }
    finally:
        admin.close()


def has_refill(settings: Settings, number: int) -> bool:
    """Whether a generation is filled from the event logs.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    admin = _admin(settings)
    try:
        return refill_topic(settings, number) in set(admin.list_topics())
    finally:
        admin.close()


def create(settings: Settings, number: int) -> None:
    """Create a generation's changelog. Workers then switch to it.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    _create(
        settings, changelog_topic(settings, number), {"cleanup.policy": "compact", "max.compaction.lag.ms": "86400000"}
    )


def create_refill(settings: Settings, number: int) -> str:
    """Create the topic from which a generation is filled; returns its name."""
    name = refill_topic(settings, number)
    _create(settings, name, {"retention.ms": "-1"})
    return name


def tidy(settings: Settings, number: int) -> list[str]:
    """Delete the topics and consumer groups of all generations but one; returns the topics' names.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached, or a worker still uses one of them.
    """
    admin = _admin(settings)
    try:
        pattern = re.compile(re.escape(settings.topic_prefix) + rf"streams-(\d{{1,9}})-({TABLE}-changelog|{REFILL})")
        found = {name: int(match[1]) for name in admin.list_topics() if (match := pattern.fullmatch(name))}
        old = sorted(name for name, of in found.items() if of != number)
        if old:
            admin.delete_topics(old, timeout_ms=30_000)
            admin.delete_groups(sorted({app_id(settings, found[name]) for name in old}))
        return old
    finally:
        admin.close()


def fill(settings: Settings, number: int, rows: Iterable[LogRow]) -> int:
    """Write rows of event logs to a generation's refill topic; returns how many.

    Raises:
        kafka.errors.KafkaError: the broker does not accept them.
    """
    topic = create_refill(settings, number)
    producer: Any = kafka_links.producer(settings, acks="all", enable_idempotence=True, linger_ms=5, batch_size=262_144)
    count = 0
    try:
        pending: list[Any] = []
        for row in rows:
            name = row.topic.removeprefix(settings.topic_prefix)
            pending.append(
                producer.send(
                    topic,
                    row.payload.encode(),
                    row.key.encode(),
                    headers=[("topic", name.encode())],
                    partition=row.target,
                    timestamp_ms=int(row.recorded_wall.timestamp() * 1000),
                )
            )
            count += 1
            if len(pending) >= 10_000:
                for future in pending:
                    future.get(60)
                pending.clear()
        for future in pending:
            future.get(60)
    finally:
        producer.close()
    return count


def _create(settings: Settings, name: str, configs: dict[str, str]) -> None:
    admin = _admin(settings)
    try:
        topics.create_one(admin, settings, name, configs)
    finally:
        admin.close()
