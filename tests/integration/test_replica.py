"""A database that follows another takes its place, there and back; and one whose disk is full keeps what it has said is there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg2
import pytest
import sqlalchemy as sa

from deploy.local import disks, replica
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack
from shared import db
from tests.conftest import ROOT
from tests.left_out import own_processes

pytestmark = [
    pytest.mark.stack,
    own_processes,
]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack without a broker of its own, which nobody asks for."""
    monkeypatch.setenv("GOODFAITH_KAFKA", "127.0.0.1:1")
    stack = Stack(ROOT, f"test-{os.getpid()}-pair")
    yield stack
    disks.unmount_all(stack.dir)
    stack.destroy()


def add(engine: sa.Engine, number: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into kept values (%s)", (number,))


def kept(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.exec_driver_sql("select n from kept order by n").scalars())


def vacuumed_behind(primary: Postgres, follower: Postgres) -> None:
    """Have the follower hold what takes rows away that a statement of now may still see."""
    follower.ask("select pg_wal_replay_pause()")
    for statement in (
        "create table gone (n int)",
        "insert into gone values (1)",
        "delete from gone",
        "vacuum gone",
        "drop table gone",
    ):
        primary.ask(statement)


def test_what_was_committed_survives_the_loss_of_either_server(alone: Stack) -> None:
    stack = Stack.start(ROOT, alone.name, standby=True)
    first, second = stack.database("postgres"), stack.database("standby")
    replica.synchronous(first, "standby")
    replica.wait_following(first, "standby", synchronous=True)
    engine = db.connect(stack.role_url("intake"), schema="public", name="test")
    with closing(psycopg2.connect(stack.admin_url)) as session, session, session.cursor() as cursor:
        cursor.execute("create table kept (n int); grant all on kept to goodfaith_intake")
    numbers = iter(range(1000))
    written = []
    for primary, follower, names in (
        (first, second, ("postgres", "standby")),
        (second, first, ("standby", "postgres")),
    ):
        for number in [next(numbers) for _ in range(20)]:
            add(engine, number)
            written.append(number)
        vacuumed_behind(primary, follower)
        stack.kill_postgres(names[0])  # type: ignore[arg-type]
        with pytest.raises(sa.exc.DBAPIError) as refused:
            add(engine, -1)
        assert db.is_transient(refused.value), "it is tried again"
        replica.promote(follower)
        assert kept(engine) == written, "the same URL finds who takes writes now"
        add(engine, number := next(numbers))
        written.append(number)
        replica.copy(stack.database(names[0]), follower, names[0])  # type: ignore[arg-type]
        stack.start_postgres(names[0])  # type: ignore[arg-type]
        replica.synchronous(follower, names[0])
        replica.wait_following(follower, names[0], synchronous=True)
    assert kept(engine) == written
    engine.dispose()


def test_a_commit_that_did_not_wait_for_the_follower_is_of_unknown_outcome(alone: Stack) -> None:
    """PostgreSQL ends the wait with a warning and says that it committed; nobody may call that acknowledged."""
    stack = Stack.start(ROOT, alone.name, standby=True)
    first = stack.database("postgres")
    replica.synchronous(first, "standby")
    replica.wait_following(first, "standby", synchronous=True)
    patient = db.connect(stack.role_url("intake"), schema="public", name="patient")
    with closing(psycopg2.connect(stack.admin_url)) as session, session, session.cursor() as cursor:
        cursor.execute("create table kept (n int); grant all on kept to goodfaith_intake")
    add(patient, 1)
    stack.kill_postgres("standby")

    def cancel() -> None:
        waiting = "select pid from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'patient'"
        while not (found := first.ask(waiting)):
            time.sleep(0.05)
        first.ask(f"select pg_cancel_backend({found[0][0]})")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(sa.exc.DBAPIError) as unknown:
        add(patient, 2)
    canceller.join()
    assert isinstance(unknown.value.orig, db.UnknownOutcome)
    assert db.is_transient(unknown.value), "workers claim again, intake answers 503"
    assert kept(patient) == [1, 2], "it is there, as long as this server is"
    stack.start_postgres("standby")
    replica.wait_following(first, "standby", synchronous=True)
    add(patient, 3)
    patient.dispose()


@pytest.mark.skipif(bool(disks.missing()), reason=disks.missing() or "-")
def test_a_full_disk_takes_nothing_that_was_committed(alone: Stack) -> None:
    stack = Stack.start(ROOT, alone.name)
    server = stack.database()
    server.ask("create table kept (n int, filling text)")
    stack.kill_postgres()
    committed = []
    with disks.limited(server.folder, 48 << 20):
        stack.start_postgres()
        ballast = disks.fill(server.folder)
        for number in range(200):
            with suppress(psycopg2.Error):
                server.ask(f"insert into kept select {number}, repeat(md5(random()::text), 8000)")
                committed.append(number)
                continue
            break
        else:
            pytest.fail("the disk was never full")
        ballast.unlink()
        stack.start_postgres()
        assert server.ask("select n from kept order by n") == [(number,) for number in committed]
        server.ask("insert into kept values (1000, '')")
        stack.kill_postgres()
    stack.start_postgres()
    assert server.ask("select count(*) from kept") == [(len(committed) + 1,)]
