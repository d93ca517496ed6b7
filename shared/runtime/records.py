"""Records as they come from the topics: decoded, checked for gaps and duplicates, or kept as unreadable."""

from __future__ import annotations

import base64
import datetime as dt
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared import metrics
from shared.events import Data, Envelope, NewerVersion, Watermark, decode_data, decode_envelope, is_ours
from shared.runtime.assignment import OUTSIDE
from shared.runtime.links import Link, Links, place_of
from shared.runtime.positions import Place
from shared.runtime.types import Incoming
from shared.topics import Topic, partition_of
from shared.tracing import Tracing


@dataclass(slots=True)
class Unreadable:
    """A record that cannot be decoded; ``after`` readable records of its poll came before it."""

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


@dataclass(slots=True)
class Polled:
    """One poll's records and where they end."""

    records: list[Incoming] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    marks: dict[int, dt.datetime] = field(default_factory=dict)
    cursors: dict[Place, int] = field(default_factory=dict)
    # leader epoch of the last record
    leader_epochs: dict[Place, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    # wall times at which records were written: the last by topic and partition, the oldest by topic
    stamps: dict[Place, float] = field(default_factory=dict)
    oldest: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.cursors)

    def arrivals(self) -> Iterator[Incoming | Unreadable]:
        """All records, including unreadable ones, in the order of arrival."""
        unreadable = deque(self.unreadable)
        for place, record in enumerate(self.records):
            while unreadable and unreadable[0].after <= place:
                yield unreadable.popleft()
            yield record
        yield from unreadable

    def last_numbers(self) -> dict[Link, int]:
        """Number of the last event, applied or set aside, by log."""
        numbers: dict[Link, int] = {}
        read: list[Incoming | Unreadable] = [*self.records, *self.unreadable]
        for one in read:
            if one.link is not None:
                numbers[one.link] = max(one.seq, numbers.get(one.link, 0))
        return numbers


class Decoder:
    """Turns a consumer's records into what the worker applies.

    Args:
        worker: the worker's name, for metrics.
        raw: leave records undecoded (``Service.raw``).
        partitions: number of partitions, to check the keys of records from outside.
        links: which of our events were applied; each event taken counts as applied.

    Attributes:
        topic_ids: ids of the topics that the cursors are valid for.
    """

    def __init__(self, worker: str, *, raw: bool, partitions: int, links: Links, tracing: Tracing | None) -> None:
        self._worker = worker
        self._raw = raw
        self._partitions = partitions
        self._links = links
        self._tracing = tracing
        self.topic_ids: dict[str, str] = {}

    def add(self, topic: Topic, record: Any, polled: Polled) -> None:
        """Add one record to the poll, unless it is a duplicate or of a type that this worker does not know.

        Raises:
            Gap: events of ours before it are missing.
        """
        outside = topic.writer in OUTSIDE
        raw: bytes | None = record.value
        # the key goes into the database, which does not accept NUL
        key = (record.key or b"").decode("utf-8", "replace").replace("\0", "�")
        if self._raw:
            polled.records.append(self._undecoded(topic, record))
            return
        if raw is None:
            metrics.EVENTS_CONSUMED.labels(self._worker, topic.name, "skipped").inc()
            return
        event_id: str | None = None
        link: Link | None = None
        seq = 0
        try:
            envelope = decode_envelope(raw)
            if not envelope.id.isascii() or not envelope.id.isprintable():
                raise ValueError(f"id: {envelope.id[:80]!r} is not printable ASCII")
            if not outside and (place := place_of(envelope.id)) is not None:
                if envelope.previous is None:
                    raise ValueError("previous: missing")
                writer, log_partition, seq = place
                link = Link(topic.name, record.partition, writer, log_partition)
                event_id = envelope.id
                if not self._links.take(link, seq, envelope.previous):
                    metrics.EVENTS_DUPLICATE.labels(self._worker, topic.name).inc()
                    return
            data = decode_known(envelope, outside=outside)
            if data is not None and outside and partition_of(key, self._partitions) != record.partition:
                raise ValueError(
                    f"key {key[:80]!r} does not belong to partition {record.partition}: use the default partitioner"
                )
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            polled.unreadable.append(
                Unreadable(
                    topic.name,
                    record.partition,
                    record.offset,
                    key,
                    raw,
                    _as_text(record.headers),
                    f"{type(error).__name__}: {error}",
                    outside,
                    len(polled.records),
                    event_id,
                    link,
                    seq,
                )
            )
            return
        if data is None:
            metrics.EVENTS_CONSUMED.labels(self._worker, topic.name, "skipped").inc()
            return
        if isinstance(data, Watermark):
            known = polled.marks.get(record.partition)
            if known is None or data.upto > known:
                polled.marks[record.partition] = data.upto
            return
        incoming = Incoming(
            topic.name,
            record.partition,
            record.offset,
            key,
            envelope.id,
            envelope.type,
            data,
            envelope,
            _written_at(record),
            raw,
            link=link,
            seq=seq,
        )
        if self._tracing is not None and record.headers:
            incoming.traced, incoming.parent = self._tracing.of_record(record.headers, outside=outside, answer=True)
        polled.records.append(incoming)

    def _undecoded(self, topic: Topic, record: Any) -> Incoming:
        # with the topic's id, because a topic that is created again starts at offset 0 again
        id_ = f"{topic.name}.{self.topic_ids[topic.name]}.{record.partition}.{record.offset}"
        incoming = Incoming(
            topic.name,
            record.partition,
            record.offset,
            f"@{id_}",
            id_,
            "",
            Data(),
            None,
            _written_at(record),
            record.value or b"",
        )
        if self._tracing is not None:
            incoming.traced, incoming.parent = self._tracing.of_record(record.headers or (), outside=True)
        return incoming


def decode_known(envelope: Envelope, *, outside: bool) -> Data | None:
    """An event's data; None for an unknown type that is foreign or came from outside.

    Raises:
        NewerVersion: only a newer version of this software knows it.
        msgspec.ValidationError: the data do not fit the type.
    """
    data = decode_data(envelope)
    if data is None and not outside and is_ours(envelope.type):
        raise NewerVersion(envelope.type)
    return data


def _written_at(record: Any) -> dt.datetime:
    return dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC)


def _as_text(headers: Any) -> str:
    pairs = [(name, base64.b64encode(value or b"").decode()) for name, value in headers or ()]
    return msgspec.json.encode(pairs).decode()
