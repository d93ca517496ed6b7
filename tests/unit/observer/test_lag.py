"""Lag of readers, seen from outside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.observer.lag import Extent, Lags, Place, Record, old, positions

HERE = Place("verification", "intake.events", 0)
THERE = Place("verification", "intake.events", 1)
OTHER = Place("intake", "intake.events", 0)


def test_the_furthest_of_tables_and_commits_counts() -> None:
    extents = {HERE.read: Extent(0, 100, None), THERE.read: Extent(40, 100, None)}
    found = positions([HERE, THERE], extents, {HERE: 10}, {HERE: 30})
    # nobody has committed the other one, and what was deleted is not to be read any more
    assert found == {HERE: 30, THERE: 40}
    assert positions([HERE], extents, {HERE: 50}, {HERE: 30}) == {HERE: 50}
    # -1: the group has no offset there
    assert positions([HERE], extents, {HERE: -1}, {}) == {HERE: 0}


def test_a_topic_that_is_not_there_is_left_out() -> None:
    assert positions([HERE], {}, {HERE: 3}, {}) == {}


def test_a_reader_is_never_ahead_of_the_end() -> None:
    """A topic that was made again is shorter than the tables remember."""
    assert positions([HERE], {HERE.read: Extent(0, 2, None)}, {}, {HERE: 9}) == {HERE: 2}


def test_only_what_waits_for_longer_than_a_look_is_read() -> None:
    extents = {HERE.read: Extent(0, 10, 8), THERE.read: Extent(0, 10, None)}
    assert old({HERE: 10}, extents) == set()
    assert old({HERE: 8}, extents) == set()
    assert old({HERE: 7}, extents) == {("intake.events", 0, 7)}
    # no record is young
    assert old({THERE: 9}, extents) == {("intake.events", 1, 9)}


def test_ages_are_known_from_look_to_look() -> None:
    lags = Lags()
    record: Record = ("intake.events", 0, 7)
    assert lags.unknown({record}) == [record]
    assert lags.seconds({HERE: 7, THERE: 3}, {record}, {record: 100.0}, 160.0) == {HERE: 60.0, THERE: 0.0}
    assert lags.unknown({record}) == []
    assert lags.seconds({HERE: 7}, {record}, {}, 170.0) == {HERE: 70.0}
    # read by two: known once
    assert lags.seconds({HERE: 7, OTHER: 7}, {record}, {}, 180.0) == {HERE: 80.0, OTHER: 80.0}


def test_a_time_that_could_not_be_read_is_taken_from_before() -> None:
    lags = Lags()
    lags.seconds({HERE: 7}, {("intake.events", 0, 7)}, {("intake.events", 0, 7): 100.0}, 160.0)
    moved: Record = ("intake.events", 0, 9)
    assert lags.seconds({HERE: 9}, {moved}, {}, 170.0) == {HERE: 70.0}
    assert lags.seconds({HERE: 9}, {moved}, {moved: 130.0}, 180.0) == {HERE: 50.0}
    # caught up: forgotten
    assert lags.seconds({HERE: 20}, set(), {}, 190.0) == {HERE: 0.0}
    assert lags.seconds({HERE: 21}, {("intake.events", 0, 21)}, {}, 200.0) == {HERE: 0.0}


@given(
    begin=st.integers(0, 50),
    length=st.integers(0, 50),
    known=st.integers(-1, 120),
    young=st.none() | st.integers(0, 100),
)
def test_nobody_is_behind_by_more_than_there_is(begin: int, length: int, known: int, young: int | None) -> None:
    extents = {HERE.read: Extent(begin, begin + length, young)}
    found = positions([HERE], extents, {HERE: known}, {})
    assert 0 <= extents[HERE.read].end - found[HERE] <= length
    assert len(old(found, extents)) <= (found[HERE] < begin + length)
