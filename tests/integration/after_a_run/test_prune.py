"""What readers know of what they have read, on a small real run: a replay changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import stamina

from deploy.local.processes import Fleet
from services.ops.idle import readers
from services.ops.prune import Pruning
from services.ops.verify.verify import verify_stack
from shared import kafka_links
from tests.integration.after_a_run.test_backtest import tried
from tests.integration.small_run import IPP as VERSION
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(600)]
READ = "select sum(next_offset) from verification.cursors"


TABLES = ("inbox", "reads", "reads_log", "partitions")


@contextlib.contextmanager
def put_back(run: SmallRun) -> Iterator[None]:
    """Afterwards what readers know of what they have read is as it was."""
    tables = [f"{r.schema}.{r.prefix}{name}" for r in readers(run.settings) for name in TABLES]
    with run.engine.connect() as connection:
        for number, table in enumerate(tables):
            connection.exec_driver_sql(f"create table public.saved_{number} as table {table}")
        try:
            yield
        finally:
            for number, table in enumerate(tables):
                connection.exec_driver_sql(f"delete from {table}; insert into {table} table public.saved_{number}")
                connection.exec_driver_sql(f"drop table public.saved_{number}")


def state(connection: sa.Connection) -> list[Any]:
    """Everything that verification has said and knows."""
    heads = connection.exec_driver_sql("select partition, seq, hash from verification.partitions order by 1").all()
    return [*heads, *connection.exec_driver_sql("select item, revision, body from verification.items order by 1").all()]


def forget_offsets(run: SmallRun, group: str) -> None:
    """Who sets cursors back deletes what the group has committed: else the database seems to have gone back."""
    admin: Any = kafka_links.admin(run.settings, client_id="test")
    try:
        assert admin.delete_groups([run.settings.topic_prefix + group])[run.settings.topic_prefix + group] == "OK"
    finally:
        admin.close()


def test_a_replay_from_the_beginning_changes_nothing(run: SmallRun) -> None:
    with put_back(run), run.engine.connect() as connection:
        assert sum(Pruning(run.engine, run.settings).reads(0, 0).values()) > 100
        assert tried(run, VERSION, VERSION).as_json()["items"] == 0, "it is no longer known when these were judged"
        before = state(connection)
        ends = connection.exec_driver_sql(READ).scalar_one()
        connection.exec_driver_sql("update verification.cursors set next_offset = 0")
        forget_offsets(run, "verification")
        fleet = Fleet.start(run.stack, {"verification": 1})
        try:
            fleet.wait_ready(120)
            # it has read everything when its cursors say so
            for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=120.0, wait_max=0.5):
                with attempt:
                    assert connection.exec_driver_sql(READ).scalar_one() >= ends > 100
        finally:
            fleet.stop()
        assert state(connection) == before
        # at once: there are no watermarks to wait for, which intake's worker would send
        report = verify_stack(run.settings)
        assert report.clean, report.kinds
