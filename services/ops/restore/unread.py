"""`goodfaith restore unread`: restores records from the event logs that a topic lost before they were read.

Retention deleted them, a broker lost them, or the topic was deleted and created again. Workers never skip such a gap:
they stop reading the partition (`goodfaith_unread_gone_partitions`) and record where and why in `gaps`. Our own
topics are copies of the event logs, so everything after the last event that each reader applied, holes in the middle
included, is written to the end of the partition in the log's order. What the partition held before is deleted, and
all its readers continue at the first restored record; a reader drops what it has applied already. So the partition is
in the log's order from its first record on, and one that has lost records does not begin at offset 0. `verify` checks
both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa
from kafka.errors import NoError

from services.ops.idle import Reader, present, readers
from shared import kafka_links, topics
from shared.runtime import assignment, seen
from shared.settings import Settings

ALONE_MS: Final = topics.DAY_MS
"""For this long, retention leaves restored records to be read, however old they are."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap: records of a partition that are gone before a reader has read them.

    Attributes:
        reader: the reader that has not read them.
        upto: the reader's position: the offset that it would have read next.
        begins: the first offset that exists.
        ends: the offset after the last one.
        recreated: whether the topic was deleted and created again.
        reason: why the reader stopped there, in its own words; empty: it has not noticed yet.
    """

    reader: Reader
    topic: str
    partition: int
    upto: int
    begins: int
    ends: int
    recreated: bool = False
    reason: str = ""

    def __str__(self) -> str:
        if self.recreated:
            why = "the topic was created again"
        elif self.reason in ("gap", "truncated"):
            why = {"gap": "records before it are missing", "truncated": "the topic was truncated"}[self.reason]
        else:
            why = f"deleted up to {self.begins}"
        return f"{self.reader.name}: {self.topic} {self.partition} at {self.upto}, {why}"


@dataclass(slots=True)
class Refilled:
    """What `refill` did.

    Attributes:
        records: number of records written to the topics.
        theirs: gaps in topics of others (upstreams, a marketplace), whose records are in no log here.
        generation: of the stream views, which are rebuilt; 0: there were none, or there were no gaps.
    """

    gaps: list[Gap] = field(default_factory=list)
    records: int = 0
    theirs: list[Gap] = field(default_factory=list)
    generation: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "gaps": [str(gap) for gap in self.gaps],
            "refilled": self.records,
            "theirs": [str(gap) for gap in self.theirs],
            "generation": self.generation,
            "seconds": round(self.seconds, 1),
        }


def compare(
    cursors: Mapping[tuple[str, int], int],
    known_ids: Mapping[str, str],
    ids: Mapping[str, str],
    begins: Mapping[tuple[str, int], int],
    ends: Mapping[tuple[str, int], int],
    reader: Reader,
    noticed: Mapping[tuple[str, int], tuple[int, str]] | None = None,
) -> list[Gap]:
    """A reader's gaps. Pure.

    Args:
        cursors: the reader's positions by topic and partition; a missing one: it has read nothing there yet.
        known_ids: by topic, the topic id for which the cursors are valid.
        ids: by topic, its present id.
        begins: first offsets by topic and partition, for everything that the reader reads.
        ends: next offsets, likewise.
        noticed: where the reader stopped, and why, by topic and partition.
    """
    found = []
    noticed = noticed or {}
    for part, begin in begins.items():
        topic, partition = part
        recreated = topic in known_ids and known_ids[topic] != ids.get(topic)
        at = cursors.get(part)
        stopped, reason = noticed.get(part, (None, ""))
        if recreated or stopped is not None or (at is not None and not begin <= at <= ends[part]):
            at = stopped if at is None else at
            found.append(Gap(reader, topic, partition, at or 0, begin, ends[part], recreated, reason))
    return found


def find(settings: Settings, connection: sa.Connection) -> list[Gap]:
    """The gaps of all readers. Missing topics are created first.

    Raises:
        kafka.errors.KafkaError: the broker is away, or partitions have no leader.
    """
    from kafka import TopicPartition

    topics.create(settings)
    found: list[Gap] = []
    prefix = settings.topic_prefix
    ids = _topic_ids(settings)
    consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
    try:
        for reader in present(connection, readers(settings), table="topic_ids"):
            table = reader.tables
            rows = connection.exec_driver_sql(f"select topic, partition, next_offset from {table}cursors")
            cursors = {(str(topic), int(partition)): int(offset) for topic, partition, offset in rows}
            known = {
                str(topic): str(id_)
                for topic, id_ in connection.exec_driver_sql(f"select topic, id from {table}topic_ids")
            }
            parts = {
                TopicPartition(prefix + topic.name, partition): (topic.name, partition)
                for topic in reader.reads
                for partition in range(settings.partitions)
            }
            begins = {parts[at]: offset for at, offset in consumer.beginning_offsets(list(parts)).items()}
            ends = {parts[at]: offset for at, offset in consumer.end_offsets(list(parts)).items()}
            rows = connection.exec_driver_sql(f'select topic, partition, "offset", reason from {table}gaps')
            noticed = {(str(topic), int(partition)): (int(at), str(reason)) for topic, partition, at, reason in rows}
            seen_ = compare(cursors, known, ids, begins, ends, reader, noticed)
            found += seen_
            found += _cut_off(
                connection, settings, reader, cursors, begins, ends, {(gap.topic, gap.partition) for gap in seen_}
            )
    finally:
        consumer.close()
    return found


def _cut_off(
    connection: sa.Connection,
    settings: Settings,
    reader: Reader,
    cursors: Mapping[tuple[str, int], int],
    begins: Mapping[tuple[str, int], int],
    ends: Mapping[tuple[str, int], int],
    known: set[tuple[str, int]],
) -> Iterable[Gap]:
    """Partitions read to their end, of which the logs published more: no later event has revealed the gap yet."""
    logs = present(connection, readers(settings), table="reads")
    owned = connection.exec_driver_sql(f"select partition from {reader.tables}partitions")
    partitions = set(owned.scalars())
    for topic in reader.reads:
        for partition in partitions:
            part = (topic.name, partition)
            if topic.compacted or part in known or cursors.get(part, begins[part]) != ends[part]:
                continue
            gap = Gap(reader, topic.name, partition, ends[part], begins[part], ends[part], reason="gap")
            rows = _unread(connection, logs, topic, settings.topic_prefix + topic.name, partition, [gap])
            if next(iter(rows), None) is not None:
                yield gap


def _topic_ids(settings: Settings) -> dict[str, str]:
    """Topic ids, by topic without prefix."""
    prefix = settings.topic_prefix
    consumer = kafka_links.consumer(settings, enable_auto_commit=False)
    try:
        names = [name for name in consumer.topics() if name.startswith(prefix)]
        return {name.removeprefix(prefix): id_ for name, id_ in kafka_links.topic_ids(consumer, names).items()}
    finally:
        consumer.close()


# the last row that the reader has of this topic and partition; in another one of the same log it may be further
_READ: Final = """
    select p.partition, coalesce((select r.seq from {reader}reads r where r.topic = %(name)s and r.partition = %(target)s
        and r.writer = %(writer)s and r.log_partition = p.partition), 0) from {log}partitions p"""
# readers know events from outside by their ids
_READ_BY_ID: Final = """
    select p.partition, coalesce((select l.seq from {log}event_log l where l.partition = p.partition and l.topic = %(topic)s
        and l.target = %(target)s and exists (
            select from {reader}inbox i where i.event_id = %(writer)s || '.' || l.partition || '.' || l.seq)
        order by l.seq desc limit 1), 0) from {log}partitions p"""
_UNREAD: Final = """
    select l.key, l.payload, l.recorded_wall
    from {log}event_log l join {log}partitions p using (partition)
    join unnest(%s::int[], %s::bigint[]) as n(partition, upto) on n.partition = l.partition and l.seq > n.upto
    where l.topic = %s and l.target = %s and l.seq <= p.published_upto order by l.partition, l.seq"""


def refill(
    settings: Settings, engine: sa.Engine, *, give_up: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Refilled:
    """Restore what is missing, and let the readers continue there. Stop all processes first. If interrupted, repeat it.

    Args:
        engine: an administrator's.
        give_up: let readers continue in topics of others too. What is gone there stays lost.

    Raises:
        CommandError: a process is still connected to the database.
        kafka.errors.KafkaError: the broker is away.
    """
    from services.ops.restore.common import none_connected, rebuild_views

    begun = time.monotonic()
    none_connected(engine)
    with engine.connect() as connection:
        made = Refilled(find(settings, connection))
        logs = present(connection, readers(settings), table="topic_ids")
    by_partition: dict[tuple[str, int], list[Gap]] = {}
    for gap in made.gaps:
        by_partition.setdefault((gap.topic, gap.partition), []).append(gap)
    declared = {topic.name: topic for topic in topics.TOPICS}
    for (topic, partition), gaps in by_partition.items():
        if not any(_writes(log, declared.get(topic)) for log in logs):
            made.theirs += gaps
            if give_up:
                _go_on(engine, gaps, {gap: gap.begins for gap in gaps})
            continue
        tell(f"filling {topic} {partition}")
        gaps = of_all(gaps, logs)
        upto = gaps[0].ends or _begin(settings, declared[topic], partition)
        with engine.connect() as connection:
            rows = list(_unread(connection, logs, declared[topic], settings.topic_prefix + topic, partition, gaps))
        made.records += _write(settings, declared[topic], partition, rows)
        # in this order: after an interruption everything is found and done again
        _cut(settings, declared[topic], partition, upto)
        _go_on(engine, gaps, dict.fromkeys(gaps, upto))
    left = set() if give_up else {gap.topic for gap in made.theirs}
    _know(engine, [gap for gap in made.gaps if gap.topic not in left], _topic_ids(settings))
    if made.gaps:
        with engine.connect() as connection:
            commit_cursors(settings, connection, logs)
        tell("rebuilding the stream views from the logs")
        made.generation = rebuild_views(settings)
    made.seconds = time.monotonic() - begun
    return made


def commit_cursors(settings: Settings, connection: sa.Connection, workers: Iterable[Reader]) -> None:
    """Set the groups' committed offsets to the cursors: workers compare the two when they start (docs/decisions/0051).

    No worker may run.

    Raises:
        kafka.errors.KafkaError: the broker is away, or a group has members.
    """
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    admin: Any = kafka_links.admin(settings, client_id="goodfaith-restore")
    try:
        for worker in workers:
            table = worker.tables
            rows = connection.exec_driver_sql(
                f"select c.topic, c.partition, c.next_offset, p.seq, p.hash from {table}cursors c join {table}partitions p using (partition)"
            )
            reads = {topic.name for topic in worker.reads}
            offsets = {
                TopicPartition(settings.topic_prefix + topic, partition): OffsetAndMetadata(
                    offset, seen.metadata(seq, hash_), -1
                )
                for topic, partition, offset, seq, hash_ in rows
                if topic in reads
            }
            group = settings.topic_prefix + worker.name
            ours = {settings.topic_prefix + name for name in reads}
            committed = admin.list_group_offsets([group])[group]
            # partitions that the database does not know: it went back to before their first record was read
            unknown = [at for at in committed if at.topic in ours and at not in offsets]
            found = admin.delete_group_offsets(group, unknown) if unknown else {}
            if offsets:
                found |= admin.alter_group_offsets(group, offsets)
            for error in found.values():
                if error is not NoError:
                    raise error(f"committing the offsets of {worker.name}")
    finally:
        admin.close()


def _writes(log: Reader, topic: topics.Topic | None) -> bool:
    return topic is not None and (log.schema in topic.writer.split(", ") or topic is topics.DEAD_LETTERS)


def _unread(
    connection: sa.Connection,
    logs: Iterable[Reader],
    topic: topics.Topic,
    full: str,
    partition: int,
    gaps: Sequence[Gap],
) -> Iterable[tuple[str, str, float]]:
    """(key, payload, wall time in seconds) of all rows that one of the readers has not read, in the logs' order."""
    for log in (log for log in logs if _writes(log, topic)):
        table = log.tables
        have: dict[int, int] = {}
        for gap in gaps:
            values = {"topic": full, "target": partition, "writer": log.name, "name": topic.name}
            read = _READ_BY_ID if topic.writer in assignment.OUTSIDE else _READ
            statement = read.format(reader=gap.reader.tables, log=table)
            rows = connection.exec_driver_sql(statement, values)
            for source, number in rows:
                # a compacted topic must have each key's last record, even if everyone has read it
                have[source] = 0 if topic.compacted else min(have.get(source, number), number)
        for key, payload, wall in connection.exec_driver_sql(
            _UNREAD.format(log=table), (list(have), list(have.values()), full, partition)
        ):
            yield key, payload, wall.timestamp()


