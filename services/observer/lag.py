"""Calculates how far readers are behind, in records and in seconds, as seen from outside. Pure.

What counts is how far a reader has got, not what it reports of itself. So a dead worker that still exports metrics is
noticed, and so is one partition of many that stands still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

Partition = tuple[str, int]
"""Topic, without prefix, and partition."""

Record = tuple[str, int, int]
"""Topic, partition and offset."""


@dataclass(frozen=True, slots=True)
class Place:
    """A reader's partition of a topic."""

    group: str
    topic: str
    partition: int

    @property
    def read(self) -> Partition:
        """The topic and partition that is read."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Extent:
    """First and next offset of a partition. ``young``: the first record since the last look; None: there is none."""

    begin: int
    end: int
    young: int | None


def positions(
    places: Collection[Place],
    extents: Mapping[Partition, Extent],
    committed: Mapping[Place, int],
    cursors: Mapping[Place, int],
) -> dict[Place, int]:
    """The offset that each reader reads next: the furthest that the broker or the reader's own tables know.

    If a worker dies before it commits, the broker knows less than the tables. A reader that has never committed still
    has everything to read. Places of topics that do not exist are left out.
    """
    return {
        place: min(max(committed.get(place, -1), cursors.get(place, -1), extent.begin), extent.end)
        for place in places
        if (extent := extents.get(place.read)) is not None
    }


def old(found: Mapping[Place, int], extents: Mapping[Partition, Extent]) -> set[Record]:
    """Records that have waited longer than the time between two looks: their age must be looked up."""
    wanted = set()
    for place, position in found.items():
        extent = extents[place.read]
        if position < extent.end and (extent.young is None or extent.young > position):
            wanted.add((place.topic, place.partition, position))
    return wanted


class Lags:
    """Remembers ages from look to look, so that each record's time is read only once."""

    def __init__(self) -> None:
        self._stamps: dict[Record, float] = {}
        self._last: dict[Place, float] = {}

    def unknown(self, wanted: Collection[Record]) -> list[Record]:
        """Records whose time must be read."""
        return sorted(record for record in wanted if record not in self._stamps)

    def seconds(
        self, found: Mapping[Place, int], wanted: Collection[Record], stamps: Mapping[Record, float], now: float
    ) -> dict[Place, float]:
        """Age of the oldest record that each reader has not read; 0: none, or younger than the time between two looks.

        If a record's time could not be read, the one read before it counts: better too long a lag than too short.

        Args:
            stamps: wall times of the records that have been read by now.
        """
        self._stamps = {
            record: when for record in wanted if (when := stamps.get(record, self._stamps.get(record, 0.0)))
        }
        result: dict[Place, float] = {}
        last: dict[Place, float] = {}
        for place, position in found.items():
            record = (place.topic, place.partition, position)
            if record not in wanted:
                result[place] = 0.0
                continue
            when = self._stamps.get(record) or self._last.get(place, 0.0)
            result[place] = max(now - when, 0.0) if when else 0.0
            if when:
                last[place] = when
        self._last = last
        return result
