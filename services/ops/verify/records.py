"""Reads the topics for `goodfaith verify`, and what workers have committed at the broker, as lines for COPY."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import multiprocessing
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

import msgspec
from kafka import TopicPartition
from msgspec import Struct

from services.ops.idle import readers
from shared import kafka_links
from shared.events import Watermark
from shared.settings import Settings

WATERMARK: Final = "watermark."
"""Prefix of the ids of watermarks."""
_LOCAL_RECORDS: Final = 30_000
"""Up to this many records, a thread reads the topics: starting processes would take longer."""
_HEAD: Final = b'{"specversion":"1.0","id":"'
_CLOSE_S: Final = 10.0
_CLOSE: Final = dt.timedelta(minutes=1)
"""Watermarks within this much wall time and business time are merged, as if the last of them had come first."""


class _Id(Struct):
    id: str


class _Mark(Struct):
    data: Watermark


_id = msgspec.json.Decoder(_Id)
_mark = msgspec.json.Decoder(_Mark)


class TopicLines(NamedTuple):
    """Lines for the tables of these names."""

    v_rec: str
    v_mark: str
    v_asked: str


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """A partition of a topic, from its first offset to just before its next one."""

    topic: str
    partition: int
    first: int
    next: int


def copy_text(value: object) -> str:
    """A value in COPY's text format. Strings must not need escapes."""
    if value is None:
        return "\\N"
    if value is True:
        return "t"
    if value is False:
        return "f"
    return str(value)


def identify(value: bytes) -> str | None:
    """The id of a record, escaped for COPY; None if it has none."""
    if value.startswith(_HEAD):
        raw = value[len(_HEAD) : value.find(b'"', len(_HEAD))]
        if raw.isascii() and b"\\" not in raw:
            return raw.decode()
    try:
        text = _id.decode(value).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for mark, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "")):
        text = text.replace(mark, escaped)
    return text


class Watermarks:
    """The watermarks of one partition, merged where they follow closely upon one another."""

    def __init__(self) -> None:
        self.found: list[tuple[int, dt.datetime, float]] = []
        self._first: dt.datetime | None = None

    def add(self, offset: int, upto: dt.datetime, wall: float) -> None:
        """Add a watermark, in order of offset. ``wall``: the record's time, in seconds since 1970."""
        if self._first is not None and self.found:
            begun, _, since = self.found[-1]
            if abs(wall - since) <= _CLOSE_S and dt.timedelta() <= upto - self._first <= _CLOSE:
                self.found[-1] = (begun, upto, since)
                return
        self._first = upto
        self.found.append((offset, upto, wall))

    def cut(self) -> None:
        """Another record follows: merge no further watermark with the last one."""
        self._first = None

    def lines(self, partition: int) -> Iterator[str]:
        """Lines for ``v_mark``."""
        for offset, upto, wall in self.found:
            moment = dt.datetime.fromtimestamp(wall, dt.UTC)
            yield f"{partition}\t{offset}\t{upto.isoformat()}\t{moment.isoformat()}\n"


def line(topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> str | None:
    """A record as a line for ``v_rec``; None for a watermark or a tombstone."""
    if value is None:
        return None
    name = identify(value)
    if name is not None and name.startswith(WATERMARK):
        return None
    digest = hashlib.md5((key or b"") + b" " + value, usedforsecurity=False).hexdigest()
    return f"{topic}\t{partition}\t{offset}\t{copy_text(name)}\t{digest}\n"


def committed(settings: Settings) -> str:
    """The offsets that each kind of worker has committed at the broker, as lines for ``v_group``.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    prefix = settings.topic_prefix
    asked = {
        prefix + reader.name: [
            TopicPartition(prefix + topic.name, partition)
            for topic in reader.reads
            for partition in range(settings.partitions)
        ]
        for reader in readers(settings)
    }
    admin: Any = kafka_links.admin(settings, client_id="goodfaith-verify")
    try:
        answers = admin.list_group_offsets(asked)
    finally:
        admin.close()
    return "".join(
        f"{group.removeprefix(prefix)}\t{at.topic.removeprefix(prefix)}\t{at.partition}\t{position.offset}"
        f"\t{log_head(position.metadata)}\n"
        for group, positions in answers.items()
        for at, position in positions.items()
        if position is not None and position.offset >= 0
    )


def log_head(metadata: str | None) -> str:
    """The head of its log that a worker commits with its offset: the last row's number, and the start of its hash."""
    said = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{16})", metadata or "")
    return f"{said[1]}\t{said[2]}" if said else "\\N\t\\N"