def of_all(gaps: Sequence[Gap], readers_: Iterable[Reader]) -> list[Gap]:
    """A partition's gaps, and one for each other reader of the topic: all of them continue at the same offset."""
    first = gaps[0]
    have = {gap.reader.name for gap in gaps}
    others = (one for one in readers_ if one.name not in have and first.topic in {topic.name for topic in one.reads})
    return [*gaps, *(replace(first, reader=one) for one in others)]


def _begin(settings: Settings, topic: topics.Topic, partition: int) -> int:
    """Write an empty record to a partition that never had one, so that it can be deleted. Returns the next offset."""
    if topic.compacted:
        return 0
    producer: Any = kafka_links.producer(settings, acks="all", allow_auto_create_topics=False)
    try:
        written = producer.send(settings.topic_prefix + topic.name, None, b"", partition=partition).get(timeout=60)
    finally:
        producer.close(timeout=30)
    return int(written.offset) + 1


def _cut(settings: Settings, topic: topics.Topic, partition: int, upto: int) -> None:
    """Delete what a partition held before it was filled. A broker cannot delete by offset from a compacted topic."""
    from kafka import TopicPartition

    if topic.compacted:
        return
    admin: Any = kafka_links.admin(settings, client_id="goodfaith-restore")
    try:
        admin.delete_records({TopicPartition(settings.topic_prefix + topic.name, partition): upto}, timeout_ms=30_000)
    finally:
        admin.close()


