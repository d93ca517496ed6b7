"""`goodfaith prune` on tables of a migrated database, filled by hand: ids go only where both tables prove that all was read."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from deploy.local.stack import Stack
from services.operator import prune
from services.operator.prune import Fold, Pruning
from shared import db
from shared.runtime.store import Store
from shared.settings import Settings
from tests.integration.databases import execute

pytestmark = pytest.mark.stack
PREFIX = "here."
HERE = "verification.events"
LOG = """
    insert into verification.event_log (partition, seq, topic, key, target, type, payload, hash, recorded_wall)
    select %s, n, case when n %% 3 = 0 then 'here.marketplace.commands' else 'here.verification.events' end, 'k', 0, 't', '', '',
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
                connection.exec_driver_sql(LOG, (partition, 1, 90))
                connection.exec_driver_sql(
                    "insert into verification.partitions (partition, seq, published_upto) values (%s, 90, 90)",
                    (partition,),
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

    def mark(self, table: str, partition: int = 0) -> tuple[int, int] | None:
        rows = self.do(
            f"select upto, gone_upto from {table}_marks where topic = %s and writer = 'verification' and partition = %s",
            HERE, partition,
        )  # fmt: skip
        return tuple(rows[0]) if rows else None


@pytest.fixture
def rig(stack: Stack, migrated: str) -> Iterator[Rig]:
    rig = Rig(stack, migrated)
    yield rig
    rig.engine.dispose()
    execute(stack, f"drop database {rig.name} with (force)")


@pytest.mark.parametrize("chunk", [7, 50_000])
def test_what_was_all_read_goes_and_is_known_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(prune, "CHUNK", chunk)
    table = "notification.inbox"
    rig.read(table, 1, 90)
    rig.do(f"insert into {table} (event_id, received_wall) values ('made by others', now() - interval '90 days')")
    fold = rig.prune("notification")
    # of the second partition nothing was read
    assert (fold.deleted, fold.held, fold.waits) == (60, {f"{HERE} verification.1": 1}, False)
    assert rig.ids(table) == {"made by others"}
    assert rig.mark(table) == (90, 90)
    assert rig.mark(table, 1) is None
    assert rig.prune("notification").deleted == 0

    store = Store("notification", "notification.", 2, PREFIX, frozenset())
    with rig.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
        asked = {
            "verification.0.89": HERE, "verification.0.1": HERE, "verification.0.91": HERE, "verification.1.50": HERE,
            "intake.0.50": HERE, "verification.0.050": HERE, "made by others": HERE, "made by none": HERE,
            # of a topic that is not read yet: it may be one day, from its beginning
            "verification.0.3": "marketplace.commands",
        }  # fmt: skip
        known = {"verification.0.89", "verification.0.1", "made by others"}
        assert store.fresh(connection, asked) == asked.keys() - known
        assert store.fresh(connection, asked) == set()


def test_the_first_that_was_not_read_holds_all_behind_it(rig: Rig) -> None:
    table = "intake.inbox"
    rig.read(table, 1, 90)
    rig.do(f"delete from {table} where event_id = 'verification.0.31'")
    fold = rig.prune("intake")
    assert rig.mark(table) == (30, 30)
    assert rig.ids(table) == {f"verification.0.{n}" for n in range(32, 91) if n % 3}
    assert fold.held == {f"{HERE} verification.0": 31, f"{HERE} verification.1": 1}
    # once it is read, the rest goes
    rig.read(table, 31, 31)
    assert rig.prune("intake").held.keys() == {f"{HERE} verification.1"}
    assert rig.mark(table) == (90, 90)
    assert rig.ids(table) == set()


def test_what_was_read_lately_stays(rig: Rig) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 49)
    rig.read(table, 50, 90, days=20)
    rig.read(table, 1, 90, partition=1)
    fold = rig.prune("notification")
    assert (rig.mark(table), rig.mark(table, 1)) == ((49, 49), (90, 90))
    assert rig.ids(table) == {f"verification.0.{n}" for n in range(50, 91) if n % 3}
    assert fold.held == {}, "what is young is on its way, and holds nothing up"
    assert rig.prune("notification", keep_days=19).deleted == len([n for n in range(50, 91) if n % 3])


def test_each_topic_of_a_log_stands_for_itself(rig: Rig) -> None:
    """The demo marketplace reads commands only: verification's other events are not among what it may call read."""
    rig.do(
        "insert into marketplace.partitions (partition) values (0) on conflict do nothing"
    )  # by which the demo marketplace is here
    rig.do(
        "insert into marketplace.inbox (event_id, received_wall) select 'verification.0.' || n, now() - interval '35 days'"
        " from generate_series(3, 90, 3) n"
    )
    rig.do("delete from verification.event_log where partition = 1")
    assert rig.prune("marketplace").deleted == 30
    assert {tuple(row) for row in rig.do("select topic, partition, upto from marketplace.inbox_marks")} >= {
        ("marketplace.commands", 0, 90)
    }
    assert not [row for row in rig.do("select topic from marketplace.inbox_marks") if row[0] == HERE]


def test_verifications_own_inbox_is_kept_for_as_long_as_policies_are_tried(rig: Rig) -> None:
    rig.do(
        "insert into intake.event_log (partition, seq, topic, key, target, type, payload, hash) values (0, 1, 'here.intake.events', 'k', 0, 't', '', '')"
    )
    rig.do("insert into intake.partitions (partition, seq, published_upto) values (0, 1, 1)")
    rig.do(
        "insert into verification.inbox (event_id, received_wall) values ('intake.0.1', now() - interval '100 days')"
    )
    assert rig.prune("verification").deleted == 0
    assert rig.prune("verification", keep_days_verification=90).deleted == 1


def test_ids_stay_while_a_transaction_goes_on_that_may_not_know_the_marks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 90)
    other = rig.engine.connect().execution_options(isolation_level="READ COMMITTED")
    begun = other.begin()
    other.exec_driver_sql("insert into intake.usage values ('h', now(), 1)")  # an old one, by its number
    monkeypatch.setattr(prune, "WAIT_S", 0.3)
    fold = rig.prune("notification")
    assert (fold.deleted, fold.waits) == (0, True)
    assert rig.mark(table) == (90, 0)
    assert len(rig.ids(table)) == 60
    monkeypatch.setattr(prune, "WAIT_S", 30.0)
    ended = threading.Timer(0.3, lambda: (begun.rollback(), other.close()))
    ended.start()
    began = time.monotonic()
    assert rig.prune("notification").deleted == 60
    assert time.monotonic() - began > 0.2
    ended.join()
    assert rig.mark(table) == (90, 90)


def test_a_run_that_was_killed_between_mark_and_deletion_is_taken_up(rig: Rig) -> None:
    table = "notification.inbox"
    rig.read(table, 1, 90)
    rig.do(f"insert into {table}_marks values (%s, 'verification', 0, 60, 20)", HERE)
    assert rig.prune("notification").deleted == len([n for n in range(21, 91) if n % 3])
    assert rig.ids(table) == {f"verification.0.{n}" for n in range(1, 21) if n % 3}


def test_a_service_cannot_forget_by_itself(rig: Rig, stack: Stack) -> None:
    url = stack.role_url("notification").rpartition("/")[0] + f"/{rig.name}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("insert into notification.inbox_marks values ('t', 'w', 0, 5, 0)")
    with engine.connect() as connection:
        store = Store("notification", "notification.", 2, PREFIX, frozenset())
        assert store.fresh(connection, {"verification.0.1": HERE}) == {"verification.0.1"}
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
