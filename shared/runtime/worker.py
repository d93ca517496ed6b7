"""The worker's loop: records -> one transaction -> topics.

1. Poll a batch from the owned partitions.
2. One database transaction: lock the partitions (``Fenced`` if another worker has taken one over), enter the ids in the
   inbox, let the service decide, fire due timers, save, append to the event log, move the cursors.
3. Publish what was appended (acks=all, idempotent producer); when all is acknowledged, note it and commit offsets.

After a crash, whatever lies beyond ``published_upto`` is sent again with the same ids. The truth about positions is in
``cursors``; the group's committed offsets only show lag to others.

Everything that fails and may pass (database or broker away, deadlock) ends in one place: the partitions are claimed
anew, unpublished rows are sent again, reading goes on from the cursors. So an unknown outcome of a commit needs no case
of its own.
"""

from __future__ import annotations

import base64
import datetime as dt
import gc
import math
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import IllegalStateError, KafkaError, LogTruncationError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from shared import clock, db, kafka_links, logs, metrics, tracing
from shared.events import Data, Envelope, NewerVersion, Watermark, decode_data, decode_envelope, encode, is_ours
from shared.runtime import assignment, seen
from shared.runtime.health import Health
from shared.runtime.links import Gap, Link, Links, place_of
from shared.runtime.positions import Positions
from shared.runtime.store import Fenced, Head, Store, WentBack, Witness
from shared.runtime.traced import Traced
from shared.runtime.types import Batch, DeadLetter, Due, Incoming, Outgoing, Sent, Service, Tx
from shared.settings import Settings
from shared.topics import DEAD_LETTERS, INTAKE, TOPICS, Topic, partition_of

log = structlog.get_logger(__name__)

HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
GATHER_MAX_S = 0.1
ASK_S = 15.0
METADATA_MS = 30_000
EMPTY_POLL_MS = 1_000
QUIET_S = 2.0
"""A worker without work for this long waits longer for records, and looks at its queue less often."""
ASLEEP_S = 10.0
"""After this long it looks at its queue less often still."""
EXPLAINED_S = 60.0


@dataclass(slots=True)
class Bad:
    """A record that cannot be read; it came after ``after`` records of its round that can."""

    topic: str
    partition: int
    offset: int
    key: str
    raw: bytes
    headers: str
    error: str
    outside: bool
    after: int
    id: str | None = None
    link: Link | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the database refused by itself, a record or a timer, and why."""

    subject: Incoming | Due
    error: Exception


@dataclass(slots=True)
class Round:
    """One poll's records and where they end."""

    records: list[Incoming] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    marks: dict[int, dt.datetime] = field(default_factory=dict)
    cursors: dict[tuple[str, int], int] = field(default_factory=dict)
    # leader epoch of the last record
    leader_epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    # wall times at which records were written: by place the last one's, by topic the oldest one's
    stamps: dict[tuple[str, int], float] = field(default_factory=dict)
    oldest: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.cursors)

    def arrivals(self) -> Iterator[Incoming | Bad]:
        """Records in the order in which they came, those that cannot be read among them."""
        bad = deque(self.bad)
        for place, record in enumerate(self.records):
            while bad and bad[0].after <= place:
                yield bad.popleft()
            yield record
        yield from bad


@dataclass(frozen=True, slots=True)
class Given:
    """An assignment by the group; each has a higher generation than the one before.

    ``lacking`` are places that must come with these partitions and did not: the group's leader did not know their topic.
    """

    generation: int
    partitions: frozenset[int]
    lacking: frozenset[tuple[str, int]] = frozenset()


@dataclass(slots=True)
class Publishing:
    """Rows handed to the producer and not yet known to be acknowledged."""

    futures: list[Any]
    upto: dict[int, int]
    marks: dict[int, dt.datetime]
    offsets: dict[Any, Any]
    topics: dict[str, int]
    since: float
    """Wall time since when the oldest of them waits."""


