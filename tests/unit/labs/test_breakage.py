"""Declared faults, without a stack: what is made of errors on the way, and of a run that meets a fault that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import typer

from deploy.local.children import StackError
from labs.faults import breakage, fault_runs
from labs.faults.breakage import Fault, FaultBed, FaultResult, exercise, unforgiven
from labs.faults.fault_runs import BEGIN, END
from labs.faults.record import OutsideRecord, submission_name


def nothing(_: FaultBed) -> None:
    """A fault that breaks nothing."""


def test_a_stack_that_cannot_be_prepared_is_a_fault_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = MagicMock()
    run.prepare.side_effect = ConnectionError("nobody\nthere")
    monkeypatch.setattr(breakage, "LoadRun", MagicMock(return_value=run))
    result = exercise(Fault("cut", "a", "b", nothing, "brokers"), 1, MagicMock(), MagicMock(), ())
    assert result.failed
    assert result.examples == ["ConnectionError: nobody"]
    run.close.assert_called_once()


def bed(left: Iterator[int]) -> FaultBed:
    """A stack on which so many items are not judged, look by look."""
    made = FaultBed(MagicMock(), MagicMock(), (), MagicMock(), MagicMock(ended=False))
    made._unjudged = lambda _: ["item"] * next(left)  # type: ignore[method-assign]
    made._judged_since = lambda: True  # type: ignore[method-assign]
    return made


def test_a_fault_that_may_lose_something_may_not_lose_what_was_safe() -> None:
    one = bed(iter([]))
    one.submitter.record = OutsideRecord(answers={("h", "before"): "c-1"})
    one.mark_safe()
    one.record.answers["h", "after"] = "c-2"
    after = [submission_name("h", "after"), "item i-2"]
    assert unforgiven(after, one.safe) == []
    assert unforgiven([*after, submission_name("h", "before")], one.safe) == ["safe, but lost: submission h before"]


def test_it_is_waited_for_as_long_as_something_is_judged() -> None:
    moving = bed(iter([9, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0]))
    assert moving.wait_until_flowing(within_s=0.5) >= 0.9
    assert len(moving.recoveries) == 1
    with pytest.raises(StackError, match="3 acknowledged items"):
        bed(iter([4, *[3] * 100])).wait_until_flowing(within_s=0.3)


@pytest.mark.parametrize(
    ("keep", "made", "stacks"), [(False, ["leaders", "cut", "slow"], 2), (True, ["leaders", "cut"], 1)]
)
def test_after_a_failed_fault_the_next_gets_a_new_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep: bool, made: list[str], stacks: int
) -> None:
    stood: list[str] = []
    met: list[str] = []

    @contextlib.contextmanager
    def standing(_where: str, name: str, *, keep: bool) -> Iterator[tuple[object, object, tuple[()]]]:
        assert len(stood) % 2 == 0, "the one before is gone"
        stood.append(name)
        yield object(), object(), ()
        stood.append("gone")

    def act(fault: Fault, *_: object, **__: object) -> FaultResult:
        met.append(fault.name)
        return FaultResult(fault.name, 2000, 1, 3.0, problems=int(fault.name == "cut"))

    monkeypatch.setattr(fault_runs, "standing", standing)
    monkeypatch.setattr(fault_runs, "exercise", act)
    docs = tmp_path / "reliability.md"
    docs.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(typer.Exit):
        fault_runs.faults(only=["slow", "leaders", "cut"], stack="s", keep=keep, docs=docs)
    assert met == made
    assert stood == ["s-brokers", "gone"] * stacks
    rows = [line.split(" | ")[0] for line in docs.read_text().splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {name}" for name in made if name != "cut"], "what failed has no row"
