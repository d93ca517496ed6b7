"""Nothing is at rest that a worker is about to do: what is due at this very instant is under way, though the clock stands."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from services.ops.idle import Watch
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
DUE = {
    "sanctions": ("enforcement.standings", "seller", "due_at = '{at}'"),
    "entities": ("enforcement.entities", "entity", "next_change = '{at}'"),
    "beginnings": ("notification.messages", "id", "deemed_at = '{at}', begun_at = null, state = 'sent'"),
}
"""By what is waited for: a table, its key, and what makes a row of it due."""


@pytest.mark.parametrize("name", DUE)
def test_what_is_due_now_is_under_way(run: SmallRun, name: str) -> None:
    table, key, due = DUE[name]
    watch = Watch(run.engine, run.settings)
    now = watch.now()
    upto = now - dt.timedelta(microseconds=1)
    try:
        with run.engine.connect() as connection:
            connection.exec_driver_sql(f"create table public.saved as select * from {table} order by {key} limit 1")
            assert connection.exec_driver_sql("select count(*) from public.saved").scalar_one() == 1

            def put(values: str) -> None:
                connection.exec_driver_sql(
                    f"update {table} as t set {values} from public.saved s where t.{key} = s.{key}"
                )

            columns = [one.partition(" =")[0] for one in due.split(", ")]
            try:
                assert not watch.pending(upto).counts[name]
                put(due.format(at=now.isoformat()))
                assert watch.pending(upto).counts[name] == 1
                put(due.format(at=(now + dt.timedelta(microseconds=1)).isoformat()))
                assert not watch.pending(upto).counts[name]
            finally:
                put(", ".join(f"{column} = s.{column}" for column in columns))
                connection.exec_driver_sql("drop table public.saved")
    finally:
        watch.close()


def test_a_worker_that_reads_during_the_look_is_seen(run: SmallRun) -> None:
    """Before the counts a record is unread; after them it is read, and what it causes is not published yet."""
    watch = Watch(run.engine, run.settings)
    with run.engine.connect() as connection:
        upto = connection.exec_driver_sql("select min(watermark) from verification.partitions").scalar_one()
        topic, partition = connection.exec_driver_sql(
            "select topic, partition from verification.cursors order by next_offset desc limit 1"
        ).one()
    # the same one both times: once it is a record back, another may be the furthest
    row = f"(topic, partition) = ('{topic}', {partition})"
    unread = f"update verification.cursors set next_offset = next_offset - 1 where {row}"
    reads = (
        f"update verification.cursors set next_offset = next_offset + 1 where {row}",
        "update verification.partitions set published_upto = published_upto - 1",
    )
    published = "update verification.partitions set published_upto = published_upto + 1"
    has_read = False

    def read(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal has_read
        if "admission_queue" in statement and not has_read:
            has_read = True
            with run.engine.connect() as worker:
                for effect in reads:
                    worker.exec_driver_sql(effect)

    before = watch.pending(upto)
    assert not before, str(before)
    sa.event.listen(run.engine, "after_cursor_execute", read)
    try:
        with run.engine.connect() as connection:
            connection.exec_driver_sql(unread)
        assert watch.pending(upto)
        assert has_read
    finally:
        sa.event.remove(run.engine, "after_cursor_execute", read)
        with run.engine.connect() as connection:
            connection.exec_driver_sql(published)
        watch.close()
