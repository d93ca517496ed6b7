"""``python -m services.observer watch``: watches broker, database and the readers' lag from outside.

Broker and database have a thread each, so that either is watched while the other is away. How far a worker has got is
known from its tables (``cursors``) and from its group's commits, whichever is further.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
import structlog
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import BrokerResponseError, KafkaError

from services.observer.lag import Extent, Lags, Partition, Place, Record, old, positions
from services.ops import idle
from services.streams.registry import VIEWS
from shared import db, kafka_links, metrics
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)
NAME: Final = "watch"
TIMEOUT_MS: Final = 5_000
READ_S: Final = 5.0
"""Seconds that one look may spend on reading the times of records."""
READ_AT_ONCE: Final = 24
_STREAMS: Final = re.compile(r"streams-(\d{1,9})")
_OPTIONAL: Final = ("marketplace", "streams")
"""Groups that an installation may lack: they are followed once they exist."""
STATES: Final = ("active", "idle", "idle_in_transaction", "idle_in_transaction_aborted", "other")
_PLACE: Final = {"group": metrics.GROUP, "topic": metrics.TOPIC, "partition": metrics.PARTITION}

BROKER_UP = metrics.gauge(
    "goodfaith_broker_up",
    "Whether the broker answers: 1 or 0.",
    of=NAME,
    do="0: nothing moves; requests are still accepted",
)
BROKER_NODES = metrics.gauge(
    "goodfaith_broker_nodes",
    "Broker nodes in the cluster.",
    of=NAME,
    do="fewer than there should be: look at the missing one",
)
UNDER_REPLICATED = metrics.gauge(
    "goodfaith_broker_under_replicated_partitions",
    "Partitions of all topics with fewer replicas in sync than they have.",
    of=NAME,
    do="above 0 for long: a node is away, or its disk is slow",
)
OFFLINE = metrics.gauge(
    "goodfaith_broker_offline_partitions",
    "Partitions of all topics without a leader.",
    of=NAME,
    do="above 0: they can be neither read nor written",
)
LAG_RECORDS = metrics.gauge(
    "goodfaith_consumer_lag_records",
    "Records that a reader has not consumed. Topics with watermarks always have a few.",
    _PLACE,
    of=NAME,
    do="a matter of capacity; the lag in seconds, below, shows whether the 24-hour target is at risk",
)
LAG_SECONDS = metrics.gauge(
    "goodfaith_consumer_lag_seconds",
    "Wall age of the oldest record that a reader has not consumed, seen from outside; 0: there is none, or it is"
    " younger than the time between two looks (`GOODFAITH_WATCH_S`).",
    _PLACE,
    of=NAME,
    do="grows on all partitions: the worker is away or too slow; on one: that partition is stuck, see its owner's log",
)
DATABASE_UP = metrics.gauge(
    "goodfaith_database_up",
    "Whether the database answers: 1 or 0.",
    of=NAME,
    do="0: the API answers 503, workers wait",
)
CONNECTIONS = metrics.gauge(
    "goodfaith_database_connections",
    "Client connections to the database server, by state.",
    {"state": STATES},
    of=NAME,
    do="near the maximum: run fewer processes, or raise `max_connections`",
)
CONNECTIONS_MAX = metrics.gauge(
    "goodfaith_database_connections_max", "Connections that the database server allows to clients.", of=NAME
)
OLDEST_TRANSACTION = metrics.gauge(
    "goodfaith_database_oldest_transaction_timestamp_seconds",
    "When the oldest open transaction of a client began; 0: none is open.",
    of=NAME,
    do="older than a few minutes: it keeps the server from cleaning up; find it in `pg_stat_activity`",
)
TRANSACTION_IDS = metrics.gauge(
    "goodfaith_database_transaction_ids_used",
    "Transaction ids (or multixact ids) used since the oldest rows of any database on the server were frozen. At about"
    " 2.1 billion the server refuses writes.",
    of=NAME,
    do="above 500 million: vacuum does not keep up; find out what holds it back",
)
SIZE = metrics.gauge(
    "goodfaith_database_size_bytes",
    "Size of the database on disk.",
    of=NAME,
    do="[what grows](../how-to/prune.md#what-grows)",
)
SUCCESS = metrics.gauge(
    "goodfaith_watch_last_success_timestamp_seconds",
    "When a look at this part last succeeded; 0: not yet.",
    {"part": ("broker", "database")},
    of=NAME,
    do="old: all figures of this part are out of date",
)

_ACTIVITY: Final = """
    select coalesce(replace(replace(replace(state, ' ', '_'), '(', ''), ')', ''), 'other'), count(*),
        coalesce(extract(epoch from min(xact_start) filter (where pid <> pg_backend_pid())), 0)::float
    from pg_stat_activity where backend_type = 'client backend' group by 1"""
_SERVER: Final = """
    select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
        pg_database_size(current_database()),
        (select coalesce(extract(epoch from min(prepared)), 0)::float from pg_prepared_xacts),
        (select max(greatest(age(datfrozenxid), mxid_age(datminmxid))) from pg_database)"""


def replication(described: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Numbers of under-replicated and of leaderless partitions, of topics as the admin client describes them."""
    partitions = [partition for topic in described for partition in topic["partitions"]]
    under = sum(len(partition["isr_nodes"]) < len(partition["replica_nodes"]) for partition in partitions)
    return under, sum(partition["leader_id"] < 0 for partition in partitions)


