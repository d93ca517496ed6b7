"""By one number a reader tells the next event from a duplicate, and from one behind a gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime import seen
from shared.runtime.links import Gap, Link, Links, Verdict, judge, place_of

LINK = Link("verification.events", 0, "verification", 0)


@pytest.mark.parametrize(
    ("applied", "seq", "previous", "verdict"),
    [
        (0, 1, 0, Verdict.NEXT),
        (5, 9, 5, Verdict.NEXT),  # 6 to 8 went elsewhere
        (5, 5, 3, Verdict.DUPLICATE),
        (5, 3, 0, Verdict.DUPLICATE),
        (5, 9, 7, Verdict.GAP),
        (0, 9, 7, Verdict.GAP),
        (5, 9, 3, Verdict.GAP),  # the log says that 5 was never there
        (5, 4, None, Verdict.DUPLICATE),
    ],
)
def test_what_an_event_is_to_a_reader(applied: int, seq: int, previous: int, verdict: Verdict) -> None:
    assert judge(applied, seq, previous) is verdict


@given(
    numbers=st.sets(st.integers(1, 60), min_size=1).map(sorted),
    repeats=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 5)), max_size=10),
    lost=st.sets(st.integers(0, 59)),
)
def test_each_is_applied_once_up_to_the_first_that_is_missing(
    numbers: list[int], repeats: list[tuple[int, int]], lost: set[int]
) -> None:
    events = list(zip(numbers, [0, *numbers], strict=False))
    topic = [event for place, event in enumerate(events) if place not in lost]
    # a writer that was killed publishes a stretch of its log again
    for at, length in repeats:
        start = max(0, min(at, len(topic)) - length)
        topic[at:at] = topic[start : min(at, len(topic))]
    links, applied = Links(), []
    try:
        for seq, previous in topic:
            if links.take(LINK, seq, previous):
                applied.append(seq)
    except Gap:
        pass
    first_lost = next((number for place, number in enumerate(numbers) if place in lost), None)
    expected = [number for number in numbers if first_lost is None or number < first_lost]
    assert applied == expected


def test_logs_and_places_are_told_apart() -> None:
    links = Links()
    links.begin({LINK: 7})
    assert not links.take(LINK, 7, 5)
    for other in (
        LINK._replace(topic="a"),
        LINK._replace(partition=1),
        LINK._replace(writer="w"),
        LINK._replace(log_partition=1),
    ):
        assert links.take(other, 7, 0)
    with pytest.raises(Gap, match=r"verification\.0\.9 follows 8, and 7 was the last one read"):
        links.take(LINK, 9, 8)
    assert links.take(LINK, 8, 7), "a gap leaves the number as it was"


class Committed:
    def __init__(self, metadata: str | None) -> None:
        self.metadata = metadata


@given(st.integers(1, 10**18 - 1), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_witness_is_read_back_as_it_was_committed(seq: int, hash_: str) -> None:
    (one,) = seen.witnesses({("a", 3): Committed(seen.metadata(seq, hash_))})
    assert (one.partition, one.seq, one.hash) == (3, seq, hash_[:16])


@pytest.mark.parametrize(
    "metadata", [None, "", "7", "7:", "x:0123456789abcdef", "7:0123456789abcdef0", "-7:0123456789abcdef"]
)
def test_other_metadata_says_nothing(metadata: str | None) -> None:
    assert seen.witnesses({("a", 3): Committed(metadata)}) == []
    assert seen.metadata(0, "") == ""


def test_of_several_witnesses_the_latest_counts() -> None:
    found = {("a", 0): Committed(seen.metadata(5, "5" * 64)), ("b", 0): Committed(seen.metadata(9, "9" * 64))}
    assert [one.seq for one in seen.witnesses(found)] == [9]


def test_ids_of_watermarks_are_no_rows() -> None:
    assert place_of("watermark.3.20261124T120000.000000") is None
