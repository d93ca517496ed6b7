"""The gate: whom it counts as one, and what it gives back."""

from __future__ import annotations

import pytest

from services.intake.evidence.uploads import (
    UPLOADS_MAX,
    UPLOADS_OF_ADDRESS_MAX,
    UPLOADS_OF_ONE_MAX,
    UPLOADS_OF_UNVERIFIED_MAX,
    UploadSlots,
)
from services.intake.kernel.rate_limits import RateLimits, line_of
from shared.refusals import Refused
from shared.settings import Settings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def gate(**values: float) -> tuple[RateLimits, Clock]:
    clock = Clock()
    return RateLimits(Settings(**values), clock), clock  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "", True),
    ],
)
def test_who_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (line_of(one) == line_of(other)) == same


def test_a_refusal_names_the_seconds_after_which_one_is_let_in() -> None:
    made, clock = gate(http_failures_a_minute=6)
    for _ in range(6):
        made.tries("192.0.2.1")
    with pytest.raises(Refused) as caught:
        made.tries("192.0.2.1")
    assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (429, "locked_out", 10)
    clock.now += 10
    made.tries("192.0.2.1")


def test_right_tokens_use_nothing_up() -> None:
    made, _ = gate(http_failures_a_minute=2)
    for _ in range(50):
        made.tries("192.0.2.1")
        made.was_right("192.0.2.1")
    made.tries("192.0.2.1")
    made.tries("192.0.2.1")
    with pytest.raises(Refused):
        made.tries("192.0.2.1")


def test_places_for_uploads_are_shared() -> None:
    slots = UploadSlots()
    held = []

    def take(account: str, line: str, *, verified: bool) -> int:
        place = slots.slot(account, line, verified=verified)
        try:
            place.__enter__()
        except Refused as refused:
            return refused.status
        held.append(place)
        return 200

    assert [take("a", "1", verified=False) for _ in range(UPLOADS_OF_ONE_MAX + 1)] == [200] * UPLOADS_OF_ONE_MAX + [429]
    assert [take(f"b{n}", "1", verified=True) for n in range(UPLOADS_OF_ADDRESS_MAX)].count(
        200
    ) == UPLOADS_OF_ADDRESS_MAX - 4
    strangers = [take(f"c{n}", f"2.{n}", verified=False) for n in range(UPLOADS_MAX)]
    assert strangers.count(200) == UPLOADS_OF_UNVERIFIED_MAX - UPLOADS_OF_ONE_MAX
    assert set(strangers) == {200, 503}
    rest = [take(f"d{n}", f"3.{n}", verified=True) for n in range(UPLOADS_MAX)]
    assert len(held) == UPLOADS_MAX
    assert set(rest) == {200, 503}
    for place in held:
        place.__exit__(None, None, None)
    assert not slots._taken
