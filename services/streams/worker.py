"""The worker: Faust supplies records and tables; a step folds a batch, gets it acknowledged and writes it.

One step of one partition, under its lock (``steps.py``):

1. Drop records that were read before. If some are missing, read again from the first missing one (``reading.py``).
2. Fold (``fold.py``). An event that a view cannot fold is kept in the table and tried again at the next takeover; none
   is skipped.
3. Write one atomic batch to the changelog, acknowledged by all replicas (``changelog.py``).
4. Write the same batch, with the changelog's offset, to RocksDB in one write.

The read positions are part of the batch. So after a crash at any point, or after a partition moves (``ownership.py``),
the state is one that some prefix of the steps had reached, and reading resumes from there. The group's committed
offsets only show the lag to others.

Faust is not trusted beyond that: if it crashes, or if partitions stall while there is something to read, the process
restarts itself (log entry ``again``). docs/decisions/0034-streams-on-faust.md lists the flaws it guards against.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog
from aiokafka.errors import KafkaError as AioKafkaError
from kafka.errors import KafkaError

from services.streams import app as faust_app
from services.streams import fold, generations
from services.streams.app import REFILL
from services.streams.changelog import Changelog
from services.streams.figures import FOLDED, NAME, RESULTS
from services.streams.ownership import Links, Ownership
from services.streams.reading import Reading
from services.streams.registry import VIEWS
from services.streams.steps import Steps
from services.streams.views import Totals, View
from shared import clock, db, kafka_links, log_limits, metrics
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

BATCH_S: Final = 0.2
"""Most wall seconds spent gathering a batch."""
SHARES: Final = 4
"""A batch is divided among the partitions, so it is this many times as large as that of a one-transaction worker."""
LOOK_S: Final = 1.0
"""Seconds between checks of the topics' ends, and between commits."""
FOLLOW_S: Final = 2.0
"""Seconds between checks for a new generation."""
CLOCK_S: Final = 1.0
"""Seconds between reads of the clock."""
HEART_S: Final = 0.2
"""Seconds between signs of life."""
_CLOCK: Final = sa.text(
    "select wall, business, rate, clock_timestamp() as now from platform.clock order by id desc limit 1"
)


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
        self.health = health or Health(NAME)
        self.url = ""
        """URL of this worker's query API for the others; set it before ``run``."""
        self.ownership = Ownership(settings, views, self.health)
        self.reading = Reading(self.ownership, self.fail)
        self.steps = Steps(self.ownership, self.reading, crash or (lambda _step: None))
        self._topics = list(dict.fromkeys(topic.name for view in views for topic in view.reads))
        self._generation = 0
        self._root = Path()
        self._ended: asyncio.Future[str] | None = None
        self._time: tuple[clock.Anchor | None, dt.timedelta] = (None, dt.timedelta())
        for topic in self._topics:
            for result in RESULTS:
                FOLDED.labels(topic, result)

    # ------------------------------------------------------------------------------------------------- for the views

    def get(self, view: str, key: str) -> Any:
        """The state of a key, from any partition we own (``views.Tables``); None if there is none."""
        ownership = self.ownership
        raw_key = ownership.codec.key(view, key)
        for number in ownership.open:
            raw = ownership.links.db(number).get(raw_key)
            if raw is not None:
                return ownership.codec.state(view, raw)
        return None

    def owned(self) -> Mapping[int, Mapping[str, Totals]]:
        """Totals by recovered and owned partition (``views.Tables``)."""
        return {number: part.totals for number, part in self.partitions().items()}

    def partitions(self) -> Mapping[int, fold.Partition]:
        """The recovered and owned partitions."""
        parts = self.ownership.parts
        return {number: parts[number].fold for number in sorted(self.ownership.open) if number in parts}

    def filled(self) -> Mapping[int, fold.Partition]:
        """Those of ``partitions`` that are complete: their refill topic, if any, is folded."""
        parts = self.ownership.parts
        return {number: part for number, part in self.partitions().items() if parts[number].filled}

    def peers(self) -> dict[int, str]:
        """By partition of another worker, the URL of its query API, as of the last assignment."""
        found: dict[int, str] = {}
        links = self.ownership.links
        if links is not None and self.url:
            for url, assigned in links.app.assignor.tables_metadata().items():
                if str(url).rstrip("/") != self.url:
                    for topic, numbers in assigned.items():
                        if topic == links.changelog.topic:
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
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        tasks: list[asyncio.Task[None]] = [loop.create_task(self._heart())]
        try:
            if reason := await asyncio.to_thread(kafka_links.why, self.settings):
                await self._until_taken(reason)
                return self._ended.done()
            self._generation = await asyncio.to_thread(generations.current, self.settings)
            refill = await asyncio.to_thread(generations.has_refill, self.settings, self._generation)
            lock = self._folder()
            links = self.ownership.links = await self._begin(refill)
            tasks += [loop.create_task(look()) for look in (self._watch, self._follow, self._tell_time)]
            starting = loop.create_task(links.app.start())
            tasks.append(starting)
            starting.add_done_callback(self._started)
            how = await self._ended
            await self._leave(links, how)
            if self.ownership.discard:
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
        mine = str(self._generation)
        for other in root.iterdir():
            if other.is_dir() and other.name != mine:
                shutil.rmtree(other)
        self._root = root / mine
        self._root.mkdir(exist_ok=True)
        return lock

    async def _begin(self, refill: bool) -> Links:
        settings, generation = self.settings, self._generation
        names = {settings.topic_prefix + name: name for name in self._topics}
        if refill:
            names[faust_app.refill_topic(settings, generation)] = REFILL
        changelog = Changelog(faust_app.changelog_topic(settings, generation), settings, NAME)
        await changelog.start()
        outside = kafka_links.aio_consumer(settings, enable_auto_commit=False)
        await outside.start()
        app = faust_app.create(settings, generation, self._root, self.ownership.positions, self.url)
        table = faust_app.table(app, settings.partitions)
        table.on_recover(self._recovered)
        app.on_partitions_revoked.connect(self.ownership.revoked, weak=False)

        topic = app.topic(
            *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )

        @app.agent(topic, name="fold")  # type: ignore[untyped-decorator]
        async def folding(stream: Any) -> None:
            async for events in stream.noack_take(SHARES * settings.batch_max_records, within=BATCH_S):
                try:
                    await self.steps.take(events)
                except Exception as error:
                    self.fail(error)
                    await asyncio.sleep(3600)

        return Links(app, table, changelog, outside, names, generation)

    async def _leave(self, links: Links, how: str) -> None:
        self.health.ready(False)
        with contextlib.suppress(Exception):
            await self.ownership.close()
            await asyncio.wait_for(self.ownership.commit(), 3)
        # the group of an old generation has no members left: no need to leave it
        parts = () if how == "moved" else ((links.app, 10.0), (links.changelog, 5.0), (links.outside, 5.0))
        for part, most_s in parts:
            try:
                await asyncio.wait_for(part.stop(), most_s)
            except Exception as error:
                log.warning("not stopped cleanly", part=type(part).__name__, error=type(error).__name__)

    async def _recovered(self) -> None:
        """Called when Faust has recovered the tables from their changelogs."""
        try:
            for part in await self.ownership.recover():
                if part.failed:
                    await self.steps.retry(part)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Faust would swallow it
            self.fail(error)

    # --------------------------------------------------------------------------------------------------------- checks

    async def _heart(self) -> None:
        """Show that the process runs, and check that the group still counts it as a member."""
        while True:
            self.health.progress()
            metrics.PROGRESS.labels(NAME).set_to_current_time()
            await self.ownership.check()
            self._restart_if_torn()
            await asyncio.sleep(HEART_S)

    def _restart_if_torn(self) -> None:
        if self._ended is not None and not self._ended.done() and (number := self.ownership.torn()) is not None:
            self.fail(RuntimeError(f"partition {number} was given up and is still ours"))

    async def _watch(self) -> None:
        """Compare positions with the topics' ends, commit, and detect stalled partitions."""
        app = self.ownership.links.app
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.reading.look()
                await self.ownership.commit()
            except (AioKafkaError, TimeoutError, OSError) as error:
                log.warning("check failed", worker=NAME, error=type(error).__name__)
            except Exception as error:
                self.fail(error)
            if app.crash_reason is not None:
                self.fail(app.crash_reason)
            try:
                app.consumer.check_group()
            except Exception as error:
                self.fail(error)

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
        outside = self.ownership.links.outside
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                names = await outside.topics()
            except Exception as error:
                log.warning("generations unavailable", worker=NAME, error=type(error).__name__)
                continue
            newest = max(generations.of_topics(self.settings, names), default=0)
            if newest > self._generation:
                log.info("new generation", worker=NAME, generation=newest)
                self._end("moved")


def _anchor(engine: sa.Engine) -> tuple[clock.Anchor, dt.timedelta]:
    """The clock's anchor, and how far the database's clock is ahead of ours."""
    with engine.begin() as connection:
        row = connection.execute(_CLOCK).one()
    return clock.Anchor(row.wall, row.business, row.rate), row.now - dt.datetime.now(dt.UTC)
