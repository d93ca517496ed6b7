"""When an upstream's partition counts as read to its end: by that alone watermarks go on without records."""

from __future__ import annotations

import datetime as dt

import pytest

from services.intake.filing.inbound import TopicEnds

PLACE = ("inbound.desk", 0)
ENDS = TopicEnds(dt.datetime(2026, 11, 24, tzinfo=dt.UTC), {PLACE: 0}, {PLACE: 7}, {"inbound.desk": "new"})


@pytest.mark.parametrize(
    ("cursor", "known", "reached"),
    [
        (7, "new", True),
        (6, "new", False),
        # the topic was deleted and created again: the cursor is the old one's, and nothing of the new one is read
        (12, "new", False),
        (7, "old", False),
        (12, "old", False),
    ],
)
def test_a_cursor_is_at_the_end_of_its_own_topic_only(cursor: int, known: str, reached: bool) -> None:
    assert bool(ENDS.reached({PLACE: cursor}, {"inbound.desk": known}, [0])) is reached


def test_what_was_never_read_is_at_its_end_when_it_is_empty() -> None:
    assert not ENDS.reached({}, {}, [0])
    empty = TopicEnds(ENDS.at, {PLACE: 7}, {PLACE: 7}, ENDS.ids)
    assert empty.reached({}, {}, [0]) == [PLACE]
    assert not empty.reached({}, {}, [1])
