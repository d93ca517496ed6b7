"""The reference loop: what this machine can do at best, so that throughput can be stated as a ratio.

Four processes form a chain on the same broker and database as the measured system. Each consumes, enters ids in an
inbox, upserts a state, appends a hash-chained audit row, writes and deletes an outbox row, and produces: one event in,
one event out, one transaction per batch (docs/explanation/performance.md). There is no life cycle, validation, timer
or recovery.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from typing import Any

import msgspec
import psycopg2
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

STAGES = 4
BATCH = 2000


def _stage(number: int, kafka: str, database: str, prefix: str, partitions: int, total: int) -> None:
    consumer: Any = KafkaConsumer(
        bootstrap_servers=kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=f"{prefix}{number}",
        max_poll_records=BATCH,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=2_000_000,
    )
    consumer.assign([TopicPartition(f"{prefix}{number}", p) for p in range(partitions)])
    producer: Any = KafkaProducer(bootstrap_servers=kafka, acks="all", batch_size=262_144, linger_ms=5)
    connection = psycopg2.connect(database)
    schema = f"reference_{number}"
    previous = ""
    done = 0
    while done < total:
        rows: list[Any] = []
        patience = 100
        while len(rows) < BATCH:
            fetched = consumer.poll(timeout_ms=patience, max_records=BATCH - len(rows))
            if not fetched:
                break
            patience = 0
            for records in fetched.values():
                rows.extend(records)
        if not rows:
            continue
        events = [msgspec.json.decode(row.value) for row in rows]
        ids = [event["id"] for event in events]
        out, hashes = [], []
        for event in events:
            event["id"] = f"{number}.{event['n']}"
            payload = msgspec.json.encode(event).decode()
            previous = hashlib.sha256((previous + payload).encode()).hexdigest()
            out.append(payload)
            hashes.append(previous)
        with connection, connection.cursor() as cursor:
            cursor.execute(f"insert into {schema}.inbox select unnest(%s::text[]) on conflict do nothing", (ids,))
            cursor.execute(
                f"insert into {schema}.state select * from unnest(%s::text[], %s::text[]) on conflict (item) do update set body = excluded.body",
                ([event["item"] for event in events], out),
            )
            cursor.execute(
                f"insert into {schema}.audit (payload, hash) select * from unnest(%s::text[], %s::text[])",
                (out, hashes),
            )
            cursor.execute(f"insert into {schema}.outbox (payload) select unnest(%s::text[])", (out,))
        for row, payload in zip(rows, out, strict=True):
            producer.send(f"{prefix}{number + 1}", key=row.key, value=payload.encode(), partition=row.partition)
        producer.flush()
        with connection, connection.cursor() as cursor:
            cursor.execute(f"delete from {schema}.outbox")
        consumer.commit_async()
        done += len(rows)
    consumer.close()
    producer.close()
    connection.close()


def run(kafka: str, database: str, *, items: int, partitions: int, event_bytes: int) -> float:
    """Run the loop; returns items a second, from the first one produced to the last one out of the fourth stage.

    Args:
        kafka: Address of the broker.
        database: URL of a role that may create schemas. They are dropped at the end.
        items: Number of items.
        partitions: Number of partitions of each topic.
        event_bytes: Size of an event, as in the measured system (``ThroughputBench.event_bytes``).
    """
    prefix = f"reference.{os.getpid()}.{time.monotonic_ns()}."
    admin: Any = KafkaAdminClient(bootstrap_servers=kafka)
    names = [f"{prefix}{n}" for n in range(STAGES + 1)]
    admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for n in range(STAGES):
            schema = f"reference_{n}"
            cursor.execute(
                f"""drop schema if exists {schema} cascade; create schema {schema};
                create table {schema}.inbox (id text collate "C" primary key);
                create table {schema}.state (item text collate "C" primary key, body text);
                create table {schema}.audit (n bigint generated always as identity primary key, payload text, hash text);
                create table {schema}.outbox (n bigint generated always as identity primary key, payload text)"""
            )
    processes = [
        multiprocessing.get_context("spawn").Process(
            target=_stage, args=(n, kafka, database, prefix, partitions, items)
        )
        for n in range(STAGES)
    ]
    for process in processes:
        process.start()
    bare = len(json.dumps({"id": "in.000000", "n": 100_000, "item": "i-000000", "body": ""}))
    filler = "x" * max(event_bytes - bare, 0)
    producer: Any = KafkaProducer(bootstrap_servers=kafka, acks="all", batch_size=262_144, linger_ms=5)
    begun = time.monotonic()
    for n in range(items):
        value = json.dumps({"id": f"in.{n}", "n": n, "item": f"i-{n}", "body": filler}).encode()
        producer.send(names[0], key=f"i-{n}".encode(), value=value, partition=n % partitions)
    producer.flush()
    for process in processes:
        process.join()
    seconds = time.monotonic() - begun
    producer.close()
    with connection.cursor() as cursor:
        for n in range(STAGES):
            cursor.execute(f"drop schema reference_{n} cascade")
    connection.close()
    admin.delete_topics(names)
    admin.close()
    return items / seconds