class Worker:
    """Runs one service until told to stop.

    Args:
        crash: called with the name of each step; tests pass one that kills the process.
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
        self._tracing = tracing.current()
        metrics.begin(
            service.name,
            (topic.name for topic in service.reads),
            (topic.name for topic in TOPICS if service.schema in topic.writers or topic is DEAD_LETTERS),
        )
        self._store = Store(
            service.name, service.prefix, settings.partitions, settings.topic_prefix, service.keyed_like
        )
        self._engine = db.connect(
            settings.present("database"),
            schema=service.schema,
            name=f"{service.name}-{settings.instance or os.getpid()}",
        )
        self._look: sa.Connection | None = None
        # an idle worker looks at its timers this often
        self._tick_s = min(1.0, settings.watermark_ms / 1000) if service.keeps_time else 1.0
        self._owner = settings.instance or f"{os.uname().nodename}:{os.getpid()}"
        self._topics: dict[str, Topic] = {settings.topic_prefix + topic.name: topic for topic in service.reads}
        self._stop = False
        self._consumer: Any = None
        self._producer: Any = None
        self._epochs: dict[int, int] = {}
        # what the group has given us, and what of it we have claimed; written by the client's own thread, so: one
        # assignment of an immutable value, and compared by generation
        self._given = Given(0, frozenset())
        self._claimed = 0
        self._parked: frozenset[str] = frozenset()
        self._parked_since = 0.0
        self._positions = Positions()
        # ids of the topics that the cursors are valid for, and places of which the records at the cursor are no more
        self._topic_ids: dict[str, str] = {}
        self._gone: set[tuple[str, int]] = set()
        # of these, what is not yet in the database: by place offset, reason and details
        self._unsaved: dict[tuple[str, int], tuple[int, str, str]] = {}
        # partitions whose duplicates are told by numbers, and these numbers
        self._linked: frozenset[int] = frozenset()
        self._links = Links()
        # what this process last saw committed, kept from session to session: ends of logs (number and hash), and cursors
        self._seen: dict[int, tuple[int, str]] = {}
        self._cursors: dict[tuple[str, int], int] = {}
        self._look_at = 0.0
        # ends of partitions that the client was told nothing of, as asked for
        self._asked_ends: dict[tuple[str, int], int] = {}
        self._ask_at = 0.0
        # topics that the broker does not have at the moment
        self._missing: frozenset[str] = frozenset()
        # when to ask why it owns nothing
        self._left_out_at = math.inf
        self._heartbeat: Any = None
        self._publishing: deque[Publishing] = deque()
        self._settled: dict[int, int] = {}
        self._failures = 0
        # how much a transaction may do: less after one was ended for being too slow
        self._room = settings.batch_max_records
        self._timers = settings.timers_per_batch
        self._firing: Due | None = None
        self._replay_at = 0.0
        self._tick_at = 0.0
        self._again = False
        self._patient_at = 0.0
        self._worked_at = 0.0
        self._took_s = 0.0

    # ------------------------------------------------------------------------------------------------------ life

    def stop(self) -> None:
        """Finish the batch in hand, publish it, leave the group. Safe from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Work until ``stop``; returns then. Failures that may pass are retried for ever, with growing pauses."""
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
        """Say what the database has lost, stop the other workers too, and wait to be stopped: a person decides what comes next."""
        metrics.WENT_BACK.labels(self.service.name).set(1)
        lost: list[str] = []
        try:
            with self._engine.begin() as connection:
                self._store.went_back(connection, str(back))
                ends = self._store.ends(connection, sorted(self._seen))
                witnesses = [
                    Witness(p, seq, "this process", hash=hash_) for p, (seq, hash_) in self._seen.items() if seq
                ]
                lost = [
                    f"partition {one.partition}: the log ended at {one.seq}, now at {ends.get(one.partition, 0)}"
                    for one in self._store.missing(connection, witnesses)
                ]
        except Exception as error:
            log.warning("cannot say what was lost", worker=self.service.name, error=f"{type(error).__name__}: {error}")
        log.critical(
            "the database went back in time", worker=self.service.name, reason=str(back), lost=lost,
            cure="stop all processes, run goodfaith restore topics, start them again",
        )  # fmt: skip
        self.health.details["halted"] = "the database went back in time: goodfaith restore topics"
        while not self._stop:
            self.health.progress()
            time.sleep(0.1)

    def _pause(self, part: str, error: BaseException) -> None:
        """Wait before the next try: doubling from 50 ms, at most ``retry_max_s``, with full jitter."""
        self._failures += 1
        metrics.RETRIES.labels(self.service.name, part).inc()
        ceiling = min(self.settings.retry_max_s, 0.05 * 2 ** min(self._failures, 12))
        pause = random.uniform(ceiling / 2, ceiling)
        refused = str(error) if isinstance(error, kafka_links.LinkRefused) else db.refused(error)
        if refused is None or logs.seldom(refused):
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
        """The loop turns, or waits for what may take long: it is not stuck."""
        self.health.progress()
        metrics.PROGRESS.labels(self.service.name).set_to_current_time()

    def _session(self) -> None:
        """One membership of the consumer group."""
        settings = self.settings
        self._publishing.clear()
        self._epochs.clear()
        self._settled.clear()
        self._heartbeat = None
        self._given = Given(self._given.generation + 1, frozenset())
        self._claimed = self._given.generation
        self._left_out_at = time.monotonic() + self._left_out_after_s
        # batches never expire: the producer keeps order and retries, the loop decides when to give up
        self._producer = kafka_links.producer(
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
            self._consumer = kafka_links.consumer(
                settings,
                client_id=f"{self.service.name}-{self._owner}",
                group_id=settings.topic_prefix + self.service.name,
                enable_auto_commit=False,
                auto_offset_reset="none",
                # a member gets the same partition numbers of all its topics: they are one unit of ownership
                partition_assignment_strategy=[assignment.ByNumber(settings.partitions)],
                session_timeout_ms=settings.session_timeout_ms,
                heartbeat_interval_ms=max(settings.session_timeout_ms // 5, 200),
                max_poll_interval_ms=300_000,
                max_partition_fetch_bytes=2_000_000,
                fetch_min_bytes=settings.fetch_min_bytes,
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
                max_poll_records=settings.batch_max_records,
                # a topic that was begun anew is known by its metadata
                metadata_max_age_ms=METADATA_MS,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=5_000,
                default_offset_commit_callback=lambda _offsets, _response: None,
            )
            try:
                self._consumer.subscribe(list(self._topics), listener=_Listener(self))
                self._know_topics()
                while not self._stop:
                    try:
                        self._turn()
                    except WentBack:
                        raise
                    except Fenced:
                        # expected while the group moves partitions; else somebody has taken ours over
                        if not self._rebalanced:
                            raise
                    except Exception as error:
                        if not db.is_transient(error):
                            raise
                        # the group membership is fine: stay in it, and take the partitions up anew once the database answers
                        self._pause("database", error)
                        self._claimed = -1
                self._settle(wait=True)
            finally:
                self.health.ready(False)
                self._consumer.close(autocommit=False, timeout_ms=5_000)
        finally:
            self._producer.close(timeout=1.0 if self._publishing else 5.0)

    def _know_topics(self) -> None:
        """Load the topics' metadata between subscribing and joining.

        kafka-python 3.0.12 builds its picture of the topics only when metadata arrive. A leader that joins before that
        may assign nothing to anyone, for good; and it rebalances once more when they do arrive, which with short polls
        it may begin and never end (docs/decisions/0004). Metadata that are there before the first join spare us both.

        Raises:
            KafkaError: a topic does not exist, or cannot be read with its number of partitions (``assignment.unfit``).
        """
        self._consumer.topics()
        counts = {name: len(self._consumer.partitions_for_topic(name) or ()) for name in self._topics}
        self._missing = frozenset(topic.name for name, topic in self._topics.items() if not counts[name])
        metrics.MISSING_TOPICS.labels(self.service.name).set(len(self._missing))
        if unfit := assignment.unfit(self._topics, counts, self.settings.partitions):
            raise KafkaError("; ".join(unfit))

    def _watch_topics(self) -> None:
        """Say which topics are missing; they are waited for, and the others read on.

        Raises:
            KafkaError: a topic has a number of partitions with which it cannot be read.
        """
        counts = kafka_links.partition_counts(self._consumer, self._topics)
        there = {name: topic for name, topic in self._topics.items() if counts[name]}
        if unfit := assignment.unfit(there, counts, self.settings.partitions):
            raise KafkaError("; ".join(unfit))
        missing = frozenset(topic.name for name, topic in self._topics.items() if name not in there)
        if self._missing - missing:
            self._claimed = -1  # one has come: where it begins is known only now
        self._missing = missing
        metrics.MISSING_TOPICS.labels(self.service.name).set(len(missing))
        for name in missing:
            if logs.seldom(f"missing {name}"):
                log.error("topic is missing", worker=self.service.name, topic=name, cure="goodfaith migrate")

    @property
    def _left_out_after_s(self) -> float:
        """For so long owning nothing may be a rebalance."""
        return max(3 * self.settings.session_timeout_ms / 1000, 5.0)

    def _watch_ownership(self, now: float) -> None:
        """Join the group again when this worker owns nothing and nobody else owns it all (docs/decisions/0004).

        Raises:
            KafkaError: to do so, or since the broker does not say who owns what.
        """
        if now < self._left_out_at:
            return
        group = self.settings.topic_prefix + self.service.name
        state, members = kafka_links.group_members(self.settings, group, self._topics)
        unowned = assignment.unowned(
            self.settings.partitions, (place for places in members.values() for place in places)
        )
        # the client may believe that it is a member, and the broker have dropped it
        member = self._consumer.group_metadata().member_id in members
        if state == "Stable" and member and not unowned:
            self._left_out_at = now + EXPLAINED_S  # there are more workers than partitions
            return
        metrics.REJOINS.labels(self.service.name).inc()
        raise KafkaError(
            f"this worker owns nothing and is {'a' if member else 'no'} member of its group, which is {state};"
            f" partitions without owner: {unowned}: joining again"
        )

    # ------------------------------------------------------------------------------------------------------ loop

    def _turn(self) -> None:
        """Once round: poll, transact, publish."""
        service = self.service
        started = time.monotonic()
        patience = self._patience(started)
        polled = self._poll(patience)
        self.health.progress()
        if self._begun_anew():
            self._claimed = -1  # what was polled may be of the new one, at an old one's offset
        if self._rebalanced:
            self._claim()
            return
        metrics.PROGRESS.labels(service.name).set_to_current_time()
        self._crash("after_poll")
        self._stage("poll", started)
        now = time.monotonic()
        if not self._epochs:
            self._watch_ownership(now)
            return
        queued = not polled and self._queued()
        if polled.records or polled.bad or queued:
            self._worked_at = now  # watermarks alone are no work
        if polled or queued or self._again or now >= self._tick_at:
            self._tick_at = now + self._tick_s
            if not self._process(polled):
                return
        elif self._publishing or self._settled:
            self._settle(wait=False)
        if now >= self._replay_at:
            self._replay_at = now + (0.5 if self._parked else 2.0)
            self._replay()
        if now >= self._look_at:
            self._look_at = now + 1.0
            self._watch_topics()
            self._show_positions()
        self._failures = 0

    def _queued(self) -> bool:
        """Whether the service's own queue has rows: one cheap look, so that idle turns cost no transaction."""
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
        completes between two polls is begun again, so there are few of them while nothing is owned.
        """
        if not self._epochs:
            return EMPTY_POLL_MS
        if self._again and now < self._patient_at:
            return 0
        self._patient_at = now + 0.5
        if self._publishing:
            return 5  # the broker answers soon, and what is published wants to be written down
        if self._again:
            return 15
        quiet_s = now - self._worked_at
        if quiet_s < QUIET_S:
            return 15 if self.service.queue else self.settings.poll_ms
        # records end a wait at once; rows of the queue and timers do not
        longest = 5 * self.settings.poll_ms
        if self.service.queue:
            longest = 50 if quiet_s < ASLEEP_S else 250
        return min(longest, max(int((self._tick_at - now) * 1000), 15))

    def _stage(self, stage: str, since: float) -> float:
        now = time.monotonic()
        metrics.STAGE_SECONDS.labels(self.service.name, stage).inc(now - since)
        return now

    def _poll(self, patience_ms: int) -> Round:
        """Gather records until the batch is full, or for as long as the last batch's transaction took.

        A transaction of few records costs nearly what one of hundreds does. On a busy machine transactions take long,
        so that batches grow and there are fewer of them; on an idle one hardly anything is waited for.
        """
        result = Round()
        count = 0
        room = self._room
        until = 0.0
        while count < room:
            try:
                fetched = self._consumer.poll(timeout_ms=patience_ms, max_records=room - count)
            except OffsetOutOfRangeError as error:
                # what was fetched of others before is in hand, and no more is asked for
                self._miss({(self._topics[at.topic].name, at.partition) for at in error.args[0]}, "deleted")
                break
            except LogTruncationError as error:
                # the topic lost records that its broker had acknowledged; offsets from there on mean others
                self._miss({(self._topics[at.topic].name, at.partition) for at in error.divergent_offsets}, "truncated")
                break
            if self._rebalanced:
                break
            now = time.monotonic()
            if not until:
                if not fetched:
                    break
                until = now + min(self._took_s, GATHER_MAX_S)
            elif now >= until and not fetched:
                break
            patience_ms = max(int((until - now) * 1000), 0)
            for place, records in fetched.items():
                topic = self._topics[place.topic]
                mine = (topic.name, place.partition)
                if mine in self._gone:
                    continue
                first = records[0].timestamp / 1000
                for record in records:
                    try:
                        self._read(topic, record, result)
                    except Gap as gap:
                        self._miss({mine}, "gap", str(gap), record.offset)
                        break
                    count += 1
                    result.sizes[topic.name] = result.sizes.get(topic.name, 0) + 1
                    result.cursors[mine] = record.offset + 1
                    result.leader_epochs[mine] = record.leader_epoch
                    result.stamps[mine] = record.timestamp / 1000
                    result.oldest[topic.name] = min(first, result.oldest.get(topic.name, first))
        return result

    def _current_ids(self) -> dict[str, str]:
        """By topic its id, as the client's last metadata have it; those that it does not know are left out."""
        found = kafka_links.topic_ids(self._consumer, self._topics)
        return {self._topics[name].name: id_ for name, id_ in found.items()}

    def _begun_anew(self) -> bool:
        """Whether a topic was deleted and created again since its partitions were claimed."""
        return any(
            self._topic_ids.get(topic, id_) != id_ and not all((topic, p) in self._gone for p in self._epochs)
            for topic, id_ in self._current_ids().items()
        )

    def _miss(self, places: set[tuple[str, int]], reason: str, detail: str = "", offset: int | None = None) -> None:
        """Records that come next at these places are missing: stop reading there until an operator has restored them.

        Other places are read on. Deadlines wait, as the partition's watermark does not arrive.

        Args:
            reason: ``deleted`` (by retention), ``gap`` (a number is missing), ``recreated`` (the topic), ``truncated``.
            offset: of the first record behind them; None: the cursor's.
        """
        prefix = self.settings.topic_prefix
        for mine in sorted(places - self._gone):
            log.error(
                "unread records are gone", worker=self.service.name, topic=mine[0], partition=mine[1], reason=reason, detail=detail,
                cure="goodfaith restore unread",
            )  # fmt: skip
            self._unsaved[mine] = (self._cursors.get(mine, 0) if offset is None else offset, reason, detail)
        self._gone |= places
        self._consumer.pause(*(TopicPartition(prefix + topic, partition) for topic, partition in places))
        self._positions.stop(places)
        self._show_gone()

    def _show_gone(self) -> None:
        for topic in self._topics.values():
            count = sum(name == topic.name for name, _ in self._gone)
            metrics.UNREAD_GONE.labels(self.service.name, topic.name).set(count)

    def _read(self, topic: Topic, record: Any, result: Round) -> None:
        outside = topic.writer in assignment.OUTSIDE
        raw: bytes | None = record.value
        # a key is a value in the database, which knows no NUL
        key = (record.key or b"").decode("utf-8", "replace").replace("\0", "�")
        if self.service.raw:
            # with the topic's id: one that is created again counts its offsets from 0 again
            place = f"{topic.name}.{self._topic_ids[topic.name]}.{record.partition}.{record.offset}"
            wall = dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC)
            incoming = Incoming(
                topic.name, record.partition, record.offset, f"@{place}", place, "", Data(), None, wall, raw or b""
            )
            if self._tracing is not None:
                incoming.traced, incoming.parent = self._tracing.of_record(record.headers or (), outside=True)
            result.records.append(incoming)
            return
        if raw is None:
            metrics.EVENTS_CONSUMED.labels(self.service.name, topic.name, "skipped").inc()
            return
        event_id: str | None = None
        link: Link | None = None
        seq = 0
        try:
            envelope = decode_envelope(raw)
            if not envelope.id.isascii() or not envelope.id.isprintable():
                raise ValueError(f"id: {envelope.id[:80]!r} is not printable ASCII")
            if not outside and record.partition in self._linked and (place_ := place_of(envelope.id)) is not None:
                writer, log_partition, seq = place_
                link = Link(topic.name, record.partition, writer, log_partition)
                event_id = envelope.id
                if not self._links.take(link, seq, envelope.previous):
                    metrics.EVENTS_DUPLICATE.labels(self.service.name, topic.name).inc()
                    return
            data = _known(envelope, outside)
            if data is not None and outside and partition_of(key, self.settings.partitions) != record.partition:
                raise ValueError(
                    f"key {key[:80]!r} does not belong to partition {record.partition}: use the default partitioner"
                )
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            headers = msgspec.json.encode(
                [(name, base64.b64encode(value or b"").decode()) for name, value in record.headers or ()]
            )
            result.bad.append(
                Bad(
                    topic.name,
                    record.partition,
                    record.offset,
                    key,
                    raw,
                    headers.decode(),
                    f"{type(error).__name__}: {error}",
                    outside,
                    len(result.records),
                    event_id,
                    link,
                    seq,
                )
            )
            return
        if data is None:
            metrics.EVENTS_CONSUMED.labels(self.service.name, topic.name, "skipped").inc()
            return
        if isinstance(data, Watermark):
            known = result.marks.get(record.partition)
            if known is None or data.upto > known:
                result.marks[record.partition] = data.upto
            return
        wall = dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC)
        incoming = Incoming(
            topic.name, record.partition, record.offset, key, envelope.id, envelope.type, data, envelope, wall, raw,
            link=link, seq=seq,
        )  # fmt: skip
        if self._tracing is not None and record.headers:
            incoming.traced, incoming.parent = self._tracing.of_record(record.headers, outside=outside, answer=True)
        result.records.append(incoming)

    # --------------------------------------------------------------------------------------------------- one batch

    def _process(self, polled: Round) -> bool:
        """Transact; what the database refuses for what is in it, is found and parked. False: nothing was found, and it was waited."""
        began = time.monotonic()
        try:
            self._transact(polled, room=self._room, timers=self._timers)
            self._grow()
            return True
        except (Fenced, KafkaError):
            raise
        except Exception as error:
            if db.is_transient(error):
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
            if self._isolate(polled):
                return True
            raise RuntimeError("the database refuses a batch, and neither its records, queue rows nor timers are why")
        except (Fenced, KafkaError):
            raise
        except Exception as error:
            if db.is_transient(error):
                raise
            log.exception("stuck", worker=self.service.name)
            self._pause("bug", error)
            self._claimed = -1
            return False

    def _isolate(self, polled: Round) -> int:
        """Run records, queue rows and timers one by one, and park each that is refused; returns how many there were.

        The cursor goes along, so that a worker that dies amid this parks nothing twice. No timer fires before all records
        are through: one of them may be why it must not.
        """
        tried = 0
        for arrival in polled.arrivals():
            tried += 1
            self.health.progress()
            single = Round(cursors={(arrival.topic, arrival.partition): arrival.offset + 1})
            if isinstance(arrival, Bad):
                single.bad.append(arrival)
                self._transact(single, room=0, timers=0)
                continue
            single.records.append(arrival)
            try:
                self._transact(single, room=0, timers=0)
            except (Fenced, KafkaError):
                raise
            except Exception as cause:
                if db.is_transient(cause):
                    raise
                self._transact(single, room=0, timers=0, refusal=Refusal(arrival, cause))
        self._transact(replace(polled, records=[], bad=[]), room=0, timers=0)
        tried += self._isolate_queue()
        for _ in range(self.settings.timers_per_batch):
            self.health.progress()
            try:
                fired = self._transact(Round(), room=0, timers=1)
            except (Fenced, KafkaError):
                raise
            except Exception as cause:
                if db.is_transient(cause) or self._firing is None:
                    raise
                fired = self._transact(Round(), room=0, timers=1, refusal=Refusal(self._firing, cause))
            tried += fired
            if not fired:
                break
        self._again = True
        return tried

    def _isolate_queue(self) -> int:
        """Take rows of the service's queue and apply each behind a savepoint of its own; returns how many there were.

        Taking one row a transaction would not do: what ``pull`` takes together is its own business.
        """
        service, store = self.service, self._store
        parked = set(self._parked)
        withheld: set[int] = set()
        marks: dict[int, dt.datetime] = {}
        outgoing: list[Outgoing] = []
        with self._engine.begin() as connection:
            heads = store.lock(connection, self._owner, self._epochs, self._seen)
            business, wall = clock.read(connection)
            known = {partition: head.watermark for partition, head in heads.items() if head.watermark is not None}
            tx = Tx(connection, business, wall, sorted(heads), known, frozenset(parked))
            rows = service.pull(tx, self.settings.batch_max_records)
            for row in rows:
                self.health.progress()
                if row.key in parked:
                    self._park(connection, row, None, outgoing, business, parked)
                    withheld.add(row.partition)
                    continue
                step = connection.begin_nested()
                try:
                    batch = service.open(tx, [row])
                    made = list(batch.apply(row))
                    batch.save()
                    marks.update(batch.marks())
                    step.commit()
                    outgoing.extend(made)
                except Exception as error:
                    if db.is_transient(error):
                        raise
                    step.rollback()
                    self._park(connection, row, error, outgoing, business, parked)
                    withheld.add(row.partition)
            sent = store.append(connection, heads, outgoing)
            store.save_heads(connection, heads)
        self._committed(heads, sent)
        tx.counted()
        self._remember_parked(parked, wall)
        marks = {partition: mark for partition, mark in marks.items() if partition not in withheld}
        self._publish(sent, marks, self._offsets({}, sent))
        return len(rows)

    def _grow(self) -> None:
        self._room = min(2 * self._room, self.settings.batch_max_records)
        self._timers = min(2 * self._timers, self.settings.timers_per_batch)

    def _shrink(self, error: Exception, took_s: float) -> None:
        """Try less at a time when a transaction was ended for being too slow: the same again would end the same way."""
        if db.was_too_slow(error, took_s) and (self._room > 1 or self._timers > 1):
            self._room, self._timers = max(self._room // 4, 1), max(self._timers // 4, 1)
            log.warning("batch was too slow", worker=self.service.name, took_s=round(took_s, 1), records=self._room)

    def _remember_parked(self, parked: set[str], wall: dt.datetime) -> None:
        if len(parked) != len(self._parked):
            self._parked_since = self._parked_since or wall.timestamp()
        self._parked = frozenset(parked)
        self._show_parked()

    def _transact(self, polled: Round, *, room: int, timers: int, refusal: Refusal | None = None) -> int:
        """One transaction with up to ``room`` rows of the queue and ``timers`` timers; returns how many of these fired.

        Args:
            refusal: what was refused by itself: it is parked.
        """
        service, store = self.service, self._store
        started = time.monotonic()
        parked = set(self._parked)
        with self._engine.begin() as connection:
            heads = store.lock(connection, self._owner, self._epochs, self._seen)
            before = {partition: (head.seq, head.published_upto, head.watermark) for partition, head in heads.items()}
            business, wall = clock.read(connection)
            settled = self._acknowledged()
            for partition, upto in settled.items():
                if partition in heads:
                    heads[partition].published_upto = max(heads[partition].published_upto, upto)
            for partition, mark in polled.marks.items():
                head = heads[partition]
                if head.watermark is None or mark > head.watermark:
                    head.watermark = mark
            ids = {incoming.id: incoming.topic for incoming in polled.records if incoming.link is None}
            fresh_ids = store.fresh(connection, ids)
            stage = self._stage("inbox", started)

            outgoing: list[Outgoing] = []
            withheld: set[int] = set()
            todo: list[Incoming | Bad] = []
            for arrival in polled.arrivals():
                if isinstance(arrival, Bad) or arrival.link is not None:
                    todo.append(arrival)
                elif arrival.id in fresh_ids:
                    fresh_ids.discard(arrival.id)  # the same id twice in one batch is a duplicate as well
                    todo.append(arrival)
                else:
                    metrics.EVENTS_DUPLICATE.labels(service.name, arrival.topic).inc()
            tx = Tx(
                connection,
                business,
                wall,
                sorted(heads),
                {partition: head.watermark for partition, head in heads.items() if head.watermark is not None},
                frozenset(parked),
            )
            if room:
                todo.extend(service.pull(tx, room))
            fresh = [
                one
                for one in todo
                if isinstance(one, Incoming)
                and one.key not in parked
                and (refusal is None or one is not refusal.subject)
            ]
            traced = None if self._tracing is None else Traced(self._tracing, service.name, service.queue, fresh)
            batch = service.open(tx, fresh)
            stage = self._stage("load", stage)
            for one in todo:
                if isinstance(one, Bad):
                    self._dead(connection, one, outgoing, business, parked)
                    continue
                if parked and one.key in parked:
                    self._park(connection, one, None, outgoing, business, parked)
                elif refusal is not None and one is refusal.subject:
                    self._park(connection, one, refusal.error, outgoing, business, parked)
                else:
                    try:
                        if traced is not None and one.traced:
                            outgoing.extend(traced.apply(batch.apply, one))
                        else:
                            outgoing.extend(batch.apply(one))
                        continue
                    except Exception as error:
                        self._park(connection, one, error, outgoing, business, parked)
                if one.topic == "@queue":
                    withheld.add(one.partition)
            stage = self._stage("decide", stage)
            fired = self._fire(connection, batch, outgoing, business, parked, traced, timers, refusal)
            stage = self._stage("timers", stage)
            batch.save()
            stage = self._stage("save", stage)
            # what was taken off the queue and parked is not published: no watermark may pass it
            marks = {partition: mark for partition, mark in batch.marks().items() if partition not in withheld}
            sent = store.append(connection, heads, outgoing)
            changed = {
                partition: head
                for partition, head in heads.items()
                if (head.seq, head.published_upto, head.watermark) != before[partition]
            }
            store.save_heads(connection, changed)
            store.read(connection, _numbers(polled))
            moves = {mine: (offset, polled.leader_epochs.get(mine, -1)) for mine, offset in polled.cursors.items()}
            store.move(connection, moves, self._cursors)
            unsaved = dict(self._unsaved)
            for mine, (offset, reason, detail) in unsaved.items():
                store.gap(connection, {mine: offset}, reason, detail)
            self._crash("before_commit")
        stage = self._stage("log", stage)
        self._took_s = stage - started
        self._crash("after_commit")
        self._committed(heads, sent)
        self._cursors.update(polled.cursors)
        for mine in unsaved:
            del self._unsaved[mine]
        tx.counted()
        if traced is not None:
            traced.committed(len(fresh), fired)
        self._remember_parked(parked, wall)
        self._positions.consumed(polled.cursors, polled.stamps)
        for partition, upto in settled.items():
            if self._settled.get(partition) == upto:
                del self._settled[partition]
        self._again = fired >= timers > 0 or len(fresh) - len(polled.records) >= room > 0
        trace = None if traced is None else traced.trace_id
        self._observe(polled, fresh, fired, heads, wall, started, None if trace is None else {"trace_id": trace})
        self._publish(sent, marks, self._offsets(polled.cursors, sent))
        self._stage("publish", stage)
        return fired

    def _committed(self, heads: dict[int, Head], sent: Sent) -> None:
        """A transaction that this worker may rely on from here on."""
        self._seen.update((partition, (head.seq, head.hash)) for partition, head in heads.items())
        self._store.appended(sent)

    def _offsets(self, cursors: dict[tuple[str, int], int], sent: Sent) -> dict[Any, Any]:
        """What to commit to the group: lag for others to see, and a witness of the logs that is not in the database."""
        places = dict(cursors)
        # a partition that appended without reading commits one of its places again
        for partition in sent.upto.keys() - {partition for _, partition in cursors}:
            if (known := next((mine for mine in self._cursors if mine[1] == partition), None)) is not None:
                places[known] = self._cursors[known]
        return {
            TopicPartition(self.settings.topic_prefix + topic, partition): OffsetAndMetadata(
                offset, seen.metadata(*self._seen[partition]), -1
            )
            for (topic, partition), offset in places.items()
        }

    def _fire(
        self,
        connection: sa.Connection,
        batch: Batch,
        outgoing: list[Outgoing],
        business: dt.datetime,
        parked: set[str],
        traced: Traced | None,
        limit: int,
        refusal: Refusal | None,
    ) -> int:
        self._firing = None
        due = batch.due(limit)[:limit] if limit else ()
        for timer in due:
            if timer.key in parked:
                continue
            self._firing = timer
            try:
                if refusal is not None and timer == refusal.subject:
                    raise refusal.error
                if traced is not None and self._tracing is not None and self._tracing.drawn():
                    outgoing.extend(traced.fire(batch.fire, timer))
                else:
                    outgoing.extend(batch.fire(timer))
            except Exception as error:
                self._park_timer(connection, timer, error, outgoing, business, parked)
        if due:
            metrics.TIMERS_FIRED.labels(self.service.name).inc(len(due))
        return len(due)

    def _observe(
        self,
        polled: Round,
        fresh: Sequence[Incoming],
        fired: int,
        heads: dict[int, Head],
        wall: dt.datetime,
        started: float,
        exemplar: dict[str, str] | None = None,
    ) -> None:
        name = self.service.name
        counts: dict[str, int] = {}
        for incoming in fresh:
            counts[incoming.topic] = counts.get(incoming.topic, 0) + 1
        for topic, count in counts.items():
            metrics.EVENTS_CONSUMED.labels(name, topic, "applied").inc(count)
        for topic, when in polled.oldest.items() if polled.records else ():
            metrics.LAG_SECONDS.labels(name, topic).observe(max(wall.timestamp() - when, 0.0))
        if fresh or fired:
            metrics.BATCH_RECORDS.labels(name).observe(len(fresh))
            metrics.BATCH_SECONDS.labels(name).observe(time.monotonic() - started, exemplar)
        marks = [head.watermark for head in heads.values() if head.watermark is not None]
        if marks and len(marks) == len(heads):
            metrics.WATERMARK.labels(name).set(min(marks).timestamp())

    def _show_positions(self) -> None:
        """Set how far the worker has come. That a partition's end was reached is as sure as the broker's last answer."""
        prefix = self.settings.topic_prefix
        try:
            ends = [
                (at, self._consumer.highwater(TopicPartition(prefix + at[0], at[1])))
                for at in self._positions
                if at[0] not in self._missing  # what was its end says nothing
            ]
        except IllegalStateError:
            return  # taken away meanwhile
        if unknown := [at for at, end in ends if end is None and at not in self._asked_ends]:
            self._ask_ends(unknown)
        known = ((at, self._asked_ends.get(at) if end is None else end) for at, end in ends)
        self._positions.ends(((at, end) for at, end in known if end is not None), self._heard())
        for topic, when in self._positions.least().items():
            metrics.POSITION.labels(self.service.name, topic).set(when)

    def _ask_ends(self, unknown: Sequence[tuple[str, int]]) -> None:
        """Ask for ends that no fetch has told: within a fetch session a broker tells an end once, and not again while it stays.

        When it told it to nobody (the partition was taken up anew meanwhile), an idle partition would never be known to be read.
        An end that was asked for is as good as a fetched one: the next record comes by a fetch, which tells it.
        """
        now = time.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_S
        prefix = self.settings.topic_prefix
        places = {TopicPartition(prefix + at[0], at[1]): at for at in unknown}
        try:
            found = self._consumer.end_offsets(list(places), timeout_ms=1_000)
        except KafkaError:
            return
        self._asked_ends.update((places[place], end) for place, end in found.items())

    def _heard(self) -> float:
        """Wall time of the last heartbeat to the group's coordinator, which are sent only while it answers; 0: none.

        The client does not say when its last fetch was answered: an end that it knows may be that of an hour ago.
        """
        if self._heartbeat is None:
            found = (self._consumer.metrics(raw=True) or {}).items()
            self._heartbeat = next((one for key, one in found if key.name == "last-heartbeat-seconds-ago"), None)
        ago = math.inf if self._heartbeat is None else float(self._heartbeat.value())
        return time.time() - ago if math.isfinite(ago) else 0.0

    def _show_parked(self) -> None:
        if not self._parked:
            self._parked_since = 0.0
        metrics.DEAD_LETTERS_DEPTH.labels(self.service.name).set(len(self._parked))
        metrics.DEAD_LETTERS_OLDEST.labels(self.service.name).set(self._parked_since)

    def _show_outbox(self) -> None:
        pending = sum(len(one.futures) for one in self._publishing)
        oldest = next((one.since for one in self._publishing if one.futures), 0.0)
        metrics.OUTBOX_PENDING.labels(self.service.name).set(pending)
        metrics.OUTBOX_OLDEST.labels(self.service.name).set(oldest)

    # ------------------------------------------------------------------------------------------------------ poison

    def _park(
        self,
        connection: sa.Connection,
        incoming: Incoming,
        error: BaseException | None,
        outgoing: list[Outgoing],
        business: dt.datetime,
        parked: set[str],
    ) -> None:
        """Keep a poison record, or one that comes behind it (``error`` None)."""
        text = "waits behind an earlier record of its key" if error is None else f"{type(error).__name__}: {error}"
        reason = "behind" if error is None else "poison"
        metrics.DEAD_LETTERS.labels(self.service.name, incoming.topic, reason).inc()
        log.error(
            "parked", worker=self.service.name, topic=incoming.topic, event_id=incoming.id, key=incoming.key, reason=reason, error=text,
            exc_info=error, **({} if incoming.trace is None else {"trace_id": tracing.trace_id(incoming.trace)}),
        )  # fmt: skip
        self._store.park(
            connection,
            partition=incoming.partition,
            key=incoming.key,
            topic=incoming.topic,
            offset=incoming.offset,
            event_id=incoming.id,
            type=incoming.type,
            headers=None,
            value=incoming.raw
            or encode(
                incoming.data,
                id=incoming.id,
                source=f"/goodfaith/{self.service.name}",
                type=incoming.type,
                subject=None,
                time=business,
                key=incoming.key,
            ),
            error=text,
        )
        parked.add(incoming.key)
        if error is not None:
            outgoing.append(
                self._dead_letter(
                    incoming.partition, incoming.topic, incoming.offset, incoming.key, incoming.raw, text, business
                )
            )

    def _park_timer(
        self,
        connection: sa.Connection,
        timer: Due,
        error: BaseException,
        outgoing: list[Outgoing],
        business: dt.datetime,
        parked: set[str],
    ) -> None:
        text = f"{type(error).__name__}: {error}"
        metrics.DEAD_LETTERS.labels(self.service.name, "@timer", "poison").inc()
        log.error(
            "parked",
            worker=self.service.name,
            topic="@timer",
            key=timer.key,
            item=timer.subject,
            error=text,
            exc_info=error,
        )
        value = msgspec.json.encode({"subject": timer.subject, "at": timer.at})
        self._store.park(
            connection, partition=timer.partition, key=timer.key, topic="@timer", offset=0, event_id=None, type="timer",
            headers=None, value=value, error=text,
        )  # fmt: skip
        parked.add(timer.key)
        outgoing.append(self._dead_letter(timer.partition, "@timer", 0, timer.key, value, text, business))

    def _dead(
        self, connection: sa.Connection, bad: Bad, outgoing: list[Outgoing], business: dt.datetime, parked: set[str]
    ) -> None:
        """A record that cannot be read: from outside it is refused and noted, from one of us it is a bug and blocks its key."""
        reason = "refused" if bad.outside else "unreadable"
        metrics.DEAD_LETTERS.labels(self.service.name, bad.topic, reason).inc()
        log.error(
            "dead letter",
            worker=self.service.name,
            topic=bad.topic,
            partition=bad.partition,
            offset=bad.offset,
            error=bad.error,
        )
        self._store.park(
            connection,
            partition=bad.partition,
            key=bad.key,
            topic=bad.topic,
            offset=bad.offset,
            event_id=bad.id,
            type=None,
            headers=bad.headers,
            value=bad.raw,
            error=bad.error,
            state="done" if bad.outside else "parked",
        )
        if not bad.outside:
            parked.add(bad.key)
        outgoing.append(self._dead_letter(bad.partition, bad.topic, bad.offset, bad.key, bad.raw, bad.error, business))

    def _dead_letter(
        self, partition: int, topic: str, offset: int, key: str, raw: bytes, error: str, business: dt.datetime
    ) -> Outgoing:
        letter = DeadLetter(
            worker=self.service.name,
            topic=topic,
            partition=partition,
            offset=offset,
            key=base64.b64encode(key.encode()).decode(),
            value=base64.b64encode(raw[:100_000]).decode(),
            error=error[:2000],
        )
        subject = f"{topic}.{partition}.{offset}"
        return Outgoing(partition, DEAD_LETTERS, subject, "goodfaith.dead_letter.v1", letter, subject, business)

    def _replay(self) -> None:
        """Run parked records again that an operator has asked for, each in a transaction of its own, in order."""
        with self._engine.begin() as connection:
            rows = self._store.replays(connection, sorted(self._epochs))
        stopped: set[str] = set()
        for row_id, partition, key, topic, offset, event_id, value in rows:
            if key in stopped:
                continue
            try:
                self._replay_one(row_id, partition, key, topic, offset, event_id, bytes(value))
            except (Fenced, KafkaError):
                raise
            except Exception as error:
                if db.is_transient(error):
                    raise
                stopped.add(key)
                log.exception("replay failed", worker=self.service.name, topic=topic, key=key, event_id=event_id)
                with self._engine.begin() as connection:
                    self._store.lock(connection, self._owner, self._epochs, self._seen)
                    self._store.replay_failed(connection, row_id, partition, key, f"{type(error).__name__}: {error}")

    def _replay_one(
        self, row_id: int, partition: int, key: str, topic: str, offset: int, event_id: str | None, value: bytes
    ) -> None:
        service, store = self.service, self._store
        with self._engine.begin() as connection:
            heads = store.lock(connection, self._owner, {partition: self._epochs[partition]}, self._seen)
            business, wall = clock.read(connection)
            outgoing: list[Outgoing] = []
            traced: Traced | None = None
            marks = {p: head.watermark for p, head in heads.items() if head.watermark is not None}
            tx = Tx(connection, business, wall, [partition], marks, self._parked)
            if topic != "@timer":
                envelope = decode_envelope(value)
                outside = any(one.name == topic and one.writer in assignment.OUTSIDE for one in service.reads)
                data = _known(envelope, outside)
                if event_id is None:
                    # it could not be read when it came, so its id never reached the inbox
                    event_id = envelope.id
                    already = not store.fresh(connection, {event_id: topic})
                else:
                    already = False
                if data is not None and not already:
                    incoming = Incoming(
                        topic, partition, offset, key, event_id, envelope.type, data, envelope, None, value
                    )
                    if self._tracing is not None and (parent := tracing.of_payload(value)) is not None:
                        incoming.traced, incoming.parent = True, parent
                        traced = Traced(self._tracing, service.name, service.queue, [incoming])
                    batch = service.open(tx, [incoming])
                    outgoing.extend(batch.apply(incoming) if traced is None else traced.apply(batch.apply, incoming))
                    batch.save()
            store.replayed(connection, row_id)
            released = not store.key_open(connection, partition, key)
            since = store.parked_since(connection, sorted(self._epochs))
            sent = store.append(connection, heads, outgoing)
            store.save_heads(connection, heads)
        self._committed(heads, sent)
        tx.counted()
        if traced is not None:
            traced.committed(1, 0)
        if released:
            self._parked = self._parked - {key}
        self._parked_since = since
        self._show_parked()
        log.info("replayed", worker=service.name, topic=topic, key=key, event_id=event_id, released=released)
        self._publish(sent, {}, self._offsets({}, sent))

    # ----------------------------------------------------------------------------------------------------- publish

    def _publish(self, sent: Sent, marks: dict[int, dt.datetime], offsets: dict[Any, Any]) -> None:
        """Hand rows to the producer, once all earlier ones are acknowledged: order on the topic is the log's."""
        if not (sent.rows or marks or offsets):
            return
        if self._publishing:
            self._settle_futures(wait=True)
        topics: dict[str, int] = {}
        futures = []
        send = self._producer.send
        for topic, key, raw, target, trace in sent.rows:
            headers = HEADERS if trace is None else [*HEADERS, (tracing.HEADER, trace.encode())]
            futures.append(send(topic, value=raw, key=key.encode(), partition=target, headers=headers))
            topics[topic] = topics.get(topic, 0) + 1
        self._publishing.append(Publishing(futures, sent.upto, marks, offsets, topics, sent.since or time.time()))
        self._show_outbox()
        self._crash("after_produce")
        if not futures:
            self._settle_futures(wait=False)

    def _settle_futures(self, *, wait: bool) -> None:
        """Take note of what the broker has acknowledged: only then watermarks and offsets go out.

        Raises:
            KafkaError: the broker refused a record for good.
        """
        while self._publishing:
            head = self._publishing[0]
            for future in head.futures:
                while not future.is_done:
                    if not wait:
                        return
                    if self._stop and self._stop_deadline_passed():
                        raise KafkaError("stopped before the broker acknowledged; the next owner publishes the rest")
                    self._show_alive()
                    time.sleep(0.001)
                if future.failed():
                    raise future.exception
            self._publishing.popleft()
            for partition, upto in head.upto.items():
                self._settled[partition] = upto
            for topic, count in head.topics.items():
                metrics.EVENTS_PRODUCED.labels(self.service.name, topic.removeprefix(self.settings.topic_prefix)).inc(
                    count
                )
            self._show_outbox()
            self._send_marks(head.marks)
            self._crash("before_offsets")
            if head.offsets:
                self._consumer.commit_async(head.offsets)

    _stopping_since: float | None = None

    def _stop_deadline_passed(self) -> bool:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        return time.monotonic() - self._stopping_since > 10.0

    def _send_marks(self, marks: dict[int, dt.datetime]) -> None:
        topic = self.settings.topic_prefix + INTAKE.name
        for partition, upto in marks.items():
            stamp = f"{upto:%Y%m%dT%H%M%S.%f}"
            raw = encode(
                Watermark(upto=upto),
                id=f"watermark.{partition}.{stamp}",
                source=f"/goodfaith/{self.service.name}",
                type="goodfaith.watermark.v1",
                subject=None,
                time=upto,
                key=None,
            )
            self._producer.send(topic, value=raw, partition=partition, headers=HEADERS)

    def _acknowledged(self) -> dict[int, int]:
        """By partition, up to where the log is known to be on its topics."""
        if self._publishing:
            self._settle_futures(wait=False)
        return dict(self._settled)

    def _settle(self, *, wait: bool) -> None:
        """Write down what is published, in a transaction of its own: for idle times and the end."""
        self._settle_futures(wait=wait)
        if self._settled:
            with self._engine.begin() as connection:
                self._store.published(connection, self._epochs, self._settled)
            self._settled.clear()

    # --------------------------------------------------------------------------------------------------- ownership

    def _claim(self) -> None:
        """Take up the partitions that the group has given: fence earlier owners, publish what they left, read on from the cursors."""
        store, prefix = self._store, self.settings.topic_prefix
        given = self._given
        if given.lacking:
            metrics.REJOINS.labels(self.service.name).inc()
            raise KafkaError(f"the group assigned partitions without {sorted(given.lacking)}: joining again")
        wanted = sorted(given.partitions)
        self._settle(wait=False)
        self._publishing.clear()
        self._settled.clear()
        places = [TopicPartition(name, partition) for name in self._topics for partition in wanted]
        outside = self._seen_outside([partition for partition in wanted if partition not in self._seen])
        with self._engine.begin() as connection:
            owned = store.claim(connection, wanted, self._owner) if wanted else {}
            self._epochs = {partition: one.epoch for partition, one in owned.items()}
            cursors = store.cursors(connection, wanted)
            current = self._current_ids()
            self._topic_ids = store.topic_ids(connection, current) if wanted else {}
            recreated = {topic for topic, id_ in current.items() if self._topic_ids.get(topic, id_) != id_}
            gaps = store.gaps(connection, wanted)
            self._is_all_there(connection, outside, cursors, recreated)
            self._parked = frozenset(store.parked_keys(connection, wanted))
            self._parked_since = store.parked_since(connection, wanted)
            reads = store.reads(connection, wanted)
            unpublished = store.unpublished(connection, wanted)
        self._seen.update((partition, (one.seq, one.hash)) for partition, one in owned.items())
        self._linked = frozenset(partition for partition, one in owned.items() if one.linked)
        self._links.begin(reads)
        new = [place for place in places if (place.topic.removeprefix(prefix), place.partition) not in cursors]
        # where a missing topic begins is asked once it is there
        counts = kafka_links.partition_counts(self._consumer, self._topics)
        waiting = {place for place in new if not counts[place.topic]}
        new = [place for place in new if place not in waiting]
        places = [place for place in places if place not in waiting]
        begins = self._consumer.beginning_offsets(new) if new else {}
        offsets: dict[tuple[str, int], int] = {}
        stopped = {mine for mine in gaps if mine[0] in {topic.name for topic in self._topics.values()}}
        try:
            for place in places:
                mine = (place.topic.removeprefix(prefix), place.partition)
                offset, leader_epoch = cursors[mine] if mine in cursors else (begins[place], -1)
                offsets[mine] = offset
                kafka_links.seek(self._consumer, place, offset, leader_epoch)
                if mine[0] in recreated:
                    stopped.add(mine)
            paused = [TopicPartition(prefix + topic, partition) for topic, partition in stopped]
            self._consumer.pause(*waiting, *paused)
            self._consumer.resume(*(place for place in places if place not in paused))
        except (ValueError, KeyError, IllegalStateError):
            if self._given is given:
                raise
            return  # taken away again meanwhile: the next turn claims what is ours then
        self._cursors = {mine: offset for mine, offset in offsets.items() if mine in cursors}
        self._claimed = given.generation
        self._left_out_at = math.inf if wanted else time.monotonic() + self._left_out_after_s
        self._again = True
        self._positions.begin(offsets, time.time())
        self._gone.clear()
        self._unsaved.clear()
        for reason in sorted({reason for _, reason in gaps.values()}):
            self._miss({mine for mine in stopped if gaps.get(mine, (0, ""))[1] == reason}, reason)
        self._miss({mine for mine in stopped if mine not in gaps}, "recreated")
        self._asked_ends.clear()
        self._ask_at = time.monotonic() + 2.0  # by then most ends are known by themselves
        self._show_outbox()
        self._publish(unpublished, {}, {})
        metrics.REBALANCES.labels(self.service.name).inc()
        metrics.ASSIGNED.labels(self.service.name).set(len(wanted))
        self._show_parked()
        for topic in () if wanted else self._topics.values():
            metrics.POSITION.labels(self.service.name, topic.name).set(0)
        self.health.details["partitions"] = len(wanted)
        self.health.ready()
        log.info(
            "claimed" if wanted else "owns nothing for now",
            worker=self.service.name, partitions=wanted, republished=len(unpublished.rows),
        )  # fmt: skip

    def _seen_outside(self, partitions: Sequence[int]) -> tuple[list[Witness], dict[tuple[str, int], int]]:
        """What the broker knows of the logs of these partitions, and of the cursors there: it must not be more than the database knows."""
        if not partitions:
            return [], {}
        prefix = self.settings.topic_prefix
        committed = seen.committed(self._consumer, [prefix + topic.name for topic in self.service.reads], partitions)
        witnesses = [
            *seen.witnesses(committed),
            *seen.tails(self.settings, self.service.name, sorted(self.service.keyed_like), partitions),
        ]
        return witnesses, {
            (topic.removeprefix(prefix), partition): one.offset for (topic, partition), one in committed.items()
        }

    def _is_all_there(
        self,
        connection: sa.Connection,
        outside: tuple[list[Witness], dict[tuple[str, int], int]],
        cursors: dict[tuple[str, int], tuple[int, int]],
        recreated: set[str],
    ) -> None:
        """Compare the database with what this process, and the broker, saw of it.

        Raises:
            WentBack: it lacks what it had committed.
        """
        witnesses, committed = outside
        mine = [
            Witness(p, seq, "this process", hash=hash_)
            for p, (seq, hash_) in self._seen.items()
            if seq and p in self._epochs
        ]
        if lost := self._store.missing(connection, [*mine, *witnesses]):
            said = "; ".join(f"partition {one.partition}: row {one.seq} was seen by {one.seen}" for one in lost[:10])
            raise WentBack(f"the event log lacks rows that it had: {said}")
        for place, offset in {**committed, **self._cursors}.items():
            if place[1] in self._epochs and place[0] not in recreated and cursors.get(place, (0, -1))[0] < offset:
                raise WentBack(
                    f"{place[0]} {place[1]} was read up to {offset}, and the database says {cursors.get(place, (0, -1))[0]}"
                )

    @property
    def _rebalanced(self) -> bool:
        return self._claimed != self._given.generation

    def assigned(self, places: Iterable[Any]) -> None:
        """The group has given this worker partitions: read nothing before they are claimed.

        Called by the client's own thread, at any moment: it must touch nothing that the loop uses but ``_given``.
        """
        places = list(places)
        for place in places:
            self._consumer.seek(place, 0)
        self._consumer.pause(*places)
        numbers, lacking = assignment.owned(self._topics, ((place.topic, place.partition) for place in places))
        self._given = Given(self._given.generation + 1, numbers, lacking)

    def revoked(self) -> None:
        """The group takes the partitions back, perhaps amid a batch: whoever gets them fences us. See ``assigned``."""
        self._given = Given(self._given.generation + 1, frozenset())


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._worker.revoked()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._worker.assigned(assigned)


def _known(envelope: Envelope, outside: bool) -> Data | None:
    """An event's data; None for what is no type of ours, and came from outside.

    Raises:
        NewerVersion: only a newer version of this software knows it.
        msgspec.ValidationError: the data do not fit the type.
    """
    data = decode_data(envelope)
    if data is None and not outside and is_ours(envelope.type):
        raise NewerVersion(envelope.type)
    return data


def _numbers(polled: Round) -> dict[Link, int]:
    """By log the number of the last event in the batch, whether it is applied or parked."""
    numbers: dict[Link, int] = {}
    read: list[Incoming | Bad] = [*polled.records, *polled.bad]
    for one in read:
        if one.link is not None:
            numbers[one.link] = max(one.seq, numbers.get(one.link, 0))
    return numbers


def crash_from(text: str | None, name: str) -> Callable[[str], None] | None:
    """A crash point for fault tests: ``verification:after_commit:17`` kills that worker at the 17th time;
    ``verification:after_commit:17:hang`` has it hang there for good, while its port goes on answering.
    """
    if not text:
        return None
    worker, step, count, *how = text.split(":")
    if worker != name:
        return None
    left = int(count)

    def crash(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0 and how == ["hang"]:
                while True:
                    time.sleep(3600)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash


def run(service: Service, settings: Settings) -> None:
    """Run a service's worker as this process, with health server and signals, until SIGTERM or SIGINT."""
    health = Health(service.name)
    worker = Worker(
        service, settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), service.name)
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, lambda *_: worker.stop())
    server = health.serve(settings)
    # what is loaded now stays; batches make many objects and few cycles, so look for these rarely
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    log.info("started", worker=service.name, health_port=server.server_address[1])
    worker.run()
    log.info("stopped", worker=service.name)
    server.shutdown()
