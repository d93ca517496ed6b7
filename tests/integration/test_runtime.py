"""The runtime on a real broker and a real database: crashes at every step, zombies, poison, disorder (reliability.md)."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.stack import Stack
from shared import clock, db, events, topics
from shared.runtime.store import chain
from shared.settings import Settings
from tests.integration.echo import DDL
from tests.left_out import own_processes
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
PARTITIONS = 4
TABLES = ("partitions", "cursors", "inbox", "event_log", "tails", "reads", "reads_log", "echo_items")
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


class Rig:
    """One installation of the echo service: own topics, own schema, worker processes."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.name = f"echo{secrets.token_hex(5)}"
        self.stack = stack
        self.folder = folder
        self.environment = {
            **os.environ,
            "GOODFAITH_KAFKA": stack.kafka,
            "GOODFAITH_DATABASE": stack.admin_url,
            "GOODFAITH_TOPIC_PREFIX": f"{self.name}.",
            "GOODFAITH_PARTITIONS": str(PARTITIONS),
            "GOODFAITH_SESSION_TIMEOUT_MS": "2000",
            "GOODFAITH_POLL_MS": "50",
            "GOODFAITH_RETRY_MAX_S": "1",
            "GOODFAITH_BATCH_MAX_RECORDS": "50",
        }
        self.settings = Settings(
            kafka=stack.kafka, database=stack.admin_url, topic_prefix=f"{self.name}.", partitions=PARTITIONS
        )  # type: ignore[call-arg, arg-type, unused-ignore]
        topics.create(self.settings)
        self.engine = db.administer(stack.admin_url, autocommit=True, pooled=False)
        with self.engine.connect() as connection:
            connection.exec_driver_sql(clock.DDL)
            connection.exec_driver_sql(f"create schema {self.name}; set search_path = {self.name}; {DDL}")
        self.producer: Any = KafkaProducer(bootstrap_servers=stack.kafka, acks="all", linger_ms=2)
        self.processes: list[subprocess.Popen[bytes]] = []

    # ---- workers

    def start(self, crash_at: str | None = None, *, also: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a worker, which reads ``also`` too."""
        environment = dict(self.environment)
        if crash_at:
            environment["GOODFAITH_CRASH_AT"] = crash_at
        with (self.folder / f"{self.name}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.echo", self.name, *also],
                env=environment,
                stderr=log,
                stdout=log,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.producer.close()
        self.sql("delete from platform.went_back")  # it is everybody's, and others use the database too
        self.engine.dispose()

    def logs(self) -> str:
        """What the workers wrote."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"{self.name}-*.log")))

    def shown(self, number: int = -1) -> dict[tuple[str, str], float]:
        """What a worker exports, by metric and topic."""
        process = range(len(self.processes))[number]
        log = (self.folder / f"{self.name}-{process}.log").read_text()
        if (port := re.search(r'"health_port": ?(\d+)', log)) is None:
            return {}
        text = httpx.get(f"http://127.0.0.1:{port[1]}/metrics", timeout=30, trust_env=False).text
        return {
            (sample.name.removeprefix("goodfaith_"), sample.labels.get("topic", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    # ---- records

    def send(self, number: int, *, key: str | None = None, by: str = "x", id: str | None = None) -> None:
        """One ``Accept`` command."""
        key = key or f"l{number % 40}"
        data = events.Accept(
            command=f"k{number}", item=f"i{number}", claim="c", listing=key, by=by, role="seller", accepted_at=NOW
        )
        raw = events.encode(
            data,
            id=id or f"test.{number}",
            source="/test",
            type="goodfaith.command.accept.v1",
            subject=data.item,
            time=NOW,
            key=key,
        )
        self.raw(key, raw)

    def raw(self, key: str, value: bytes | None, topic: topics.Topic = topics.INTAKE) -> None:
        """Any bytes."""
        self.producer.send(
            self.settings.topic_prefix + topic.name,
            key=key.encode(),
            value=value,
            partition=topics.partition_of(key, PARTITIONS),
        )

    def mark(self, upto: dt.datetime) -> None:
        """A watermark on every partition."""
        for partition in range(PARTITIONS):
            raw = events.encode(
                events.Watermark(upto=upto),
                id=f"w{partition}{upto}",
                source="/test",
                type="goodfaith.watermark.v1",
                subject=None,
                time=upto,
                key=None,
            )
            self.producer.send(self.settings.topic_prefix + topics.INTAKE.name, value=raw, partition=partition)

    def event(
        self, seq: int, previous: int, *, key: str, writer: str = "intake", type: str = "goodfaith.command.accept.v1"
    ) -> None:
        """A linked event of the log that its key's partition is."""
        partition = topics.partition_of(key, PARTITIONS)
        data = events.Accept(
            command=f"k{seq}", item=f"i{seq}", claim="c", listing=key, by="x", role="seller", accepted_at=NOW
        )
        raw = events.encode(
            data,
            id=f"{writer}.{partition}.{seq}",
            source="/test",
            type=type,
            subject=data.item,
            time=NOW,
            key=key,
            previous=previous,
        )
        self.raw(key, raw)

    def forget_offsets(self) -> None:
        """What the group has committed is deleted; its members must be gone."""
        admin: Any = KafkaAdminClient(bootstrap_servers=self.stack.kafka)
        group = f"{self.name}.echo"
        self.until(lambda: admin.delete_groups([group])[group] == "OK")
        admin.close()

    def keep(self) -> None:
        """Remember what the database has now."""
        for table in TABLES:
            self.sql(f"drop table if exists kept_{table}; create table kept_{table} as table {table}")

    def go_back(self) -> None:
        """The database has what it had then, and nothing else."""
        self.sql(
            "begin; "
            + "; ".join(
                f"truncate {table}; insert into {table} overriding system value table kept_{table}" for table in TABLES
            )
            + "; commit; select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'echo-%%'"
        )

    # ---- looking

    def sql(self, text: str) -> list[Any]:
        """Rows of a query in the schema."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"set search_path = {self.name}")
            result = connection.exec_driver_sql(text)
            return list(result.all()) if result.returns_rows else []

    def count(self, table: str = "echo_items") -> int:
        """Rows of a table."""
        return int(self.sql(f"select count(*) from {table}")[0][0])

    def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.logs()[-6000:]
            time.sleep(0.05)

    def published(self, topic: topics.Topic = topics.VERIFICATION) -> list[Any]:
        """All records of a topic as (partition, document)."""
        consumer: Any = KafkaConsumer(bootstrap_servers=self.stack.kafka, enable_auto_commit=False)
        places = [TopicPartition(self.settings.topic_prefix + topic.name, p) for p in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=500).items():
                found.extend((place.partition, json.loads(record.value)) for record in records)
        consumer.close()
        return found

    def check(self, numbers: range | list[int]) -> int:
        """Every record applied once, in order of its key; log gapless, chained and published. Returns records sent twice."""
        items = [row[0] for row in self.sql("select item from echo_items order by n")]
        assert sorted(items) == sorted(f"i{n}" for n in numbers)
        by_key: dict[str, list[int]] = {}
        for item, listing in self.sql("select item, listing from echo_items order by n"):
            by_key.setdefault(listing, []).append(int(item[1:]))
        assert all(seen == sorted(seen) for seen in by_key.values())
        self.until(lambda: not self.sql("select 1 from partitions where seq <> published_upto"))
        logged = set()
        previous: dict[int, tuple[int, str]] = {}
        for partition, seq, payload, hash_ in self.sql(
            "select partition, seq, payload, hash from event_log order by partition, seq"
        ):
            before, last = previous.get(partition, (0, ""))
            assert seq == before + 1
            assert hash_ == chain(last, payload)
            previous[partition] = (seq, hash_)
            document = json.loads(payload)
            if document["type"] != "goodfaith.dead_letter.v1":
                logged.add(document["id"])
        on_topic = [document["id"] for _, document in self.published()]
        assert set(on_topic) == logged
        return len(on_topic) - len(set(on_topic))


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(stack, tmp_path)
    yield rig
    rig.close()


STEPS = ["after_poll", "before_commit", "after_commit", "after_produce", "before_offsets"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step_of_the_loop(rig: Rig, step: str) -> None:
    for number in range(400):
        rig.send(number)
    rig.producer.flush()
    first = rig.start(crash_at=f"echo:{step}:{3 if step != 'after_poll' else 4}")
    assert first.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    rig.start()
    rig.until(lambda: rig.count() >= 400)
    rig.check(range(400))


def test_sigterm_finishes_the_batch_and_publishes_it(rig: Rig) -> None:
    for number in range(1000):
        rig.send(number)
    rig.producer.flush()
    first = rig.start()
    rig.until(lambda: rig.count() > 50)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=PATIENCE_S) == 0
    assert not rig.sql("select 1 from partitions where seq <> published_upto"), "SIGTERM left rows unpublished"
    rig.start()
    rig.until(lambda: rig.count() >= 1000)
    assert rig.check(range(1000)) == 0, "an orderly stop sends nothing twice"


def test_a_zombie_is_fenced(rig: Rig) -> None:
    """SIGSTOP past the session timeout, another takes over, SIGCONT: nothing is done twice."""
    zombie = rig.start()
    for number in range(200):
        rig.send(number)
    rig.until(lambda: rig.count() > 0)
    zombie.send_signal(signal.SIGSTOP)
    rig.start()
    for number in range(200, 600):
        rig.send(number)
    rig.until(lambda: rig.count() >= 600)
    zombie.send_signal(signal.SIGCONT)
    for number in range(600, 1000):
        rig.send(number)
    rig.until(lambda: rig.count() >= 1000)
    rig.check(range(1000))
    assert zombie.poll() is None, "the zombie lives on as an ordinary member"


def test_workers_come_and_go_under_load(rig: Rig) -> None:
    """Rebalance storm (42): join and leave while records flow."""
    total = 3000
    sent = iter(range(total))
    rig.start()
    for turn in range(4):
        extra = rig.start()
        for _ in range(total // 8):
            rig.send(next(sent))
        time.sleep(1.0)
        extra.send_signal(signal.SIGTERM if turn % 2 else signal.SIGKILL)
        for _ in range(total // 8):
            rig.send(next(sent))
    rig.until(lambda: rig.count() >= total, 90)
    rig.check(range(total))


def test_duplicates_and_a_replay_of_the_whole_topic_change_nothing(rig: Rig) -> None:
    for number in range(200):
        for _ in range(3):
            rig.send(number)
    worker = rig.start()
    rig.until(lambda: rig.count() >= 200)
    worker.terminate()
    assert worker.wait(timeout=PATIENCE_S) == 0
    before = rig.sql("select * from echo_items order by n")
    rig.sql("update cursors set next_offset = 0")
    rig.forget_offsets()
    rig.start()
    rig.send(200)
    rig.until(lambda: rig.count() >= 201)
    rig.until(lambda: not rig.sql("select 1 from cursors where next_offset = 0"))
    assert rig.sql("select * from echo_items where item <> 'i200' order by n") == before
    rig.check(range(201))


def test_poison_blocks_its_key_and_its_timers_and_runs_again_in_order(rig: Rig) -> None:
    began = time.time()
    rig.sql("insert into echo_poison values (1)")
    partition = topics.partition_of("sick", PARTITIONS)
    rig.sql(
        f"insert into echo_timers values ({partition}, 'sick', '2026-01-01Z'), ({topics.partition_of('well', PARTITIONS)}, 'well', '2026-01-01Z')"
    )
    rig.start()
    rig.send(0, key="sick")
    rig.send(1, key="sick", by="poison")
    rig.send(2, key="sick")
    rig.send(3, key="well")
    rig.until(lambda: rig.count() >= 2 and rig.count("dead_letters") >= 2)
    rig.mark(NOW)
    rig.until(lambda: rig.sql("select 1 from echo_fired where listing = 'well'"))
    rig.send(4, key="sick")
    rig.until(lambda: rig.count("dead_letters") >= 3)
    assert not rig.sql("select 1 from echo_fired where listing = 'sick'"), "a blocked key's timers stand still"
    assert [row[0] for row in rig.sql("select item from echo_items order by n")] == ["i0", "i3"]
    letters = rig.published(topics.DEAD_LETTERS)
    assert [letter["data"]["error"] for _, letter in letters] == ["RuntimeError: poison"]

    shown = rig.shown()
    assert shown["dead_letters_depth", ""] == 1
    assert began - 1 < shown["dead_letters_oldest_timestamp_seconds", ""] < time.time()
    assert shown["outbox_oldest_timestamp_seconds", ""] == 0

    # run again while it is still poison: it stays, counted
    rig.sql("update dead_letters set state = 'replay'")
    rig.until(lambda: rig.sql("select 1 from dead_letters where count = 2 and state = 'waiting'"))
    assert rig.count() == 2
    # a restart keeps the key blocked
    rig.processes[0].kill()
    rig.start()
    rig.send(5, key="sick")
    rig.until(lambda: rig.count("dead_letters") >= 4)
    # it is as old as it was
    since = shown["dead_letters_oldest_timestamp_seconds", ""]
    assert rig.shown()["dead_letters_oldest_timestamp_seconds", ""] == pytest.approx(since, abs=1)
    # cured: all of the key, in order, and the timer fires
    rig.sql("delete from echo_poison; update dead_letters set state = 'replay'")
    rig.until(lambda: rig.count() >= 6)
    rig.until(lambda: rig.sql("select 1 from echo_fired where listing = 'sick'"))
    assert [row[0] for row in rig.sql("select item from echo_items where listing = 'sick' order by n")] == [
        "i0",
        "i1",
        "i2",
        "i4",
        "i5",
    ]
    rig.until(lambda: rig.shown()["dead_letters_depth", ""] == 0)
    assert rig.shown()["dead_letters_oldest_timestamp_seconds", ""] == 0
    # all is read, and a worker at the end says so of now
    began = time.time()
    rig.until(lambda: rig.shown()["consumer_position_timestamp_seconds", topics.INTAKE.name] > began)
    # twice changes nothing: what is done stays done
    rig.sql("update dead_letters set state = 'replay' where state = 'waiting'")
    time.sleep(1.5)
    rig.check(range(6))


def test_a_row_that_the_database_refuses_is_found_and_set_aside_alone(rig: Rig) -> None:
    for number in range(30):
        rig.send(number, by="bad_row" if number == 17 else "x", key=f"k{number}")
    rig.producer.flush()
    rig.start()
    rig.until(lambda: rig.count() >= 29 and rig.count("dead_letters") >= 1)
    assert [row[0] for row in rig.sql("select key from dead_letters")] == ["k17"]
    rig.check([n for n in range(30) if n != 17])


def test_a_timer_that_the_database_refuses_is_set_aside_and_holds_nothing_up(rig: Rig) -> None:
    """Alone, and with records in the same batch: these are applied, and other timers fire."""
    spot = {key: topics.partition_of(key, PARTITIONS) for key in ("refused1", "refused2", "well")}
    for key, partition in spot.items():
        rig.sql(f"insert into echo_timers values ({partition}, '{key}', '2026-01-01Z')")
    rig.mark(NOW)
    for number in range(30):
        rig.send(number)
    rig.producer.flush()
    worker = rig.start()
    rig.until(lambda: rig.count() >= 30 and rig.count("echo_fired") >= 1)
    rig.until(lambda: rig.count("dead_letters") >= 2)
    assert sorted(rig.sql("select topic, key, state from dead_letters")) == [
        ("@timer", "refused1", "waiting"),
        ("@timer", "refused2", "waiting"),
    ]
    # and with nothing else to do
    rig.sql(f"insert into echo_timers values ({spot['well']}, 'refused3', '2026-01-01Z')")
    rig.until(lambda: rig.count("dead_letters") >= 3)
    rig.send(30)
    rig.until(lambda: rig.count() >= 31)
    assert worker.poll() is None
    assert [row[0] for row in rig.sql("select listing from echo_fired")] == ["well"]
    rig.check(range(31))


def test_a_queue_row_that_the_database_refuses_is_set_aside_alone(rig: Rig) -> None:
    rows = ", ".join(f"({topics.partition_of(f'k{n}', PARTITIONS)}, 'k{n}', {n == 4})" for n in range(9))
    rig.sql(f"insert into echo_queue (partition, listing, bad) values {rows}")
    worker = rig.start(also=("@queue",))
    rig.until(lambda: rig.count() >= 8 and rig.count("dead_letters") >= 1)
    assert rig.sql("select topic, key, event_id from dead_letters") == [("@queue", "k4", "q5")]
    assert rig.count("echo_queue") == 0
    # what comes behind it waits, and both are run again in order
    rig.sql(f"insert into echo_queue (partition, listing) values ({topics.partition_of('k4', PARTITIONS)}, 'k4')")
    rig.until(lambda: rig.count("dead_letters") >= 2)
    rig.send(0)
    rig.until(lambda: rig.count() >= 9)
    assert worker.poll() is None


@pytest.mark.parametrize("refused", [False, True], ids=["one batch", "isolated"])
def test_dead_letters_keep_their_order_whatever_their_reason(rig: Rig, refused: bool) -> None:
    """Poison, unreadable, and what waits behind them; also when the database refuses a record of another key in the batch."""
    rig.sql("insert into echo_poison values (1)")
    rig.send(0, key="sick", by="poison")
    rig.raw("sick", b"{")
    rig.send(1, key="sick")
    rig.raw("sick", b"[")
    rig.send(2, key="well", by="bad_row" if refused else "x")
    rig.producer.flush()
    rig.start()
    rig.until(lambda: rig.count("dead_letters") >= 4 + refused)
    offsets = [row[0] for row in rig.sql("select \"offset\" from dead_letters where key = 'sick' order by id")]
    assert len(offsets) == 4
    assert offsets == sorted(offsets)
    reasons = [
        row[0].partition(":")[0] for row in rig.sql("select error from dead_letters where key = 'sick' order by id")
    ]
    assert reasons[0] == "RuntimeError"
    assert reasons[2] == "waits behind an earlier record of its key"


def test_a_batch_that_was_too_slow_is_tried_again_in_smaller_parts(rig: Rig) -> None:
    """50 records take 2.5 s without a word to the database, which ends a transaction after 1 s of that."""
    for number in range(50):
        rig.send(number, by="slow", key="k")
    rig.producer.flush()
    worker = rig.start(also=("@hasty",))
    rig.until(lambda: rig.count() >= 50)
    assert "batch was too slow" in rig.logs()
    assert worker.poll() is None
    rig.check(range(50))


def test_a_worker_that_dies_amid_isolating_sets_nothing_aside_twice(rig: Rig) -> None:
    for number in range(10):
        rig.send(number, by="bad_row" if number == 9 else "x", key="k")
        if number == 3:
            rig.raw("other", b"{")
    rig.producer.flush()
    # the batch is refused before it is committed; then the tenth record is alone in its transaction
    first = rig.start(crash_at="echo:after_commit:9")
    assert first.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    rig.start()
    rig.until(lambda: rig.count() >= 9 and rig.count("dead_letters") >= 2)
    time.sleep(1.0)
    assert sorted(row[0] for row in rig.sql("select key from dead_letters")) == ["k", "other"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'"' + b"a" * 1_000,
        b"[" * 5_000,
        b'{"specversion":"1.0","id":"a","source":"b","type":"goodfaith.command.accept.v1","data":{}}',
        b'{"specversion":"1.0","id":"a","source":"b","type":"goodfaith.command.accept.v2","data":{}}',
    ],
    ids=["empty", "truncated", "not-utf8", "open-string", "deep", "no-fields", "newer-version"],
)
def test_an_unreadable_record_of_our_own_blocks_its_key_alone(rig: Rig, value: bytes) -> None:
    rig.start()
    rig.raw("sick", value)
    rig.send(1, key="sick")
    rig.send(2, key="well")
    rig.until(lambda: rig.count() >= 1 and rig.count("dead_letters") >= 2)
    assert [row[0] for row in rig.sql("select item from echo_items")] == ["i2"]
    stored = rig.sql("select value from dead_letters order by id")[0][0]
    assert bytes(stored) == value


def test_tombstones_unknown_types_and_hostile_headers_are_skipped(rig: Rig) -> None:
    rig.start()
    rig.raw("l1", None)
    rig.raw("l1", b'{"specversion":"1.0","id":"u","source":"b","type":"com.example.unknown.v7","data":{"x":1}}')
    rig.producer.send(
        rig.settings.topic_prefix + topics.INTAKE.name,
        key=b"\xff\xfe",
        value=None,
        partition=0,
        headers=[("\u202e\n", b"\x00" * 5000)],
    )
    rig.send(1, key="l1")
    rig.until(lambda: rig.count() >= 1)
    assert rig.count("dead_letters") == 0
    rig.check([1])


def test_the_same_id_with_another_body_is_applied_once(rig: Rig) -> None:
    rig.send(1, key="l1", id="same")
    rig.send(2, key="l1", id="same")
    rig.send(3, key="l1")
    rig.start()
    rig.until(lambda: rig.count() >= 2)
    rig.check([1, 3])


def test_timers_fire_up_to_the_watermark_only(rig: Rig) -> None:
    partition = topics.partition_of("l1", PARTITIONS)
    rig.sql(
        f"insert into echo_timers values ({partition}, 'early', '2026-01-01 10:00Z'), ({partition}, 'late', '2026-01-01 12:00Z')"
    )
    rig.start()
    rig.send(1, key="l1")
    rig.until(lambda: rig.count() >= 1)
    assert not rig.count("echo_fired"), "without a watermark nothing defaults"
    rig.mark(dt.datetime(2026, 1, 1, 11, tzinfo=dt.UTC))
    rig.until(lambda: rig.count("echo_fired"))
    # an older watermark changes nothing
    rig.mark(dt.datetime(2026, 1, 1, 9, tzinfo=dt.UTC))
    rig.send(2, key="l1")
    rig.until(lambda: rig.count() >= 2)
    assert [row[0] for row in rig.sql("select listing from echo_fired")] == ["early"]


def test_a_restart_of_the_database_amid_batches(rig: Rig) -> None:
    """Unknown outcome of a commit (17): retried, nothing twice."""
    rig.start()
    for number in range(1500):
        rig.send(number)
    rig.producer.flush()
    rig.until(lambda: rig.count() > 100)
    rig.stack.kill_postgres()
    time.sleep(1.0)
    rig.stack.start_postgres()
    for number in range(1500, 2000):
        rig.send(number)
    rig.until(lambda: rig.count() >= 2000, 60)
    rig.check(range(2000))


def test_a_kill_of_the_broker_amid_batches(rig: Rig) -> None:
    rig.start()
    for number in range(1500):
        rig.send(number)
    rig.producer.flush()
    rig.until(lambda: rig.count() > 100)
    rig.stack.kill_kafka()
    time.sleep(1.0)
    rig.stack.start_kafka()
    for number in range(1500, 2000):
        rig.send(number)
    rig.producer.flush()
    rig.until(lambda: rig.count() >= 2000, 90)
    rig.check(range(2000))


def test_a_long_lock_and_a_deadlock_are_waited_out(rig: Rig) -> None:
    """20 and 21: another session holds the worker's rows, then the worker's backend is ended."""
    rig.start()
    rig.send(0)
    rig.until(lambda: rig.count() >= 1)
    with rig.engine.connect() as connection:
        connection.exec_driver_sql(f"set search_path = {rig.name}")
        connection.exec_driver_sql("begin")
        connection.exec_driver_sql("select * from partitions for update")
        for number in range(1, 100):
            rig.send(number)
        time.sleep(1.0)
        connection.exec_driver_sql("rollback")
    rig.until(lambda: rig.count() >= 100)
    rig.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'echo-%%'")
    for number in range(100, 200):
        rig.send(number)
    rig.until(lambda: rig.count() >= 200)
    rig.check(range(200))


def test_what_was_deleted_unread_is_not_skipped_and_holds_nothing_else_up(rig: Rig) -> None:
    """Retention passes a partition (15): the worker says so, leaves it alone, and reads the others on."""
    worker = rig.start()
    for number in range(100):
        rig.send(number)
    rig.until(lambda: rig.count() >= 100)
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=PATIENCE_S)
    for number in range(100, 200):
        rig.send(number)
    rig.producer.flush()
    gone = TopicPartition(rig.settings.topic_prefix + topics.INTAKE.name, topics.partition_of("l0", PARTITIONS))
    admin: Any = KafkaAdminClient(bootstrap_servers=rig.stack.kafka)
    ends = admin.list_partition_offsets({gone: OffsetSpec.LATEST})
    admin.delete_records({gone: ends[gone].offset})
    admin.close()
    rig.start()
    others = {n for n in range(100, 200) if topics.partition_of(f"l{n % 40}", PARTITIONS) != gone.partition}
    rig.until(lambda: rig.shown().get(("unread_gone_partitions", topics.INTAKE.name)) == 1)
    rig.until(lambda: rig.count() >= 100 + len(others))
    for number in range(200, 300):  # also what comes behind the gap
        rig.send(number)
    others |= {n for n in range(200, 300) if topics.partition_of(f"l{n % 40}", PARTITIONS) != gone.partition}
    rig.until(lambda: rig.count() >= 100 + len(others))
    rig.check([*range(100), *sorted(others)])
    assert rig.logs().count("unread records are gone") == 1


def test_a_topic_that_was_created_anew_is_not_read_at_old_offsets(rig: Rig) -> None:
    """Deleted and recreated (16), with more in it than the worker had read: nothing tells but the topic's id."""
    worker = rig.start()
    for number in range(100):
        rig.send(number)
    rig.until(lambda: rig.count() >= 100)
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=PATIENCE_S)
    rig.producer.close()
    name = rig.settings.topic_prefix + topics.INTAKE.name
    admin: Any = KafkaAdminClient(bootstrap_servers=rig.stack.kafka)
    admin.delete_topics([name])
    rig.until(lambda: name not in admin.list_topics())
    admin.close()
    topics.create(rig.settings)
    rig.producer = KafkaProducer(bootstrap_servers=rig.stack.kafka, acks="all", linger_ms=2)
    for number in range(100, 500):
        rig.send(number)
    rig.producer.flush()
    rig.start()
    rig.until(lambda: rig.shown().get(("unread_gone_partitions", topics.INTAKE.name)) == PARTITIONS)
    rig.check(range(100))


def test_a_hole_in_a_topic_halts_its_place_alone(rig: Rig) -> None:
    """A record that was acknowledged and lost: what comes behind it is not applied, whatever its offset."""
    sick, well = (
        "l0",
        next(
            f"l{n}"
            for n in range(40)
            if topics.partition_of(f"l{n}", PARTITIONS) != topics.partition_of("l0", PARTITIONS)
        ),
    )
    worker = rig.start()
    for seq, previous in ((1, 0), (2, 1), (2, 1), (5, 2), (7, 6), (8, 7)):  # 3 and 4 went elsewhere; 6 is missing
        rig.event(seq, previous, key=sick)
    rig.event(11, 0, key=well)
    rig.producer.flush()
    rig.until(lambda: rig.shown().get(("unread_gone_partitions", topics.INTAKE.name)) == 1)
    rig.until(lambda: rig.count("gaps"))
    rig.event(12, 11, key=well)
    rig.until(lambda: rig.count() >= 5)
    applied = ["i1", "i2", "i5", "i11", "i12"]
    assert sorted(row[0] for row in rig.sql("select item from echo_items")) == sorted(applied)
    assert rig.sql("select count(*) from inbox")[0][0] == 0, "ids of our own events are not kept"
    ((reason, detail, offset),) = rig.sql('select reason, detail, "offset" from gaps')
    partition = topics.partition_of(sick, PARTITIONS)
    assert (reason, detail) == ("gap", f"intake.{partition}.7 follows 6, and 5 was the last one read")
    assert [tuple(row) for row in rig.sql(f"select next_offset from cursors where partition = {partition}")] == [
        (offset,)
    ]
    # a worker that starts knows of it
    worker.kill()
    rig.start()
    rig.until(lambda: rig.shown().get(("unread_gone_partitions", topics.INTAKE.name)) == 1)
    rig.event(13, 12, key=well)
    rig.until(lambda: rig.count() >= 6)
    assert not rig.sql("select 1 from echo_items where item in ('i6', 'i7', 'i8')")
    # what is missing comes behind what there is, and the place is read on there, as `restore unread` does
    rig.processes[-1].terminate()
    assert rig.processes[-1].wait(timeout=PATIENCE_S) == 0
    for seq, previous in ((6, 5), (7, 6), (8, 7)):
        rig.event(seq, previous, key=sick)
    rig.producer.flush()
    rig.sql(f"update cursors set next_offset = {offset + 2} where partition = {partition}; delete from gaps")
    rig.start()
    rig.until(lambda: rig.count() >= 9)
    assert [row[0] for row in rig.sql(f"select item from echo_items where listing = '{sick}' order by n")] == [
        "i1",
        "i2",
        "i5",
        "i6",
        "i7",
        "i8",
    ]
    history = rig.sql(f"select previous, seq from reads_log where partition = {partition} order by seq")
    assert [row[0] for row in history] == [0, *(row[1] for row in history)][:-1], (
        "what was read when is told without a hole"
    )


def test_events_are_linked_on_each_topic_and_partition(rig: Rig) -> None:
    rig.start(crash_at="echo:after_commit:4")
    for number in range(300):
        rig.send(number, by="poison" if number % 50 == 7 else "x")
    rig.sql("insert into echo_poison values (1)")
    rig.producer.flush()
    rig.processes[0].wait(timeout=PATIENCE_S)
    rig.start()
    rig.until(lambda: rig.count() + rig.count("dead_letters") >= 300)
    rig.until(lambda: not rig.sql("select 1 from partitions where seq <> published_upto"))
    last: dict[tuple[int, str, int], int] = {}
    for partition, seq, topic, target, payload in rig.sql(
        "select partition, seq, topic, target, payload from event_log order by partition, seq"
    ):
        place = (partition, topic, target)
        assert json.loads(payload)["previous"] == last.get(place, 0)
        last[place] = seq
    assert {tuple(row[:3]): row[3] for row in rig.sql("select partition, topic, target, seq from tails")} == last
    assert len(last) > PARTITIONS, "also dead letters, which go to several partitions"


def test_a_database_that_goes_back_stops_the_worker_at_once_and_again_when_it_starts(rig: Rig) -> None:
    """A late follower is promoted, or a backup restored, under a running worker: numbers must not be given out twice."""
    worker = rig.start()
    for number in range(100):
        rig.send(number)
    rig.until(lambda: rig.count() >= 100)
    rig.until(lambda: not rig.sql("select 1 from partitions where seq <> published_upto"))
    rig.keep()
    for number in range(100, 200):
        rig.send(number)
    rig.until(lambda: rig.count() >= 200)
    rig.until(lambda: not rig.sql("select 1 from partitions where seq <> published_upto"))
    rig.go_back()
    rig.until(lambda: rig.shown().get(("database_went_back", "")) == 1)
    for number in range(200, 220):
        rig.send(number)
    time.sleep(2.0)
    assert worker.poll() is None, "it waits for a person, and can be asked"
    before = rig.sql("select partition, seq, hash from partitions order by 1")
    assert rig.count() == 100
    assert "restore topics" in rig.logs()
    assert "the log ended at" in rig.logs(), "it says what was lost"
    worker.terminate()
    assert worker.wait(timeout=PATIENCE_S) == 0
    # one that knows nothing finds out from the broker
    rig.start()
    rig.until(lambda: rig.shown().get(("database_went_back", "")) == 1)
    assert rig.sql("select partition, seq, hash from partitions order by 1") == before
    assert rig.count() == 100


def test_a_type_of_ours_that_a_newer_version_writes_is_a_dead_letter(rig: Rig) -> None:
    rig.start()
    rig.event(1, 0, key="l0", type="goodfaith.command.invented.v1")
    rig.event(2, 1, key="l0")
    other = next(
        f"l{n}"
        for n in range(1, 40)
        if topics.partition_of(f"l{n}", PARTITIONS) == topics.partition_of("l0", PARTITIONS)
    )
    rig.event(3, 2, key=other)
    rig.until(lambda: rig.count() >= 1 and rig.count("dead_letters") >= 2)
    assert [row[0] for row in rig.sql("select item from echo_items")] == ["i3"], "its key waits, others do not"
    assert {row[0] for row in rig.sql("select event_id from dead_letters")} == {
        f"intake.{topics.partition_of('l0', PARTITIONS)}.{n}" for n in (1, 2)
    }
    # run again by a version that does not know it either, it stays
    rig.sql("update dead_letters set state = 'replay'")
    rig.until(
        lambda: rig.sql(
            "select 1 from dead_letters where count = 2 and state = 'waiting' and starts_with(error, 'NewerVersion')"
        )
    )
    assert rig.count("dead_letters") == 2
    assert rig.count() == 1


@own_processes
def test_a_log_that_lost_its_end_is_not_read_at_old_offsets(rig: Rig) -> None:
    """A broker comes back without its last records, and gives their offsets to others: they are not skipped."""
    key = "l0"
    partition = topics.partition_of(key, PARTITIONS)
    name = rig.settings.topic_prefix + topics.INTAKE.name
    worker = rig.start()
    for seq in range(1, 101):
        rig.event(seq, seq - 1, key=key)
        if seq % 10 == 0:
            rig.producer.flush()  # several batches, so that some can go
    rig.until(lambda: rig.count() >= 100)
    worker.terminate()
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert rig.sql(f"select leader_epoch from cursors where partition = {partition}")[0][0] >= 0
    rig.producer.close()
    (segment,) = rig.stack.dir.glob(f"**/{name}-{partition}/*0.log")
    rig.stack.kill_kafka()
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size // 2)
    rig.stack.start_kafka()
    rig.producer = KafkaProducer(bootstrap_servers=rig.stack.kafka, acks="all", linger_ms=2)
    for seq in range(101, 251):
        rig.event(seq, seq - 1, key=key)
    rig.producer.flush()
    rig.start()
    rig.until(lambda: rig.count("gaps"))
    assert rig.sql("select reason, partition from gaps")[0][0] in ("truncated", "gap")
    time.sleep(1.0)
    assert rig.count() == 100, "what has the old offsets is not what came next"
