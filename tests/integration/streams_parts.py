"""An installation of streams alone: own topics, made-up events, worker processes; and the oracle, a fold in plain Python."""

from __future__ import annotations

import datetime as dt
import os
import random
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import rocksdict
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.streams import generations, tables
from services.streams.app import changelog_topic
from services.streams.fold import POSITIONS
from services.streams.registry import VIEWS
from services.streams.views import Meta
from shared import callers, clock, db, topics
from shared.events import ENDED, ClaimFiled, ItemChanged, ItemSubmitted, State, decode_data, decode_envelope, encode
from shared.ids import items_of
from shared.settings import Settings
from shared.topics import FILINGS, INTAKE, VERIFICATION, Topic, partition_of

PARTITIONS = 4
BEGIN = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
CODEC = tables.Codec(VIEWS)
States = dict[tuple[str, str], Any]


def claim_of(number: int) -> str:
    """The claim of an item: three have one, on as many listings."""
    return f"c-{number // 3:023}000"


class Rig:
    """Topics and workers of its own on the session's broker."""

    def __init__(self, stack: Stack, folder: Path, partitions: int = PARTITIONS, **extra: str) -> None:
        self.folder = folder
        self.prefix = f"st{secrets.token_hex(4)}."
        self.environment = {
            **os.environ,
            "GOODFAITH_KAFKA": stack.kafka,
            "GOODFAITH_DATABASE": stack.admin_url,
            "GOODFAITH_TOPIC_PREFIX": self.prefix,
            "GOODFAITH_PARTITIONS": str(partitions),
            "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
            "GOODFAITH_RETRY_MAX_S": "0.5",
            "GOODFAITH_STATE_DIR": str(folder),
            "GOODFAITH_INTERNAL_TOKEN": "t" * 32,
            "GOODFAITH_INTERNAL_CALLERS": callers.written({"streams": "t" * 32}),
            **extra,
        }
        self.settings = Settings(
            kafka=stack.kafka, database=stack.admin_url, topic_prefix=self.prefix, partitions=partitions
        )  # type: ignore[call-arg, arg-type, unused-ignore]
        topics.create(self.settings)
        engine = db.administer(stack.admin_url, autocommit=True, pooled=False)
        with engine.connect() as connection:
            connection.exec_driver_sql(clock.DDL)
        engine.dispose()
        self.producer: Any = KafkaProducer(bootstrap_servers=stack.kafka, acks="all", linger_ms=2)
        self.processes: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._sequences: dict[str, int] = {}

    # ---- workers

    def start(self, name: str, crash_at: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; of the same name: on the same folder."""
        port = free_port(set())
        environment = {
            **self.environment,
            "GOODFAITH_INSTANCE": name,
            "GOODFAITH_METRICS_PORT": str(port),
            "GOODFAITH_HTTP_PORT": "0",
        }
        if crash_at:
            environment["GOODFAITH_CRASH_AT"] = crash_at
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.streams"], env=environment, stdout=log, stderr=log
            )
        self.processes[name] = (process, port)
        return process

    def get(self, name: str, path: str) -> str:
        """What a worker's health port answers; "" when it does not, or not with 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.processes[name][1]}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def ask(self, name: str, path: str) -> Any:
        """What a worker's query API answers; None when it does not, or not with 200."""
        urls = re.findall(r"http://127\.0\.0\.1:\d+", (self.folder / f"{name}.log").read_text())
        if not urls:
            return None
        try:
            answer = httpx.get(urls[-1] + path, headers={"authorization": f"Bearer {'t' * 32}"}, timeout=10)
        except httpx.HTTPError:
            return None
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer.json() if answer.is_success else None

    def wait_ready(self, *names: str, timeout_s: float = 120) -> None:
        """Wait until workers are ready."""
        for name in names:
            wait(lambda name=name: self.get(name, "/ready"), timeout_s, lambda name=name: self.log(name))  # type: ignore[misc]

    def log(self, name: str) -> str:
        """The end of a worker's log."""
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def close(self) -> None:
        """End everything."""
        for process, _ in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.producer.close()

    # ---- events

    def send(self, topic: Topic, key: str, type: str, data: Any, at: dt.datetime) -> None:
        """An event of the topic's writer."""
        partition = partition_of(key, self.settings.partitions)
        log = f"{topic.writer}.{partition}"
        number = self._sequences[log] = self._sequences.get(log, 0) + 1
        raw = encode(data, id=f"{log}.{number}", source="x", type=type, subject=None, time=at, key=key)
        self.producer.send(self.settings.topic_prefix + topic.name, raw, key.encode(), partition=partition)

    def items(self, numbers: Sequence[int], seed: int = 0) -> None:
        """Histories of items: filed, reviewed, decided, some paused."""
        draw = random.Random(seed)
        for number in numbers:
            at = BEGIN + dt.timedelta(seconds=number)
            common: dict[str, Any] = {
                "item": list(items_of(claim_of(number), 3))[number % 3],
                "claim": claim_of(number),
                "claim_size": 3,
                "listing": f"l-{number}",
                "complainant": "a-h",
                "principal": "a-h",
                "right": "r-1",
                "right_type": "trademark",
                "reason": "counterfeit",
                "profile": "ipp",
                "policy": "ipp-2026-11",
                "lane": ("express", "standard", "bulk")[number % 3],
            }
            filed = ItemSubmitted(**common, accepted_at=at)
            if number % 3 == 0:
                account = f"a-{number % 7}"
                told = ClaimFiled(
                    claim=filed.claim, account=account, items=3, right_type="trademark", channel="http", at=at
                )
                self.send(FILINGS, account, "goodfaith.claim.filed.v1", told, at)
            self.send(INTAKE, filed.listing, "goodfaith.item.submitted.v1", filed, at)
            states = [State.UNDER_REVIEW, draw.choice([State.NEEDS_INFO, State.UNDER_REVIEW]), draw.choice(list(State))]
            for revision, state in enumerate(states, 1):
                later = at + dt.timedelta(seconds=20 * revision)
                held = state not in ENDED and revision == 3
                change = ItemChanged(
                    **common,
                    seller="s-1",
                    revision=revision,
                    state=state,
                    rule="x",
                    received_at=at,
                    sla_due=at + dt.timedelta(days=1),
                    held=held,
                    handled_at=later if revision == 3 else None,
                    sla="met" if revision == 3 else None,
                )
                self.send(VERIFICATION, change.listing, f"goodfaith.item.{state.lower()}.v1", change, later)
        self.producer.flush()

    # ---- what there is

    def read(self, topic: str) -> list[Any]:
        """All records of a topic (full name)."""
        consumer: Any = KafkaConsumer(bootstrap_servers=self.settings.kafka, enable_auto_commit=False)
        try:
            places = [TopicPartition(topic, number) for number in range(self.settings.partitions)]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            consumer.seek_to_beginning(*places)
            records: list[Any] = []
            while any(consumer.position(place) < ends[place] for place in places):
                for found in consumer.poll(500).values():
                    records += found
            return records
        finally:
            consumer.close()

    def expected(self) -> States:
        """All states, by folding all topics in plain Python."""
        found: States = {}
        for name in dict.fromkeys(topic.name for view in VIEWS for topic in view.reads):
            for record in self.read(self.settings.topic_prefix + name):
                if record.value == b"{":
                    continue
                envelope = decode_envelope(record.value)
                data = decode_data(envelope)
                assert data is not None
                assert envelope.time is not None
                meta = Meta(envelope.id, envelope.time, BEGIN)
                for view in VIEWS:
                    if any(topic.name == name for topic in view.reads) and (key := view.key(data)) is not None:
                        found[view.name, key] = view.fold(found.get((view.name, key)), data, meta)
        return {place: state for place, state in found.items() if state is not None}

    def changelogged(self) -> States:
        """All states, as the changelog has them last: what a worker on an empty disk would recover."""
        latest: dict[tuple[int, bytes], bytes | None] = {}
        number = generations.newest(self.settings)
        for record in self.read(changelog_topic(self.settings, number)):
            latest[record.partition, record.key] = record.value
        return _states((key, value) for (_, key), value in latest.items() if value is not None)

    def on_disk(self, *names: str) -> States:
        """All states in the tables of workers that have ended."""
        found: States = {}
        number = str(generations.newest(self.settings))
        for name in names:
            for path in sorted((self.folder / "streams" / name / number / "tables").glob("views-*.db")):
                db = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))
                found |= _states(iter(db.items()))
                db.close()
        return found

    def caught_up(self) -> bool:
        """Whether all that there is was read."""
        number = generations.newest(self.settings)
        return all(read == end for read, end in generations.progress(self.settings, number).values())


def _states(rows: Any) -> States:
    return {(table, key): state for table, key, state in CODEC.load(rows) if table != POSITIONS}


def wait(true: Callable[[], Any], timeout_s: float, why: Callable[[], str] = lambda: "") -> Any:
    """Wait until something is true; what it is."""
    until = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < until, why()
        time.sleep(0.05)
    return found
