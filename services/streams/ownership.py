"""Which partitions this worker owns: recovery, loading, rebalances, and whether the group still counts it as a member.

Faust assigns partitions and recovers tables. A partition is folded only while it is *open*: recovered, loaded, and not
revoked. A worker whose process was frozen is *suspect* until the group accepts a commit of its: others may have its
partitions meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from faust.types import TP

from services.streams import fold, tables
from services.streams.app import REFILL
from services.streams.figures import FAILED, MISSED, NAME, POSITION, RECOVERING
from services.streams.views import View
from shared import metrics
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

LAST_S: Final = 8.0
"""Seconds that a rebalance waits for current steps; below its timeout."""


class OwnedPartition:
    """A partition that is or was ours, at offset ``last`` of its changelog."""

    def __init__(self, number: int, views: Sequence[View]) -> None:
        self.number = number
        self.fold = fold.Partition(number, views)
        self.read = tables.ReadPositions()
        self.failed: dict[bytes, tables.FailedEvent] = {}
        self.last: int | None = None
        self.torn = False
        """Folded but not written: totals are ahead of the table."""
        self.generation = -1
        """The group's generation in which we were last assigned the partition."""
        self.filled = True
        """Whether the refill topic, if any, is folded completely."""
        self.sought: dict[str, tuple[int, float]] = {}
        """By topic, the offset of a pending seek, and when it was made (monotonic)."""
        self.at: dict[str, tuple[int, float]] = {}
        """By topic, the last position seen, and since when (monotonic)."""
        self.begun = time.time()

    def show(self) -> None:
        """Set the gauges."""
        FAILED.labels(str(self.number)).set(len(self.failed))
        MISSED.labels(str(self.number)).set(self.read.missed)


@dataclass(slots=True)
class Links:
    """What a worker works with on one generation of tables.

    Attributes:
        app: the Faust application.
        table: its table.
        changelog: ``changelog.Changelog``.
        outside: a consumer outside the group, for the topics' ends and beginnings.
        names: by full name of a topic, its short name.
        generation: of the tables.
    """

    app: Any
    table: Any
    changelog: Any
    outside: Any
    names: Mapping[str, str]
    generation: int = 0

    def db(self, number: int) -> Any:
        """A partition's RocksDB."""
        return self.table.data._db_for_partition(number)

    @property
    def group_generation(self) -> Any:
        """The group's generation: rises with each assignment."""
        return self.app.consumer_generation_id


