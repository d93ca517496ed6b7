"""The parts of `verify` that need no stack: reading ids, folding events."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from services.ops.verify.findings import Tally
from services.ops.verify.fold import Fold
from services.ops.verify.item_state import FINAL
from services.ops.verify.judge import Judge
from services.ops.verify.records import PartitionRange, Watermarks, identify, line, log_head, split
from shared import events
from shared.events import ItemChanged, State

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
FIRST = ItemChanged(
    item="i-1",
    claim="c-1",
    claim_size=1,
    listing="li-1",
    seller="s-1",
    complainant="h-1",
    principal="h-1",
    right="r-1",
    right_type="trademark",
    reason="counterfeit",
    profile="ipp",
    policy="ipp-2026-11",
    revision=1,
    state=State.NOTIFIED,
    rule="7-upheld-prima-facie",
    held=True,
    received_at=NOW,
)


def row(seq: int, change: ItemChanged) -> tuple[int, str, str]:
    """A row of verification's log."""
    kind = f"goodfaith.item.{change.state.lower()}.v1"
    raw = events.encode(
        change, id=f"verification.0.{seq}", source="/x", type=kind, subject=change.item, time=NOW, key=change.listing
    )
    return seq, kind, raw.decode()


def fold(*changes: ItemChanged) -> dict[str, str]:
    """Kinds of findings, with their categories."""
    tally = Tally()
    folded = Fold(tally, Judge(tally.add))
    folded.take(0, [row(seq, change) for seq, change in enumerate(changes, 1)])
    return {finding.kind: finding.category for finding in tally.findings()}


def after(change: ItemChanged, **values: object) -> ItemChanged:
    """The next change of the item."""
    values = {"revision": change.revision + 1, "previous": change.state, **values}
    return msgspec.structs.replace(change, **values)


def test_a_whole_history_is_clean() -> None:
    second = after(FIRST, noticed_at=NOW)
    third = after(second, state=State.WITHDRAWN, settled=True, held=False)
    assert fold(FIRST, second, third) == {}


@pytest.mark.parametrize(
    ("wrong", "kind", "category"),
    [
        ({"revision": 3}, "revision-gap", "lost"),
        ({"revision": 1}, "revision-fork", "doubled"),
        ({"previous": State.COUNTERED}, "state-torn", "problem"),
        ({"settled": True}, "settled-wrong", "problem"),
        ({"complainant": "h-2"}, "item-altered", "problem"),
        ({"seller": "s-2"}, "seller-twice", "doubled"),
        ({"handled_at": NOW}, "sla-open", "problem"),
    ],
)
def test_what_does_not_follow_is_found(wrong: dict[str, object], kind: str, category: str) -> None:
    assert fold(FIRST, after(FIRST, **wrong)).get(kind) == category


@pytest.mark.parametrize("name", ["noticed_at", "handled_at", "sla"])
def test_what_happens_once_happens_once(name: str) -> None:
    known = {"noticed_at": NOW, "handled_at": NOW, "sla": "met"}
    second = after(FIRST, **known)
    other = "missed" if name == "sla" else NOW + dt.timedelta(seconds=1)
    assert fold(FIRST, second, after(second, **{name: other})) == {f"{name.replace('_', '-')}-twice": "doubled"}


def test_final_states_are_final() -> None:
    assert State.WITHDRAWN in FINAL
    assert State.DUPLICATE not in FINAL
    ended = after(FIRST, state=State.WITHDRAWN, settled=True, held=False)
    assert fold(FIRST, ended, after(ended, state=State.NOTIFIED, settled=False)) == {"final-left": "problem"}


def test_an_unreadable_event_is_a_finding() -> None:
    tally = Tally()
    Fold(tally, Judge(tally.add)).take(0, [(1, "goodfaith.item.notified.v1", '{"time":1}')])
    assert [finding.kind for finding in tally.findings()] == ["event-unreadable"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b'{"specversion":"1.0","id":"verification.3.17","source":"x"}', "verification.3.17"),
        (b'{"id": "other.1", "specversion": "1.0"}', "other.1"),
        (b'{"specversion":"1.0","id":"a\\tb\\\\"}', "a\\tb\\\\"),
        (b"\xff", None),
        (b"[]", None),
    ],
)
def test_ids_are_read_cheaply_and_safely(value: bytes, name: str | None) -> None:
    assert identify(value) == name


def test_watermarks_and_tombstones_are_left_out() -> None:
    assert line("t", 0, 1, None, b'{"specversion":"1.0","id":"watermark.0.x"}') is None
    assert line("t", 0, 1, b"k", None) is None
    assert (line("t", 0, 1, b"k", b"\xff") or "").startswith("t\t0\t1\t\\N\t")


def test_watermarks_that_follow_closely_are_one_and_no_jump_is_hidden() -> None:
    second, day = dt.timedelta(seconds=1), dt.timedelta(days=1)
    marks = Watermarks()
    for number in range(5):
        marks.add(number, NOW + number * second, 100.0 + number)
    marks.cut()  # a record
    marks.add(6, NOW + 6 * second, 106.0)
    marks.add(7, NOW + day, 107.0)  # business time was set ahead
    marks.add(8, NOW + day + second, 120.0)  # long after
    marks.add(9, NOW + day, 121.0)  # backwards
    assert [(offset, upto) for offset, upto, _ in marks.found] == [
        (0, NOW + 4 * second),
        (6, NOW + 6 * second),
        (7, NOW + day),
        (8, NOW + day + second),
        (9, NOW + day),
    ]
    assert next(marks.lines(3)).startswith("3\t0\t2026-11-24T12:00:04+00:00\t1970-01-01T00:01:40+00:00")


@pytest.mark.parametrize(
    ("metadata", "line_"),
    [("17:0123456789abcdef", "17\t0123456789abcdef"), ("", "\\N\t\\N"), (None, "\\N\t\\N"), ("17:x\t", "\\N\t\\N")],
)
def test_heads_are_read_from_what_a_group_committed(metadata: str | None, line_: str) -> None:
    assert log_head(metadata) == line_


def test_partitions_are_shared_out() -> None:
    ranges = [PartitionRange("t", number, 0, 10 * number) for number in range(8)]
    groups = split(ranges, 100)
    assert sorted(one.partition for group in groups for one in group) == list(range(8))
    assert len(groups) == 3


def test_examples_are_few() -> None:
    tally = Tally()
    for number in range(100):
        tally.add("lost", "thing", str(number))
    (finding,) = tally.findings()
    assert (finding.count, len(finding.examples)) == (100, 5)
