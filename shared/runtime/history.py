"""What this process and the broker have seen of the database: it must never have less.

When an asynchronous follower is promoted or a backup is restored under running workers, the database goes back in
time. Workers then stop instead of publishing other rows under the same numbers
(docs/decisions/0051-a-database-that-went-back.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from shared.runtime import seen
from shared.runtime.positions import Place
from shared.runtime.store import Head, Owned, Store, WentBack, Witness
from shared.runtime.types import Service
from shared.settings import Settings


class Outside(NamedTuple):
    """What the broker knows: rows of the logs, and the group's committed offsets."""

    witnesses: list[Witness]
    offsets: dict[Place, int]


class History:
    """The ends of the logs that this process last saw committed, kept across sessions.

    Attributes:
        ends: number and hash of each log's last row, by partition.
    """

    def __init__(self, service: Service, settings: Settings, store: Store) -> None:
        self._service = service
        self._settings = settings
        self._store = store
        self.ends: dict[int, tuple[int, str]] = {}

    def committed(self, heads: Mapping[int, Head | Owned]) -> None:
        """A transaction was committed with these ends: this worker may rely on them from now on."""
        self.ends.update((partition, (head.seq, head.hash)) for partition, head in heads.items())

    def ask_broker(self, consumer: Any, partitions: Sequence[int]) -> Outside:
        """What the broker knows about those partitions that this process knows nothing about.

        Raises:
            kafka.errors.KafkaError: the broker does not answer.
        """
        unknown = [partition for partition in partitions if partition not in self.ends]
        if not unknown:
            return Outside([], {})
        prefix = self._settings.topic_prefix
        found = seen.committed(consumer, [prefix + topic.name for topic in self._service.reads], unknown)
        tails = seen.tails(self._settings, self._service.name, sorted(self._service.keyed_like), unknown)
        return Outside(
            [*seen.witnesses(found), *tails],
            {(topic.removeprefix(prefix), partition): one.offset for (topic, partition), one in found.items()},
        )

    def check(
        self,
        connection: sa.Connection,
        partitions: Collection[int],
        *,
        outside: Outside,
        read: Mapping[Place, int],
        cursors: Mapping[Place, tuple[int, int]],
        recreated: Collection[str],
    ) -> None:
        """Compare the database with what was seen of it.

        Args:
            read: next offsets, as this process last saw them committed.
            cursors: next offsets and leader epochs, as the database has them.
            recreated: topics created again since: their offsets start at 0 again.

        Raises:
            WentBack: it lacks what it had committed.
        """
        own = [one for one in self._own() if one.partition in partitions]
        if lost := self._store.missing(connection, [*own, *outside.witnesses]):
            said = "; ".join(f"partition {one.partition}: row {one.seq} was seen by {one.seen}" for one in lost[:10])
            raise WentBack(f"the event log lacks rows that it had: {said}")
        for (topic, partition), offset in {**outside.offsets, **read}.items():
            now = cursors.get((topic, partition), (0, -1))[0]
            if partition in partitions and topic not in recreated and now < offset:
                raise WentBack(f"{topic} {partition} was read up to {offset}, and the database says {now}")

    def lost(self, connection: sa.Connection) -> list[str]:
        """What the database lacks of what this process saw, one sentence per partition."""
        ends = self._store.ends(connection, sorted(self.ends))
        return [
            f"partition {one.partition}: the log ended at {one.seq}, now at {ends.get(one.partition, 0)}"
            for one in self._store.missing(connection, self._own())
        ]

    def _own(self) -> list[Witness]:
        return [Witness(p, seq, "this process", hash=hash_) for p, (seq, hash_) in self.ends.items() if seq]
