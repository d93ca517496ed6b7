"""When a message is tried again at a webhook, and what answers mean."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.retrying import LONGEST_WAIT, PAUSES, Answer, next_try, wait_of

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
THREE = dt.timedelta(days=3)
S = dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (Answer(200), "delivered", "200"),
        (Answer(204), "delivered", "204"),
        (Answer(299), "delivered", "299"),
        (Answer(302), "failed", "302"),
        (Answer(400), "failed", "400"),
        (Answer(404), "failed", "404"),
        (Answer(410), "gone", "410"),
        (Answer(429), "wait", "429"),
        (Answer(500), "failed", "500"),
        (Answer(503), "failed", "503"),
        (Answer(503, wait=60 * S), "wait", "503"),
        (Answer(error="timeout"), "unknown", "timeout"),
        (Answer(error="unreachable", sent=False), "failed", "unreachable"),
        (Answer(304), "failed", "304"),
    ],
)
def test_what_an_answer_means(answer: Answer, outcome: str, reason: str) -> None:
    assert (answer.outcome, answer.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("30", 30 * S),
        ("0", S),
        ("99999999999999999999", LONGEST_WAIT),
        ("Wed, 25 Nov 2026 12:01:00 GMT", 60 * S),
        ("Wed, 25 Nov 2020 12:01:00 GMT", S),
        ("Wed, 25 Nov 2099 12:01:00 GMT", LONGEST_WAIT),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
        ("9" * 400, None),
        ("٣", None),
        ("1.5", None),
        ("Wed, 99 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_how_long_it_is_asked_to_wait(header: str | None, wait: dt.timedelta | None) -> None:
    assert wait_of(header, NOW) == wait


@given(st.text(max_size=60))
def test_any_header_is_a_bounded_wait_or_none(header: str) -> None:
    wait = wait_of(header, NOW)
    assert wait is None or S <= wait <= LONGEST_WAIT


@given(st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_tries_go_on_for_three_days_and_end(chances: list[float]) -> None:
    """As the specification's example has it: at once, after 5 s, 5 min, 30 min, 2 h, ... and once more at the very end."""
    at, tries = NOW, [NOW]
    for number, chance in enumerate(chances, 1):
        again = next_try(number, NOW, at, THREE, chance)
        if again is None:
            break
        pause = PAUSES[min(number, len(PAUSES)) - 1]
        assert again == NOW + THREE or pause * 0.9 <= again - at <= pause * 1.1
        assert again > at
        tries.append(at := again)
    assert tries[-1] == NOW + THREE
    assert len(tries) in (10, 11)


@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 100_000))
def test_it_does_not_come_before_it_was_asked_to(tries: int, chance: float, seconds: int) -> None:
    again = next_try(tries, NOW, NOW + S, THREE, chance, seconds * S)
    assert again is not None
    assert again >= NOW + (1 + seconds) * S or again == NOW + THREE
