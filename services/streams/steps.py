"""The steps of a worker: fold a batch of one partition, have the changelog acknowledge it, and write it to the table."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import rocksdict
import structlog

from services.streams import fold, tables
from services.streams.app import REFILL
from services.streams.changelog import ForeignWrite, WriteAbandoned
from services.streams.figures import FOLDED, FOREIGN, NAME
from services.streams.ownership import OwnedPartition, Ownership
from services.streams.reading import Reading
from services.streams.views import Meta
from shared import tracing
from shared.events import decode_data, decode_envelope
from shared.runtime.traced import Traced

log = structlog.get_logger(__name__)

TRACED_S: Final = 600.0
"""Wall seconds for which a record is part of its trace (?). A rebuild, perhaps weeks later, is not."""


class Steps:
    """Folds the partitions of one worker.

    Args:
        crash: called with the name of each step.
    """

    def __init__(self, ownership: Ownership, reading: Reading, crash: Callable[[str], None]) -> None:
        self._ownership = ownership
        self._reading = reading
        self._crash = crash
        self._tracing = tracing.current()

    async def take(self, events: Sequence[Any]) -> None:
        """Fold a batch from Faust: one step for each partition that is open."""
        by_partition: dict[int, list[Any]] = {}
        generation = self._ownership.links.group_generation
        for event in events:
            message = event.message
            if message.generation_id == generation and message.partition in self._ownership.open:
                by_partition.setdefault(message.partition, []).append(message)
        if by_partition:
            await asyncio.gather(*(self.step(number, records) for number, records in by_partition.items()))

    async def step(self, number: int, messages: Sequence[Any]) -> None:
        """One step of one partition, under its lock; nothing if the partition is not ours any more."""
        ownership = self._ownership
        part = ownership.parts[number]
        async with part.fold.lock:
            if number not in ownership.open or not ownership.going_on(part) or part.torn:
                return
            read = part.read.copy()
            failures: list[tables.FailedEvent] = []
            records: list[fold.Record] = []
            raws: dict[tuple[str, int], tuple[float, bytes]] = {}
            counts: Counter[tuple[str, str]] = Counter()
            traced = None if self._tracing is None else Traced(self._tracing, NAME, "", ())
            for message in messages:
                name = ownership.links.names[message.topic]
                offset = message.offset
                wanted = read.next.get(name, 0)
                if offset < wanted:
                    counts[name, "duplicate"] += 1
                    continue
                if offset > wanted and not await self._reading.follows(part, read, name, message):
                    continue
                part.sought.pop(name, None)
                read.next[name] = offset + 1
                read.wall[name] = message.timestamp
                origin = name if name != REFILL else _origin(message.headers)
                try:
                    record = record_of(origin, offset, message.timestamp, message.value, counts=name != REFILL)
                except Exception as error:
                    failures.append(tables.failed(origin, offset, message.timestamp, "", error, message.value or b""))
                    counts[name, "failed"] += 1
                    continue
                counts[name, "folded" if record.data is not None else "skipped"] += 1
                raws[origin, offset] = (message.timestamp, message.value)
                records.append(record)
                if traced is not None and (parent := _context(message)) is not None:
                    claim = getattr(record.data, "claim", None)
                    traced.record(name, number, offset, message.timestamp, "", claim, parent)
            self._crash("read")
            changes, failed = part.fold.fold(records, self._getter(number))
            for failure in failed:
                topic, offset = failure.record.topic, failure.record.offset
                wall, raw = raws[topic, offset]
                failures.append(tables.failed(topic, offset, wall, failure.view, failure.error, raw))
                counts[topic, "failed"] += 1
            self._crash("folded")
            nothing = not changes and not failures and read.next == part.read.next
            if nothing or await self.write(part, changes, read, failures, ()):
                for (name, result), count in counts.items():
                    if count > 0:
                        FOLDED.labels(name, result).inc(count)
                if traced is not None:
                    traced.committed(len(records), 0)
        for event in failures:
            log.error(
                "not folded",
                partition=number,
                topic=event.topic,
                offset=event.offset,
                view=event.view,
                error=event.error,
            )

    def _getter(self, number: int) -> Callable[[str, str], Any]:
        codec = self._ownership.codec
        get, key_of, state_of = self._ownership.links.db(number).get, codec.key, codec.state

        def look(table: str, key: str) -> Any:
            raw = get(key_of(table, key))
            return None if raw is None else state_of(table, raw)

        return look

    async def write(
        self,
        part: OwnedPartition,
        changes: Sequence[fold.Change],
        read: tables.ReadPositions,
        failures: Sequence[tables.FailedEvent],
        mended: Sequence[bytes],
    ) -> bool:
        """Write to the changelog, then the table. False: the partition is not ours any more or will be reloaded.

        Args:
            mended: keys of earlier failures that are folded now.
        """
        number = part.number
        rows = self._ownership.codec.rows(changes, read, failures, mended)
        part.torn = True
        try:
            last = await self._acknowledged(part, rows)
        except WriteAbandoned:
            log.warning("write abandoned", worker=NAME, partition=number)
            return False
        self._crash("acknowledged")
        if not self._ownership.is_ours(part):
            # reloaded, by us or another worker, from a table without this batch: the events will be folded again
            return False
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(tables.OFFSET, str(last).encode())
        self._ownership.links.db(number).write(batch)
        part.torn = False
        part.last = last
        self._ownership.folded_at = time.monotonic()
        part.read = read
        for failure in failures:
            part.failed[failure.key] = failure
        for key in mended:
            part.failed.pop(key, None)
        if failures or mended:
            part.show()
        self._crash("written")
        return True

    async def _acknowledged(self, part: OwnedPartition, rows: Sequence[tables.Row]) -> int:
        """Write to the changelog. If another worker has written to it, write the current values again."""
        ownership, changelog = self._ownership, self._ownership.links.changelog
        first: int | None = None
        wanted = dict(rows)
        pending = rows
        while True:
            try:
                return int(await changelog.write(part.number, pending, lambda: ownership.going_on(part)))
            except ForeignWrite as foreign:
                FOREIGN.inc()
                log.warning("foreign write", worker=NAME, partition=part.number, offsets=str(foreign))
                first = foreign.first if first is None else first
                if not await ownership.confirmed(part.number):
                    ownership.suspect = True
                    raise WriteAbandoned from None
                db = ownership.links.db(part.number)
                again: dict[bytes, bytes | None] = {}
                for key, value in await changelog.read(part.number, first, foreign.last):
                    stands = wanted[key] if key in wanted else db.get(key)
                    if stands is not None and stands != value:
                        again[key] = stands
                again[tables.READ] = wanted[tables.READ]
                pending = list(again.items())

    async def retry(self, part: OwnedPartition) -> None:
        """Fold events again that failed before."""
        async with part.fold.lock:
            changes: list[fold.Change] = []
            mended: list[bytes] = []
            failures: list[tables.FailedEvent] = []
            overlay: dict[tuple[str, str], Any] = {}
            stored = self._getter(part.number)

            def look(table: str, key: str) -> Any:
                slot = (table, key)
                return overlay[slot] if slot in overlay else stored(table, key)

            for event in list(part.failed.values()):
                try:
                    record = record_of(event.topic, event.offset, event.wall, event.raw, counts=False)
                except Exception as error:
                    log.error("not folded", partition=part.number, topic=event.topic, error=type(error).__name__)
                    continue
                done, failed = part.fold.fold([record], look, event.view or None)
                changes += done
                overlay.update({(change.table, change.key): change.state for change in done})
                failures += [
                    tables.failed(event.topic, event.offset, event.wall, still.view, still.error, event.raw)
                    for still in failed
                ]
                if event.key not in {still.key for still in failures}:
                    mended.append(event.key)
            if mended:
                latest = {(change.table, change.key): change for change in changes}
                await self.write(part, list(latest.values()), part.read.copy(), failures, mended)
                log.info("failed events folded", worker=NAME, partition=part.number, events=len(mended))


def record_of(topic: str, offset: int, wall: float, raw: bytes, *, counts: bool) -> fold.Record:
    """A record from its bytes. ``counts``: its offset is the topic's.

    Raises:
        Exception: it cannot be decoded.
    """
    envelope = decode_envelope(raw)
    if envelope.time is None:
        raise ValueError("an event without a time")
    meta = Meta(envelope.id, envelope.time, dt.datetime.fromtimestamp(wall, dt.UTC))
    return fold.Record(topic, offset, decode_data(envelope), meta, counts)


def _context(message: Any) -> str | None:
    """The trace context of a record that is traced and recent enough to be part of its trace."""
    headers = message.headers
    if not headers or time.time() - message.timestamp > TRACED_S:
        return None
    parent = tracing.only(headers.items() if isinstance(headers, Mapping) else headers)
    return str(parent) if parent is not None and parent.sampled else None


def _origin(headers: Any) -> str:
    """The original topic of a record in the refill topic."""
    for key, value in headers.items() if isinstance(headers, Mapping) else headers or ():
        if key == "topic":
            return bytes(value).decode()
    return ""