class Broker:
    """Looks at the broker, and at how far readers have got.

    Args:
        cursors: what the readers' tables said at the last look at the database.
    """

    name = "broker"
    up = BROKER_UP
    succeeded = 0.0

    def __init__(self, settings: Settings, cursors: Callable[[], Mapping[Place, int]]) -> None:
        self._settings = settings
        self._prefix = settings.topic_prefix
        self._cursors = cursors
        self._readers = {reader.name: tuple(topic.name for topic in reader.reads) for reader in idle.readers(settings)}
        self._readers["streams"] = tuple(dict.fromkeys(topic.name for view in VIEWS for topic in view.reads))
        self._lags = Lags()
        self._admin: Any = None
        self._consumer: Any = None

    def begin(self) -> None:
        """Export a lag of 0 for every place that is always followed."""
        for group, topics in self._readers.items():
            for place in self._places(group, topics) if group not in _OPTIONAL else ():
                LAG_RECORDS.labels(place.group, place.topic, place.partition)
                LAG_SECONDS.labels(place.group, place.topic, place.partition)

    def _places(self, group: str, topics: Iterable[str]) -> list[Place]:
        return [Place(group, topic, n) for topic in topics for n in range(self._settings.partitions)]

    def look(self) -> None:
        """Look once.

        Raises:
            kafka.errors.KafkaError: the broker is away or slow; the next look reconnects.
        """
        if self._admin is None:
            self._admin = kafka_links.admin(
                self._settings,
                client_id="goodfaith-watch",
                request_timeout_ms=TIMEOUT_MS,
                bootstrap_timeout_ms=TIMEOUT_MS,
            )
        nodes = kafka_links.nodes(self._admin)
        described = self._admin.describe_topics()
        under, offline = replication(described)
        BROKER_NODES.set(nodes)
        UNDER_REPLICATED.set(under)
        OFFLINE.set(offline)
        BROKER_UP.set(1)
        # a partition without a leader cannot be asked about
        there = {
            (topic["name"], partition["partition_index"])
            for topic in described
            for partition in topic["partitions"]
            if partition["leader_id"] >= 0
        }
        try:
            self._follow(there)
        except BrokerResponseError as error:
            # the broker answers, but is moving a leader or a group's coordinator; the lags keep their last values
            log.warning("lag not known", error=f"{type(error).__name__}: {error}"[:300])

    def _follow(self, there: set[Partition]) -> None:
        groups = self._groups()
        places = [
            place
            for group in groups
            for place in self._places(group, self._readers[group])
            if (self._prefix + place.topic, place.partition) in there
        ]
        if not places:
            return
        committed = self._committed(groups, places)
        # in this order: records written between the questions count as lag, never the reverse
        extents = self._extents({place.read for place in places})
        found = positions(places, extents, committed, self._cursors())
        wanted = old(found, extents)
        stamps = self._read(self._lags.unknown(wanted))
        seconds = self._lags.seconds(found, wanted, stamps, time.time())
        for place, position in found.items():
            labels = (place.group, place.topic, place.partition)
            LAG_RECORDS.labels(*labels).set(extents[place.read].end - position)
            LAG_SECONDS.labels(*labels).set(seconds[place])

    def _groups(self) -> dict[str, str]:
        """The groups to follow, by reader; of the stream views' generations only the newest."""
        existing = {
            str(group["group_id"]).removeprefix(self._prefix)
            for group in self._admin.list_groups()
            if str(group["group_id"]).startswith(self._prefix)
        }
        found = {name: name for name in self._readers if name not in _OPTIONAL or name in existing}
        generations = [int(match[1]) for name in existing if (match := _STREAMS.fullmatch(name))]
        if generations:
            found["streams"] = f"streams-{max(generations)}"
        return {name: self._prefix + group for name, group in found.items()}

    def _committed(self, groups: Mapping[str, str], places: Iterable[Place]) -> dict[Place, int]:
        asked: dict[str, dict[Any, Place]] = {group: {} for group in groups.values()}
        for place in places:
            asked[groups[place.group]][self._there(place.topic, place.partition)] = place
        answers = self._admin.list_group_offsets({group: list(mine) for group, mine in asked.items() if mine})
        return {asked[group][there]: at.offset for group, mine in answers.items() for there, at in mine.items()}

    def _there(self, topic: str, partition: int) -> Any:
        return TopicPartition(self._prefix + topic, partition)

    def _extents(self, wanted: Iterable[Partition]) -> dict[Partition, Extent]:
        there = {partition: self._there(*partition) for partition in wanted}
        since = int((time.time() - self._settings.watch_s) * 1000)
        begins, young, ends = (
            self._admin.list_partition_offsets(dict.fromkeys(there.values(), spec), timeout_ms=TIMEOUT_MS)
            for spec in (OffsetSpec.EARLIEST, since, OffsetSpec.LATEST)
        )
        return {
            partition: Extent(
                begins[place].offset, ends[place].offset, young[place].offset if young[place].offset >= 0 else None
            )
            for partition, place in there.items()
        }

    def _read(self, wanted: Iterable[Record]) -> dict[Record, float]:
        """Times of records, as many as can be read within ``READ_S``."""
        by_place: dict[Partition, list[int]] = defaultdict(list)
        for topic, partition, offset in wanted:
            by_place[topic, partition].append(offset)
        found: dict[Record, float] = {}
        until = time.monotonic() + READ_S
        while by_place and time.monotonic() < until:
            if self._consumer is None:
                self._consumer = kafka_links.consumer(
                    self._settings,
                    client_id="goodfaith-watch",
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    fetch_max_wait_ms=100,
                    fetch_max_bytes=8_000_000,
                    request_timeout_ms=TIMEOUT_MS,
                    bootstrap_timeout_ms=TIMEOUT_MS,
                )
            # one record from each of a few partitions at a time: each comes with a whole batch of records
            now = {self._there(*place): (*place, by_place[place].pop()) for place in list(by_place)[:READ_AT_ONCE]}
            for place in [place for place, offsets in by_place.items() if not offsets]:
                del by_place[place]
            found |= self._read_some(now, until)
        return found

    def _read_some(self, wanted: dict[Any, Record], until: float) -> dict[Record, float]:
        found: dict[Record, float] = {}
        self._consumer.assign(list(wanted))
        for there, record in wanted.items():
            self._consumer.seek(there, record[2])
        self._consumer.resume(*wanted)  # the client remembers what was paused in an earlier look
        while len(found) < len(wanted) and time.monotonic() < until:
            for there, records in self._consumer.poll(timeout_ms=200, max_records=len(wanted)).items():
                found.setdefault(wanted[there], records[0].timestamp / 1000)
                self._consumer.pause(there)
        return found

    def lost(self) -> None:
        """The broker is away: reconnect at the next look."""
        BROKER_UP.set(0)
        BROKER_NODES.set(0)
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None


