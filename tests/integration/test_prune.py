"""`goodfaith upgrade finish` and `goodfaith prune` on tables of a migrated database, filled by hand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from deploy.local.stack import Stack
from services.ops.broker import linking
from services.ops.prune import Fold, Pruning
from shared import db
from shared.runtime.store import Store
from shared.settings import Settings
from tests.integration.databases import execute

pytestmark = pytest.mark.stack
PREFIX = "here."
HERE = "verification.events"
LOG = """
    insert into verification.event_log (partition, seq, topic, key, target, type, payload, hash, recorded_wall)
    select %s, n, case when n %% 3 = 0 then 'here.marketplace.commands' else 'here.verification.events' end, 'k', %s, 't', '', '',
        now() - interval '40 days' from generate_series(%s, %s) n"""
READ = """
    insert into {table} (event_id, received_wall)
    select 'verification.' || partition || '.' || seq, now() - %s * interval '1 day' from verification.event_log
    where topic = 'here.verification.events' and partition = %s and seq between %s and %s"""


class Rig:
    """An installation's tables, without processes."""

    def __init__(self, stack: Stack, template: str) -> None:
        self.name = f"prune_{uuid.uuid4().hex[:8]}"
        execute(stack, f"create database {self.name} template {template}")
        self.url = stack.admin_url.rpartition("/")[0] + f"/{self.name}"
        self.settings = Settings(kafka="127.0.0.1:1", database=SecretStr(self.url), topic_prefix=PREFIX, partitions=2)
        self.engine = db.administer(self.url, autocommit=True)
        with self.engine.connect() as connection:
            for partition in (0, 1):
                connection.exec_driver_sql(LOG, (partition, partition, 1, 90))
                connection.exec_driver_sql(
                    "insert into verification.partitions (partition, seq, published_upto) values (%s, 90, 90)",
                    (partition,),
                )
                connection.exec_driver_sql(
                    "insert into notification.partitions (partition, epoch) values (%s, 7)", (partition,)
                )

    def read(self, table: str, first: int, last: int, *, partition: int = 0, days: float = 35) -> None:
        self.do(READ.format(table=table), days, partition, first, last)

    def do(self, statement: str, *values: Any) -> Any:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            return result.all() if result.returns_rows else result.rowcount

    def prune(self, reader: str, keep_days: float = 30, keep_days_verification: float = 400) -> Fold:
        (found,) = [
            fold for fold in Pruning(self.engine, self.settings).inboxes(keep_days, keep_days_verification) if fold.reader == reader
        ]  # fmt: skip
        return found

    def ids(self, table: str) -> set[str]:
        return {row[0] for row in self.do(f"select event_id from {table}")}

    def number(self, partition: int = 0) -> int | None:
        """Notification's number for the log of verification at a partition."""
        rows = self.do(
            "select seq from notification.reads where topic = %s and partition = %s and writer = 'verification' and log_partition = %s",
            HERE, partition, partition,
        )  # fmt: skip
        return rows[0][0] if rows else None

    def finish(self) -> linking.Linked:
        engine = db.administer(self.url)
        try:
            return linking.finish(engine, self.settings)
        finally:
            engine.dispose()


@pytest.fixture
def rig(stack: Stack, migrated: str) -> Iterator[Rig]:
    rig = Rig(stack, migrated)
    yield rig
    rig.engine.dispose()
    execute(stack, f"drop database {rig.name} with (force)")


def test_ids_stay_until_numbers_decide_and_go_then(rig: Rig) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 90)
    rig.read(table, 1, 49, partition=1)
    rig.do(f"insert into {table} (event_id, received_wall) values ('made by others', now() - interval '90 days')")
    fold = rig.prune("notification")
    assert (fold.deleted, fold.unlinked) == (0, 2), "a version that goes by ids may still run"
    made = rig.finish()
    assert made.holes == []
    assert made.partitions["notification"] == [0, 1]
    assert (rig.number(0), rig.number(1)) == (89, 49), "the last row of its topic that was read"
    assert rig.do("select partition, linked, epoch from notification.partitions order by 1") == [
        (0, True, 8),
        (1, True, 8),
    ]
    fold = rig.prune("notification")
    assert (fold.deleted, fold.unlinked) == (60 + 33, 0)
    assert rig.ids(table) == {"made by others"}
    assert rig.finish().partitions == {}, "once is enough"


