"""Throughput end to end: from a submission on the upstream's topic to enforcement's command and the queued notice.

The measured system is intake (inbound, worker), verification, enforcement (worker, ledger), notification (worker),
broker and database, on this machine. Marketplace and mail server belong to others: with `receipts` a minimal process
answers for the marketplace; mail is not sent.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
import multiprocessing
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from labs.clients import HttpClient
from labs.exposition import samples
from labs.notices import SAMPLE
from labs.replay import UPSTREAM, upstream_ready
from shared import db, topics
from shared.events import Listing, MarketplaceCommand, Receipt, decode_data, decode_envelope, encode
from shared.settings import Settings

PROCESSES = (
    "intake-worker",
    "intake-inbound",
    "verification",
    "enforcement-worker",
    "enforcement-ledger",
    "notification-worker",
)
HOLDERS = 50
_NOTICES = (
    "select listing, pg_xact_commit_timestamp(xmin) from notification.message_items"
    " where kind = 'seller_notice' and listing like :run"
)


def sizes(real: bool, seed: int = 7) -> Iterator[int]:
    """Numbers of items per claim: always one, or as in the real notices."""
    if not real:
        return itertools.repeat(1)
    found = []
    with gzip.open(SAMPLE) as lines:
        for line in lines:
            notice = json.loads(line)
            if notice["kind"] == "takedown" and notice["listings"]:
                found.append(min(len(notice["listings"]), 300))
    dice = random.Random(seed)
    return iter(lambda: dice.choice(found), None)


@dataclass(slots=True)
class RunFigures:
    """The figures of one run: seconds, items per second, MiB, microseconds per item."""

    items: int = 0
    claims: int = 0
    seconds: float = 0.0
    items_per_s: float = 0.0
    p50_s: float = 0.0
    p99_s: float = 0.0
    rss_growth_mb: float = 0.0
    rss_mb: list[float] = field(default_factory=list)
    """Resident memory of our processes together when 0, 20, 40, 60, 80 and 100 % of the items had arrived."""
    cpu_us_per_item: dict[str, float] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)


def _answer(kafka: str, prefix: str, partitions: int, ready: Any, stop: Any) -> None:
    """A marketplace that carries out every command at once. It sets `ready` when it listens."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, max_poll_records=2000, fetch_max_wait_ms=20
    )
    assigned = [TopicPartition(prefix + topics.MARKETPLACE_COMMANDS.name, p) for p in range(partitions)]
    consumer.assign(assigned)
    consumer.seek_to_end(*assigned)
    for partition in assigned:
        consumer.position(
            partition
        )  # seeking is lazy: without this, records written before the first poll would be missed
    producer: Any = KafkaProducer(bootstrap_servers=kafka, acks="all", batch_size=262_144, linger_ms=5)
    ready.set()
    while not stop.is_set():
        for records in consumer.poll(timeout_ms=100).values():
            for record in records:
                command = decode_data(decode_envelope(record.value))
                assert isinstance(command, MarketplaceCommand)
                receipt = Receipt(command=command.command, listing=command.listing, seq=command.seq)
                raw = encode(
                    receipt,
                    id=f"receipt.{command.command}",
                    source="/bench",
                    type="goodfaith.marketplace.receipt.v1",
                    subject=command.listing,
                    time=dt.datetime.now(dt.UTC),
                    key=command.listing,
                )
                producer.send(
                    prefix + topics.MARKETPLACE_RECEIPTS.name, key=record.key, value=raw, partition=record.partition
                )
    producer.close()
    consumer.close()


