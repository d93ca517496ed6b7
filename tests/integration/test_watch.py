"""The process `watch` on a real broker and a real database: lag from outside, and one of them away."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import OffsetAndMetadata
from prometheus_client import REGISTRY

from deploy.local.stack import Stack
from services.observer import watch
from services.observer.watch import Broker, Database
from shared import metrics, topics
from shared.settings import Settings
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
NOWHERE = "127.0.0.1:1"


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"goodfaith_{name}", labels)


def lag(group: str, topic: str = "intake.events", partition: int = 0) -> tuple[float | None, float | None]:
    """Records and seconds."""
    labels = {"group": group, "topic": topic, "partition": str(partition)}
    return shown("consumer_lag_records", **labels), shown("consumer_lag_seconds", **labels)


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Iterator[Settings]:
    """Topics and a database of its own, with the cursors of one reader."""
    name = f"watch{secrets.token_hex(4)}"
    made = sa.create_engine(
        stack.admin_url.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT"
    )
    with made.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    made.dispose()
    url = sa.make_url(stack.admin_url).set(database=name).render_as_string(hide_password=False)
    settings = Settings(kafka=stack.kafka, database=url, topic_prefix=f"{name}.", partitions=2, watch_s=0.2)  # type: ignore[call-arg, arg-type, unused-ignore]
    topics.create(settings)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "create schema verification; create table verification.cursors (topic text, partition int, next_offset bigint);"
            "insert into verification.cursors values ('intake.events', 0, 1)"
        )
    connection.close()
    yield settings
    metrics.load()


def test_lag_is_measured_where_a_reader_has_got_to(settings: Settings) -> None:
    now = time.time()
    producer: Any = KafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    intake = settings.topic_prefix + "intake.events"
    for age in (300, 200, 100):
        producer.send(intake, value=b"x", partition=0, timestamp_ms=int((now - age) * 1000))
    producer.send(
        settings.topic_prefix + "enforcement.violations", value=b"x", partition=1, timestamp_ms=int((now - 50) * 1000)
    )
    producer.flush()
    database, broker = Database(settings), Broker(settings, lambda: database.cursors())
    broker.begin()
    assert lag("notification", "intake.accounts", 1) == (0, 0)
    database.look()
    # a broker without groups makes its topic of groups when it is first asked
    until(lambda: broker.look() or lag("verification") != (0, 0))
    assert shown("broker_up") == shown("broker_nodes") == 1
    assert shown("broker_under_replicated_partitions") == shown("broker_offline_partitions") == 0
    # by its own table this reader has read one; the other has read nothing and committed nothing
    records, seconds = lag("verification")
    assert records == 2
    assert 199 < seconds < 201 + time.time() - now
    records, seconds = lag("enforcement-ledger", "enforcement.violations", 1)
    assert records == 1
    assert 49 < seconds < 51 + time.time() - now
    assert lag("verification", partition=1) == (0, 0)
    # of streams, whose generations are groups of their own, nothing is known before there is one
    assert lag("streams") == (None, None)

    # who reads nothing ages, whatever it exports
    before = lag("verification")[1]
    broker.look()
    assert lag("verification")[1] > before  # type: ignore[operator]
    admin: Any = KafkaAdminClient(bootstrap_servers=settings.kafka)
    for group, offset in (("verification", 2), ("streams-1", 3), ("streams-2", 1)):
        admin.alter_group_offsets(
            settings.topic_prefix + group, {TopicPartition(intake, 0): OffsetAndMetadata(offset, "", -1)}
        )
    broker.look()
    records, seconds = lag("verification")
    assert records == 1
    assert 99 < seconds < 101 + time.time() - now
    # the newest generation counts
    assert lag("streams")[0] == 2
    with psycopg2.connect(settings.database.get_secret_value()) as connection, connection.cursor() as cursor:
        cursor.execute("update verification.cursors set next_offset = 3")
        connection.commit()
        # this session's transaction is the oldest that is open
        cursor.execute("select 1")
        done = time.time()
        database.look()
    connection.close()
    assert 0 < shown("database_oldest_transaction_timestamp_seconds") <= done + 1  # type: ignore[operator]
    assert shown("database_connections", state="idle_in_transaction") >= 1  # type: ignore[operator]
    assert shown("database_connections_max") > 10  # type: ignore[operator]
    assert shown("database_size_bytes") > 1e6  # type: ignore[operator]
    # a commit that was lost with its worker is no lag: the tables know
    broker.look()
    assert lag("verification") == (0, 0)
    admin.close()
    producer.close()
    broker.close()


@pytest.mark.parametrize("away", ["broker", "database"])
def test_either_is_watched_while_the_other_is_away(
    settings: Settings, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TIMEOUT_MS", 300)
    gone = {"kafka": NOWHERE} if away == "broker" else {"database": f"postgresql://x:y@{NOWHERE}/z"}
    settings = Settings(**{**settings.model_dump(), **gone})
    watch.BROKER_UP.set(-1)
    watch.DATABASE_UP.set(-1)
    database = Database(settings)
    parts = (database, Broker(settings, database.cursors))
    stop = threading.Event()
    threads = [threading.Thread(target=watch.keep_looking, args=(part, 0.2, stop)) for part in parts]
    for thread in threads:
        thread.start()
    try:
        until(lambda: shown("broker_up") == (away != "broker") and shown("database_up") == (away != "database"))
        before = shown("watch_last_success_timestamp_seconds", part="database" if away == "broker" else "broker")
        until(
            lambda: (
                (shown("watch_last_success_timestamp_seconds", part="database" if away == "broker" else "broker") or 0)
                > (before or 0)
            )
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
