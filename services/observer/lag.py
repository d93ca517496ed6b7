"""How far readers are behind, in records and in seconds, seen from outside. Pure.

A place is a reader's partition of a topic. What counts is where the reader has got to, not what it says of itself: so a worker
that is dead but exports on, and one partition that stands still among many, are seen.
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
        """What is read there."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a partition begins and ends; ``young``: offset of the first record that is younger than the last look, None: none is."""

    begin: int
    end: int
    young: int | None


def positions(
    places: Collection[Place],
    extents: Mapping[Partition, Extent],
    committed: Mapping[Place, int],
    cursors: Mapping[Place, int],
) -> dict[Place, int]:
    """The offset that each reads next: the furthest that the broker or the reader's own tables know.

    A commit may be lost with a worker's death, so that the broker knows less than the tables; and of a reader that has not
    committed yet, everything is still to be read. Places of topics that are not there are left out.
    """
    return {
        place: min(max(committed.get(place, -1), cursors.get(place, -1), extent.begin), extent.end)
        for place in places
        if (extent := extents.get(place.read)) is not None
    }


def old(found: Mapping[Place, int], extents: Mapping[Partition, Extent]) -> set[Record]:
    """Records that wait longer than the time between two looks: those whose age is to be found out."""
    wanted = set()
    for place, position in found.items():
        extent = extents[place.read]
        if position < extent.end and (extent.young is None or extent.young > position):
            wanted.add((place.topic, place.partition, position))
    return wanted


class Lags:
    """What is known of ages from look to look: a record's time is read once."""

    def __init__(self) -> None:
        self._stamps: dict[Record, float] = {}
        self._last: dict[Place, float] = {}

    def unknown(self, wanted: Collection[Record]) -> list[Record]:
        """Those whose time must be read."""
        return sorted(record for record in wanted if record not in self._stamps)

    def seconds(
        self, found: Mapping[Place, int], wanted: Collection[Record], stamps: Mapping[Record, float], now: float
    ) -> dict[Place, float]:
        """Age of the oldest record that each has not read; 0: none, or younger than the time between two looks.

        Where a record's time could not be read, the one read before it counts: the lag is rather told too long than too short.

        Args:
            stamps: wall times of records that were read by now.
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
