"""A worker's membership of its consumer group: what it was assigned, and whether it was left out."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kafka import ConsumerRebalanceListener
from kafka.errors import KafkaError

from shared import kafka_links, metrics
from shared.runtime import assignment
from shared.settings import Settings

EXPLAINED_S: Final = 60.0
NONE: Final = -1
"""A generation that no assignment has."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """An assignment by the group; each has a higher generation than the one before.

    ``lacking``: topic partitions that belong to these numbers but were not assigned, because the group's leader did
    not know their topic.
    """

    generation: int
    partitions: frozenset[int]
    lacking: frozenset[tuple[str, int]] = frozenset()


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """What the group has assigned, and which generation of it the worker has claimed.

    The client's own thread calls the two callbacks at any moment, perhaps during a batch. They change nothing that
    the loop uses except ``assigned``, an immutable value that is set in one step and compared by generation.
    """

    def __init__(self, worker: str, settings: Settings, topics: Collection[str]) -> None:
        self._worker = worker
        self._settings = settings
        self._group = settings.topic_prefix + worker
        self._topics = topics
        self._consumer: Any = None
        self.assigned = Assignment(0, frozenset())
        self._claimed = 0
        # when to ask why it owns nothing
        self._check_at = math.inf

    @property
    def group(self) -> str:
        """The group's id."""
        return self._group

    def begin_session(self) -> None:
        """Own nothing until the group has assigned something."""
        self.assigned = Assignment(self.assigned.generation + 1, frozenset())
        self._claimed = self.assigned.generation
        self._check_at = time.monotonic() + self._grace_s

    def watch(self, consumer: Any) -> None:
        """Use this consumer from now on."""
        self._consumer = consumer

    @property
    def rebalanced(self) -> bool:
        """Whether the group has assigned something else than what was claimed."""
        return self._claimed != self.assigned.generation

    def reclaim(self) -> None:
        """Have the partitions claimed again."""
        self._claimed = NONE

    def claimed(self, given: Assignment) -> None:
        """This assignment's partitions are claimed."""
        self._claimed = given.generation
        self._check_at = math.inf if given.partitions else time.monotonic() + self._grace_s

    @property
    def _grace_s(self) -> float:
        """Seconds for which owning nothing may be due to a rebalance."""
        return max(3 * self._settings.session_timeout_ms / 1000, 5.0)

    def check(self, now: float) -> None:
        """Rejoin the group if this worker owns nothing and the other members do not own everything either.

        See docs/decisions/0004-rebalance-traps.md.

        Raises:
            KafkaError: in order to rejoin, or because the broker does not say who owns what.
        """
        if now < self._check_at:
            return
        state, members = kafka_links.group_members(self._settings, self._group, self._topics)
        unowned = assignment.unowned(
            self._settings.partitions, (place for places in members.values() for place in places)
        )
        # the client may believe that it is a member although the broker has dropped it
        member = self._consumer.group_metadata().member_id in members
        if state == "Stable" and member and not unowned:
            self._check_at = now + EXPLAINED_S  # explained: there are more workers than partitions
            return
        metrics.REJOINS.labels(self._worker).inc()
        raise KafkaError(
            f"this worker owns nothing and is {'a' if member else 'no'} member of its group, which is {state};"
            f" partitions without owner: {unowned}: joining again"
        )

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """The group has assigned partitions to this worker: read nothing until they are claimed."""
        places = list(assigned)
        for place in places:
            self._consumer.seek(place, 0)
        self._consumer.pause(*places)
        numbers, lacking = assignment.owned(self._topics, ((place.topic, place.partition) for place in places))
        self.assigned = Assignment(self.assigned.generation + 1, numbers, lacking)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """The group revokes the partitions; their next owner fences this worker."""
        self.assigned = Assignment(self.assigned.generation + 1, frozenset())
