"""The changelog of the tables: one atomic batch for each step, and a watch over who else writes.

Faust hands each write to a producer and forgets it (``send_soon``), and writes it into RocksDB at once. Then a table may be ahead of its
changelog, a repeat of the event tells nothing new, and nobody else ever learns of it. Here it is the other way round: a batch is
acknowledged first, and only then is it in the table.

A worker that slept through its session may still write when it wakes. Since a partition of the changelog has one writer and no
transactions, the offsets that a writer is given have no gaps; a gap says that somebody else wrote. Then the group decides
which of the two is the owner (``Foreign``), and the owner writes what stands again (``worker.py``).
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
from shared.settings import Settings

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 900_000
"""Bytes of one batch; the broker's own limit (``message.max.bytes``) is 1,048,588."""


class Foreign(Exception):
    """Somebody else has written to the partition: ``first`` to ``last`` (exclusive) are not ours."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"offsets {first} to {last}")
        self.first = first
        self.last = last


class GivenUp(Exception):
    """The partition is not ours any more; a part may have been written."""


class Changelog:
    """Writes a changelog.

    Args:
        topic: its name.
        settings: where the broker is, and the longest pause between tries while it does not take a batch.
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
        """By partition, the offset that our next record is to get."""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Let go of the broker."""
        await self._producer.stop()

    async def write(self, partition: int, rows: Sequence[Row], going_on: Callable[[], bool]) -> int:
        """Write rows, the last one last, and wait until the broker has them; returns the offset of the last one.

        They are one atomic batch as long as they are no longer than ``BATCH_MAX``; else several, in order.

        Args:
            going_on: asked before each try; the write is given up when it says no.

        Raises:
            Foreign: written, but somebody else has written before.
            GivenUp: it said no.
        """
        foreign: Foreign | None = None
        for batch in self._batches(rows):
            base = await self._send(partition, batch, going_on)
            expected = self.ends[partition]
            self.ends[partition] = base + len(batch)
            if base != expected:
                foreign = Foreign(expected if foreign is None else foreign.first, base)
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
                raise GivenUp
            try:
                builder = self._producer.create_batch()
                for key, value in batch:
                    if builder.append(timestamp=None, key=key, value=value) is None:
                        raise ValueError(f"a row of {len(key) + len(value or b'')} bytes does not fit into a batch")
                sent = await (await self._producer.send_batch(builder, self.topic, partition=partition))
                return int(sent.offset)
            except KafkaError as error:
                failures += 1
                pause = min(self._retry_max_s, 0.05 * 2 ** min(failures, 12))
                log.warning("changelog", partition=partition, error=type(error).__name__, pause_s=pause)
                await asyncio.sleep(pause)

    async def read(self, partition: int, first: int, last: int) -> list[Row]:
        """The records from ``first`` up to ``last`` (exclusive).

        Raises:
            KafkaError: the broker cannot be reached.
        """
        consumer: Any = kafka_links.aio_consumer(self._settings, enable_auto_commit=False)
        place = TopicPartition(self.topic, partition)
        await consumer.start()
        try:
            consumer.assign([place])
            consumer.seek(place, first)
            rows: list[Row] = []
            while await consumer.position(place) < last:
                found = (await consumer.getmany(place, timeout_ms=1000)).get(place, ())
                rows += [(record.key, record.value) for record in found if record.offset < last]
            return rows
        finally:
            await consumer.stop()
