"""Broker and database as containers (`GOODFAITH_STACK=docker`): ours alone, killed and started again with what they had."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from deploy import images
from deploy.local.stack import Stack
from deploy.local.up import prepare
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(
        os.environ.get("GOODFAITH_STACK") != "docker", reason="these are about containers: make test-docker"
    ),
]


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack that may be ill-treated."""
    stack = Stack.start(ROOT, f"test-{os.getpid()}-containers")
    yield stack
    stack.destroy()


def container(stack: Stack, part: str) -> Any:
    import docker  # type: ignore[import-untyped]

    handle = json.loads((stack.dir / "stack.json").read_bytes())[part]["handle"]
    return docker.from_env().containers.get(handle)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def produce(stack: Stack, topic: str, *values: bytes) -> None:
    with closing(KafkaProducer(bootstrap_servers=stack.kafka, acks="all")) as producer:
        for sent in [producer.send(topic, value) for value in values]:
            sent.get(timeout=30)


def test_they_run_the_images_that_are_named(own: Stack) -> None:
    assert container(own, "kafka").attrs["Config"]["Image"] == images.KAFKA.reference
    assert container(own, "postgres").attrs["Config"]["Image"] == images.POSTGRES.reference
    ((server,),) = query(own.admin_url, "show server_version")
    assert str(server).split(".")[0] == images.POSTGRES.default.rpartition(":")[2].split(".")[0]


def test_only_loopback_is_bound(own: Stack) -> None:
    for part in ("kafka", "postgres"):
        bound = container(own, part).attrs["NetworkSettings"]["Ports"]
        addresses = {one["HostIp"] for those in bound.values() for one in those or ()}
        assert addresses == {"127.0.0.1"}, part


def test_the_broker_makes_no_topic_by_itself(own: Stack) -> None:
    with closing(KafkaProducer(bootstrap_servers=own.kafka, max_block_ms=2000)) as producer, pytest.raises(KafkaError):
        producer.send("never.made", b"x").get(timeout=10)
    with closing(KafkaAdminClient(bootstrap_servers=own.kafka)) as admin:
        assert "never.made" not in admin.list_topics()


def test_a_killed_broker_has_its_records_when_it_is_back(own: Stack) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=own.kafka)) as admin:
        admin.create_topics([NewTopic("kept", 1, 1)])
    produce(own, "kept", b"a", b"b")
    own.kill_kafka()
    with pytest.raises((KafkaError, ConnectionError)):
        KafkaAdminClient(bootstrap_servers=own.kafka, bootstrap_timeout_ms=2000)
    own.start_kafka()
    produce(own, "kept", b"c")
    consumer = KafkaConsumer(bootstrap_servers=own.kafka, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    with closing(consumer):
        consumer.assign([TopicPartition("kept", 0)])
        assert [record.value for _, record in zip(range(3), consumer, strict=False)] == [b"a", b"b", b"c"]


def test_a_killed_database_has_what_it_committed_when_it_is_back(own: Stack) -> None:
    query(own.admin_url, "create table kept (n int)")
    query(own.admin_url, "insert into kept values (1)")
    own.kill_postgres()
    with pytest.raises(psycopg2.OperationalError):
        query(own.admin_url, "select 1")
    own.start_postgres()
    assert query(own.admin_url, "select n from kept") == [(1,)]
    assert query(own.admin_url, "show synchronous_commit") == [("on",)], "a local server's configuration"


def test_an_installation_can_be_prepared_on_them_twice(own: Stack) -> None:
    prepare(own)
    prepare(own)
    assert query(own.admin_url, "select count(*) > 0 from verification.alembic_version") == [(True,)]
    assert query(own.role_url("verification"), "select current_user") == [("goodfaith_verification",)]


def test_a_stack_that_runs_is_joined(own: Stack) -> None:
    before = container(own, "kafka").id
    again = Stack.start(ROOT, own.name)
    assert (again.kafka, again.admin_url) == (own.kafka, own.admin_url)
    assert container(own, "kafka").id == before
