"""Records that were deleted before a worker read them: the partition is not read on, and nothing in hand is forgotten."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from shared import events, metrics, topics
from shared.runtime.positions import Place
from shared.runtime.reader import Reader
from shared.settings import Settings
from tests.integration.echo import Echo

NAME = topics.INTAKE.name
P0, P1 = TopicPartition(NAME, 0), TopicPartition(NAME, 1)
WHEN = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


class Record(NamedTuple):
    offset: int
    value: bytes
    partition: int = 0
    timestamp: int = 1_000
    key: bytes | None = None
    headers: tuple[()] = ()
    leader_epoch: int = 0


class Cluster:
    id = "first"

    def topic_id(self, _name: str) -> str:
        return self.id


class Consumer:
    """Answers polls from a list; an error is raised."""

    def __init__(self, *polls: Any) -> None:
        self._cluster = Cluster()
        self._polls = list(polls)
        self.paused: set[TopicPartition] = set()

    def poll(self, **_: Any) -> Any:
        found = self._polls.pop(0) if self._polls else {}
        if isinstance(found, Exception):
            raise found
        return found

    def pause(self, *places: TopicPartition) -> None:
        self.paused.update(places)


def mark(offset: int) -> Record:
    raw = events.encode(
        events.Watermark(upto=WHEN),
        id=f"w.{offset}",
        source="/t",
        type="goodfaith.watermark.v1",
        subject=None,
        time=WHEN,
        key=None,
    )
    return Record(offset, raw)


def made(*polls: Any) -> tuple[Reader, Consumer]:
    settings = Settings(partitions=2, database="postgresql://nobody@127.0.0.1/none")  # type: ignore[call-arg, arg-type, unused-ignore]
    reader, consumer = Reader(Echo("none"), settings, None), Consumer(*polls)
    reader.begin_session(consumer)
    reader._positions.begin({(NAME, 0): 5, (NAME, 1): 7}, 100.0)
    return reader, consumer


def cursors(reader: Reader, gather_s: float = 1.0) -> dict[Place, int]:
    """Where a poll ends that gathers for longer than one fetch."""
    return reader.poll(0, room=100, gather_s=gather_s, interrupted=lambda: False).cursors


def shown() -> float:
    return metrics.UNREAD_GONE.labels("echo", NAME)._value.get()


def test_what_was_fetched_before_is_kept_and_the_partition_is_not_read_on() -> None:
    reader, consumer = made({P0: [mark(5)]}, OffsetOutOfRangeError({P1: 7}), {P0: [mark(6)]})
    assert cursors(reader) == {(NAME, 0): 6}
    assert consumer.paused == {P1}
    assert shown() == 1
    assert cursors(reader) == {(NAME, 0): 7}, "the others are read on"


def test_its_age_grows_however_its_end_moves() -> None:
    reader, _ = made(OffsetOutOfRangeError({P1: 7}))
    cursors(reader)
    reader._positions.ends([((NAME, 0), 5), ((NAME, 1), 0)], 300.0)
    assert reader._positions.least() == {NAME: 100.0}


def test_a_truncated_log_is_a_gap_and_not_a_failure_of_the_broker() -> None:
    reader, consumer = made({P0: [mark(5)]}, LogTruncationError({P1: OffsetAndMetadata(2, "", 1)}), {P0: [mark(6)]})
    reader.cursors = {(NAME, 1): 7}
    assert cursors(reader) == {(NAME, 0): 6}
    assert (consumer.paused, shown()) == ({P1}, 1)
    assert reader.unsaved == {(NAME, 1): (7, "truncated", "")}
    assert cursors(reader) == {(NAME, 0): 7}, "the others are read on"


def test_another_topic_of_the_name_is_noticed_once() -> None:
    reader, consumer = made()
    reader._decoder.topic_ids = reader.current_ids()
    assert not reader.was_recreated([0, 1])
    consumer._cluster.id = "second"
    assert reader.was_recreated([0, 1])
    reader.stop({(NAME, 0), (NAME, 1)}, "recreated")
    assert not reader.was_recreated([0, 1]), "until its partitions are claimed again"
    assert consumer.paused == {P0, P1}
    assert shown() == 2
