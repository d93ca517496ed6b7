"""Marks move as far as everything before them was read, and an id leads to its row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.operator.prune import AGED, advanced
from shared.runtime.links import place_of


@pytest.mark.parametrize(
    ("id_", "place"),
    [
        ("intake.3.17", ("intake", 3, 17)),
        ("enforcement-ledger.0.1", ("enforcement-ledger", 0, 1)),
        ("verification.12.999999999999999999", ("verification", 12, 999_999_999_999_999_999)),
        ("verification.12.1000000000000000000", None),  # no number of a log is that high; it would not fit
        ("verification.1000000000.1", None),
        ("intake.03.17", None),  # another id than intake.3.17
        ("intake.3.017", None),
        ("intake.3.", None),
        ("intake.3", None),
        (".3.17", None),
        ("inbound.desk.3.17", None),
        ("receipt.i-1.2", None),
        ("intake.٣.17", None),
        ("intake.-3.17", None),
        ("intake.3.17.1", None),
        ("made by others", None),
        ("", None),
    ],
)
def test_an_id_leads_to_its_row_or_is_not_ours(id_: str, place: tuple[str, int, int] | None) -> None:
    assert place_of(id_) == place


def test_marks_move_to_the_end_or_to_before_what_holds_them() -> None:
    assert advanced({"a": 0, "b": 0}, {}, 0, 100) == ({"a": 100, "b": 100}, {})
    assert advanced({"a": 0, "b": 0}, {"b": 41}, 0, 100) == ({"a": 100, "b": 40}, {"b": 41})
    assert advanced({"a": 0}, {"a": 1}, 0, 100) == ({}, {"a": 1})
    assert advanced({"a": 250, "b": 0}, {}, 0, 100) == ({"b": 100}, {})  # a is further on already


numbers = st.sets(st.integers(1, 60))


@given(events=st.dictionaries(st.integers(1, 60), st.sampled_from("ab")), unread=numbers, chunk=st.integers(1, 25))
def test_nothing_that_was_not_read_is_ever_covered(events: dict[int, str], unread: set[int], chunk: int) -> None:
    marks = {"a": 0, "b": 0}
    held: dict[str, int] = {}
    for start in range(0, 60, chunk):
        end = min(start + chunk, 60)
        bad = {
            topic: min(found)
            for topic in "ab"
            if (found := [n for n in unread if events.get(n) == topic and max(start, marks[topic]) < n <= end])
        }
        moved, stopped = advanced({t: u for t, u in marks.items() if t not in held}, bad, start, end)
        marks |= moved
        held |= stopped
    for topic, upto in marks.items():
        missing = [n for n in unread if events.get(n) == topic]
        assert upto == (min(missing) - 1 if missing else 60)


def test_what_goes_by_age_says_who_read_it() -> None:
    assert all(rule.why for rule in AGED)
    assert len({rule.table for rule in AGED}) == len(AGED)
