"""Rows in bulk: what ``copy`` and array literals write is what the database holds, whatever the values are."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.stack import Stack
from shared import db

Row = tuple[str, str | None, int | None, bool, dt.datetime | None]
# all that a text value may hold: no NUL, no lone surrogates
TEXT = st.one_of(
    st.sampled_from(
        ["", "NULL", "null", "\\N", "\\.", "\\", '"', "'", "{}", "a,b", "\t", "\n", "\r\n", "\\t", "\u2028", '\\"']
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
)
TIMES = st.datetimes(min_value=dt.datetime(1, 1, 2), max_value=dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC))  # noqa: DTZ001
ROWS = st.lists(
    st.tuples(TEXT, st.none() | TEXT, st.none() | st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none() | TIMES),
    min_size=1,
    max_size=8,
)
COLUMNS = ("a", "b", "n", "yes", "at")


@pytest.fixture(scope="module")
def connection(stack: Stack) -> Iterator[sa.Connection]:
    engine = db.administer(stack.admin_url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "create temp table rows (a text not null, b text, n bigint, yes bool, at timestamptz)"
        )
        connection.commit()
        yield connection
    engine.dispose()


def _stored(connection: sa.Connection) -> Counter[Any]:
    stored = Counter(tuple(row) for row in connection.exec_driver_sql("select a, b, n, yes, at from rows"))
    connection.rollback()
    return stored


def _columns(rows: list[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_copied_rows_are_what_was_given(connection: sa.Connection, rows: list[Row]) -> None:
    db.copy(connection, "rows", dict(zip(COLUMNS, _columns(rows), strict=True)))
    assert _stored(connection) == Counter(rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_unnested_rows_are_what_was_given(connection: sa.Connection, rows: list[Row]) -> None:
    connection.exec_driver_sql(
        "insert into rows select * from unnest(%s::text[], %s::text[], %s::bigint[], %s::bool[], %s::timestamptz[])",
        tuple(_columns(rows)),
    )
    assert _stored(connection) == Counter(rows)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([], "text[]"), ([b"\0\xff", b""], "bytea[]"), ([1.5, 2.25], "float8[]"), ([["a", "b"], ["c", "d"]], "text[]")],
)
def test_other_lists_are_left_to_the_driver(connection: sa.Connection, values: list[Any], kind: str) -> None:
    found = connection.exec_driver_sql(f"select %s::{kind}", (values,)).scalar_one()
    connection.rollback()
    assert [bytes(value) if isinstance(value, memoryview) else value for value in found] == values


def test_what_the_database_cannot_hold_is_refused_before_it_is_sent(connection: sa.Connection) -> None:
    with pytest.raises(ValueError, match="NUL"):
        db.copy(connection, "rows", {"a": ["x\0y"]})
    with pytest.raises(ValueError, match="NUL"):
        connection.exec_driver_sql("select %s::text[]", (["x\0y"],))
    with pytest.raises(TypeError, match="float"):
        db.copy(connection, "rows", {"a": ["x"], "n": [1.5]})
    connection.rollback()


def test_a_refused_copy_is_the_databases_error_and_not_transient(connection: sa.Connection) -> None:
    with pytest.raises(psycopg2.errors.NotNullViolation) as refused, connection.begin():
        db.copy(connection, "rows", {"a": ["x", None]})
    assert not db.is_transient(refused.value)
    assert not _stored(connection)