class ThroughputBench:
    """A stack with holders, rights and an upstream, ready for claims."""

    def __init__(self, stack: Stack, counts: Mapping[str, int], tell: Callable[[str], None]) -> None:
        self.stack = stack
        self.tell = tell
        upstream_ready(stack, counts)
        self.settings: Settings = fleet.settings_of(stack, secret=True)
        self._engine = db.administer(stack.admin_url, autocommit=True)
        with self._engine.connect() as connection:
            if connection.execute(sa.text("show track_commit_timestamp")).scalar_one() != "on":
                raise StackError("the benchmark needs commit times: set track_commit_timestamp = on")
        self._producer: Any = KafkaProducer(bootstrap_servers=stack.kafka, acks="all", batch_size=262_144, linger_ms=5)
        self._runs = itertools.count()
        http = HttpClient(self.settings)
        try:
            holders = [f"bench-holder-{n}" for n in range(HOLDERS)]
            http.all(
                http.open_account("holder", holder, (holder, "1 Long Lane", f"{holder}@party.example"))
                for holder in holders
            )
            body = {"right_type": "copyright", "proof": "work-1"}
            rights = http.all(http.register_right(holder, body) for holder in holders)
        finally:
            http.close()
        self._holders = list(zip(holders, rights, strict=True))

    def close(self) -> None:
        """Close connections."""
        self._producer.close()
        self._engine.dispose()

    def _count(self, sql: str, **values: object) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(sa.text(sql), values).scalar_one())

    def event_bytes(self) -> int:
        """Mean size of the events that the services have published so far."""
        logs = " union all ".join(
            f"select length(payload) as size from {log}"
            for log in ("intake.event_log", "verification.event_log", "enforcement.event_log")
        )
        return self._count(f"select round(avg(size)) from ({logs}) events")

    def seed(self, run: str, count: int) -> None:
        """Publish listings for verification, as the marketplace does."""
        before = self._count("select count(*) from verification.listings")
        name = self.settings.topic_prefix + topics.MARKETPLACE_LISTINGS.name
        now = dt.datetime.now(dt.UTC)
        for n in range(count):
            listing = f"{run}x{n}"
            raw = encode(
                Listing(listing=listing, seller=f"bench-seller-{n % 20_000}", state="visible"),
                id=f"seed.{listing}",
                source="/bench",
                type="goodfaith.marketplace.listing.v1",
                subject=listing,
                time=now,
                key=listing,
            )
            partition = topics.partition_of(listing, self.settings.partitions)
            self._producer.send(name, key=listing.encode(), value=raw, partition=partition)
        self._producer.flush()
        while self._count("select count(*) from verification.listings") < before + count:
            time.sleep(0.5)

    def run(self, items: int, *, real: bool = False, rate: float = 0.0, receipts: bool = False) -> RunFigures:
        """File items, and wait until all have arrived.

        Args:
            items: Number of items.
            real: Whether claims have the sizes of real notices, instead of one item.
            rate: Items a second; 0: all at once.
            receipts: Whether the marketplace answers, and the items are waited for until they are handled.
        """
        name = f"b{next(self._runs)}"
        self.tell(f"{name}: seeding {items:,} listings")
        self.seed(name, items)
        claims = self._claims(name, items, sizes(real))
        spawn = multiprocessing.get_context("spawn")
        ready, stop = spawn.Event(), spawn.Event()
        echo = spawn.Process(
            target=_answer, args=(self.stack.kafka, self.settings.topic_prefix, self.settings.partitions, ready, stop)
        )
        if receipts:
            echo.start()
            if not ready.wait(60):
                raise TimeoutError("the marketplace of the benchmark does not start")
        processes = self._processes()
        cpu = {name: _cpu(p) for name, p in processes.items()}
        stages = self._stages()
        result = RunFigures(items=items, claims=len(claims))
        self.tell(f"{name}: {items:,} items in {len(claims):,} claims")
        started = time.time()
        sent: dict[str, float] = {}
        sender = threading.Thread(target=self._send, args=(claims, rate, sent), daemon=True)
        sender.start()
        rss: list[tuple[int, float]] = []
        if rate:
            sender.join()  # counting rows takes CPU, and must not disturb the measurement of latency
        while (done := self._count(f"select count(*) from ({_NOTICES}) n", run=f"{name}x%")) < items:
            rss.append((done, sum(p.memory_info().rss for n, p in processes.items() if n in PROCESSES) / 2**20))
            if time.time() - started > 1800:
                raise TimeoutError(f"only {done:,} of {items:,} items arrived")
            time.sleep(2.0)
        sender.join()
        held = self._held(name, started, items)
        finish = {item: max(at, held[item]) for item, at in self._queued(name).items()}
        result.seconds = max(finish.values()) - started
        result.items_per_s = items / result.seconds
        waits = sorted(finish[item] - sent[self._claim_of[item]] for item in finish)
        result.p50_s = statistics.median(waits)
        result.p99_s = waits[int(len(waits) * 0.99)]
        result.rss_mb = [
            min(((abs(done - items * part), mb) for done, mb in rss), default=(0, 0.0))[1]
            for part in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        ]
        result.rss_growth_mb = result.rss_mb[-1] - result.rss_mb[1]
        result.cpu_us_per_item = {
            name: (_cpu(p) - cpu[name]) / items * 1e6 for name, p in processes.items() if p.is_running()
        }
        result.stages = {
            worker: {
                stage: (now - stages.get(worker, {}).get(stage, 0.0)) / items * 1e6 for stage, now in stages_.items()
            }
            for worker, stages_ in self._stages().items()
        }
        if receipts:
            self.tell(f"{name}: waiting until everything is handled")
            while self._count(
                "select count(*) from verification.items where body like :p and body not like '%handled_at%'",
                p=f'%"{name}x%',
            ):
                if time.time() - started > 1800:
                    raise TimeoutError(f"not all of {items:,} items are handled")
                time.sleep(0.5)
            result.seconds = time.time() - started
            result.items_per_s = items / result.seconds
            stop.set()
            echo.join()
        return result

    def _claims(self, run: str, items: int, many: Iterator[int]) -> list[tuple[str, bytes, bytes]]:
        """(event id, key, record) of each claim."""
        self._claim_of: dict[str, str] = {}
        claims: list[tuple[str, bytes, bytes]] = []
        at = 0
        now = dt.datetime.now(dt.UTC)
        while at < items:
            size = min(next(many), items - at)
            holder, right = self._holders[len(claims) % HOLDERS]
            event = f"{run}.{len(claims)}"
            listings = [f"{run}x{n}" for n in range(at, at + size)]
            for listing in listings:
                self._claim_of[listing] = event
            document = {
                "specversion": "1.0",
                "id": event,
                "source": "/bench",
                "type": "goodfaith.request.submit_claim.v1",
                "time": now,
                "data": {
                    "right": right,
                    "reason": "copied_image_or_text",
                    "on_behalf_of": holder,
                    "listings": [f"https://market.example/items/{listing}" for listing in listings],
                },
            }
            claims.append((event, f"{holder}.{len(claims)}".encode(), msgspec.json.encode(document)))
            at += size
        return claims

    def _send(self, claims: list[tuple[str, bytes, bytes]], rate: float, sent: dict[str, float]) -> None:
        """Write claims to the upstream's topic, and note in `sent` when each was written."""
        topic = self.settings.topic_prefix + topics.inbound(UPSTREAM).name
        begun = time.time()
        for number, (event, key, raw) in enumerate(claims):
            if rate:
                wait = begun + number / (rate * len(claims) / len(self._claim_of)) - time.time()
                if wait > 0:
                    time.sleep(wait)
            self._producer.send(topic, key=key, value=raw)
            sent[event] = time.time()
        self._producer.flush()

    def _queued(self, run: str) -> dict[str, float]:
        """When each item's notice was queued (commit time of its row)."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(_NOTICES), {"run": f"{run}x%"}).all()
        return {listing: at.timestamp() for listing, at in rows}

    def _held(self, run: str, started: float, items: int) -> dict[str, float]:
        """When enforcement's command for each listing was published (timestamp of the record)."""
        consumer: Any = KafkaConsumer(
            bootstrap_servers=self.stack.kafka, enable_auto_commit=False, max_poll_records=5000
        )
        partitions = [
            TopicPartition(self.settings.topic_prefix + topics.MARKETPLACE_COMMANDS.name, p)
            for p in range(self.settings.partitions)
        ]
        consumer.assign(partitions)
        for partition, at in consumer.offsets_for_times(dict.fromkeys(partitions, int(started * 1000))).items():
            if at is None:
                consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, at.offset)
        held: dict[str, float] = {}
        deadline = time.time() + 120
        while len(held) < items:
            if time.time() > deadline:
                raise TimeoutError(f"only {len(held):,} of {items:,} commands were published")
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    listing = record.key.decode()
                    if listing.startswith(f"{run}x"):
                        held.setdefault(listing, record.timestamp / 1000)
        consumer.close()
        return held

    def _processes(self) -> dict[str, psutil.Process]:
        found: dict[str, psutil.Process] = {}
        for process in Fleet.load(self.stack):
            kind = process.name.rpartition(".")[0]
            if kind in PROCESSES and process.pid is not None:
                found[kind] = psutil.Process(process.pid)
        ours = str(self.stack.dir.resolve())
        for part in psutil.process_iter():
            try:
                line = " ".join(part.cmdline())
            except psutil.Error:
                continue
            if ours in line and "kafka.Kafka" in line:
                found["broker"] = part
            elif ours in line and "postgres" in line and "-D" in line:
                found["database"] = part
        return found

    def _stages(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker's loop has spent in each stage, from its metrics."""
        found: dict[str, dict[str, float]] = {}
        for process in Fleet.load(self.stack):
            kind = process.name.rpartition(".")[0]
            if kind not in PROCESSES:
                continue
            for sample in samples(process):
                if sample.name == "goodfaith_worker_stage_seconds_total":
                    found.setdefault(kind, {})[sample.labels["stage"]] = sample.value
        return found


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and its children, including children that ended."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    ended = process.cpu_times()
    return float(total + ended.children_user + ended.children_system)
