"""Which rows of a log a reader has not read: by topic and partition, whatever it has of others."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from deploy.local.stack import Stack
from services.ops.idle import Reader
from services.ops.restore.unread import Gap, _unread, commit_cursors
from shared import db, kafka_links, topics
from shared.runtime.ddl import runtime_v1
from shared.settings import Settings
from shared.topics import Topic

pytestmark = pytest.mark.stack


@pytest.fixture
def name(stack: Stack) -> Iterator[str]:
    """Schema of a log and of its reader, whose tables have a prefix."""
    name = f"unread{secrets.token_hex(4)}"
    engine = db.administer(stack.admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        for prefix in ("", "r_"):
            connection.exec_driver_sql(f"create schema if not exists {name}; set search_path = {name}")
            connection.exec_driver_sql(runtime_v1(prefix))
    yield name
    with engine.connect() as connection:
        connection.exec_driver_sql(f"drop schema {name} cascade")
    engine.dispose()


def test_what_is_read_of_another_topic_or_partition_says_nothing(
    stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, reader = Reader("w", name, "", ()), Reader("r", name, "r_", ())
    mine, other = Topic("a", name, "k"), Topic("b", name, "k")
    engine = db.administer(stack.admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"set search_path = {name}")
        connection.exec_driver_sql("insert into partitions (partition, seq, published_upto) values (0, 9, 8)")
        #       1..8: a to 0, a to 1, b to 0 by turns; 9 is not published yet
        rows = [(n, ("a", "a", "b")[n % 3], (0, 1, 0)[n % 3]) for n in range(1, 10)]
        for seq, topic, target in rows:
            connection.exec_driver_sql(
                "insert into event_log (partition, seq, topic, key, target, type, payload, hash)"
                " values (0, %s, %s, 'k', %s, 't', %s, '')",
                (seq, topic, target, str(seq)),
            )
        # what comes from outside is told by its ids: it has the first of a's partition 0, and all of the others
        connection.exec_driver_sql("insert into r_partitions (partition) values (0), (1)")
        for seq in (3, 1, 4, 7, 2, 5, 8):
            connection.exec_driver_sql("insert into r_inbox (event_id) values (%s)", (f"w.0.{seq}",))

        def missing(topic: Topic, partition: int) -> list[str]:
            gap = Gap(reader, topic.name, partition, 0, 9, 9)
            return [payload for _, payload, _ in _unread(connection, [log], topic, topic.name, partition, [gap])]

        with monkeypatch.context() as patch:
            patch.setattr("shared.runtime.assignment.OUTSIDE", (name,))
            assert missing(mine, 0) == ["6"]
            assert missing(mine, 1) == []
            assert missing(other, 0) == []
        connection.exec_driver_sql("insert into r_reads values ('a', 0, 'w', 0, 3), ('a', 1, 'w', 0, 4)")
        assert missing(mine, 0) == ["6"], "its number counts, not what the inbox happens to have"
        assert missing(mine, 1) == ["7"]
        assert missing(other, 0) == ["2", "5", "8"]
    engine.dispose()


def test_what_groups_have_committed_is_set_to_the_cursors(stack: Stack, name: str) -> None:
    """After a restore the database may know less than the groups: of one place nothing, of another an earlier offset."""
    settings = Settings(kafka=stack.kafka, topic_prefix=f"{name}.", partitions=3)
    topics.create(settings)
    reader = Reader("r", name, "r_", (topics.INTAKE,))
    group = f"{name}.r"
    places = [TopicPartition(f"{name}.intake.events", partition) for partition in range(3)]
    consumer = kafka_links.consumer(settings, group_id=group, enable_auto_commit=False)
    consumer.assign(places)
    consumer.commit({place: OffsetAndMetadata(9, "9:0123456789abcdef", -1) for place in places})
    consumer.close(autocommit=False)
    engine = db.administer(stack.admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"set search_path = {name}")
        connection.exec_driver_sql(
            "insert into r_partitions (partition, seq, hash) values (0, 7, repeat('a', 64)), (1, 0, '')"
        )
        connection.exec_driver_sql(
            "insert into r_cursors (topic, partition, next_offset) values ('intake.events', 0, 4), ('intake.events', 1, 9)"
        )
        commit_cursors(settings, connection, [reader])
    engine.dispose()
    admin = kafka_links.admin(settings, client_id="test")
    found = {
        place.partition: (one.offset, one.metadata)
        for place, one in admin.list_group_offsets([group])[group].items()
        if one.offset >= 0
    }
    admin.close()
    assert found == {0: (4, "7:" + "a" * 16), 1: (9, "")}
