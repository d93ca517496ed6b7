"""Writes the tables' changelog, one atomic batch per step, and detects writes by other workers.

Faust itself hands each write to a producer without waiting (``send_soon``) and writes to RocksDB at once. A table may
then be ahead of its changelog; a repeat of the event changes nothing, so the change never reaches the changelog. Here
the order is reversed: a batch goes into the table only after the brokers have acknowledged it.

A worker that slept through its session may still write when it wakes. A partition of the changelog has one writer and
no transactions, so the offsets that a writer gets have no gaps; a gap means that somebody else wrote (``ForeignWrite``).
Then the group decides which of the two is the owner, and the owner writes the current values again (``worker.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.streams.tables import Row
from shared import kafka_links
from shared.backoff import pause_s
from shared.settings import Settings

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 900_000
"""Bytes of one batch; the broker's own limit (``message.max.bytes``) is 1,048,588."""


class ForeignWrite(Exception):
    """Another worker has written to the partition: offsets ``first`` to ``last`` (exclusive) are not ours."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"offsets {first} to {last}")
        self.first = first
        self.last = last


class WriteAbandoned(Exception):
    """The partition is no longer ours; some of the rows may have been written."""


class Changelog:
    """Writes a changelog.

    Args:
        topic: its name.
        settings: the broker, and the longest pause between tries while it does not accept a batch.
    """

    def __init__(self, topic: str, settings: Settings, client: str) -> None:
        self.topic = topic
        self._settings = settings
        self._retry_max_s = settings.retry_max_s
        self._producer: Any = kafka_links.aio_producer(
            settings,
            client_id=client,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_MAX,
            request_timeout_ms=10_000,
        )
        self.ends: dict[int, int] = {}
        """By partition, the offset expected for our next record."""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def write(self, partition: int, rows: Sequence[Row], going_on: Callable[[], bool]) -> int:
        """Write rows in order and wait until the broker has them; returns the offset of the last one.

        Up to ``BATCH_MAX`` bytes they form one atomic batch; larger ones are split into several, in order.

        Args:
            going_on: called before each try; if it returns False, the write is abandoned.

        Raises:
            ForeignWrite: the rows are written, but another worker wrote before them.
            WriteAbandoned: ``going_on`` returned False.
        """
        foreign: ForeignWrite | None = None
        for batch in self._batches(rows):
            base = await self._send(partition, batch, going_on)
            expected = self.ends[partition]
            self.ends[partition] = base + len(batch)
            if base != expected:
                foreign = ForeignWrite(expected if foreign is None else foreign.first, base)
        if foreign is not None:
            raise foreign
        return self.ends[partition] - 1

    @staticmethod
    def _batches(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
        begin = size = 0
        for index, (key, value) in enumerate(rows):
            length = len(key) + len(value or b"") + 40
            if size + length > BATCH_MAX - 200 and index > begin:
                yield rows[begin:index]
                begin, size = index, 0
            size += length
        yield rows[begin:]

    async def _send(self, partition: int, batch: Sequence[Row], going_on: Callable[[], bool]) -> int:
        failures = 0
        while True:
            if not going_on():
                raise WriteAbandoned
            try:
                builder = self._producer.create_batch()
                for key, value in batch:
                    if builder.append(timestamp=None, key=key, value=value) is None:
                        raise ValueError(f"a row of {len(key) + len(value or b'')} bytes does not fit into a batch")
                sent = await (await self._producer.send_batch(builder, self.topic, partition=partition))
                return int(sent.offset)
            except KafkaError as error:
                failures += 1
                pause = pause_s(failures, self._retry_max_s, 0.05)
                log.warning(
                    "changelog write failed", partition=partition, error=type(error).__name__, pause_s=round(pause, 3)
                )
                await asyncio.sleep(pause)

    async def read(self, partition: int, first: int, last: int) -> list[Row]:
        """The records from ``first`` up to ``last`` (exclusive).

        Raises:
            KafkaError: the broker cannot be reached.
        """
        consumer: Any = kafka_links.aio_consumer(self._settings, enable_auto_commit=False)
        tp = TopicPartition(self.topic, partition)
        await consumer.start()
        try:
            consumer.assign([tp])
            consumer.seek(tp, first)
            rows: list[Row] = []
            while await consumer.position(tp) < last:
                found = (await consumer.getmany(tp, timeout_ms=1000)).get(tp, ())
                rows += [(record.key, record.value) for record in found if record.offset < last]
            return rows
        finally:
            await consumer.stop()