class Database:
    """Looks at the database. Each look opens a connection of its own, so a broken one does not affect the next."""

    name = "database"
    up = DATABASE_UP
    succeeded = 0.0

    def __init__(self, settings: Settings) -> None:
        self._engine = db.administer(settings.present("database"), autocommit=True, pooled=False)
        self._readers = idle.readers(settings)
        self._cursors: dict[Place, int] = {}

    def cursors(self) -> Mapping[Place, int]:
        """How far readers had got by their own tables, at the last look."""
        return self._cursors

    def look(self) -> None:
        """Look once.

        Raises:
            sqlalchemy.exc.DBAPIError: the database is away or slow.
        """
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f"set statement_timeout = {TIMEOUT_MS}; set application_name = '{NAME}'")
            states = dict.fromkeys(STATES, 0)
            oldest = 0.0
            for state, count, since in connection.exec_driver_sql(_ACTIVITY):
                states[state if state in states else "other"] += count
                oldest = min(oldest or since, since or oldest)
            most, size, prepared, ids = connection.exec_driver_sql(_SERVER).one()
            for state, count in states.items():
                CONNECTIONS.labels(state).set(count)
            CONNECTIONS_MAX.set(most)
            SIZE.set(size)
            TRANSACTION_IDS.set(ids)
            OLDEST_TRANSACTION.set(min(oldest or prepared, prepared or oldest))
            DATABASE_UP.set(1)
            self._cursors = self._read(connection)

    def _read(self, connection: sa.Connection) -> dict[Place, int]:
        readable = set(
            connection.exec_driver_sql(
                "select schemaname || '.' || tablename from pg_tables where tablename like '%%cursors'"
                " and has_any_column_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'select')"
            ).scalars()
        )
        parts = [
            f"select '{reader.name}', topic, partition, next_offset from {reader.tables}cursors"
            for reader in self._readers
            if f"{reader.tables}cursors" in readable
        ]
        if not parts:
            return {}
        rows = connection.exec_driver_sql(" union all ".join(parts))
        return {Place(name, topic, partition): offset for name, topic, partition, offset in rows}

    def lost(self) -> None:
        """The database is away."""
        DATABASE_UP.set(0)

    def close(self) -> None:
        """Nothing is kept open."""


