"""`goodfaith prune` on a small real run: ids go, and topics that are read again from their beginning change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import stamina

from deploy.local.processes import Fleet
from services.operator.idle import readers
from services.operator.prune import Pruning
from services.operator.verify import verify_stack
from tests.integration.after_a_run.test_backtest import VERSION, tried
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(600)]
READ = "select sum(next_offset) from verification.cursors"


@contextlib.contextmanager
def put_back(run: SmallRun) -> Iterator[dict[str, int]]:
    """Inboxes by reader with their sizes; afterwards they and the marks are as they were."""
    tables = {r.name: f"{r.schema}.{r.prefix}inbox" for r in readers(run.settings)}
    sizes = {}
    with run.engine.connect() as connection:
        for number, (name, table) in enumerate(tables.items()):
            connection.exec_driver_sql(f"create table public.saved_{number} as select * from {table}")
            sizes[name] = connection.exec_driver_sql(f"select count(*) from {table}").scalar_one()
        try:
            yield sizes
        finally:
            for number, table in enumerate(tables.values()):
                connection.exec_driver_sql(f"delete from {table}_marks")
                connection.exec_driver_sql(
                    f"insert into {table} select * from public.saved_{number} on conflict do nothing"
                )
                connection.exec_driver_sql(f"drop table public.saved_{number}")


def state(connection: sa.Connection) -> list[Any]:
    """Everything that verification has said and knows."""
    heads = connection.exec_driver_sql("select partition, seq, hash from verification.partitions order by 1").all()
    return [*heads, *connection.exec_driver_sql("select item, revision, body from verification.items order by 1").all()]


def test_ids_go_and_a_replay_from_the_beginning_changes_nothing(run: SmallRun) -> None:
    with put_back(run) as sizes:
        folds = Pruning(run.engine, run.settings).inboxes(0, 0)
        assert not any(fold.held or fold.waits for fold in folds)
        # the demo marketplace's log is here as well: every id but those of upstreams' records is proven
        assert {fold.reader: fold.deleted for fold in folds} == {**sizes, "intake-inbound": 0}
        assert sum(sizes.values()) > 500
        assert tried(run, VERSION, VERSION).as_json()["items"] == 0, "it is no longer known when these were judged"
        with run.engine.connect() as connection:
            before = state(connection)
            ends = connection.exec_driver_sql(READ).scalar_one()
            connection.exec_driver_sql("update verification.cursors set next_offset = 0")
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
            assert not connection.exec_driver_sql("select count(*) from verification.inbox").scalar_one()
        # at once: there are no watermarks to wait for, which intake's worker would send
        report = verify_stack(run.settings)
        assert report.clean, report.kinds
