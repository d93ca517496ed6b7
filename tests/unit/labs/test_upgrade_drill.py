"""Parts of the upgrade drill: the version, the order of exchange, and the judgement."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from deploy.local.processes import Process, Version
from deploy.local.stack import Stack
from labs import upgrade_drill
from labs.upgrade_drill import Phase, UpgradeOutcome, halves, in_order, worst
from shared.failures import CommandError

NAMES = (
    "intake-api.0",
    "intake-worker.0",
    "intake-worker.1",
    "streams.0",
    "verification.0",
    "verification.1",
    "watch.0",
)


def test_readers_are_exchanged_before_writers_and_half_of_each_kind_first() -> None:
    assert halves(NAMES) == (
        ["streams.0", "verification.0", "intake-api.0", "intake-worker.0", "watch.0"],
        ["verification.1", "intake-worker.1"],
    )
    assert in_order(NAMES[::-1]) == [name for half in halves(NAMES) for name in half]
    three = [f"verification.{number}" for number in range(3)]
    assert halves(three) == (three[:2], three[2:])


def test_the_worst_lag_of_an_exposition() -> None:
    text = """# TYPE goodfaith_consumer_lag_seconds gauge
goodfaith_consumer_lag_seconds{group="a",topic="t",partition="0"} 1.5
goodfaith_consumer_lag_seconds{group="b",topic="u",partition="3"} 12.25
# TYPE goodfaith_broker_up gauge
goodfaith_broker_up 99
"""
    assert worst(text) == (12.25, "b u/3")
    assert worst(text, {"u"})[0] < 12.25
    assert worst("") == (0.0, "")


def outcome(**more: object) -> UpgradeOutcome:
    found = UpgradeOutcome("c0ffee", rests={"new": {"items": 1, "lost": 0, "doubled": 0, "problems": 0, "kinds": []}})
    found.phases = [
        Phase("alone", False, lag_s=30.0),
        Phase("forward", True, lag_s=4.0),
        Phase("back", True, lag_s=6.0),
    ]
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_only_what_exchanging_brought_about_counts_as_a_spike() -> None:
    assert outcome().lag_s == 6.0
    assert outcome().clean


@pytest.mark.parametrize(
    "more",
    [
        {"lost": ["item i-1"]},
        {"doubled": ["claim"]},
        {"problems": ["not at rest"]},
        {"rests": {}},
        {"rests": {"new": {"items": 1, "lost": 0, "doubled": 1, "problems": 0, "kinds": []}}},
    ],
)
def test_what_is_not_clean(more: dict[str, object]) -> None:
    found = outcome(**more)
    assert not found.clean
    assert found.as_json()["clean"] is False


def test_a_revision_that_is_not_here_is_said_with_its_cure() -> None:
    with pytest.raises(CommandError, match=r"'v0\.0\.none' is not in this repository; .*--unshallow"):
        upgrade_drill.commit_of("v0.0.none")
    with pytest.raises(CommandError, match="not in this repository"):
        upgrade_drill.commit_of("--output=x")


def test_a_process_runs_as_the_version_that_it_is_told(tmp_path: Path) -> None:
    process = Process(
        "intake-worker.0",
        ["-m", "services.intake", "worker"],
        {"GOODFAITH_METRICS_PORT": "1"},
        tmp_path / "log" / "x.log",
    )
    ours = list(process.argv)
    before = Version(tmp_path / "old", {"intake-worker": ["services.intake", "work", "{dir}"]})
    process.of(before)
    assert (process.code, process.argv[3:]) == (tmp_path / "old", ["-m", "services.intake", "work", str(tmp_path)])
    assert process.argv[:3] == ours[:3]
    process.of(None)
    assert (process.code, process.argv) == (None, ours)


def test_the_version_before_migrates_the_stacks_own_broker_and_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, "old")
    stack.kafka, stack.admin_url = "127.0.0.1:21092", "postgresql://postgres:secret@127.0.0.1:21432/goodfaith"
    ran = MagicMock(return_value=MagicMock(returncode=0))
    monkeypatch.setattr(upgrade_drill.subprocess, "run", ran)
    upgrade_drill.migrate_as(Version(tmp_path / "code", {}), stack)
    env = ran.call_args.kwargs["env"]
    assert (env["GOODFAITH_KAFKA"], env["GOODFAITH_DATABASE"]) == (stack.kafka, stack.admin_url)
    assert env["PYTHONPATH"] == str(tmp_path / "code")
    assert not any("secret" in word for word in ran.call_args.args[0])
