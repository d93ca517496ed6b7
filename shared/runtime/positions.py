"""How far a worker has read, as wall time, seen from inside the worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Place = tuple[str, int]
"""Topic and partition."""


class Positions:
    """The wall time up to which everything is consumed, by topic and owned partition.

    That is the time of the last committed record or, at the end of the partition, the time at which that was known to
    be the end. A partition just taken over starts at the present time and ages until something is known about it.
    """

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._time: dict[Place, float] = {}

    def begin(self, offsets: Mapping[Place, int], now: float) -> None:
        """Own these partitions and no others; ``offsets`` are the next ones to read."""
        self._next = dict(offsets)
        self._time = dict.fromkeys(offsets, now)

    def stop(self, places: Iterable[Place]) -> None:
        """These are no longer read: they age, wherever their ends are."""
        for place in places:
            if place in self._next:
                self._next[place] = -1

    def consumed(self, cursors: Mapping[Place, int], stamps: Mapping[Place, float]) -> None:
        """A batch was committed: the next offsets, and the times of the last records."""
        for place, offset in cursors.items():
            if place in self._next:
                self._next[place] = offset
                if place in stamps:
                    self._time[place] = stamps[place]

    def ends(self, ends: Iterable[tuple[Place, int]], asked: float) -> None:
        """Partitions' ends, as the broker gave them at ``asked``: one read to its end is consumed up to that time."""
        for place, end in ends:
            if self._next.get(place, -1) >= end:
                self._time[place] = max(self._time[place], asked)

    def least(self) -> dict[str, float]:
        """The earliest time of each topic's partitions, by topic."""
        found: dict[str, float] = {}
        for (topic, _), when in self._time.items():
            known = found.get(topic)
            if known is None or when < known:
                found[topic] = when
        return found

    def __iter__(self) -> Iterator[Place]:
        return iter(self._next)
