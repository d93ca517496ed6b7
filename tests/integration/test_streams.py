"""Streams on a real broker: workers that are killed or leave lose nothing and double nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from services.ops.streams import Source, rebuild_from
from services.streams import generations, items, tables
from services.streams.app import changelog_topic
from tests.integration.streams_parts import Rig, claim_of, wait
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    """An installation of streams."""
    made = Rig(stack, tmp_path)
    yield made
    made.close()


def _revisions(rig: Rig, name: str, claim: str) -> list[int]:
    told = rig.ask(name, f"/internal/streams/claim?claim={claim}")
    return [item["revision"] for item in told["items"]] if told else []


def test_workers_that_die_lose_nothing_and_double_nothing(rig: Rig) -> None:
    """Killed between changelog and table, killed while another takes over, rebuilt, and stopped: the states are those of a plain fold."""
    rig.items(range(150))
    killed = rig.start("a", crash_at="streams:acknowledged:3")
    assert killed.wait(120) == -signal.SIGKILL
    rig.start("b")
    rig.start("a")
    rig.items(range(150, 250), seed=1)
    rig.wait_ready("a", "b")
    rig.items(range(100, 200), seed=2)
    # whichever is asked tells what both have; on a busy machine one of them may be out of the group just then
    both = ("a", "b")
    wait(lambda: any(_revisions(rig, name, claim_of(120)) == [3, 3, 3] for name in both), 90, lambda: rig.log("a"))
    rig.processes["b"][0].kill()
    wait(rig.caught_up, 120, lambda: rig.log("a"))
    expected = rig.expected()
    assert len([place for place in expected if place[0] == "items"]) == 250
    assert rig.changelogged() == expected
    rebuild_from(rig.settings, Source.TOPICS)
    wait(rig.caught_up, 120, lambda: rig.log("a"))
    assert rig.changelogged() == expected
    assert generations.tidy(rig.settings, 2) == [changelog_topic(rig.settings, 1)]

    # somebody else writes to the changelog, as a worker that woke too late would: what stands is written again
    row = next(row for row in rig.read(changelog_topic(rig.settings, 2)) if row.key.startswith(b"items\0"))
    for key, value in (
        (row.key, tables.encode(items.Item(received=1))),
        (tables.READ, tables.encode(tables.ReadPositions())),
    ):
        rig.producer.send(row.topic, value, key, partition=row.partition)
    rig.producer.flush()
    # and an event that nobody can read: it is kept
    rig.producer.send(rig.prefix + "verification.events", b"{", b"l-1", partition=row.partition)
    rig.items(range(200, 260), seed=3)
    wait(rig.caught_up, 120, lambda: rig.log("a"))
    expected = rig.expected()
    assert rig.changelogged() == expected
    assert "goodfaith_streams_foreign_writes_total 1.0" in rig.get("a", "/metrics")
    assert f'goodfaith_streams_failed_events{{partition="{row.partition}"}} 1.0' in rig.get("a", "/metrics")
    rig.processes["a"][0].terminate()
    assert rig.processes["a"][0].wait(PATIENCE_S) == 0, rig.log("a")
    assert rig.on_disk("a") == expected
