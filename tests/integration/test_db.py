"""Engines: what their errors say, and how long a statement may take."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from deploy.local.stack import Stack
from shared import db
from tests.patience import PATIENCE_S

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
    # it would end well if nobody cancelled it
    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        connection.exec_driver_sql("select pg_sleep(600)")
    assert db.timed_out(caught.value)
    assert db.is_transient(caught.value)
    engine.dispose()


def test_a_session_that_stopped_amid_a_copy_gives_up_its_locks(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a process that was stopped: the server's own timeouts do not end it."""
    monkeypatch.setattr(db, "IDLE_LIMIT_S", 1)
    engine = db.connect(stack.admin_url, schema="public", name="test", statement_timeout=1)
    reading, go_on = threading.Event(), threading.Event()
    ended: list[Exception] = []

    class Stopped:
        def read(self, _size: int) -> bytes:
            reading.set()
            go_on.wait(PATIENCE_S)
            return b""

    def stop() -> None:
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql("update held set n = 1")
                db.copy_text(connection, "copy held from stdin", Stopped())
        except (psycopg2.Error, DBAPIError) as error:
            ended.append(error)

    def update() -> None:
        with db.ending_stopped(engine), engine.begin() as connection:
            connection.exec_driver_sql("set local lock_timeout = 100; set local statement_timeout = 0")
            connection.exec_driver_sql("update held set n = 2")

    with engine.begin() as connection:
        connection.exec_driver_sql("create table held (n int); insert into held values (0)")
    stopped = threading.Thread(target=stop)
    stopped.start()
    try:
        assert reading.wait(PATIENCE_S)
        with pytest.raises(DBAPIError, match="lock timeout"):
            update()  # it may still go on
        time.sleep(2.5)  # longer than each timeout of the server's
        with pytest.raises(DBAPIError, match="lock timeout"):
            update()
        until = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < until
            with contextlib.suppress(DBAPIError):
                update()
                break
    finally:
        go_on.set()
        stopped.join()
        with engine.begin() as connection:
            connection.exec_driver_sql("drop table held")
        engine.dispose()
    assert [db.is_transient(error) for error in ended] == [True], "the process goes on when it is resumed"
