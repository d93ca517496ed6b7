"""What the broker knows about the event logs: witnesses that stay when a database goes back in time.

With its group's offsets a worker commits how far its log is (``metadata``), and the topics' last records are log rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from shared import kafka_links
from shared.events import decode_envelope
from shared.runtime.links import place_of
from shared.runtime.store import Witness
from shared.settings import Settings

TAIL: Final = 200
"""Records to look at from a topic's end: watermarks and other writers' records are mixed with a log's own."""
TAIL_S: Final = 10.0
_METADATA: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{16})")


def metadata(seq: int, hash_: str) -> str:
    """Metadata to commit with an offset: the number and the beginning of the hash of the log's last row."""
    return f"{seq}:{hash_[:16]}" if seq else ""


def committed(consumer: Any, topics: Iterable[str], partitions: Iterable[int]) -> dict[tuple[str, int], Any]:
    """Offset and metadata that the group committed, by topic and partition; those without are left out.

    Raises:
        kafka.errors.KafkaError: the coordinator does not answer.
    """
    places = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
    found: Mapping[Any, Any] = kafka_links.committed(consumer, places)
    return {(place.topic, place.partition): one for place, one in found.items() if one.offset >= 0}


def witnesses(partitions_committed: Mapping[tuple[str, int], Any]) -> list[Witness]:
    """What the committed metadata say about the logs: the latest for each partition."""
    latest: dict[int, Witness] = {}
    for (_, partition), one in partitions_committed.items():
        if (said := _METADATA.fullmatch(one.metadata or "")) is None:
            continue
        seq = int(said[1])
        if partition not in latest or latest[partition].seq < seq:
            latest[partition] = Witness(partition, seq, "the group's offsets", hash=said[2])
    return list(latest.values())


def tails(settings: Settings, name: str, topics: Sequence[str], partitions: Sequence[int]) -> list[Witness]:
    """The last event of each partition's log on each of these topics, which are keyed like the logs.

    Raises:
        kafka.errors.KafkaError: the broker does not answer.
    """
    places = [TopicPartition(settings.topic_prefix + topic, partition) for topic in topics for partition in partitions]
    if not places:
        return []
    latest: dict[TopicPartition, Witness] = {}
    consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
    try:
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        left = {place for place in places if begins[place] < ends[place]}
        consumer.assign(list(left))
        for place in left:
            consumer.seek(place, max(begins[place], ends[place] - TAIL))
        until = time.monotonic() + TAIL_S
        while left:
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"the ends of {len(left)} partitions could not be read within {TAIL_S:g} s")
            for place, records in consumer.poll(timeout_ms=500).items():
                for record in records:
                    one = _row(name, record)
                    # a row may be published twice, the second time after later ones
                    if one is not None and (place not in latest or latest[place].seq < one.seq):
                        latest[place] = one
                if records[-1].offset + 1 >= ends[place]:
                    left.discard(place)
    finally:
        consumer.close()
    return list(latest.values())


def _row(name: str, record: Any) -> Witness | None:
    """The row of our log that a record holds; None if it holds none."""
    try:
        place = place_of(decode_envelope(record.value or b"").id)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    if place is None or place[:2] != (name, record.partition):
        return None
    return Witness(record.partition, place[2], f"topic {record.topic}", payload=record.value.decode())
