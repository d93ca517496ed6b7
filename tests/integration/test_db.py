"""Engines: what their errors say, and how long a statement may take."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from deploy.local.stack import Stack
from shared import db

SECRET = "ada@private.example"


@pytest.fixture(params=["connect", "administer"])
def engine(stack: Stack, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    made = (
        db.administer(stack.admin_url)
        if request.param == "administer"
        else db.connect(stack.admin_url, schema="public", name="test")
    )
    yield made
    made.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into kept values (%s), (%s)",  # DETAIL quotes the key
        "insert into kept select nullif(v, v) from unnest(array[%s, %s]) as v",  # DETAIL quotes the row
        "insert into kept values (%s || repeat('x', 90)), (%s)",  # a check's DETAIL quotes the row
        "select %s::int, %s",  # the first line quotes the value
        "select * from missing where a = %s and b = %s",
    ],
)
def test_an_error_shows_no_value(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "create temp table kept (mail text primary key check (length(mail) < 90), other text)"
        )
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql(statement, (SECRET, SECRET))
    shown = f"{caught.value} {caught.value!r} {caught.value.orig} {caught.value.orig!r}"
    assert SECRET not in shown
    assert caught.value.orig is not None


def test_a_failing_copy_shows_no_value(engine: sa.Engine) -> None:
    with engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("create temp table kept (mail text primary key, n int)")
        with pytest.raises(psycopg2.Error) as caught:
            db.copy(connection, "kept", {"mail": [SECRET, SECRET], "n": [1, 2]})
        transaction.rollback()
    assert "duplicate key value violates unique constraint" in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value!r}"


def test_a_slow_statement_is_cancelled(stack: Stack) -> None:
    engine = db.connect(stack.admin_url, schema="public", name="test", statement_timeout=0.2)
    started = time.monotonic()
    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        connection.exec_driver_sql("select pg_sleep(600)")
    assert time.monotonic() - started < 300
    assert db.timed_out(caught.value)
    assert db.is_transient(caught.value)
    engine.dispose()
