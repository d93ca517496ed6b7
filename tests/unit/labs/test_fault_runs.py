"""Declared faults, their table, and what is made of records that are gone: without a stack."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.faults.broker_faults import coordinator_partition
from labs.faults.fault_runs import BEGIN, END, FAULTS, NAMES, FaultResult, rows, with_rows
from services.ops.idle import READERS
from services.ops.restore import unread
from services.ops.restore.unread import Gap, Refilled, compare
from shared import topics
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
READER = next(reader for reader in READERS if reader.name == "enforcement")
PLACE = ("verification.events", 3)


def test_each_fault_is_declared_once_and_in_words() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(FAULTS) + 1
    for fault in FAULTS:
        assert fault.breaks
        assert fault.heals
        assert "|" not in fault.breaks + fault.heals, "it is a row of a table"


def test_what_is_lost_fails_unless_it_was_said() -> None:
    assert FaultResult("cut", lost=1).failed
    assert FaultResult("cut", doubled=1).failed
    assert FaultResult("cut", problems=1).failed
    assert not FaultResult("late follower", lost=1, loses="four seconds").failed
    assert FaultResult("late follower", doubled=1, loses="four seconds").failed


def test_a_run_replaces_its_rows_and_leaves_the_others() -> None:
    document = f"before\n{BEGIN}\n{END}\nafter\n"
    document = with_rows(document, rows([FaultResult("slow", 2000, 7, 3.14), FaultResult("leaders", 2000, 9, 7.0)]))
    document = with_rows(document, rows([FaultResult("slow", 5000, 8, 4.0), FaultResult("cut", skipped="no")]))
    table = [line.split(" | ") for line in document.splitlines() if line.startswith("| ")][1:]
    assert [(row[0], row[3], row[5]) for row in table] == [
        ("| leaders", "2,000", "7.0 s"),
        ("| slow", "5,000", "4.0 s"),
    ]
    assert document.startswith(f"before\n{BEGIN}\n")
    assert document.endswith(f"{END}\nafter\n")


def test_the_document_has_a_place_for_the_table_and_no_fault_that_is_none() -> None:
    document = (ROOT / "docs/explanation/reliability.md").read_text()
    with_rows(document, {})
    block = document.partition(BEGIN)[2].partition(END)[0]
    named = [line.split("|")[1].strip() for line in block.splitlines() if line.startswith("| ")][1:]
    assert set(named) <= set(NAMES)
    with pytest.raises(ValueError, match="has no"):
        with_rows("nothing", {})


@pytest.mark.parametrize(("group", "hashed"), [("hello", 99_162_322), ("verification", -1_484_401_125), ("", 0)])
def test_the_coordinator_is_found_as_kafka_does(group: str, hashed: int) -> None:
    assert coordinator_partition(group, 50) == abs(hashed) % 50


def test_a_place_within_what_there_is_is_no_gap() -> None:
    assert not compare({PLACE: 5}, {}, {}, {PLACE: 5}, {PLACE: 9}, READER)
    assert not compare({PLACE: 9}, {}, {}, {PLACE: 5}, {PLACE: 9}, READER)
    assert not compare({}, {}, {}, {PLACE: 5}, {PLACE: 9}, READER), "who has read nothing begins at the beginning"


@pytest.mark.parametrize("at", [4, 10])
def test_a_place_before_or_behind_is_one(at: int) -> None:
    (gap,) = compare({PLACE: at}, {}, {}, {PLACE: 5}, {PLACE: 9}, READER)
    assert (gap.upto, gap.begins, gap.ends, gap.recreated) == (at, 5, 9, False)


@given(at=st.none() | st.integers(0, 20), begin=st.integers(0, 10), more=st.integers(0, 10))
def test_in_another_topic_of_the_name_every_place_is_one(at: int | None, begin: int, more: int) -> None:
    cursors = {} if at is None else {PLACE: at}
    (gap,) = compare(cursors, {PLACE[0]: "old"}, {PLACE[0]: "new"}, {PLACE: begin}, {PLACE: begin + more}, READER)
    assert gap.recreated
    assert gap.ends == begin + more


def test_where_a_reader_stopped_is_a_gap_whatever_the_offsets_say() -> None:
    found = compare({PLACE: 7}, {}, {}, {PLACE: 0}, {PLACE: 9}, READER, {PLACE: (7, "gap")})
    assert [(one.upto, one.reason, str(one)) for one in found] == [
        (7, "gap", f"{READER.name}: {PLACE[0]} {PLACE[1]} at 7, records before it are missing")
    ]


def test_all_who_read_a_place_go_on_behind_it_together() -> None:
    gap = Gap(READER, *PLACE, upto=4, begins=5, ends=9)
    everybody = unread.of_all([gap], READERS)
    assert everybody[0] is gap
    who = {one.reader.name for one in everybody}
    assert who == {one.name for one in READERS if topics.VERIFICATION in one.reads} > {READER.name}
    assert {(one.topic, one.partition, one.ends) for one in everybody} == {(*PLACE, 9)}


@pytest.mark.parametrize(("ends", "begun"), [(9, 9), (0, 1)])
def test_what_was_there_goes_once_all_is_written_and_before_anybody_goes_on(
    monkeypatch: pytest.MonkeyPatch, ends: int, begun: int
) -> None:
    """Broken off anywhere, a place is still found; and none that lost records begins at 0."""
    done: list[tuple[str, object]] = []
    engine = MagicMock()
    gap = Gap(READER, *PLACE, upto=4, begins=0, ends=ends, recreated=True)
    monkeypatch.setattr("services.ops.restore.common.none_connected", lambda _: None)
    monkeypatch.setattr("services.ops.restore.common.rebuild_views", lambda _: 7)
    monkeypatch.setattr(unread, "find", lambda *_: [gap])
    monkeypatch.setattr(unread, "present", lambda *_, **__: READERS)
    monkeypatch.setattr(unread, "_topic_ids", lambda _: {})
    monkeypatch.setattr(unread, "_unread", lambda *_: [("key", "{}", 1.0)])
    monkeypatch.setattr(unread, "_begin", lambda *_: done.append(("begin", None)) or 1)
    monkeypatch.setattr(unread, "_write", lambda *args: done.append(("write", args[2])) or 1)
    monkeypatch.setattr(unread, "_cut", lambda *args: done.append(("cut", args[3])))
    monkeypatch.setattr(unread, "_go_on", lambda _, gaps, at: done.append(("go on", {at[one] for one in gaps})))
    monkeypatch.setattr(unread, "_know", lambda *_: done.append(("know", None)))
    monkeypatch.setattr(unread, "commit_cursors", lambda *_: done.append(("commit", None)))
    made = unread.refill(Settings(), engine)
    assert made == Refilled([gap], 1, [], 7, made.seconds)
    assert done == [
        *([] if ends else [("begin", None)]),
        ("write", 3),
        ("cut", begun),
        ("go on", {begun}),
        ("know", None),
        ("commit", None),
    ]