def keep_looking(part: Broker | Database, every_s: float, stop: threading.Event) -> None:
    """Look repeatedly until stopped. Of several outages in a row only the first is logged."""
    well = True
    while not stop.is_set():
        began = time.monotonic()
        try:
            part.look()
            part.succeeded = time.monotonic()
            SUCCESS.labels(part.name).set_to_current_time()
            if not well:
                log.info("is back", part=part.name)
            well = True
        except Exception as error:
            if not isinstance(error, KafkaError | sa.exc.SQLAlchemyError | OSError):
                log.exception("cannot look", part=part.name)
            elif well:
                log.warning("is away", part=part.name, error=f"{type(error).__name__}: {error}"[:300])
            well = False
            part.lost()
        stop.wait(max(every_s - (time.monotonic() - began), 0.1))
    part.close()


def run(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    health = Health(NAME)
    server = health.serve(settings)
    database = Database(settings)
    broker = Broker(settings, database.cursors)
    broker.begin()
    parts: tuple[Broker | Database, ...] = (database, broker)
    threads = [
        threading.Thread(target=keep_looking, args=(part, settings.watch_s, stop), name=part.name, daemon=True)
        for part in parts
    ]
    for thread in threads:
        thread.start()
    log.info("started", worker=NAME, health_port=server.server_address[1])
    health.ready()
    began = time.monotonic()
    while not stop.wait(1.0):
        health.progress()
        metrics.PROGRESS.labels(NAME).set_to_current_time()
        # a frozen server neither answers nor refuses, so a look at it hangs
        for part in parts:
            if time.monotonic() - max(part.succeeded, began) > 2 * settings.watch_s + 15:
                part.up.set(0)
    for thread in threads:
        thread.join(2 * TIMEOUT_MS / 1000)
    server.shutdown()
