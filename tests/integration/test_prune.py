"""`goodfaith prune` on tables of a migrated database, filled by hand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.local.stack import Stack
from services.ops.prune import Pruning
from shared import db
from shared.settings import Settings
from tests.integration.databases import execute

pytestmark = pytest.mark.stack
PREFIX = "here."


class Rig:
    """An installation's tables, without processes."""

    def __init__(self, stack: Stack, template: str) -> None:
        self.name = f"prune_{uuid.uuid4().hex[:8]}"
        execute(stack, f"create database {self.name} template {template}")
        self.url = stack.admin_url.rpartition("/")[0] + f"/{self.name}"
        self.settings = Settings(kafka="127.0.0.1:1", database=SecretStr(self.url), topic_prefix=PREFIX, partitions=2)
        self.engine = db.administer(self.url, autocommit=True)

    def do(self, statement: str, *values: Any) -> Any:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            return result.all() if result.returns_rows else result.rowcount


@pytest.fixture
def rig(stack: Stack, migrated: str) -> Iterator[Rig]:
    rig = Rig(stack, migrated)
    yield rig
    rig.engine.dispose()
    execute(stack, f"drop database {rig.name} with (force)")


def test_when_events_were_read_is_known_for_some_time(rig: Rig) -> None:
    for schema in ("notification", "verification"):
        rig.do(
            f"insert into {schema}.reads_log values ('t', 0, 'w', 0, 0, 7, now() - interval '31 days'), ('t', 0, 'w', 0, 7, 9, now())"
        )
    pruning = Pruning(rig.engine, rig.settings)
    deleted = pruning.reads()
    assert {table for table, count in deleted.items() if count} == {"notification.reads_log"}
    assert rig.do("select seq from notification.reads_log") == [(9,)]
    assert rig.do("select seq from verification.reads_log order by 1") == [(7,), (9,)], "policies are tried on it"
    assert pruning.reads(keep_days_verification=30)["verification.reads_log"] == 1


def test_rows_that_only_a_past_day_needed_go(rig: Rig) -> None:
    rig.do(
        "insert into intake.usage select 'h-old', now() - interval '3 days', 5; insert into intake.usage select 'h', now(), 5;"
        "insert into intake.misuse_usage values ('h-old', current_date - 4, 5), ('h', current_date, 5);"
        "insert into verification.snapshots select 'l', d, '{}', null, null, now() - age, filed from (values"
        " ('old', interval '401 days', false), ('filed', interval '401 days', true), ('new', interval '1 day', false))"
        " as n(d, age, filed);"
        "insert into notification.bouncing values ('p-old', 'x', 'gone', now(), now() - interval '31 days'),"
        " ('p-new', 'x', 'gone', now(), now());"
        'insert into enforcement.dead_letters (partition, key, topic, "offset", value, error, state, changed_wall) values'
        " (0, 'k', 't', 1, '', 'x', 'done', now() - interval '46 days'), (0, 'k', 't', 2, '', 'x', 'done', now()),"
        " (0, 'k', 't', 3, '', 'x', 'waiting', now() - interval '46 days')"
    )
    found = Pruning(rig.engine, rig.settings).aged()
    assert {table: count for table, count in found.items() if count} == dict.fromkeys(
        (
            "intake.usage",
            "intake.misuse_usage",
            "verification.snapshots",
            "notification.bouncing",
            "enforcement.dead_letters",
        ),
        1,
    )
    assert rig.do("select account from intake.usage") == [("h",)]
    assert rig.do("select account from intake.misuse_usage") == [("h",)]
    assert rig.do("select digest from verification.snapshots order by 1") == [("filed",), ("new",)]
    assert rig.do("select party from notification.bouncing") == [("p-new",)]
    assert rig.do('select "offset" from enforcement.dead_letters order by 1') == [(2,), (3,)]
