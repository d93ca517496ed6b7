"""Secrets of webhooks: shape, rotation, what signs when."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from services.intake.webhooks import SECRETS_MOST, Sealed, Secret, new_secret, rotated, signing

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def test_a_secret_is_one_that_the_library_takes() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert secret != new_secret()
    assert Webhook(secret).sign("m-1", NOW, "{}").startswith("v1,")


def test_the_former_secret_signs_beside_the_new_one_for_a_time() -> None:
    before = Sealed("https://a.example/", (Secret("one"),))
    after = rotated(before, "two", NOW, DAY)
    assert signing(before, NOW) == ("one",)
    assert signing(after, NOW) == ("two", "one")
    assert signing(after, NOW + DAY) == ("two",)
    assert rotated(after, "three", NOW + DAY, DAY).secrets == (Secret("three"), Secret("two", NOW + 2 * DAY))


@given(st.lists(st.integers(min_value=0, max_value=100_000), max_size=12))
def test_any_rotations_leave_one_without_end_and_no_more_than_may_be(pauses: list[int]) -> None:
    sealed, at = Sealed("https://a.example/", (Secret("0"),)), NOW
    for number, pause in enumerate(pauses, 1):
        at += dt.timedelta(seconds=pause)
        before = signing(sealed, at)
        sealed = rotated(sealed, str(number), at, DAY)
        assert sealed.secrets[0] == Secret(str(number))
        assert all(one.until is not None and at < one.until <= at + DAY for one in sealed.secrets[1:])
        assert signing(sealed, at)[1:] == before[: SECRETS_MOST - 1]
        assert len(sealed.secrets) <= SECRETS_MOST
