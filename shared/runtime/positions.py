"""How far a worker has come, as wall time: what is seen of it from inside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Place = tuple[str, int]
"""Topic and partition."""


class Positions:
    """By topic and owned partition, up to which wall time everything is consumed.

    That is the time of the last record that was committed; at the end of the partition, the time at which it was known to
    be the end. A place that was just taken over begins now and ages until something is known of it.
    """

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._time: dict[Place, float] = {}

    def begin(self, offsets: Mapping[Place, int], now: float) -> None:
        """These places are owned, and no others; by the offset that is read next."""
        self._next = dict(offsets)
        self._time = dict.fromkeys(offsets, now)

    def stop(self, places: Iterable[Place]) -> None:
        """Nothing more is read of these: whatever their ends are, they age."""
        for place in places:
            if place in self._next:
                self._next[place] = -1

    def consumed(self, cursors: Mapping[Place, int], stamps: Mapping[Place, float]) -> None:
        """A batch is committed: next offsets, and times of the last records."""
        for place, offset in cursors.items():
            if place in self._next:
                self._next[place] = offset
                if place in stamps:
                    self._time[place] = stamps[place]

    def ends(self, ends: Iterable[tuple[Place, int]], asked: float) -> None:
        """What the broker said, at ``asked``, is the end of a partition: whoever has read it all is that far."""
        for place, end in ends:
            if self._next.get(place, -1) >= end:
                self._time[place] = max(self._time[place], asked)

    def least(self) -> dict[str, float]:
        """By topic the least time over its partitions."""
        found: dict[str, float] = {}
        for (topic, _), when in self._time.items():
            known = found.get(topic)
            if known is None or when < known:
                found[topic] = when
        return found

    def __iter__(self) -> Iterator[Place]:
        return iter(self._next)
