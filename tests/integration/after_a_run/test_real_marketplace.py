"""Where another's marketplace answers on the topics, the demo's tables are there and empty: nothing of its is taken for ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from services.ops.idle import READERS, present
from services.ops.restore import unread
from services.ops.restore.restore import written_by
from services.ops.verify.verify import verify_stack
from shared import topics
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
THEIRS = {"marketplace.receipts", "marketplace.listings", "marketplace.seller_receipts", "marketplace.sellers"} | {
    "marketplace.contacts",
    "marketplace.message_receipts",
}


@contextlib.contextmanager
def without_the_demo(run: SmallRun) -> Iterator[None]:
    """The demo marketplace's tables as migrations leave them; as they were afterwards."""
    with run.engine.connect() as connection:
        rows = connection.exec_driver_sql("select tablename from pg_tables where schemaname = 'marketplace'")
        tables = [name for name in rows.scalars() if name != "alembic_version"]
        # no triggers, no foreign keys
        connection.exec_driver_sql("set session_replication_role = replica")
        for table in tables:
            connection.exec_driver_sql(f"create table public.kept_{table} as select * from marketplace.{table}")
            connection.exec_driver_sql(f"delete from marketplace.{table}")
        try:
            yield
        finally:
            for table in tables:
                columns = connection.exec_driver_sql(
                    "select string_agg(quote_ident(column_name), ', ') from information_schema.columns"
                    " where table_schema = 'marketplace' and table_name = %s and is_generated = 'NEVER'",
                    (table,),
                ).scalar_one()
                connection.exec_driver_sql(
                    f"insert into marketplace.{table} ({columns}) overriding system value"
                    f" select {columns} from public.kept_{table}"
                )
                connection.exec_driver_sql(f"drop table public.kept_{table}")


def test_nothing_of_another_marketplaces_is_taken_for_ours(run: SmallRun) -> None:
    with run.engine.connect() as connection:
        assert "marketplace" in {one.name for one in present(connection, READERS)}, "of this run it is ours"
    with without_the_demo(run), run.engine.connect() as connection:
        here = present(connection, READERS)
        assert {one.name for one in READERS} - {one.name for one in here} == {"marketplace"}
        assert {topic.name for topic in topics.TOPICS} - {topic.name for topic in written_by(here)} == THEIRS

        report = verify_stack(run.settings)
        assert report.clean, report.kinds
        assert not report.unrest
        # its receipts are gone, as far as anybody can tell here: they stay theirs, and nobody goes on without them
        place = "where topic = 'marketplace.receipts' and partition = 0"
        cursors = f"select next_offset from enforcement.cursors {place}"
        before = connection.exec_driver_sql(cursors).scalar_one()
        connection.exec_driver_sql(f"update enforcement.cursors set next_offset = next_offset + 1000 {place}")
        try:
            made = unread.refill(run.settings, run.engine)
            assert [(gap.topic, gap.partition) for gap in made.theirs] == [("marketplace.receipts", 0)]
            assert made.gaps == made.theirs
            assert not made.records
            assert connection.exec_driver_sql(cursors).scalar_one() == before + 1000
        finally:
            connection.exec_driver_sql(f"update enforcement.cursors set next_offset = {before} {place}")
            unread.commit_cursors(run.settings, connection, here)  # as the refill did with the cursor of the test
    assert verify_stack(run.settings).clean
