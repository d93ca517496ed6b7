"""Makes a database's clock wrong, for tests on one machine, where all processes share one correct clock."""

from __future__ import annotations

import sqlalchemy as sa

_TRUE = "pg_catalog.clock_timestamp_true"


def set_ahead(connection: sa.Connection, seconds: float) -> None:
    """Put ``clock_timestamp()`` of this database ahead by this many seconds (negative: behind); 0 restores it.

    Needs a superuser. Takes effect on commit; sessions see it from their next statement on. The
    function is replaced, never dropped: a statement being planned meanwhile would fail to find it.
    """
    if not connection.exec_driver_sql("select to_regprocedure(%s) is not null", (f"{_TRUE}()",)).scalar_one():
        connection.exec_driver_sql("alter function pg_catalog.clock_timestamp() rename to clock_timestamp_true")
    connection.exec_driver_sql(
        f"""create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile
        as $$ select {_TRUE}() + {float(seconds)!r} * interval '1 second' $$"""
    )
