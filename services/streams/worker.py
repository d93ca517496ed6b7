"""The process: Faust supplies records and tables; a step folds a batch, gets it acknowledged and writes it.

One step of one partition, under its lock:

1. Drop records that were read before. If some are missing, read again from the first missing one.
2. Fold (``fold.py``). An event that a view cannot fold is kept in the table and tried again at the next takeover; none
   is skipped.
3. Write one atomic batch to the changelog, acknowledged by all replicas.
4. Write the same batch, with the changelog's offset, to RocksDB in one write.

The read positions are part of the batch. So after a crash at any point, or after a partition moves, the state is one
that some prefix of the steps had reached, and reading resumes from there. The group's committed offsets only show the
lag to others.

Faust is not trusted beyond that: if it crashes, or if partitions stall while there is something to read, the process
restarts itself (log entry ``again``). docs/decisions/0034-streams-on-faust.md lists the flaws it guards against.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import rocksdict
import sqlalchemy as sa
import structlog
from aiokafka.errors import KafkaError as AioKafkaError
from faust.types import TP
from kafka.errors import KafkaError
from prometheus_client import REGISTRY

from services.streams import app as faust_app
from services.streams import fold, generations, sidecar, tables
from services.streams.app import REFILL
from services.streams.changelog import Changelog, Foreign, GivenUp
from services.streams.collector import Views
from services.streams.figures import FAILED, FOLDED, FOREIGN, MISSED, NAME, POSITION, RECOVERING, RESULTS, SOUGHT
from services.streams.registry import VIEWS
from services.streams.views import Meta, Totals, View
from shared import clock, db, kafka_links, log_limits, metrics, tracing
from shared.events import decode_data, decode_envelope
from shared.runtime.health import Health
from shared.runtime.traced import Traced
from shared.runtime.worker import crash_from
from shared.settings import Settings

log = structlog.get_logger(__name__)

BATCH_S: Final = 0.05
"""Most wall seconds spent gathering a batch."""
SHARES: Final = 4
"""A batch is divided among the partitions, so it is this many times as large as that of a one-transaction worker."""
LOOK_S: Final = 1.0
"""Seconds between checks of the topics' ends, and between commits."""
STALLED_S: Final = 15.0
"""Seconds without any folding after which a topic with more to read is sought again."""
FOLLOW_S: Final = 2.0
"""Seconds between checks for a new generation."""
CLOCK_S: Final = 1.0
"""Seconds between reads of the clock."""
_CLOCK: Final = sa.text("select wall, business, rate, clock_timestamp() from platform.clock order by id desc limit 1")
SEEK_S: Final = 3.0
"""Seconds after which a seek without a result is tried again."""
DEAD_S: Final = 60.0
"""Seconds without any folding after which the process restarts itself."""
STARVED_S: Final = 300.0
"""The same for one partition that stalls while others do not."""
TRACED_S: Final = 600.0
"""Wall seconds for which a record is part of its trace (?). A rebuild, perhaps weeks later, is not."""
LAST_S: Final = 8.0
"""Seconds that a rebalance waits for current steps; below its timeout."""


class Part:
    """A partition that is or was ours, at offset ``last`` of its changelog."""

    def __init__(self, number: int, views: Sequence[View]) -> None:
        self.number = number
        self.fold = fold.Partition(number, views)
        self.read = tables.Read()
        self.failed: dict[bytes, tables.Failed] = {}
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


