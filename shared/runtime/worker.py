"""The worker's loop: records -> one transaction -> topics.

1. Poll a batch from the owned partitions (`reader`).
2. One database transaction (`transactor`): lock the partitions (``Fenced`` if another worker has taken one over), enter
   the ids in the inbox, let the service decide, fire due timers, save, append to the event log, move the cursors.
3. Publish what was appended (`publisher`: acks=all, idempotent producer). Once everything is acknowledged, record that
   and commit offsets.

After a crash, rows beyond ``published_upto`` are sent again with the same ids. ``cursors`` has the true positions; the
group's committed offsets only show lag to others.

All transient failures (database or broker unreachable, deadlock) are handled in the same way: claim the partitions
again, send unpublished rows again, continue reading from the cursors. So an unknown outcome of a commit needs no
special case.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
import structlog
from kafka.errors import IllegalStateError, KafkaError

from shared import db, kafka_links, log_limits, metrics, tracing
from shared.backoff import Quiet
from shared.runtime import assignment
from shared.runtime.crashes import crash_from
from shared.runtime.dead_letters import DeadLetters
from shared.runtime.health import Health
from shared.runtime.history import History
from shared.runtime.isolation import isolate, must_stop, replay
from shared.runtime.membership import Membership
from shared.runtime.publisher import Publisher
from shared.runtime.reader import Reader
from shared.runtime.records import Polled
from shared.runtime.store import Fenced, Store, WentBack
from shared.runtime.transactor import Transactor
from shared.runtime.types import Service
from shared.settings import Settings
from shared.topics import DEAD_LETTERS, TOPICS

log = structlog.get_logger(__name__)

METADATA_MS: Final = 30_000
EMPTY_POLL_MS: Final = 1_000


class Worker:
    """Runs one service until told to stop.

    Args:
        crash: called with the name of each step; fault tests pass one that kills the process.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        *,
        health: Health | None = None,
        crash: Callable[[str], None] | None = None,
    ) -> None:
        self.service = service
        self.settings = settings
        self.health = health or Health(service.name)
        self._crash = crash or (lambda _step: None)
        metrics.begin(
            service.name,
            (topic.name for topic in service.reads),
            (topic.name for topic in TOPICS if service.schema in topic.writers or topic is DEAD_LETTERS),
        )
        self._owner = settings.instance or f"{os.uname().nodename}:{os.getpid()}"
        self._engine = db.connect(
            settings.present("database"),
            schema=service.schema,
            name=f"{service.name}-{settings.instance or os.getpid()}",
        )
        self._store = Store(
            service.name, service.prefix, settings.partitions, settings.topic_prefix, service.keyed_like
        )
        tracer = tracing.current()
        self._reader = Reader(service, settings, tracer)
        self._history = History(service, settings, self._store)
        self._letters = DeadLetters(service.name, self._store)
        self._membership = Membership(service.name, settings, self._reader.topics)
        self._publisher = Publisher(
            service.name, settings, alive=self._show_alive, stopping=lambda: self._stop, crash=self._crash
        )
        self._transactor = Transactor(
            service,
            settings,
            self._engine,
            self._store,
            owner=self._owner,
            history=self._history,
            reader=self._reader,
            publisher=self._publisher,
            letters=self._letters,
            tracing=tracer,
            crash=self._crash,
        )
        # a connection to look at the service's queue
        self._look: sa.Connection | None = None
        # how often an idle worker checks its timers
        self._tick_s = min(1.0, settings.watermark_ms / 1000) if service.keeps_time else 1.0
        self._stop = False
        self._failures = 0
        # how much a transaction may do: less after one was too slow
        self._room = settings.batch_max_records
        self._timers = settings.timers_per_batch
        self._replay_at = 0.0
        self._tick_at = 0.0
        self._look_at = 0.0
        self._patient_at = 0.0
        self._quiet = Quiet()

    # ------------------------------------------------------------------------------------------------------ life

    def stop(self) -> None:
        """Finish the present batch, publish it, leave the group. Safe to call from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Work until ``stop`` is called. Transient failures are retried forever, with growing pauses."""
        while not self._stop:
            try:
                self._session()
            except WentBack as back:
                self._halt(back)
            except Fenced as fenced:
                metrics.FENCED.labels(self.service.name).inc()
                log.warning("fenced", worker=self.service.name, reason=str(fenced))
            except KafkaError as error:
                self._pause("broker", error)
            except Exception as error:
                if not db.is_transient(error):
                    raise
                self._pause("database", error)
        if self._look is not None:
            self._look.close()
        self._engine.dispose()

    def _halt(self, back: WentBack) -> None:
        """Log what the database has lost, stop the other workers too, and wait to be stopped: a person must decide."""
        metrics.WENT_BACK.labels(self.service.name).set(1)
        lost: list[str] = []
        try:
            with self._engine.begin() as connection:
                self._store.went_back(connection, str(back))
                lost = self._history.lost(connection)
        except Exception as error:
            log.warning("cannot say what was lost", worker=self.service.name, error=f"{type(error).__name__}: {error}")
        log.critical(
            "the database went back in time",
            worker=self.service.name,
            reason=str(back),
            lost=lost,
            cure="stop all processes, run goodfaith restore topics, start them again",
        )
        self.health.details["halted"] = "the database went back in time: goodfaith restore topics"
        while not self._stop:
            self.health.progress()
            time.sleep(0.1)

    def _pause(self, part: str, error: BaseException) -> None:
        """Wait before the next try: doubling from 50 ms up to ``retry_max_s``, with jitter over the upper half."""
        self._failures += 1
        metrics.RETRIES.labels(self.service.name, part).inc()
        ceiling = min(self.settings.retry_max_s, 0.05 * 2 ** min(self._failures, 12))
        pause = random.uniform(ceiling / 2, ceiling)
        refused = str(error) if isinstance(error, kafka_links.LinkRefused) else db.refused(error)
        if refused is None or log_limits.seldom(refused):
            log.warning(
                "paused",
                worker=self.service.name,
                part=part,
                pause_s=round(pause, 3),
                error=refused or f"{type(error).__name__}: {error}",
            )
        until = time.monotonic() + pause
        while not self._stop and time.monotonic() < until:
            self._show_alive()
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))

    def _show_alive(self) -> None:
        """Show that the loop is not stuck: it turns, or waits for something that may take long."""
        self.health.progress()
        metrics.PROGRESS.labels(self.service.name).set_to_current_time()

    def _session(self) -> None:
        """One membership of the consumer group."""
        settings = self.settings
        self._transactor.epochs = {}
        self._membership.begin_session()
        # batches never expire: the producer retries in order, and the loop decides when to give up
        producer: Any = kafka_links.producer(
            settings,
            client_id=f"{self.service.name}-{self._owner}",
            acks="all",
            enable_idempotence=True,
            batch_size=262_144,
            linger_ms=2,
            delivery_timeout_ms=86_400_000,
            max_block_ms=10_000,
            reconnect_backoff_max_ms=1_000,
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=5_000,
        )
        try:
            self._publisher.begin_session(producer)
            consumer: Any = kafka_links.consumer(
                settings,
                client_id=f"{self.service.name}-{self._owner}",
                group_id=self._membership.group,
                enable_auto_commit=False,
                auto_offset_reset="none",
                # a member gets the same partition numbers in all its topics: a number is one unit of ownership
                partition_assignment_strategy=[assignment.ByNumber(settings.partitions)],
                session_timeout_ms=settings.session_timeout_ms,
                heartbeat_interval_ms=max(settings.session_timeout_ms // 5, 200),
                max_poll_interval_ms=300_000,
                max_partition_fetch_bytes=2_000_000,
                fetch_min_bytes=settings.fetch_min_bytes,
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
                max_poll_records=settings.batch_max_records,
                # metadata reveal that a topic was created again
                metadata_max_age_ms=METADATA_MS,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=5_000,
                default_offset_commit_callback=lambda _offsets, _response: None,
            )
            try:
                self._publisher.commit_with(consumer.commit_async)
                self._reader.begin_session(consumer)
                self._membership.watch(consumer)
                consumer.subscribe(list(self._reader.topics), listener=self._membership)
                self._reader.load_topics()
                while not self._stop:
                    try:
                        self._turn()
                    except WentBack:
                        raise
                    except Fenced:
                        # expected while the group moves partitions; otherwise another worker has taken over ours
                        if not self._membership.rebalanced:
                            raise
                    except Exception as error:
                        if not db.is_transient(error):
                            raise
                        # group membership is fine: keep it, and claim the partitions again once the database answers
                        self._pause("database", error)
                        self._membership.reclaim()
                self._settle(wait=True)
            finally:
                self.health.ready(False)
                consumer.close(autocommit=False, timeout_ms=5_000)
        finally:
            producer.close(timeout=1.0 if self._publisher.busy else 5.0)

    # ------------------------------------------------------------------------------------------------------ loop

    def _turn(self) -> None:
        """One turn: poll, transact, publish."""
        service, reader, membership = self.service, self._reader, self._membership
        started = time.monotonic()
        polled = reader.poll(
            self._patience(started),
            room=self._room,
            gather_s=self._transactor.took_s,
            interrupted=lambda: membership.rebalanced,
        )
        self.health.progress()
        if reader.was_recreated(self._transactor.epochs):
            membership.reclaim()  # the polled records may be from the new topic, at an offset of the old one
        if membership.rebalanced:
            self._claim()
            return
        metrics.PROGRESS.labels(service.name).set_to_current_time()
        self._crash("after_poll")
        self._transactor.stage("poll", started)
        now = time.monotonic()
        if not self._transactor.epochs:
            membership.check(now)
            return
        queued = not polled and self._queued()
        if polled.records or polled.unreadable or queued:
            self._quiet.worked()  # watermarks alone are no work
        if polled or queued or self._transactor.again or now >= self._tick_at:
            self._tick_at = now + self._tick_s
            if not self._process(polled):
                return
        elif self._publisher.unrecorded:
            self._settle(wait=False)
        if now >= self._replay_at:
            self._replay_at = now + (0.5 if self._letters.blocked else 2.0)
            replay(self._transactor)
        if now >= self._look_at:
            self._look_at = now + 1.0
            if reader.check_topics():
                membership.reclaim()
            reader.show_positions()
        self._failures = 0

    def _queued(self) -> bool:
        """Whether the service's own queue has rows: a cheap check, so idle turns cost no transaction."""
        if not self.service.queue:
            return False
        if self._look is None:
            self._look = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            return bool(self._look.exec_driver_sql(f"select exists (select from {self.service.queue})").scalar())
        except Exception:
            self._look.close()
            self._look = None
            raise

    def _patience(self, now: float) -> int:
        """Milliseconds to wait for records.

        A poll of 0 ms never completes a rebalance, so even a busy worker waits a little from time to time. A join that
        completes between two polls starts over, so while nothing is owned polls are few and long.
        """
        if not self._transactor.epochs:
            return EMPTY_POLL_MS
        if self._transactor.again and now < self._patient_at:
            return 0
        self._patient_at = now + 0.5
        if self._publisher.busy:
            return 5  # the broker answers soon, and then what is published has to be recorded
        if self._transactor.again:
            return 15
        # records end a wait at once; rows of the queue and timers do not
        least = 15 if self.service.queue else self.settings.poll_ms
        longest = int(1000 * self._quiet.wait_s(least / 1000))
        return min(longest, max(int((self._tick_at - now) * 1000), 15))

    def _process(self, polled: Polled) -> bool:
        """Process a batch; if it fails, find the records or timers that are the reason and set them aside.

        False: no reason was found; the worker has paused and will claim its partitions again.
        """
        began = time.monotonic()
        settings = self.settings
        try:
            self._transactor.run(polled, room=self._room, timers=self._timers)
            self._room = min(2 * self._room, settings.batch_max_records)
            self._timers = min(2 * self._timers, settings.timers_per_batch)
            return True
        except Exception as error:
            if must_stop(error):
                self._shrink(error, time.monotonic() - began)
                raise
            log.warning(
                "isolating",
                worker=self.service.name,
                records=len(polled.records),
                error=f"{type(error).__name__}: {error}",
                exc_info=True,
            )
        try:
            if isolate(
                self._transactor,
                polled,
                queue=settings.batch_max_records,
                timers=settings.timers_per_batch,
                alive=self.health.progress,
            ):
                return True
            raise RuntimeError("the database refuses a batch, and neither its records, queue rows nor timers are why")
        except Exception as error:
            if must_stop(error):
                raise
            log.exception("stuck", worker=self.service.name)
            self._pause("bug", error)
            self._membership.reclaim()
            return False

    def _shrink(self, error: Exception, took_s: float) -> None:
        """Do less at a time after a transaction was ended for being too slow: the same batch would fail again."""
        if db.was_too_slow(error, took_s) and (self._room > 1 or self._timers > 1):
            self._room, self._timers = max(self._room // 4, 1), max(self._timers // 4, 1)
            log.warning("batch was too slow", worker=self.service.name, took_s=round(took_s, 1), records=self._room)

    def _settle(self, *, wait: bool) -> None:
        """Record what is published in a transaction of its own: for idle times and the end."""
        self._publisher.settle(wait=wait)
        if settled := self._publisher.acknowledged():
            with self._engine.begin() as connection:
                self._store.published(connection, self._transactor.epochs, settled)
            self._publisher.recorded(settled)

    # --------------------------------------------------------------------------------------------------- ownership

    def _claim(self) -> None:
        """Claim the assigned partitions: fence earlier owners, publish what they left, continue from the cursors."""
        store, reader, transactor, publisher = self._store, self._reader, self._transactor, self._publisher
        given = self._membership.assigned
        if given.lacking:
            metrics.REJOINS.labels(self.service.name).inc()
            raise KafkaError(f"the group assigned partitions without {sorted(given.lacking)}: joining again")
        wanted = sorted(given.partitions)
        self._settle(wait=False)
        publisher.forget()
        outside = self._history.ask_broker(reader.consumer, wanted)
        with db.ending_stopped(self._engine), self._engine.begin() as connection:
            owned = store.claim(connection, wanted, self._owner) if wanted else {}
            transactor.epochs = {partition: one.epoch for partition, one in owned.items()}
            cursors = store.cursors(connection, wanted)
            current = reader.current_ids()
            topic_ids = store.topic_ids(connection, current) if wanted else {}
            recreated = {topic for topic, id_ in current.items() if topic_ids.get(topic, id_) != id_}
            gaps = store.gaps(connection, wanted)
            self._history.check(
                connection,
                transactor.epochs,
                outside=outside,
                read=reader.cursors,
                cursors=cursors,
                recreated=recreated,
            )
            self._letters.load(connection, wanted)
            reads = store.reads(connection, wanted)
            unpublished = store.unpublished(connection, wanted)
        self._history.committed(owned)
        reader.links.begin(reads)
        try:
            reader.begin(wanted, cursors, topic_ids, gaps, recreated)
        except (ValueError, KeyError, IllegalStateError):
            if self._membership.assigned is given:
                raise
            return  # revoked meanwhile: the next turn claims what is ours then
        self._membership.claimed(given)
        transactor.again = True
        publisher.show()
        publisher.publish(unpublished, {}, {})
        metrics.REBALANCES.labels(self.service.name).inc()
        metrics.ASSIGNED.labels(self.service.name).set(len(wanted))
        self._letters.show()
        for topic in () if wanted else reader.topics.values():
            metrics.POSITION.labels(self.service.name, topic.name).set(0)
        self.health.details["partitions"] = len(wanted)
        self.health.ready()
        log.info(
            "claimed" if wanted else "owns nothing for now",
            worker=self.service.name,
            partitions=wanted,
            republished=len(unpublished.rows),
        )


def run(service: Service, settings: Settings) -> None:
    """Run a service's worker as this process, with a health server, until SIGTERM or SIGINT."""
    health = Health(service.name)
    worker = Worker(
        service, settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), service.name)
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, lambda *_: worker.stop())
    server = health.serve(settings)
    # what is loaded now stays; batches make many objects but few cycles, so collect rarely
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    log.info("started", worker=service.name, health_port=server.server_address[1])
    worker.run()
    log.info("stopped", worker=service.name)
    server.shutdown()
