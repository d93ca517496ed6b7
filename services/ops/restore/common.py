"""What `restore topics` and `restore unread` share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import sqlalchemy as sa

from shared import kafka_links
from shared.settings import Settings

CHUNK: Final = 5_000
LEAVING_S: Final = 10.0
"""Wall seconds in which the database notices that a killed process is gone."""
_CONNECTED: Final = """
    select distinct application_name from pg_stat_activity where usename like 'goodfaith\\_%%' and backend_type = 'client backend'
    order by 1 limit 10"""


def none_connected(engine: sa.Engine) -> None:
    """Wait until no process is connected to the database. A process that starts later goes unnoticed.

    Raises:
        CommandError: one still is after ``LEAVING_S`` seconds.
    """
    from shared.failures import CommandError

    until = time.monotonic() + LEAVING_S
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connected := list(connection.exec_driver_sql(_CONNECTED).scalars()):
            if time.monotonic() > until:
                raise CommandError(f"stop all processes first; connected are {', '.join(connected)}")
            time.sleep(0.2)


def rebuild_views(settings: Settings) -> int:
    """Rebuild the stream views from the logs, as a new generation. Returns its number; 0: there were no views.

    The old generation's positions are those of topics that no longer exist. The new topics hold only what retention
    leaves; the views know more.
    """
    from services.ops.streams import Source, rebuild_from
    from services.streams import generations

    if not generations.newest(settings):
        return 0
    number, _ = rebuild_from(settings, Source.LOGS)
    generations.tidy(settings, number)
    return number


@contextlib.contextmanager
def producing(settings: Settings) -> Iterator[Callable[[str, str, str, int, int], None]]:
    """Yield a function that sends a row of a log: topic, key, payload, partition, time in ms. Exiting waits for all.

    Raises:
        kafka.errors.KafkaError: the broker did not accept one.
    """
    from shared import tracing
    from shared.runtime.publisher import HEADERS

    producer: Any = kafka_links.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        batch_size=262_144,
        linger_ms=5,
        delivery_timeout_ms=300_000,
        max_block_ms=60_000,
        allow_auto_create_topics=False,
    )
    waiting: list[Any] = []

    def send(topic: str, key: str, payload: str, partition: int, at_ms: int) -> None:
        trace = tracing.of_payload(payload)
        headers = HEADERS if trace is None else [*HEADERS, (tracing.HEADER, trace.encode())]
        waiting.append(
            producer.send(topic, payload.encode(), key.encode(), headers, partition=partition, timestamp_ms=at_ms)
        )
        if len(waiting) >= CHUNK:
            _acknowledged(waiting)

    try:
        yield send
        _acknowledged(waiting)
    finally:
        producer.close(timeout=30)


def _acknowledged(futures: list[Any]) -> None:
    for future in futures:
        future.get(timeout=300)
    futures.clear()
