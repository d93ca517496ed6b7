"""Secrets of webhooks: shape, rotation, what signs when."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from services.intake.accounts import domain as accounts
from services.intake.accounts.webhooks import (
    CODE_TRIES,
    SECRETS_MOST,
    CodeRequests,
    Sealed,
    Secret,
    check_again,
    check_asking,
    check_code,
    host_mark,
    new_secret,
    rotated,
    signing,
)
from shared.refusals import Refused

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


def test_the_code_outlives_a_new_secret_and_what_the_version_before_sealed_has_none() -> None:
    sealed = Sealed("https://a.example/", (Secret("one"),), "ABCD")
    assert rotated(sealed, "two", NOW, DAY).code == "ABCD"
    before = msgspec.json.decode(b'{"url": "https://a.example/", "secrets": [{"secret": "one"}]}', type=Sealed)
    assert before.code is None


def reason(*arguments: Any) -> str | None:
    refused = check_code("w-1", *arguments)
    assert refused is None or (refused.status, refused.field, bool(refused.cure)) == (422, "code", True)
    return None if refused is None else refused.reason


def test_a_code_confirms_in_its_time_and_five_wrong_ones_void_it() -> None:
    end = NOW + DAY
    assert reason("ABCD-EFGH-JKMN", "abcd efgh jkmn", end, CODE_TRIES - 1, NOW) is None
    assert reason("ABCD-EFGH-JKMN", "ABCD-EFGH-JKMP", end, 0, NOW) == "wrong_code"
    assert reason("ABCD-EFGH-JKMN", "ABCD-EFGH-JKMN", end, CODE_TRIES, NOW) == "tries_used"
    assert reason("ABCD-EFGH-JKMN", "ABCD-EFGH-JKMN", end, 0, end) == "code_expired"
    assert reason(None, "ABCD-EFGH-JKMN", end, 0, NOW) == "no_code"


@given(st.text(max_size=40))
def test_no_other_text_is_the_code(text: str) -> None:
    code = accounts.new_code()
    assert (reason(code, text, NOW + DAY, 0, NOW) is None) == (
        accounts.code_digest("w-1", text) == accounts.code_digest("w-1", code)
    )


def test_codes_are_asked_for_so_often_by_an_account_and_for_a_host() -> None:
    minute = dt.timedelta(minutes=1)
    check_asking(CodeRequests(2, NOW, 5, NOW), NOW, 3, 6)
    check_asking(CodeRequests(2, NOW, 500, NOW), NOW, 3, 0)
    with pytest.raises(Refused) as used:
        check_asking(CodeRequests(3, NOW - DAY + minute, 0), NOW, 3, 6)
    assert (used.value.status, used.value.reason, used.value.retry_after) == (429, "challenges_used", 60)
    with pytest.raises(Refused) as used:
        check_asking(CodeRequests(0, None, 6, NOW - 30 * minute), NOW, 3, 6)
    assert (used.value.status, used.value.reason, used.value.retry_after) == (429, "host_challenges_used", 1_800)
    check_again(NOW - minute, NOW)
    with pytest.raises(Refused) as early:
        check_again(NOW - minute / 2, NOW)
    assert (early.value.status, early.value.retry_after) == (429, 30)


def test_a_host_is_counted_by_a_keyed_hash() -> None:
    assert host_mark("key", "A.example") == host_mark("key", "a.example")
    assert len({host_mark("key", "a.example"), host_mark("other", "a.example"), host_mark("key", "b.example")}) == 3