def read(settings: Settings, ranges: Sequence[PartitionRange], upstreams: Sequence[str] = ()) -> TopicLines:
    """Read all records of some partitions.

    Args:
        upstreams: topics that others write.
    """
    consumer: Any = kafka_links.consumer(
        settings,
        enable_auto_commit=False,
        check_crcs=False,
        max_poll_records=10_000,
        max_partition_fetch_bytes=4_000_000,
        allow_auto_create_topics=False,
    )
    out: list[str] = []
    asked: list[str] = []
    marks: dict[TopicPartition, Watermarks] = {}
    try:
        left = {TopicPartition(one.topic, one.partition): one.next for one in ranges}
        consumer.assign(list(left))
        for one in ranges:
            consumer.seek(TopicPartition(one.topic, one.partition), one.first)
        while left:
            for at, records in consumer.poll(timeout_ms=500).items():
                topic, partition = at.topic, at.partition
                if topic in upstreams:
                    asked += [
                        f"{topic}\t{partition}\t{record.offset}\t{copy_text(identify(record.value or b''))}\n"
                        for record in records
                    ]
                    continue
                seen = marks.setdefault(at, Watermarks())
                for record in records:
                    text = line(topic, partition, record.offset, record.key, record.value)
                    if text is not None:
                        out.append(text)
                        seen.cut()
                    elif record.value is not None:
                        seen.add(record.offset, _mark.decode(record.value).data.upto, record.timestamp / 1000)
            done = [at for at, end in left.items() if consumer.position(at) >= end]
            for at in done:
                del left[at]
                consumer.pause(at)
    finally:
        consumer.close()
    found = "".join(text for at, some in marks.items() for text in some.lines(at.partition))
    return TopicLines("".join(out), found, "".join(asked))


class Reading:
    """Reads topics in the background, from their beginning to their present end."""

    def __init__(self, settings: Settings, names: Sequence[str], upstreams: Sequence[str] = ()) -> None:
        """
        Args:
            names: topics that only our logs write.
            upstreams: topics that others write.
        """
        consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
        try:
            there = consumer.topics()
            wanted = [name for name in (*names, *upstreams) if name in there]
            partitions = [TopicPartition(name, p) for name in wanted for p in range(settings.partitions)]
            firsts, nexts = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        finally:
            consumer.close()
        self.ranges = [PartitionRange(at.topic, at.partition, firsts[at], nexts[at]) for at in partitions]
        self._spools: dict[str, IO[str]] = {
            table: tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
            for table in TopicLines._fields
        }
        self._lock = threading.Lock()
        full = [one for one in self.ranges if one.next > one.first]
        total = sum(one.next - one.first for one in full)
        self._executor: Executor
        if total <= _LOCAL_RECORDS:
            self._executor = ThreadPoolExecutor(1)
            tasks = [full] if full else []
        else:
            workers = max(os.cpu_count() or 1, 2)
            self._executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
            tasks = split(full, max(total // (workers * 8), 1_000))
        self._futures: list[Future[TopicLines]] = []
        for task in tasks:
            future = self._executor.submit(read, settings, task, tuple(upstreams))
            future.add_done_callback(self._keep)
            self._futures.append(future)

    def _keep(self, future: Future[TopicLines]) -> None:
        """Move a finished part out of memory, to disk."""
        if not future.cancelled() and future.exception() is None:
            with self._lock:
                for table, lines in future.result()._asdict().items():
                    self._spools[table].write(lines)
            future._result = None

    def into(self, copy: Callable[[str, IO[Any]], None]) -> None:
        """Wait until everything is read, and load it with ``copy``, which takes a table's name and its lines."""
        for future in self._futures:
            future.result()
        self._executor.shutdown()  # waits for the last callback too
        for table, spool in self._spools.items():
            spool.seek(0)
            copy(table, spool)
        copy("v_ends", self.ends())

    def ends(self) -> IO[str]:
        """Lines for ``v_ends``."""
        return io.StringIO("".join(f"{p.topic}\t{p.partition}\t{p.first}\t{p.next}\n" for p in self.ranges))

    def close(self) -> None:
        """Stop reading, and close the files."""
        self._executor.shutdown(cancel_futures=True)
        for spool in self._spools.values():
            spool.close()


def split(ranges: Sequence[PartitionRange], size: int) -> list[list[PartitionRange]]:
    """Group partitions by about ``size`` records, the largest first."""
    groups: list[list[PartitionRange]] = []
    count = size
    for one in sorted(ranges, key=lambda one: one.first - one.next):
        if count >= size:
            groups.append([])
            count = 0
        groups[-1].append(one)
        count += one.next - one.first
    return groups
