"""Stream views: events a second, memory, and how long a worker takes to restart, on its own disk and on an empty one.

    python -m labs.bench.streams [--events 1000000] [--partitions 24]

Topics are filled with histories of items, with claims of the sizes of real notices: filed, recorded, taken down,
notified, confirmed by the marketplace, upheld; every other item is a violation. One worker folds all of it. The
reference is a plain kafka-python loop that only reads and decodes the same records. The last line is JSON.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.local.children import free_port
from deploy.local.stack import Stack
from labs.notices import SAMPLE
from services.streams import generations
from shared import clock, db, topics
from shared.events import (
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    NoticeSent,
    StandingChanged,
    State,
    ViolationChanged,
    decode_data,
    decode_envelope,
    encode,
)
from shared.settings import Settings
from shared.topics import ENFORCEMENT, INTAKE, LEDGER, NOTIFICATION, VERIFICATION, VIOLATIONS, Topic, partition_of

BEGIN: Final = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
SECOND: Final = dt.timedelta(seconds=1)
READS: Final = (INTAKE, VERIFICATION, NOTIFICATION, ENFORCEMENT, VIOLATIONS, LEDGER)
Event = tuple[Topic, str, str, Any, dt.datetime]


def histories(seed: int) -> Iterator[Event]:
    """Endless events: topic, key, type, data, time."""
    dice = random.Random(seed)
    with gzip.open(SAMPLE) as lines:
        notices = [
            notice for line in lines if (notice := json.loads(line))["kind"] == "takedown" and notice["listings"]
        ]
    number = 0
    while True:
        size = min(len(dice.choice(notices)["listings"]), 300)
        right, reason = dice.choice(
            (("trademark", "counterfeit"), ("copyright", "copied_image_or_text"), ("design", "design"))
        )
        claim = f"c-{number:010d}"
        at = BEGIN + number * SECOND
        for _ in range(size):
            number += 1
            yield from _item(number, claim, size, right, reason, at, f"s-{dice.randrange(20_000)}")


def _item(number: int, claim: str, size: int, right: str, reason: str, at: dt.datetime, seller: str) -> Iterator[Event]:
    common: dict[str, Any] = {
        "item": f"i-{number:012d}",
        "claim": claim,
        "claim_size": size,
        "listing": f"l-{number:012d}",
        "complainant": f"a-{number % 50}",
        "principal": f"a-{number % 50}",
        "right": f"r-{number % 80}",
        "right_type": right,
        "reason": reason,
        "profile": "ipp",
        "policy": "ipp-2026-11",
        "lane": ("express", "standard", "bulk")[number % 3],
    }
    listing = common["listing"]
    yield INTAKE, listing, "goodfaith.item.submitted.v1", ItemSubmitted(**common, accepted_at=at), at
    changes: tuple[tuple[State, dict[str, Any]], ...] = (
        (State.UNDER_REVIEW, {}),
        (State.NOTIFIED, {"held": True}),
        (State.NOTIFIED, {"held": True, "handled_at": at + 90 * SECOND, "sla": "met"}),
        (
            State.UPHELD_BY_DEFAULT,
            {"held": True, "handled_at": at + 90 * SECOND, "sla": "met", "upheld": True, "settled": True},
        ),
    )
    for revision, (state, more) in enumerate(changes, 1):
        later = at + revision * 30 * SECOND
        change = ItemChanged(
            **common,
            seller=seller,
            revision=revision,
            state=state,
            rule="7-upheld-prima-facie",
            received_at=at,
            sla_due=at + dt.timedelta(days=1),
            **more,
        )
        yield VERIFICATION, listing, f"goodfaith.item.{state.lower()}.v1", change, later
        if revision == 2:
            hold = HoldChanged(item=change.item, claim=claim, listing=listing, held=True, at=later + 10 * SECOND)
            yield ENFORCEMENT, listing, "goodfaith.hold.changed.v1", hold, hold.at
            notice = NoticeSent(
                item=change.item,
                claim=claim,
                listing=listing,
                message=f"m-{number}",
                kind="seller_notice",
                revision=2,
                sent_at=later + 20 * SECOND,
            )
            yield NOTIFICATION, listing, "goodfaith.notice.sent.v1", notice, notice.sent_at
    if number % 2:
        violation = ViolationChanged(
            seller=seller,
            claim=claim,
            item=common["item"],
            listing=listing,
            severity="general",
            in_force=True,
            revision=4,
            at=at,
        )
        yield VIOLATIONS, seller, "goodfaith.violation.changed.v1", violation, at
        standing = StandingChanged(seller=seller, general_points=2, serious_strikes=0, violations=1, at=at)
        yield LEDGER, seller, "goodfaith.standing.changed.v1", standing, at


def fill(settings: Settings, events: int) -> None:
    """Write this many events."""
    producer: Any = KafkaProducer(
        bootstrap_servers=settings.kafka, acks="all", linger_ms=20, batch_size=262_144, max_request_size=2_000_000
    )
    sequences: dict[str, int] = {}
    for count, (topic, key, kind, data, at) in enumerate(histories(7)):
        if count == events:
            break
        partition = partition_of(key, settings.partitions)
        log = f"{topic.writer}.{partition}"
        number = sequences[log] = sequences.get(log, 0) + 1
        raw = encode(data, id=f"{log}.{number}", source="x", type=kind, subject=None, time=at, key=key)
        producer.send(settings.topic_prefix + topic.name, raw, key.encode(), partition=partition)
    producer.flush()
    producer.close()


def plain(settings: Settings, events: int) -> tuple[float, float]:
    """Read and decode everything with kafka-python; returns events per second, and events per second of CPU time."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        max_poll_records=2000,
        max_partition_fetch_bytes=1_048_576,
    )
    assigned = [
        TopicPartition(settings.topic_prefix + topic.name, number)
        for topic in READS
        for number in range(settings.partitions)
    ]
    consumer.assign(assigned)
    consumer.seek_to_beginning(*assigned)
    begun, cpu, seen = time.monotonic(), time.process_time(), 0
    while seen < events:
        for records in consumer.poll(1000).values():
            for record in records:
                decode_data(decode_envelope(record.value))
            seen += len(records)
    took, used = time.monotonic() - begun, time.process_time() - cpu
    consumer.close()
    return events / took, events / used


