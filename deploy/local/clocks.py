"""A database whose clock is wrong: on one machine all processes have one clock, and it is right."""

from __future__ import annotations

import sqlalchemy as sa

_TRUE = "pg_catalog.clock_timestamp_true"


def set_ahead(connection: sa.Connection, seconds: float) -> None:
    """From the commit on, ``clock_timestamp()`` of this database is so many seconds ahead (or behind); 0 mends it.

    As a superuser. Sessions notice at their next statement. The function is replaced and never dropped: a statement that is
    being planned meanwhile would not find it ("cache lookup failed for function").
    """
    if not connection.exec_driver_sql("select to_regprocedure(%s) is not null", (f"{_TRUE}()",)).scalar_one():
        connection.exec_driver_sql("alter function pg_catalog.clock_timestamp() rename to clock_timestamp_true")
    connection.exec_driver_sql(
        f"""create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile
        as $$ select {_TRUE}() + {float(seconds)!r} * interval '1 second' $$"""
    )
