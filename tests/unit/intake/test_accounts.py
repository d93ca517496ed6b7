"""Accounts: states, codes that confirm an address, the rule that verifies."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.accounts import domain as accounts
from services.intake.accounts.domain import Challenge
from services.intake.evidence.domain import Document
from services.intake.kernel import domain
from shared.refusals import Refused

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def test_states() -> None:
    assert domain.state_of("open", False, False) == "applied"
    assert domain.state_of("open", False, True) == "email_confirmed"
    for confirmed in (False, True):
        assert domain.state_of("open", True, confirmed) == "verified"
    for verified, confirmed in itertools.product((False, True), repeat=2):
        assert domain.state_of("suspended", verified, confirmed) == "suspended"
        assert domain.state_of("closed", verified, confirmed) == "closed"


def test_changes_of_status() -> None:
    for before, after in (("open", "suspended"), ("suspended", "open"), ("suspended", "closed"), ("closed", "closed")):
        accounts.check_change(before, after, own=False)  # type: ignore[arg-type]
    for before, after, own, why in (
        ("closed", "open", False, "closed_for_good"),
        ("open", "closed", True, "own_account"),
    ):
        with pytest.raises(Refused) as refused:
            accounts.check_change(before, after, own=own)  # type: ignore[arg-type]
        assert refused.value.reason == why


def test_an_empty_rule_verifies_nobody() -> None:
    assert not accounts.satisfied((), ("email_confirmed", "contact", "company", "right_registered"))
    assert accounts.satisfied(("email_confirmed",), ("email_confirmed", "contact"))
    assert not accounts.satisfied(("email_confirmed", "company"), ("email_confirmed", "contact"))


@given(st.integers(0, 2**60 - 1))
def test_a_code_is_read_however_it_is_typed(bits: int) -> None:
    code = accounts.new_code(lambda size: bits % 2**size)
    assert len(code) == 14
    digest = accounts.code_digest("n-1", code)
    assert digest == accounts.code_digest("n-1", code.lower().replace("-", " "))
    assert digest == accounts.code_digest("n-1", code.replace("0", "o").replace("1", "l"))
    assert digest != accounts.code_digest("n-2", code)
    assert code.replace("-", "").encode() not in digest


def test_codes_differ() -> None:
    assert len({accounts.new_code() for _ in range(1000)}) == 1000


CHALLENGE = Challenge("n-1", accounts.code_digest("n-1", "GOOD"), NOW + MINUTE, 9, NOW, 1, NOW)


@pytest.mark.parametrize(
    ("challenge", "code", "why"),
    [
        (CHALLENGE, "GOOD", None),
        (None, "GOOD", "no_code"),
        (dataclasses.replace(CHALLENGE, digest=None), "GOOD", "no_code"),
        (CHALLENGE, "BAD", "wrong_code"),
        (CHALLENGE, "\ud800", "wrong_code"),
        (dataclasses.replace(CHALLENGE, tries=10), "GOOD", "tries_used"),
        (dataclasses.replace(CHALLENGE, expires_at=NOW), "GOOD", "code_expired"),
    ],
)
def test_what_confirms(challenge: Challenge | None, code: str, why: str | None) -> None:
    refused = accounts.check_code(challenge, code, NOW, 10)
    assert (refused and refused.reason) == why
    assert refused is None or refused.cure


@given(st.lists(st.integers(0, 3 * 24 * 60), max_size=60))
def test_codes_are_sent_at_most_so_often(minutes: list[int]) -> None:
    """Whatever the requests: never two within the pause, never more than five in the 24 hours that begin with a first one."""
    challenge: Challenge | None = None
    sent: list[dt.datetime] = []
    windows: dict[dt.datetime, int] = {}
    for at in sorted(NOW + minute * MINUTE for minute in minutes):
        why = None
        try:
            challenge = accounts.requested(challenge, f"n-{len(sent)}", at, pause=2 * MINUTE, a_day=5)
        except Refused as refused:
            why = refused.reason
        assert why in (None, "code_too_soon", "codes_used")
        assert (why == "code_too_soon") == bool(sent and at < sent[-1] + 2 * MINUTE)
        if why is None and challenge is not None:
            assert (challenge.digest, challenge.tries) == (None, 0)
            sent.append(at)
            windows[challenge.since] = windows.get(challenge.since, 0) + 1
    assert all(count <= 5 for count in windows.values())
    assert all(later - earlier >= dt.timedelta(hours=24) for earlier, later in itertools.pairwise(windows))


def test_an_identity_is_verified_on_something() -> None:
    named = {"d-1": Document("d-1", "a-1", ("identity",)), "d-2": Document("d-2", "a-1", ("other",))}

    def reason_of(documents: list[str], seen: str | None) -> str | None:
        try:
            accounts.check_verified(documents, seen, named)
        except Refused as refused:
            return f"{refused.field} {refused.reason}"
        return None

    assert reason_of(["d-1", "d-2"], None) is None
    assert reason_of([], "file-7") is None
    assert reason_of(["d-2"], "file-7") is None
    assert reason_of([], None) == reason_of(["d-2"], None) == "documents nothing_seen"
    assert reason_of(["d-1", "d-3"], "file-7") == "documents[1] unknown_document"
