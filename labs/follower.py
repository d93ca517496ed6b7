"""Follows ``verification.events`` and keeps what a replay and a summary need of each item."""

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
    """Reads from where the topic stood when it was made.

    Attributes:
        items: by item id.
        by_pair: (complainant, listing) -> item ids, oldest first.
        changed: items that changed since ``drain`` was last called.
        refused: refusal code -> count.
        visits: states entered, by count.
    """

    settings: Settings
    items: dict[str, ItemState] = field(default_factory=dict)
    by_pair: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    visits: Counter[str] = field(default_factory=Counter)
    _consumer: Any = None
    _places: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._consumer = kafka_links.consumer(self.settings, enable_auto_commit=False, max_poll_records=5000)
        name = self.settings.topic_prefix + topics.VERIFICATION.name
        self._places = [TopicPartition(name, partition) for partition in range(self.settings.partitions)]
        self._consumer.assign(self._places)
        self._consumer.seek_to_end(*self._places)
        for place in self._places:
            self._consumer.position(place)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def drain(self) -> list[ItemState]:
        """Read to the present end; returns items whose state changed, each once, in order of their last change."""
        changed: dict[str, ItemState] = {}
        ends = self._consumer.end_offsets(self._places)
        while any(self._consumer.position(place) < end for place, end in ends.items()):
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
            self.visits[data.state] += 1
            changed.pop(data.item, None)
            changed[data.item] = known
        known.state, known.revision, known.round = data.state, data.revision, data.counter_round
        known.seller = data.seller or known.seller
