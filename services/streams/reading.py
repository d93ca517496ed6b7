"""Where a topic is read: seeks, gaps, records deleted by the broker, topics created again, and stalled partitions.

Faust is not trusted to deliver every record. A step folds only the record that follows the last one; from a gap, the
topic is read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from services.streams import fold, tables
from services.streams.app import REFILL
from services.streams.figures import NAME, POSITION, SOUGHT
from services.streams.ownership import OwnedPartition, Ownership

log = structlog.get_logger(__name__)

STALLED_S: Final = 15.0
"""Seconds without any folding after which a topic with more to read is sought again."""
SEEK_S: Final = 3.0
"""Seconds after which a seek without a result is tried again."""
DEAD_S: Final = 60.0
"""Seconds without any folding after which the process restarts itself."""
STARVED_S: Final = 300.0
"""The same for one partition that stalls while others do not."""


class Reading:
    """The read positions of one worker's partitions.

    Args:
        fail: called with an error that only a restart fixes.
    """

    def __init__(self, ownership: Ownership, fail: Callable[[BaseException], None]) -> None:
        self._ownership = ownership
        self._fail = fail
        self._tasks: set[asyncio.Task[Any]] = set()

    async def follows(self, part: OwnedPartition, read: tables.ReadPositions, name: str, message: Any) -> bool:
        """Whether a record after a gap is nevertheless the next one, because the broker has deleted those between.

        Otherwise read again from the gap, even if the missing record is in the same batch (it then arrives again).
        """
        wanted = read.next.get(name, 0)
        if self.seeking(part, name, wanted):
            return False
        tp = message.tp
        try:
            first = (await asyncio.wait_for(self._ownership.links.outside.beginning_offsets([tp]), 10))[tp]
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("first offset unavailable", worker=NAME, error=type(error).__name__)
            self.seek(part, name, wanted)
            return False
        if first >= message.offset:
            self.miss(part, read, name, message.offset)
            return True
        self.seek(part, name, max(first, wanted))
        return False

    def seeking(self, part: OwnedPartition, name: str, offset: int) -> bool:
        """Whether a seek to an offset is pending. Until that record arrives, others are dropped."""
        sought, since = part.sought.get(name, (-1, 0.0))
        return sought == offset and time.monotonic() - since < SEEK_S

    def seek(self, part: OwnedPartition, name: str, offset: int) -> None:
        """Resume a topic at an offset. Faust drops records when interrupted; a seek may get lost in a rebalance."""
        links = self._ownership.links
        full = next(full for full, short in links.names.items() if short == name)
        SOUGHT.inc()
        log.info("sought", worker=NAME, topic=name, partition=part.number, offset=offset)
        part.sought[name] = (offset, time.monotonic())
        # runs in the consumer's own thread: its client is not thread-safe
        seeking = asyncio.create_task(links.app.consumer.seek_wait({TP(full, part.number): offset}))
        self._tasks.add(seeking)
        seeking.add_done_callback(self._sought)

    def _sought(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("seek failed", worker=NAME, error=f"{type(error).__name__}: {error}")

    async def look(self) -> None:
        """Compare positions with the topics' ends: set the gauges, and find stalled partitions and new topics.

        Raises:
            KafkaError, TimeoutError, OSError: the broker did not answer.
        """
        ownership, links = self._ownership, self._ownership.links
        tps = [TP(full, number) for number in ownership.open for full in links.names]
        if not tps:
            return
        wall, now = time.time(), time.monotonic()
        before = ownership.positions()
        ends = await asyncio.wait_for(links.outside.end_offsets(tps), 10)
        late: list[tuple[OwnedPartition, str, TP, bool]] = []
        for tp in tps:
            part = ownership.parts.get(tp.partition)
            if part is None or tp.partition not in ownership.open:
                continue
            name, end = links.names[tp.topic], ends[tp]
            stands = part.read.next.get(name, 0)
            if stands >= end:
                POSITION.labels(name, str(tp.partition)).set(wall)
                part.at.pop(name, None)
                part.filled |= name == REFILL
                # ignore records read while the answer was on its way
                if before.get(tp, 0) > end:
                    await self.restart(part, name)
                continue
            POSITION.labels(name, str(tp.partition)).set(part.read.wall.get(name, part.begun))
            at, since = part.at.setdefault(name, (stands, now))
            if at != stands:
                part.at[name] = (stands, now)
                continue
            # a partition may wait while others have much to read, but a worker that folds nothing at all is stalled
            idle = now - max(since, ownership.folded_at)
            if idle > DEAD_S or now - since > STARVED_S:
                self._fail(TimeoutError(f"{name} {tp.partition} stands at {stands} of {end}"))
            elif now - since > STALLED_S and not self.seeking(part, name, stands):
                late.append((part, name, tp, idle > STALLED_S))
        if late:
            firsts = await asyncio.wait_for(links.outside.beginning_offsets([tp for _, _, tp, _ in late]), 10)
            for part, name, tp, nothing in late:
                # deleted records never arrive, however many arrive of other topics
                if nothing or firsts[tp] > part.read.next.get(name, 0):
                    await self._go_back(part, name, firsts[tp])

    async def _go_back(self, part: OwnedPartition, name: str, first: int) -> None:
        """Resume at the position or, if its record was deleted, at ``first``, the first remaining one."""
        async with part.fold.lock:
            stands = part.read.next.get(name, 0)
            if first > stands:
                self.miss(part, part.read, name, first)
                part.show()
            self.seek(part, name, max(first, stands))

    def miss(self, part: OwnedPartition, read: tables.ReadPositions, name: str, first: int) -> None:
        """Skip records before ``first``, which the broker has deleted, and count them as missed.

        A generation filled from the logs has those that were deleted before it began to read, so they do not count.
        """
        records = first - read.next.get(name, 0)
        covered = REFILL in self._ownership.links.names.values() and name not in read.next
        read.next[name] = first
        if name != REFILL:
            source = fold.topic_source(name)
            part.fold.positions[source] = max(part.fold.positions.get(source, -1), first - 1)
        if not covered:
            read.missed += records
            log.error("records missed", worker=NAME, topic=name, partition=part.number, records=records)

    async def restart(self, part: OwnedPartition, name: str) -> None:
        """Fold a topic from its beginning, because it ends before our position: it was created again."""
        log.error("topic re-created", worker=NAME, topic=name, partition=part.number)
        async with part.fold.lock:
            part.read.next[name] = 0
            part.fold.positions.pop(fold.topic_source(name), None)
            self.seek(part, name, 0)
