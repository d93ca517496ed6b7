"""`goodfaith dlq` on the echo service: listed, shown, run again in order, and asking twice is asking once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.ops import dlq
from shared.failures import CommandError
from tests.integration.test_runtime import Rig

pytestmark = pytest.mark.stack


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(stack, tmp_path)
    yield rig
    rig.close()


class Desk:
    """The operator's view of the echo service."""

    def __init__(self, rig: Rig, connection: sa.Connection) -> None:
        self.rig = rig
        self.connection = connection
        self.tables = [dlq.Table("echo", f"{rig.name}.dead_letters")]

    def states(self, *, done: bool = True) -> dict[str, str]:
        """State of each dead letter, by event."""
        return {row["event_id"]: row["state"] for row in dlq.dead_letters(self.connection, self.tables, done=done)}

    def poison(self, on: bool) -> None:
        """Whether the service chokes on what `poison` sends."""
        sql = "insert into {0}.echo_poison values (1)" if on else "delete from {0}.echo_poison"
        self.connection.exec_driver_sql(sql.format(self.rig.name))

    def applied(self) -> list[str]:
        """Items that were applied, in order."""
        rows = self.connection.exec_driver_sql(f"select item from {self.rig.name}.echo_items order by n")
        return list(rows.scalars())


@pytest.fixture
def desk(rig: Rig) -> Iterator[Desk]:
    with rig.engine.connect() as connection:
        desk = Desk(rig, connection)
        desk.poison(True)
        rig.send(1, key="a", by="poison")
        rig.send(2, key="a")
        rig.send(3, key="b", by="poison")
        rig.send(4, key="c")
        rig.producer.flush()
        rig.start()
        rig.until(lambda: len(desk.states()) == 3 and desk.applied() == ["i4"])
        yield desk


def test_dead_letters_are_listed_and_found(desk: Desk) -> None:
    rows = dlq.dead_letters(desk.connection, desk.tables)
    assert {(row["key"], row["event_id"], row["state"]) for row in rows} == {
        ("a", "test.1", "waiting"),
        ("a", "test.2", "waiting"),
        ("b", "test.3", "waiting"),
    }
    assert "RuntimeError: poison" in next(row["error"] for row in rows if row["event_id"] == "test.1")
    for row in rows:
        found = dlq.find(desk.connection, desk.tables, row["id"])
        assert found is not None
        assert f"{found[0].worker}:{found[1]}" == row["id"]
    for wrong in ("echo:99999", "other:1", "echo:x", "1", "echo:²"):
        assert dlq.find(desk.connection, desk.tables, wrong) is None


def _again(desk: Desk, **what: Any) -> list[dict[str, Any]]:
    waited = dlq.ask(desk.connection, desk.tables, **what)
    return dlq.await_end(desk.connection, desk.tables, waited, 20)


def test_a_key_is_run_again_in_order(desk: Desk) -> None:
    desk.poison(False)
    rows = _again(desk, key="a")
    assert [(row["event_id"], row["state"]) for row in rows] == [("test.1", "done"), ("test.2", "done")]
    assert desk.applied() == ["i4", "i1", "i2"]
    assert desk.states()["test.3"] == "waiting"
    # once more: nothing is left of the key, and nothing is done twice
    assert _again(desk, key="a") == []
    assert desk.applied() == ["i4", "i1", "i2"]


def test_a_record_takes_its_key_along(desk: Desk) -> None:
    desk.poison(False)
    last = next(row["id"] for row in dlq.dead_letters(desk.connection, desk.tables) if row["event_id"] == "test.2")
    assert [row["event_id"] for row in _again(desk, id=last)] == ["test.1", "test.2"]
    assert desk.applied() == ["i4", "i1", "i2"]


def test_what_fails_again_stays(desk: Desk) -> None:
    rows = _again(desk)
    assert {row["state"] for row in rows} == {"waiting"}
    assert next(row["count"] for row in rows if row["event_id"] == "test.1") == 2
    assert desk.applied() == ["i4"]
    desk.poison(False)
    assert {row["state"] for row in _again(desk)} == {"done"}
    assert desk.applied()[0] == "i4"
    assert sorted(desk.applied()) == ["i1", "i2", "i3", "i4"]


def test_asking_twice_is_asking_once(desk: Desk) -> None:
    for process in desk.rig.processes:
        process.kill()
        process.wait()
    desk.poison(False)
    first = dlq.ask(desk.connection, desk.tables)
    assert dlq.ask(desk.connection, desk.tables) == first
    assert len(first) == 3
    # nobody runs them: said so, not waited for without end
    assert {row["state"] for row in dlq.await_end(desk.connection, desk.tables, first, 0.3)} == {"replay"}
    desk.rig.start()
    assert {row["state"] for row in dlq.await_end(desk.connection, desk.tables, first, 30)} == {"done"}
    assert sorted(desk.applied()) == ["i1", "i2", "i3", "i4"]


def test_an_unknown_id_is_said(desk: Desk) -> None:
    with pytest.raises(CommandError, match="no dead letter 'echo:777'"):
        dlq.ask(desk.connection, desk.tables, id="echo:777")