class WorkerProcess:
    """A worker of the stream views as a process."""

    def __init__(self, settings: Settings, folder: Path, database: str) -> None:
        self.port = free_port(set())
        self.begun = time.monotonic()
        environment = {
            **os.environ,
            "GOODFAITH_KAFKA": settings.kafka,
            "GOODFAITH_DATABASE": database,
            "GOODFAITH_TOPIC_PREFIX": settings.topic_prefix,
            "GOODFAITH_PARTITIONS": str(settings.partitions),
            "GOODFAITH_STATE_DIR": str(folder),
            "GOODFAITH_INSTANCE": "bench",
            "GOODFAITH_METRICS_PORT": str(self.port),
            "GOODFAITH_HTTP_PORT": "0",
            "GOODFAITH_RECONCILE_S": "0",
        }
        self._log = (folder / "worker.log").open("ab")
        self.process = psutil.Popen(
            [sys.executable, "-m", "services.streams"], env=environment, stderr=self._log, stdout=self._log
        )

    def ready(self) -> float:
        """Wait until it is ready; returns the seconds since its start."""
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5):
                    return time.monotonic() - self.begun
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("the worker ended") from None
                time.sleep(0.05)

    def folded(self) -> int:
        """Number of events that it has folded."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(
            sum(float(line.split()[-1]) for line in lines if line.startswith("goodfaith_streams_events_folded_total{"))
        )

    def cpu(self) -> float:
        """Its CPU time in seconds."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait()
        self._log.close()


def caught_up(settings: Settings) -> bool:
    """Whether everything is read and committed."""
    progress = generations.progress(settings, generations.newest(settings))
    return all(read == end for read, end in progress.values())


def restart(settings: Settings, folder: Path, database: str) -> dict[str, float]:
    """Start a worker, and wait until it is ready and has read everything; returns the times in seconds, and memory."""
    worker = WorkerProcess(settings, folder, database)
    ready = worker.ready()
    while not caught_up(settings):
        time.sleep(0.05)
    figures = {
        "ready_s": round(ready, 2),
        "caught_up_s": round(time.monotonic() - worker.begun, 2),
        "cpu_s": round(worker.cpu(), 2),
        "rss_mb": round(worker.process.memory_info().rss / 2**20, 1),
    }
    worker.stop(kill=True)
    return figures


def run(stack: Stack, folder: Path, events: int, partitions: int) -> dict[str, Any]:
    """Take all measurements."""
    settings = Settings(
        kafka=stack.kafka, database=stack.admin_url, topic_prefix=f"bench{secrets.token_hex(4)}.", partitions=partitions
    )  # type: ignore[call-arg, arg-type, unused-ignore]
    database = stack.admin_url
    engine = db.administer(database, autocommit=True, pooled=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(clock.DDL)
    engine.dispose()
    topics.create(settings)
    begun = time.monotonic()
    fill(settings, events)
    print(f"{events} events written in {time.monotonic() - begun:.1f} s")
    reference, reference_cpu = plain(settings, events)
    print(f"plain loop: {reference:.0f} events/s, {reference_cpu:.0f} per second of CPU")

    worker = WorkerProcess(settings, folder, database)
    worker.ready()
    begun, before, cpu = time.monotonic(), worker.folded(), worker.cpu()
    while worker.folded() < events:
        time.sleep(0.25)
    took, used = time.monotonic() - begun, worker.cpu() - cpu
    rate = (events - before) / took
    rss = worker.process.memory_info().rss / 2**20
    print(f"streams: {rate:.0f} events/s, {(events - before) / used:.0f} per second of CPU, {rss:.0f} MiB")
    while not caught_up(settings):
        time.sleep(0.1)
    worker.stop()
    time.sleep(1)
    same = restart(settings, folder, database)
    print(f"restart on its own disk: {same}")
    time.sleep(settings.session_timeout_ms / 1000 + 1)
    disk = sum(path.stat().st_size for path in (folder / "streams").rglob("*") if path.is_file())
    shutil.rmtree(folder / "streams")
    lost = restart(settings, folder, database)
    print(f"restart on an empty disk: {lost}")
    return {
        "events": events,
        "partitions": partitions,
        "events_per_s": round(rate),
        "events_per_cpu_s": round((events - before) / used),
        "reference_events_per_s": round(reference),
        "reference_events_per_cpu_s": round(reference_cpu),
        "ratio": round(rate / reference, 3),
        "rss_mb": round(rss, 1),
        "disk_mb": round(disk / 2**20, 1),
        "same_disk": same,
        "empty_disk": lost,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=24)
    given = parser.parse_args()
    root = Path(".local")
    root.mkdir(exist_ok=True)
    stack = Stack.start(root, f"bench-streams-{os.getpid()}")
    with tempfile.TemporaryDirectory(dir=root) as folder:
        try:
            figures = run(stack, Path(folder).resolve(), given.events, given.partitions)
        finally:
            stack.destroy()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