def test_a_partition_with_a_hole_is_not_linked(rig: Rig) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 90)
    rig.do(f"delete from {table} where event_id = 'verification.0.31'")
    made = rig.finish()
    assert made.holes == [f"notification {HERE} verification.0.31"]
    assert made.partitions["notification"] == [1]
    assert rig.number(0) is None
    assert rig.prune("notification").deleted == 0
    rig.read(table, 31, 31)
    assert rig.finish().partitions["notification"] == [0]
    assert rig.number(0) == 89


def test_ids_that_a_mark_stands_for_were_read(rig: Rig) -> None:
    rig.read("notification.inbox", 61, 90)
    rig.do("insert into notification.inbox_marks values (%s, 'verification', 0, 60, 60)", HERE)
    store = Store("notification", "notification.", 2, PREFIX, frozenset())
    with (
        rig.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
        connection.begin() as begun,
    ):
        asked = dict.fromkeys(("verification.0.59", "verification.0.61", "verification.0.92", "made by others"), HERE)
        assert store.fresh(connection, asked) == {"verification.0.92", "made by others"}
        begun.rollback()
    assert rig.finish().holes == []
    assert rig.number(0) == 89


def test_what_was_read_lately_stays(rig: Rig) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 49)
    rig.read(table, 50, 90, days=20)
    rig.finish()
    rig.do(
        "insert into notification.reads_log values (%s, 0, 'verification', 0, 0, 7, now() - interval '31 days'), (%s, 0, 'verification', 0, 7, 9, now())",
        HERE,
        HERE,
    )
    fold = rig.prune("notification")
    assert rig.ids(table) == {f"verification.0.{n}" for n in range(50, 91) if n % 3}
    assert (fold.reads, rig.do("select seq from notification.reads_log")) == (1, [(9,)])
    assert rig.prune("notification", keep_days=19).deleted == len([n for n in range(50, 91) if n % 3])


def test_verifications_own_inbox_is_kept_for_as_long_as_policies_are_tried(rig: Rig) -> None:
    rig.do(
        "insert into intake.event_log (partition, seq, topic, key, target, type, payload, hash) values (0, 1, 'here.intake.events', 'k', 0, 't', '', '')"
    )
    rig.do("insert into intake.partitions (partition, seq, published_upto) values (0, 1, 1)")
    rig.do(
        "insert into verification.inbox (event_id, received_wall) values ('intake.0.1', now() - interval '100 days')"
    )
    rig.finish()
    assert rig.prune("verification").deleted == 0
    assert rig.prune("verification", keep_days_verification=90).deleted == 1


def test_a_service_cannot_forget_by_itself(rig: Rig, stack: Stack) -> None:
    url = stack.role_url("notification").rpartition("/")[0] + f"/{rig.name}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("insert into notification.inbox_marks values ('t', 'w', 0, 5, 0)")
    engine.dispose()


def test_rows_that_only_a_past_day_needed_go(rig: Rig) -> None:
    rig.do(
        "insert into intake.usage select 'h-old', now() - interval '3 days', 5; insert into intake.usage select 'h', now(), 5;"
        "insert into intake.misuse_usage values ('h-old', current_date - 4, 5), ('h', current_date, 5);"
        "insert into notification.bouncing values ('p-old', 'x', 'gone', now(), now() - interval '31 days'),"
        " ('p-new', 'x', 'gone', now(), now());"
        'insert into enforcement.parked (partition, key, topic, "offset", value, error, state, changed_wall) values'
        " (0, 'k', 't', 1, '', 'x', 'done', now() - interval '46 days'), (0, 'k', 't', 2, '', 'x', 'done', now()),"
        " (0, 'k', 't', 3, '', 'x', 'parked', now() - interval '46 days')"
    )
    found = Pruning(rig.engine, rig.settings).aged()
    assert {table: count for table, count in found.items() if count} == dict.fromkeys(
        ("intake.usage", "intake.misuse_usage", "notification.bouncing", "enforcement.parked"), 1
    )
    assert rig.do("select account from intake.usage") == [("h",)]
    assert rig.do("select account from intake.misuse_usage") == [("h",)]
    assert rig.do("select party from notification.bouncing") == [("p-new",)]
    assert rig.do('select "offset" from enforcement.parked order by 1') == [(2,), (3,)]
