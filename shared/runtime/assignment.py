"""Which worker owns which partition numbers. Decided by number alone, whatever the metadata say at the moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from shared.topics import Topic

OUTSIDE = ("marketplace", "upstream")
"""Writers outside this system: they choose the partition themselves."""


def ranges(members: Sequence[str], partitions: int) -> dict[str, range]:
    """Divide the partition numbers into contiguous ranges in the members' order; the first ones get one more."""
    if not members:
        return {}
    each, extra = divmod(partitions, len(members))
    starts = [each * i + min(i, extra) for i in range(len(members) + 1)]
    return {member: range(starts[i], starts[i + 1]) for i, member in enumerate(members)}


class ByNumber(RangePartitionAssignor):  # type: ignore[misc]
    """Range assignment over ``GOODFAITH_PARTITIONS`` numbers, whatever the leader's metadata contain.

    The library's own assignor leaves out a topic that is missing from the leader's metadata, and so assigns nothing or
    partitions of only some topics. This one has the same name, so members of both kinds can share a group during an
    upgrade.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def assign(self, _cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """Assignments by member."""
        # static members first, as the library orders them
        order = sorted(
            members, key=lambda one: (one.group_instance_id is None, one.group_instance_id or "", one.member_id)
        )
        shares = ranges([one.member_id for one in order], self._partitions)
        return {
            one.member_id: ConsumerProtocolAssignment(
                self.version,
                [(topic, list(shares[one.member_id])) for topic in sorted(one.metadata.topics)],
                b"",
            )
            for one in members
        }


def owned(
    topics: Collection[str], places: Iterable[tuple[str, int]]
) -> tuple[frozenset[int], frozenset[tuple[str, int]]]:
    """The assigned partition numbers, and the (topic, partition) pairs missing from them.

    A number must be owned in all topics or not at all.
    """
    given = frozenset(places)
    numbers = frozenset(number for _, number in given)
    return numbers, frozenset((topic, number) for topic in topics for number in numbers) - given


def unowned(partitions: int, places: Iterable[tuple[str, int]]) -> list[int]:
    """Partition numbers that no member of the group has."""
    return sorted(set(range(partitions)) - {number for _, number in places})


def unfit(topics: Mapping[str, Topic], counts: Mapping[str, int], partitions: int) -> list[str]:
    """Why topics cannot be read, one sentence per topic. ``counts`` is their number of partitions, 0 if missing.

    Extra partitions do no harm in a topic of ours: our writers name the partition and never use the new ones. A writer
    outside spreads its keys over all partitions, and no worker would read the extra ones.
    """
    found = []
    for name, topic in topics.items():
        count = counts.get(name, 0)
        if not count:
            found.append(f"topic {name} does not exist: run goodfaith migrate")
        elif count < partitions:
            found.append(
                f"topic {name} has {count} partitions, GOODFAITH_PARTITIONS is {partitions}: add {partitions - count}"
            )
        elif count > partitions and topic.writer in OUTSIDE:
            found.append(
                f"topic {name} has {count} partitions, GOODFAITH_PARTITIONS is {partitions}: its writers use them all, and"
                f" nobody would read partitions {partitions} and above. Create it again with {partitions}"
            )
    return found