class Ownership:
    """The partitions of one worker. Set ``links`` before any other use."""

    def __init__(self, settings: Settings, views: Sequence[View], health: Health) -> None:
        self.settings = settings
        self.views = views
        self.codec = tables.Codec(views)
        self.links: Any = None
        self.parts: dict[int, OwnedPartition] = {}
        self.open: frozenset[int] = frozenset()
        """Recovered partitions that may be folded."""
        self.suspect = False
        """The process was frozen for so long that others may have its partitions."""
        self.discard = False
        """Delete the tables before the next start."""
        self.folded_at = time.monotonic()
        """When anything was last folded and written (monotonic)."""
        self._health = health
        self._beat = time.monotonic()
        self._committed: dict[TP, int] = {}

    def positions(self) -> dict[TP, int]:
        """Where to resume, by topic and partition."""
        return {
            TP(full, number): part.read.next.get(name, 0)
            for number, part in self.parts.items()
            for full, name in self.links.names.items()
        }

    # -------------------------------------------------------------------------------------------------- rebalances

    async def close(self) -> None:
        """Stop folding and wait for current steps."""
        closing, self.open = self.open, frozenset()

        async def settled(part: OwnedPartition) -> None:
            async with part.fold.lock:
                pass

        waiting = [asyncio.create_task(settled(part)) for number in closing if (part := self.parts.get(number))]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=LAST_S)
            for task in late:
                task.cancel()
            if late:
                log.warning("steps not finished", worker=NAME, partitions=len(late))

    async def revoked(self, _app: Any, revoked: Iterable[TP], **_: Any) -> None:
        """The group revokes all partitions. One assigned again is kept if nobody wrote to it meanwhile."""
        log.info("revoked", worker=NAME, partitions=len(self.open))
        for number in self.open:
            RECOVERING.labels(str(number)).set(1)
        try:
            await self.close()
            await self.commit()
        except Exception as error:
            log.warning("revocation failed", worker=NAME, error=f"{type(error).__name__}: {error}")

    async def recover(self) -> list[OwnedPartition]:
        """Load and open the partitions whose tables Faust has recovered from their changelogs.

        Returns:
            the open partitions; none if they were reassigned in the meantime.

        Raises:
            RuntimeError: a table is ahead of its changelog, and must be deleted.
        """
        links = self.links
        generation = links.group_generation
        recovery = links.app.tables.recovery
        ours = {tp.partition: tp for tp in recovery.active_tps}
        highwaters = dict(recovery.active_highwaters)
        if recovery._generation_id != generation or recovery.signal_recovery_start.is_set():
            return self._overtaken({})
        parts: dict[int, OwnedPartition] = {}
        ends: dict[int, int] = {}
        for number, tp in sorted(ours.items()):
            highwater = highwaters.get(tp)
            end = -1 if highwater is None else int(highwater)
            known = self.parts.get(number)
            persisted = links.table.data.persisted_offset(tp)
            if persisted is not None and persisted > end:
                beyond = (await asyncio.wait_for(links.outside.end_offsets([tp]), 10))[tp]
                if links.group_generation != generation:
                    return self._overtaken(parts)
                if persisted >= beyond:
                    # the changelog was lost: what only the table has would be lost with the disk or a move
                    self.discard = True
                    raise RuntimeError(f"the table of {number} is at {persisted}, its changelog ends before {beyond}")
            if known is not None and not known.torn and known.last == persisted:
                parts[number] = known
            else:
                parts[number] = await self.load(number, persisted)
                if links.group_generation != generation:
                    return self._overtaken(parts)
            ends[number] = max(end, -1 if persisted is None else persisted) + 1
        if links.group_generation != generation:
            return self._overtaken(parts)
        for number in self.parts.keys() - parts.keys():
            self._forget(number)
        for part in parts.values():
            part.generation = generation
            part.sought.clear()
            part.at.clear()
        links.changelog.ends.update(ends)
        self.parts = parts
        self._committed.clear()
        self.suspect = False
        self._beat = time.monotonic()
        self.open = frozenset(parts)
        for number, part in parts.items():
            part.show()
            RECOVERING.labels(str(number)).set(0)
        metrics.REBALANCES.labels(NAME).inc()
        metrics.ASSIGNED.labels(NAME).set(len(parts))
        self._health.details["partitions"] = len(parts)
        self._health.details["generation"] = links.generation
        self._health.ready()
        log.info("recovered", worker=NAME, partitions=sorted(parts))
        return list(parts.values())

    def _overtaken(self, loaded: Mapping[int, OwnedPartition]) -> list[OwnedPartition]:
        """Partitions were reassigned in the meantime. Faust lets this recovery finish, and another follows."""
        log.info("overtaken", worker=NAME)
        for number, part in loaded.items():
            if self.parts.get(number) is not part:
                part.fold.close()
        return []

    async def load(self, number: int, persisted: int | None) -> OwnedPartition:
        """Load a partition from its table, at offset ``persisted`` of its changelog. Totals are sums over all states."""
        begun = time.monotonic()
        part = OwnedPartition(number, self.views)
        db = self.links.db(number)
        part.read = tables.read_of(db.get(tables.READ))
        part.last = persisted
        rows = 0
        batch: dict[str, list[tuple[str, Any]]] = {}
        items = db.items()
        while True:
            # in chunks, so that heartbeats continue while a large table is read
            chunk = [row for row, _ in zip(items, range(2000), strict=False)]
            if not chunk:
                break
            rows += len(chunk)
            for key, raw in chunk:
                if key.startswith(tables.FAILED):
                    failure = tables.failed_of(raw)
                    part.failed[failure.key] = failure
            for table, key, state in self.codec.load(chunk):
                batch.setdefault(table, []).append((key, state))
            for table, states in batch.items():
                part.fold.load(table, states)
            batch.clear()
            await asyncio.sleep(0)
        names = self.links.names.values()
        part.filled = REFILL not in names
        for name, upcoming in part.read.next.items():
            if name != REFILL:
                # also skips records that the broker had deleted, and goes back if the topic was re-created
                part.fold.positions[fold.topic_source(name)] = upcoming - 1
        log.info("loaded", worker=NAME, partition=number, rows=rows, seconds=round(time.monotonic() - begun, 3))
        return part

    def _forget(self, number: int) -> None:
        self.parts[number].fold.close()
        for gauge in (FAILED, RECOVERING, MISSED):
            with contextlib.suppress(KeyError):
                gauge.remove(str(number))
        for name in self.links.names.values():
            with contextlib.suppress(KeyError):
                POSITION.remove(name, str(number))

    # -------------------------------------------------------------------------------------------------- membership

    def _frozen(self) -> bool:
        """Whether the process was frozen for most of a session."""
        return time.monotonic() - self._beat > self.settings.session_timeout_ms / 1000 * 0.6

    def going_on(self, part: OwnedPartition) -> bool:
        """Whether a step may still write: the partition is ours and the process was not frozen for too long."""
        if self._frozen():
            self.suspect = True
        # a step running when the group revokes partitions may finish: the group waits for it
        return not self.suspect and self.is_ours(part)

    def is_ours(self, part: OwnedPartition) -> bool:
        """Whether this is our current copy of the partition, and no reassignment has happened since."""
        return self.parts.get(part.number) is part and part.generation == self.links.group_generation

    async def check(self) -> None:
        """Note that the process is running. After a freeze, check whether the group still counts it as a member."""
        if self.open and self._frozen():
            self.suspect = True
        self._beat = time.monotonic()
        if self.suspect and self.open:
            await self.clear_up()

    async def clear_up(self) -> None:
        """Ask the group whether the partitions are still ours."""
        try:
            confirmed = await asyncio.wait_for(self.confirmed(), 5)
        except Exception as error:
            log.warning("ownership not confirmed", worker=NAME, error=type(error).__name__)
            return
        if confirmed:
            log.info("ownership confirmed", worker=NAME)
            self.suspect = False
            # the check may have taken long
            self._beat = time.monotonic()

    def torn(self) -> int | None:
        """A partition that an abandoned step left torn and that is still ours: it would stall until reloaded."""
        if not self.suspect:
            for number in self.open:
                part = self.parts.get(number)
                if part is not None and part.torn and not part.fold.lock.locked() and self.is_ours(part):
                    return number
        return None

    async def confirmed(self, number: int | None = None) -> bool:
        """Whether the group accepts a commit of ours; it refuses a worker that lost its partitions.

        Args:
            number: commit only this partition, which must also be assigned to us.
        """
        consumer = self.links.app.consumer
        assigned = consumer.assignment()
        offsets = {
            tp: offset
            for tp, offset in self.positions().items()
            if tp in assigned and (number is None or tp.partition == number)
        }
        if not offsets or not await consumer._commit(offsets):
            return False
        return number is None or TP(self.links.changelog.topic, number) in consumer.assignment()

    async def commit(self) -> None:
        """Commit the tables' positions to the group, for others to see."""
        if self.suspect:
            return
        wanted = {tp: offset for tp, offset in self.positions().items() if offset and self._committed.get(tp) != offset}
        if wanted and await self.links.app.consumer._commit(wanted):
            self._committed.update(wanted)
