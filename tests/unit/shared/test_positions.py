"""How far a worker has come, as it says itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.positions import Place, Positions

A0, A1, B0 = ("a", 0), ("a", 1), ("b", 0)


def made() -> Positions:
    positions = Positions()
    positions.begin({A0: 5, A1: 7, B0: 0}, now=100.0)
    return positions


def test_it_ages_until_something_is_known() -> None:
    positions = made()
    assert positions.least() == {"a": 100.0, "b": 100.0}
    positions.ends([(A0, 6), (A1, 8), (B0, 3)], asked=200.0)
    assert positions.least() == {"a": 100.0, "b": 100.0}


def test_a_partition_that_stands_still_holds_its_topic_back() -> None:
    positions = made()
    positions.consumed({A0: 9}, {A0: 150.0})
    positions.ends([(A0, 9), (A1, 8), (B0, 0)], asked=300.0)
    assert positions.least() == {"a": 100.0, "b": 300.0}
    positions.consumed({A1: 8}, {A1: 160.0})
    assert positions.least()["a"] == 160.0
    positions.ends([(A1, 8)], asked=301.0)
    assert positions.least()["a"] == 300.0


def test_an_end_of_long_ago_is_no_news() -> None:
    positions = made()
    positions.consumed({B0: 3}, {B0: 150.0})
    positions.ends([(B0, 3)], asked=0.0)
    assert positions.least()["b"] == 150.0


def test_what_came_before_may_be_older() -> None:
    """After a claim nothing is known: the first batch says how old what waits is."""
    positions = made()
    positions.consumed({A0: 6}, {A0: 20.0})
    assert positions.least()["a"] == 20.0


def test_what_is_not_owned_is_not_told() -> None:
    positions = made()
    positions.begin({B0: 1}, now=400.0)
    positions.consumed({A0: 9}, {A0: 1.0})
    positions.ends([(A1, 0)], asked=500.0)
    assert positions.least() == {"b": 400.0}
    positions.begin({}, now=1.0)
    assert positions.least() == {}


@given(
    batches=st.lists(st.tuples(st.sampled_from([A0, A1, B0]), st.integers(1, 50), st.floats(100, 1000)), max_size=30),
    ends=st.dictionaries(st.sampled_from([A0, A1, B0]), st.integers(0, 400)),
)
def test_it_is_never_ahead_of_the_partition_that_is_furthest_behind(
    batches: list[tuple[Place, int, float]], ends: dict[Place, int]
) -> None:
    positions = made()
    offsets = {A0: 5, A1: 7, B0: 0}
    last = dict.fromkeys(offsets, 100.0)
    for place, count, stamp in batches:
        offsets[place] += count
        last[place] = stamp
        positions.consumed({place: offsets[place]}, {place: stamp})
    positions.ends(ends.items(), asked=2000.0)
    behind = {place for place in offsets if place not in ends or offsets[place] < ends[place]}
    for topic, when in positions.least().items():
        mine = [place for place in offsets if place[0] == topic]
        assert when == min(last[place] if place in behind else 2000.0 for place in mine)


def test_what_is_read_no_more_ages_at_whatever_end() -> None:
    positions = made()
    positions.stop([A0, ("elsewhere", 1)])
    positions.ends([(A0, 0), (A1, 7), (B0, 0)], asked=300.0)
    assert positions.least() == {"a": 100.0, "b": 300.0}
