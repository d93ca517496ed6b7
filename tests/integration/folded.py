"""Topics folded in plain Python: every partition of every view, as the streams' workers have them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from services.streams import registry
from services.streams.fold import Partition, Record
from services.streams.views import Meta
from shared.events import decode_data, decode_envelope
from shared.settings import Settings


class Folded:
    """All partitions, folded to the ends of the topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.states: dict[int, dict[tuple[str, str], Any]] = {}
        self.partitions: dict[int, Partition] = {}
        names = {settings.topic_prefix + topic.name: topic.name for view in registry.VIEWS for topic in view.reads}
        consumer: Any = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False)
        try:
            for number in range(settings.partitions):
                states = self.states[number] = {}
                partition = self.partitions[number] = Partition(number, registry.VIEWS)
                for full, name in names.items():
                    self._take(consumer, TopicPartition(full, number), name, partition, states)
        finally:
            consumer.close()

    def _take(self, consumer: Any, place: Any, name: str, partition: Partition, states: dict[Any, Any]) -> None:
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            records = []
            for record in consumer.poll(timeout_ms=500).get(place, ()):
                envelope = decode_envelope(record.value)
                data = decode_data(envelope)
                wall = dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC)
                assert data is not None
                assert envelope.time is not None
                records.append(Record(name, record.offset, data, Meta(envelope.id, envelope.time, wall)))
            changes = partition.fold(records, lambda table, key: states.get((table, key)))
            for change in changes[0] if isinstance(changes, tuple) else changes:
                states[change.table, change.key] = change.state
