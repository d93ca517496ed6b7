"""Follows ``verification.events``, and keeps the latest state of each item for a replay."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition

from shared import kafka_links, topics
from shared.events import CommandRefused, ItemChanged, State, decode_data, decode_envelope
from shared.settings import Settings


@dataclass(slots=True)
class ItemState:
    """An item's latest state."""

    item: str
    claim: str
    listing: str
    complainant: str
    seller: str | None
    state: State
    revision: int
    round: int


@dataclass(slots=True)
class Follower:
    """Reads the topic from its end at the time of construction.

    Attributes:
        items: Latest states by item id.
        by_pair: (complainant, listing) -> item ids, oldest first.
        refused: Number of refusals by code.
    """

    settings: Settings
    items: dict[str, ItemState] = field(default_factory=dict)
    by_pair: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    _consumer: Any = None
    _partitions: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._consumer = kafka_links.consumer(self.settings, enable_auto_commit=False, max_poll_records=5000)
        name = self.settings.topic_prefix + topics.VERIFICATION.name
        self._partitions = [TopicPartition(name, partition) for partition in range(self.settings.partitions)]
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_end(*self._partitions)
        for partition in self._partitions:
            self._consumer.position(partition)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def drain(self) -> list[ItemState]:
        """Read to the end; returns items whose state changed, each once, in the order of their last change."""
        changed: dict[str, ItemState] = {}
        ends = self._consumer.end_offsets(self._partitions)
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            for records in self._consumer.poll(timeout_ms=200).values():
                for record in records:
                    self._take(record.value, changed)
        return list(changed.values())

    def _take(self, raw: bytes, changed: dict[str, ItemState]) -> None:
        data = decode_data(decode_envelope(raw))
        if isinstance(data, CommandRefused):
            self.refused[data.code] += 1
        if not isinstance(data, ItemChanged):
            return
        known = self.items.get(data.item)
        if known is None:
            known = ItemState(
                data.item,
                data.claim,
                data.listing,
                data.complainant,
                data.seller,
                data.state,
                data.revision,
                data.counter_round,
            )
            self.items[data.item] = known
            self.by_pair.setdefault((data.complainant, data.listing), []).append(data.item)
        elif data.revision <= known.revision:
            return
        if data.previous is not data.state:
            changed.pop(data.item, None)
            changed[data.item] = known
        known.state, known.revision, known.round = data.state, data.revision, data.counter_round
        known.seller = data.seller or known.seller