def _write(settings: Settings, topic: topics.Topic, partition: int, rows: Sequence[tuple[str, str, float]]) -> int:
    from services.ops.restore.common import producing

    # with their original time, unless retention would then delete them before they are read
    kept_ms = topic.kept_ms(settings)
    oldest = 0 if kept_ms < 0 else int(time.time() * 1000) - kept_ms + ALONE_MS
    with producing(settings) as send:
        for key, payload, wall in rows:
            send(settings.topic_prefix + topic.name, key, payload, partition, max(int(wall * 1000), oldest))
    return len(rows)


def _go_on(engine: sa.Engine, gaps: Sequence[Gap], offsets: Mapping[Gap, int]) -> None:
    with engine.begin() as connection:
        for gap in gaps:
            table = gap.reader.tables
            connection.exec_driver_sql(
                f"insert into {table}cursors (topic, partition, next_offset) values (%s, %s, %s)"
                " on conflict (topic, partition) do update set next_offset = excluded.next_offset, leader_epoch = null",
                (gap.topic, gap.partition, offsets[gap]),
            )
            connection.exec_driver_sql(
                f"delete from {table}gaps where topic = %s and partition = %s", (gap.topic, gap.partition)
            )


def _know(engine: sa.Engine, gaps: Iterable[Gap], ids: Mapping[str, str]) -> None:
    with engine.begin() as connection:
        for reader, topic in {(gap.reader, gap.topic) for gap in gaps if gap.recreated}:
            connection.exec_driver_sql(
                f"update {reader.tables}topic_ids set id = %s where topic = %s", (ids[topic], topic)
            )