class Worker:
    """One worker of the group.

    Args:
        crash: called with the name of each step; tests pass one that kills the process.
    """

    def __init__(
        self,
        settings: Settings,
        views: Sequence[View] = VIEWS,
        *,
        health: Health | None = None,
        crash: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.views = views
        self.health = health or Health(NAME)
        self._crash = crash or (lambda _step: None)
        self._tracing = tracing.current()
        self._codec = tables.Codec(views)
        self._topics = {topic.name: topic for view in views for topic in view.reads}
        self.generation = 0
        self.url = ""
        """URL of this worker's query API for the others; set it before ``run``."""
        self._parts: dict[int, Part] = {}
        self._open: frozenset[int] = frozenset()
        """Recovered partitions that may be folded."""
        self._beat = time.monotonic()
        self._discard = False
        """Delete the tables before the next start."""
        self._suspect = False
        """The process was frozen for so long that others may have its partitions."""
        self._ended: asyncio.Future[str] | None = None
        self._app: Any = None
        self._table: Any = None
        self._changelog: Any = None
        self._outside: Any = None
        self._committed: dict[TP, int] = {}
        self._folded_at = time.monotonic()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._time: tuple[clock.Anchor | None, dt.timedelta] = (None, dt.timedelta())
        self._loop: asyncio.AbstractEventLoop | None = None
        for topic in self._topics:
            for result in RESULTS:
                FOLDED.labels(topic, result)

    # ------------------------------------------------------------------------------------------------- for the views

    def get(self, view: str, key: str) -> Any:
        """The state of a key, from any partition we own (``views.Tables``); None if there is none."""
        raw_key = self._codec.key(view, key)
        for number in self._open:
            raw = self._db(number).get(raw_key)
            if raw is not None:
                return self._codec.state(view, raw)
        return None

    def owned(self) -> Mapping[int, Mapping[str, Totals]]:
        """Totals by recovered and owned partition (``views.Tables``)."""
        return {number: part.totals for number, part in self.partitions().items()}

    def partitions(self) -> Mapping[int, fold.Partition]:
        """The recovered and owned partitions."""
        return {number: self._parts[number].fold for number in sorted(self._open) if number in self._parts}

    def filled(self) -> Mapping[int, fold.Partition]:
        """Those of ``partitions`` that are complete: their refill topic, if any, is folded."""
        return {number: part for number, part in self.partitions().items() if self._parts[number].filled}

    def peers(self) -> dict[int, str]:
        """By partition of another worker, the URL of its query API, as of the last assignment."""
        found: dict[int, str] = {}
        if self._app is not None and self.url:
            for url, places in self._app.assignor.tables_metadata().items():
                if str(url).rstrip("/") != self.url:
                    for topic, numbers in places.items():
                        if topic == self._changelog.topic:
                            found.update(dict.fromkeys(numbers, str(url)))
        return found

    def now(self) -> dt.datetime:
        """Business time, from the anchor read last. Safe from any thread."""
        anchor, skew = self._time
        wall = dt.datetime.now(dt.UTC) + skew
        return wall if anchor is None else anchor.at(wall)

    # ------------------------------------------------------------------------------------------------------------ life

    def stop(self) -> None:
        """Finish the current steps and leave the group. Call this in the event loop."""
        self._end("stopped")

    def _end(self, how: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(how)

    def fail(self, error: BaseException) -> None:
        """End the run because of an error that only a restart fixes."""
        log.error("failed", worker=NAME, error=f"{type(error).__name__}: {error}", exc_info=error)
        self._end("failed")

    async def run(self) -> bool:
        """Work until ``stop``; returns False if the process must restart."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        tasks: list[asyncio.Task[None]] = [self._loop.create_task(self._heart())]
        try:
            if reason := await asyncio.to_thread(kafka_links.why, self.settings):
                await self._until_taken(reason)
                return self._ended.done()
            self.generation = await asyncio.to_thread(generations.current, self.settings)
            refill = await asyncio.to_thread(generations.has_refill, self.settings, self.generation)
            lock = self._folder()
            await self._begin(refill)
            tasks += [self._loop.create_task(look()) for look in (self._watch, self._follow, self._tell_time)]
            starting = self._loop.create_task(self._app.start())
            tasks.append(starting)
            starting.add_done_callback(self._started)
            how = await self._ended
            await self._leave(how)
            if self._discard:
                shutil.rmtree(self._root)
            os.close(lock)
            return how == "stopped"
        except (AioKafkaError, KafkaError, OSError, generations.NotReady) as error:
            if (reason := await asyncio.to_thread(kafka_links.why, self.settings)) is None:
                log.warning("paused", worker=NAME, error=f"{type(error).__name__}: {error}")
            else:
                await self._until_taken(reason)
            return self._ended.done() and self._ended.result() == "stopped"
        finally:
            for task in tasks:
                task.cancel()

    async def _until_taken(self, reason: str | None) -> None:
        """Wait while broker and process do not trust each other; restarting the process would log it every time."""
        assert self._ended is not None
        while reason is not None and not self._ended.done():
            if log_limits.seldom(reason):
                log.warning("paused", worker=NAME, error=reason)
            await asyncio.wait([self._ended], timeout=self.settings.retry_max_s)
            reason = await asyncio.to_thread(kafka_links.why, self.settings)

    def _started(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _folder(self) -> int:
        """Lock the folder of this worker's tables and delete those of other generations; returns the lock."""
        root = Path(self.settings.state_dir) / "streams" / (self.settings.instance or NAME)
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = str(self.generation)
        for other in root.iterdir():
            if other.is_dir() and other.name != mine:
                shutil.rmtree(other)
        self._root = root / mine
        self._root.mkdir(exist_ok=True)
        return lock

    async def _begin(self, refill: bool) -> None:
        settings = self.settings
        names = {settings.topic_prefix + name: name for name in self._topics}
        if refill:
            names[faust_app.refill_topic(settings, self.generation)] = REFILL
        self._names = names
        self._changelog = Changelog(faust_app.changelog_topic(settings, self.generation), settings, NAME)
        await self._changelog.start()
        self._outside = kafka_links.aio_consumer(settings, enable_auto_commit=False)
        await self._outside.start()
        app = self._app = faust_app.create(settings, self.generation, self._root, self._positions, self.url)
        self._table = faust_app.table(app, settings.partitions)
        self._table.on_recover(self._recovered)
        app.on_partitions_revoked.connect(self._revoked, weak=False)

        topic = app.topic(
            *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )

        @app.agent(topic, name="fold")  # type: ignore[untyped-decorator]
        async def folding(stream: Any) -> None:
            async for events in stream.noack_take(SHARES * settings.batch_max_records, within=BATCH_S):
                try:
                    await self._take(events)
                except Exception as error:
                    self.fail(error)
                    await asyncio.sleep(3600)

    async def _leave(self, how: str) -> None:
        self.health.ready(False)
        with contextlib.suppress(Exception):
            await self._close()
            await asyncio.wait_for(self._commit(), 3)
        # the group of an old generation has no members left: no need to leave it
        parts = () if how == "moved" else ((self._app, 10.0), (self._changelog, 5.0), (self._outside, 5.0))
        for part, most_s in parts:
            if part is None:
                continue
            try:
                await asyncio.wait_for(part.stop(), most_s)
            except Exception as error:
                log.warning("not stopped cleanly", part=type(part).__name__, error=type(error).__name__)

    # -------------------------------------------------------------------------------------------------------- ownership

    def _db(self, number: int) -> Any:
        return self._table.data._db_for_partition(number)

    def _changelog_place(self, number: int) -> TP:
        return TP(self._changelog.topic, number)

    def _positions(self) -> dict[TP, int]:
        """Where to resume, by topic and partition."""
        return {
            TP(full, number): part.read.next.get(name, 0)
            for number, part in self._parts.items()
            for full, name in self._names.items()
        }

    async def _close(self) -> None:
        """Stop folding and wait for current steps."""
        closing, self._open = self._open, frozenset()

        async def settled(part: Part) -> None:
            async with part.fold.lock:
                pass

        waiting = [asyncio.create_task(settled(part)) for number in closing if (part := self._parts.get(number))]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=LAST_S)
            for task in late:
                task.cancel()
            if late:
                log.warning("steps not finished", worker=NAME, partitions=len(late))

    async def _revoked(self, _app: Any, revoked: Iterable[TP], **_: Any) -> None:
        """The group revokes all partitions. One assigned again is kept if nobody wrote to it meanwhile."""
        log.info("revoked", worker=NAME, partitions=len(self._open))
        for number in self._open:
            RECOVERING.labels(str(number)).set(1)
        try:
            await self._close()
            await self._commit()
        except Exception as error:
            log.warning("revocation failed", worker=NAME, error=f"{type(error).__name__}: {error}")

    async def _recovered(self) -> None:
        """Called when Faust has recovered the tables from their changelogs."""
        try:
            generation = self._app.consumer_generation_id
            recovery = self._app.tables.recovery
            ours = {place.partition: place for place in recovery.active_tps}
            highwaters = dict(recovery.active_highwaters)
            if recovery._generation_id != generation or recovery.signal_recovery_start.is_set():
                return self._overtaken({})
            parts: dict[int, Part] = {}
            ends: dict[int, int] = {}
            for number, place in sorted(ours.items()):
                highwater = highwaters.get(place)
                end = -1 if highwater is None else int(highwater)
                known = self._parts.get(number)
                persisted = self._table.data.persisted_offset(place)
                if persisted is not None and persisted > end:
                    beyond = (await asyncio.wait_for(self._outside.end_offsets([place]), 10))[place]
                    if self._app.consumer_generation_id != generation:
                        return self._overtaken(parts)
                    if persisted >= beyond:
                        # the changelog was lost: what only the table has would be lost with the disk or a move
                        self._discard = True
                        raise RuntimeError(
                            f"the table of {number} is at {persisted}, its changelog ends before {beyond}"
                        )
                if known is not None and not known.torn and known.last == persisted:
                    parts[number] = known
                else:
                    parts[number] = await self._load(number, persisted)
                    if self._app.consumer_generation_id != generation:
                        return self._overtaken(parts)
                ends[number] = max(end, -1 if persisted is None else persisted) + 1
            if self._app.consumer_generation_id != generation:
                return self._overtaken(parts)
            for number in self._parts.keys() - parts.keys():
                self._forget(number)
            for part in parts.values():
                part.generation = generation
                part.sought.clear()
                part.at.clear()
            self._changelog.ends.update(ends)
            self._parts = parts
            self._committed.clear()
            self._suspect = False
            self._beat = time.monotonic()
            self._open = frozenset(parts)
            for number, part in parts.items():
                self._show(part)
                RECOVERING.labels(str(number)).set(0)
            metrics.REBALANCES.labels(NAME).inc()
            metrics.ASSIGNED.labels(NAME).set(len(parts))
            self.health.details["partitions"] = len(parts)
            self.health.details["generation"] = self.generation
            self.health.ready()
            log.info("recovered", worker=NAME, partitions=sorted(parts))
            for part in list(parts.values()):
                if part.failed:
                    await self._retry(part)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Faust would swallow it
            self.fail(error)

    def _overtaken(self, loaded: Mapping[int, Part]) -> None:
        """Partitions were reassigned in the meantime. Faust lets this recovery finish, and another follows."""
        log.info("overtaken", worker=NAME)
        for number, part in loaded.items():
            if self._parts.get(number) is not part:
                part.fold.close()

    async def _load(self, number: int, persisted: int | None) -> Part:
        """Load a partition from its table. Totals are sums over all states."""
        begun = time.monotonic()
        part = Part(number, self.views)
        db = self._db(number)
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
            for table, key, state in self._codec.load(chunk):
                batch.setdefault(table, []).append((key, state))
            for table, states in batch.items():
                part.fold.load(table, states)
            batch.clear()
            await asyncio.sleep(0)
        part.filled = REFILL not in self._names.values()
        for name, upcoming in part.read.next.items():
            if name != REFILL:
                # also skips records that the broker had deleted, and goes back if the topic was re-created
                part.fold.positions[fold.topic_source(name)] = upcoming - 1
        log.info("loaded", worker=NAME, partition=number, rows=rows, seconds=round(time.monotonic() - begun, 3))
        return part

    def _forget(self, number: int) -> None:
        self._parts[number].fold.close()
        for gauge in (FAILED, RECOVERING, MISSED):
            with contextlib.suppress(KeyError):
                gauge.remove(str(number))
        for name in self._names.values():
            with contextlib.suppress(KeyError):
                POSITION.remove(name, str(number))

    def _show(self, part: Part) -> None:
        FAILED.labels(str(part.number)).set(len(part.failed))
        MISSED.labels(str(part.number)).set(part.read.missed)

    def _going_on(self, part: Part) -> bool:
        """Whether a step may still write: the partition is ours and the process was not frozen for too long."""
        if time.monotonic() - self._beat > self.settings.session_timeout_ms / 1000 * 0.6:
            self._suspect = True
        # a step running when the group revokes partitions may finish: the group waits for it
        return not self._suspect and self._is_ours(part)

    def _is_ours(self, part: Part) -> bool:
        """Whether this is our current copy of the partition, and no reassignment has happened since."""
        return self._parts.get(part.number) is part and part.generation == self._app.consumer_generation_id

    # ------------------------------------------------------------------------------------------------------------ steps

    async def _take(self, events: Sequence[Any]) -> None:
        by_partition: dict[int, list[Any]] = {}
        generation = self._app.consumer_generation_id
        for event in events:
            message = event.message
            if message.generation_id == generation and message.partition in self._open:
                by_partition.setdefault(message.partition, []).append(message)
        if by_partition:
            await asyncio.gather(*(self._step(number, records) for number, records in by_partition.items()))

    async def _step(self, number: int, messages: Sequence[Any]) -> None:
        part = self._parts[number]
        async with part.fold.lock:
            if number not in self._open or not self._going_on(part) or part.torn:
                return
            read = part.read.copy()
            failures: list[tables.Failed] = []
            records: list[fold.Record] = []
            raws: dict[tuple[str, int], tuple[float, bytes]] = {}
            counts: Counter[tuple[str, str]] = Counter()
            traced = None if self._tracing is None else Traced(self._tracing, NAME, "", ())
            for message in messages:
                name = self._names[message.topic]
                offset = message.offset
                wanted = read.next.get(name, 0)
                if offset < wanted:
                    counts[name, "duplicate"] += 1
                    continue
                if offset > wanted and not await self._follows(part, read, name, message):
                    continue
                part.sought.pop(name, None)
                read.next[name] = offset + 1
                read.wall[name] = message.timestamp
                origin = name if name != REFILL else _origin(message.headers)
                try:
                    record = _record(origin, offset, message.timestamp, message.value, counts=name != REFILL)
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
            changes, kept = part.fold.fold(records, self._getter(number))
            for kind in kept:
                topic, offset = kind.record.topic, kind.record.offset
                failures.append(
                    tables.failed(topic, offset, raws[topic, offset][0], kind.view, kind.error, raws[topic, offset][1])
                )
                counts[topic, "failed"] += 1
            self._crash("folded")
            nothing = not changes and not failures and read.next == part.read.next
            if nothing or await self._write(part, changes, read, failures, ()):
                for (name, result), count in counts.items():
                    if count > 0:
                        FOLDED.labels(name, result).inc(count)
                if traced is not None:
                    traced.committed(len(records), 0)
        for failure in failures:
            log.error(
                "not folded",
                partition=number,
                topic=failure.topic,
                offset=failure.offset,
                view=failure.view,
                error=failure.error,
            )

    def _getter(self, number: int) -> Callable[[str, str], Any]:
        get, key_of, state_of = self._db(number).get, self._codec.key, self._codec.state

        def look(table: str, key: str) -> Any:
            raw = get(key_of(table, key))
            return None if raw is None else state_of(table, raw)

        return look

    async def _write(
        self,
        part: Part,
        changes: Sequence[fold.Change],
        read: tables.Read,
        failures: Sequence[tables.Failed],
        mended: Sequence[bytes],
    ) -> bool:
        """Write to the changelog, then the table. False: the partition is not ours any more or will be reloaded."""
        number = part.number
        rows = self._codec.rows(changes, read, failures, mended)
        part.torn = True
        try:
            last = await self._acknowledged(part, rows)
        except GivenUp:
            log.warning("write abandoned", worker=NAME, partition=number)
            return False
        self._crash("acknowledged")
        if not self._is_ours(part):
            # reloaded, by us or another worker, from a table without this batch: the events will be folded again
            return False
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(tables.OFFSET, str(last).encode())
        self._db(number).write(batch)
        part.torn = False
        part.last = last
        self._folded_at = time.monotonic()
        part.read = read
        for failure in failures:
            part.failed[failure.key] = failure
        for key in mended:
            part.failed.pop(key, None)
        if failures or mended:
            self._show(part)
        self._crash("written")
        return True

    async def _acknowledged(self, part: Part, rows: Sequence[tables.Row]) -> int:
        """Write to the changelog. If another worker has written to it, write the current values again."""
        first: int | None = None
        wanted = dict(rows)
        pending = rows
        while True:
            try:
                return int(await self._changelog.write(part.number, pending, lambda: self._going_on(part)))
            except Foreign as foreign:
                FOREIGN.inc()
                log.warning("foreign write", worker=NAME, partition=part.number, offsets=str(foreign))
                first = foreign.first if first is None else first
                if not await self._confirmed(part.number):
                    self._suspect = True
                    raise GivenUp from None
                db = self._db(part.number)
                again: dict[bytes, bytes | None] = {}
                for key, value in await self._changelog.read(part.number, first, foreign.last):
                    stands = wanted[key] if key in wanted else db.get(key)
                    if stands is not None and stands != value:
                        again[key] = stands
                again[tables.READ] = wanted[tables.READ]
                pending = list(again.items())

    async def _confirmed(self, number: int | None = None) -> bool:
        """Whether the group accepts a commit of ours; it refuses a worker that lost its partitions.

        Args:
            number: commit only this partition, which must also be assigned to us.
        """
        assigned = self._app.consumer.assignment()
        offsets = {
            place: offset
            for place, offset in self._positions().items()
            if place in assigned and (number is None or place.partition == number)
        }
        if not offsets or not await self._app.consumer._commit(offsets):
            return False
        return number is None or self._changelog_place(number) in self._app.consumer.assignment()

    async def _follows(self, part: Part, read: tables.Read, name: str, message: Any) -> bool:
        """Whether a record after a gap is nevertheless the next one, because the broker has deleted those between.

        Otherwise read again from the gap, even if the missing record is in the same batch (it then arrives again).
        """
        wanted = read.next.get(name, 0)
        if self._seeking(part, name, wanted):
            return False
        place = message.tp
        try:
            first = (await asyncio.wait_for(self._outside.beginning_offsets([place]), 10))[place]
        except (AioKafkaError, TimeoutError, OSError) as error:
            log.warning("first offset unavailable", worker=NAME, error=type(error).__name__)
            self._seek(part, name, wanted)
            return False
        if first >= message.offset:
            self._miss(part, read, name, message.offset)
            return True
        self._seek(part, name, max(first, wanted))
        return False

    def _seeking(self, part: Part, name: str, offset: int) -> bool:
        """Whether a seek to an offset is pending. Until that record arrives, others are dropped."""
        sought, since = part.sought.get(name, (-1, 0.0))
        return sought == offset and time.monotonic() - since < SEEK_S

    def _seek(self, part: Part, name: str, offset: int) -> None:
        """Resume a topic at an offset. Faust drops records when interrupted; a seek may get lost in a rebalance."""
        full = next(full for full, short in self._names.items() if short == name)
        SOUGHT.inc()
        log.info("sought", worker=NAME, topic=name, partition=part.number, offset=offset)
        part.sought[name] = (offset, time.monotonic())
        # runs in the consumer's own thread: its client is not thread-safe
        seeking = asyncio.create_task(self._app.consumer.seek_wait({TP(full, part.number): offset}))
        self._tasks.add(seeking)
        seeking.add_done_callback(self._sought)

    def _sought(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("seek failed", worker=NAME, error=f"{type(error).__name__}: {error}")

    async def _retry(self, part: Part) -> None:
        """Fold events again that failed before."""
        async with part.fold.lock:
            changes: list[fold.Change] = []
            mended: list[bytes] = []
            failures: list[tables.Failed] = []
            overlay: dict[tuple[str, str], Any] = {}
            stored = self._getter(part.number)

            def look(table: str, key: str) -> Any:
                place = (table, key)
                return overlay[place] if place in overlay else stored(table, key)

            for failure in list(part.failed.values()):
                try:
                    record = _record(failure.topic, failure.offset, failure.wall, failure.raw, counts=False)
                except Exception as error:
                    log.error("not folded", partition=part.number, topic=failure.topic, error=type(error).__name__)
                    continue
                done, kept = part.fold.fold([record], look, failure.view or None)
                changes += done
                overlay.update({(change.table, change.key): change.state for change in done})
                failures += [
                    tables.failed(failure.topic, failure.offset, failure.wall, still.view, still.error, failure.raw)
                    for still in kept
                ]
                if failure.key not in {still.key for still in failures}:
                    mended.append(failure.key)
            if mended:
                latest = {(change.table, change.key): change for change in changes}
                await self._write(part, list(latest.values()), part.read.copy(), failures, mended)
                log.info("failed events folded", worker=NAME, partition=part.number, events=len(mended))

    # ---------------------------------------------------------------------------------------------------- looking after

    async def _heart(self) -> None:
        """Detect that the process was frozen, and check whether the group still counts it as a member."""
        while True:
            now = time.monotonic()
            if now - self._beat > self.settings.session_timeout_ms / 1000 * 0.6 and self._open:
                self._suspect = True
            self._beat = now
            self.health.progress()
            metrics.PROGRESS.labels(NAME).set_to_current_time()
            if self._suspect and self._open:
                await self._clear_up()
            self._mend()
            await asyncio.sleep(0.2)

    async def _clear_up(self) -> None:
        try:
            confirmed = await asyncio.wait_for(self._confirmed(), 5)
        except Exception as error:
            log.warning("ownership not confirmed", worker=NAME, error=type(error).__name__)
            return
        if confirmed:
            log.info("ownership confirmed", worker=NAME)
            self._suspect = False
            # the check may have taken long
            self._beat = time.monotonic()

    def _mend(self) -> None:
        """Restart if an abandoned step left a partition torn that is still ours: it would stall until reloaded."""
        if self._suspect or self._ended is None or self._ended.done():
            return
        for number in self._open:
            part = self._parts.get(number)
            if part is not None and part.torn and not part.fold.lock.locked() and self._is_ours(part):
                self.fail(RuntimeError(f"partition {number} was given up and is still ours"))
                return

    async def _watch(self) -> None:
        """Compare positions with the topics' ends, commit, and detect stalled partitions."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
                await self._commit()
            except (AioKafkaError, TimeoutError, OSError) as error:
                log.warning("check failed", worker=NAME, error=type(error).__name__)
            except Exception as error:
                self.fail(error)
            if self._app is not None:
                if self._app.crash_reason is not None:
                    self.fail(self._app.crash_reason)
                try:
                    self._app.consumer.check_group()
                except Exception as error:
                    self.fail(error)

    async def _look(self) -> None:
        places = [TP(full, number) for number in self._open for full in self._names]
        if not places:
            return
        wall, now = time.time(), time.monotonic()
        before = self._positions()
        ends = await asyncio.wait_for(self._outside.end_offsets(places), 10)
        late: list[tuple[Part, str, TP, bool]] = []
        for place in places:
            part = self._parts.get(place.partition)
            if part is None or place.partition not in self._open:
                continue
            name, end = self._names[place.topic], ends[place]
            stands = part.read.next.get(name, 0)
            if stands >= end:
                POSITION.labels(name, str(place.partition)).set(wall)
                part.at.pop(name, None)
                part.filled |= name == REFILL
                # ignore records read while the answer was on its way
                if before.get(place, 0) > end:
                    await self._begun_anew(part, name)
                continue
            POSITION.labels(name, str(place.partition)).set(part.read.wall.get(name, part.begun))
            at, since = part.at.setdefault(name, (stands, now))
            if at != stands:
                part.at[name] = (stands, now)
                continue
            # a partition may wait while others have much to read, but a worker that folds nothing at all is stalled
            idle = now - max(since, self._folded_at)
            if idle > DEAD_S or now - since > STARVED_S:
                self.fail(TimeoutError(f"{name} {place.partition} stands at {stands} of {end}"))
            elif now - since > STALLED_S and not self._seeking(part, name, stands):
                late.append((part, name, place, idle > STALLED_S))
        if late:
            firsts = await asyncio.wait_for(self._outside.beginning_offsets([place for _, _, place, _ in late]), 10)
            for part, name, place, nothing in late:
                # deleted records never arrive, however many arrive of other topics
                if nothing or firsts[place] > part.read.next.get(name, 0):
                    await self._go_back(part, name, firsts[place])

    async def _go_back(self, part: Part, name: str, first: int) -> None:
        """Resume at the position or, if its record was deleted, at ``first``, the first remaining one."""
        async with part.fold.lock:
            stands = part.read.next.get(name, 0)
            if first > stands:
                self._miss(part, part.read, name, first)
                self._show(part)
            self._seek(part, name, max(first, stands))

    def _miss(self, part: Part, read: tables.Read, name: str, first: int) -> None:
        """Skip records before ``first``, which the broker has deleted, and count them as missed.

        A generation filled from the logs has those that were deleted before it began to read, so they do not count.
        """
        records = first - read.next.get(name, 0)
        covered = REFILL in self._names.values() and name not in read.next
        read.next[name] = first
        if name != REFILL:
            source = fold.topic_source(name)
            part.fold.positions[source] = max(part.fold.positions.get(source, -1), first - 1)
        if not covered:
            read.missed += records
            log.error("records missed", worker=NAME, topic=name, partition=part.number, records=records)

    async def _begun_anew(self, part: Part, name: str) -> None:
        """Restart a topic that ends before our position: it was re-created, so fold it from its beginning."""
        log.error("topic re-created", worker=NAME, topic=name, partition=part.number)
        async with part.fold.lock:
            part.read.next[name] = 0
            part.fold.positions.pop(fold.topic_source(name), None)
            self._seek(part, name, 0)

    async def _commit(self) -> None:
        """Commit the tables' positions to the group, for others to see."""
        if self._suspect:
            return
        wanted = {
            place: offset
            for place, offset in self._positions().items()
            if offset and self._committed.get(place) != offset
        }
        if wanted and await self._app.consumer._commit(wanted):
            self._committed.update(wanted)

    async def _tell_time(self) -> None:
        """Read the clock periodically; while the database is unavailable, use the anchor read last."""
        engine = db.connect(
            self.settings.present("database"),
            schema="platform",
            name=f"{NAME}-{self.settings.instance}",
            pool_size=1,
        )
        try:
            while True:
                try:
                    self._time = await asyncio.to_thread(_anchor, engine)
                except Exception as error:
                    log.warning("clock unavailable", worker=NAME, error=type(error).__name__)
                await asyncio.sleep(CLOCK_S)
        finally:
            engine.dispose()

    async def _follow(self) -> None:
        """Switch to a new generation as soon as there is one."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                names = await self._outside.topics()
            except Exception as error:
                log.warning("generations unavailable", worker=NAME, error=type(error).__name__)
                continue
            newest = max(generations.of_topics(self.settings, names), default=0)
            if newest > self.generation:
                log.info("new generation", worker=NAME, generation=newest)
                self._end("moved")


def _anchor(engine: sa.Engine) -> tuple[clock.Anchor, dt.timedelta]:
    """The clock's anchor, and how far the database's clock is ahead of ours."""
    with engine.begin() as connection:
        wall, business, rate, now = connection.execute(_CLOCK).one()
    return clock.Anchor(wall, business, rate), now - dt.datetime.now(dt.UTC)


def _record(topic: str, offset: int, wall: float, raw: bytes, *, counts: bool) -> fold.Record:
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


def run(settings: Settings) -> None:
    """Run as this process, with health server and signal handlers, until SIGTERM or SIGINT."""
    for loud in ("faust", "mode", "aiokafka"):
        logging.getLogger(loud).setLevel(max(logging.getLogger().level, logging.WARNING))
    health = Health(NAME)
    server = health.serve(settings)
    log.info("started", worker=NAME, health_port=server.server_address[1])
    worker = Worker(settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), NAME))

    views = Views(lambda: worker.partitions().values(), worker.now)
    REGISTRY.register(views)
    listening = sidecar.listen(settings)
    worker.url = sidecar.url_of(listening, tls=settings.http_certificate is not None)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        async with sidecar.running(settings, worker, views, listening):
            stopped = await worker.run()
        if stopped:
            log.info("stopped", worker=NAME)
            sys.stderr.flush()
            # exit without waiting for Faust's tasks and threads: some never end
            os._exit(0)
        pause = random.uniform(0.2, min(2.0, settings.retry_max_s))
        log.info("again", worker=NAME, pause_s=round(pause, 3))
        await asyncio.sleep(pause)
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very process again

    asyncio.run(work())
