"""The pace of mail to one domain, and quiet hours."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import WINDOW_KINDS
from services.notification.pacing import (
    ANY,
    BURST_S,
    DOMAINS,
    FIRST_REST_S,
    LONGEST_REST_S,
    Limit,
    Pacer,
    QuietPeriod,
    of_domain,
    quiet_until,
)
from services.notification.sender import quiet_end
from services.notification.types import Item, Message
from shared import policy
from shared.events import AccountNotice
from tests.unit.notification.making import facts


@given(
    st.sampled_from([6.0, 60.0, 600.0]),
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=80),
)
def test_a_domain_gets_what_it_may_in_order_and_delays_no_other(
    rate: float, share: int, steps: list[tuple[float, str]]
) -> None:
    """Each message comes back at the moment that it booked; together they never go faster than the limit."""
    pacer = Pacer({"a": Limit(rate)}, share)
    now = 0.0
    went: list[float] = []
    for pause, domain in steps:
        now += pause
        wait = pacer.wait(domain, now)
        if domain == "b":
            assert wait == 0.0
            continue
        at = now + wait
        assert pacer.wait("a", at, booked=True) == 0.0
        assert not went or at >= went[-1]
        went.append(at)
    each = 60.0 / rate * share
    for first, begin in enumerate(went):
        for last in range(first, len(went)):
            assert last - first <= max(0.0, BURST_S - each) / each + (went[last] - begin) / each + 1e-6


def test_a_backlog_is_put_off_once_each() -> None:
    pacer = Pacer({ANY: Limit(60.0)})
    waits = [pacer.wait("x.example", 0.0) for _ in range(100)]
    assert waits[:5] == [0.0] * 5
    assert waits[5:] == [float(n) for n in range(1, 96)]


def test_a_domain_that_refuses_for_now_rests_longer_each_time() -> None:
    pacer = Pacer({})
    now = 0.0
    for turn in range(12):
        rest = pacer.slowed("x.example", now)
        assert rest == min(LONGEST_REST_S, FIRST_REST_S * 2**turn)
        # what else was under way says nothing new
        assert pacer.slowed("x.example", now) == rest
        assert pacer.wait("x.example", now, booked=True) == rest
        assert pacer.wait("y.example", now) == 0.0
        now += rest
        assert pacer.wait("x.example", now) == 0.0
    pacer.eased("x.example")
    assert pacer.slowed("x.example", now) == FIRST_REST_S


def test_memory_is_bounded() -> None:
    pacer = Pacer({ANY: Limit(1.0)})
    for n in range(DOMAINS + 100):
        pacer.wait(f"{n}.example", 0.0)
    assert len(pacer._paces) == DOMAINS


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
def test_no_more_connections_than_a_domain_may_get(lanes: int, most: int, share: int) -> None:
    pacer = Pacer({"a.example": Limit(0, most)}, share)
    used: defaultdict[str, set[int]] = defaultdict(set)
    for party in range(200):
        for domain in ("a.example", "b.example"):
            lane = pacer.lane(domain, party, lanes)
            assert lane == pacer.lane(domain, party, lanes)
            used[domain].add(lane)
    assert len(used["a.example"]) <= max(1, most // share)
    assert used["b.example"] == set(range(lanes))


@pytest.mark.parametrize(
    ("reason", "want"),
    [
        ("4.2.2", False),
        ("4.1.1", False),
        ("4.6.5", False),
        ("4.7.1", True),
        ("4.3.2", True),
        ("4.4.2", True),
        ("451", True),
    ],
)
def test_whose_fault(reason: str, want: bool) -> None:
    assert of_domain(reason) is want


# ------------------------------------------------------------------------------------------------------ quiet hours

NIGHT = QuietPeriod(dt.time(22), dt.time(7), "Europe/Berlin")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("zone", "now", "until"),
    [
        (None, "2026-11-25T20:59:59Z", None),
        (None, "2026-11-25T21:00:00Z", "2026-11-26T06:00:00Z"),
        (None, "2026-11-26T05:59:59Z", "2026-11-26T06:00:00Z"),
        (None, "2026-11-26T06:00:00Z", None),
        ("Asia/Shanghai", "2026-11-25T14:00:00Z", "2026-11-25T23:00:00Z"),
        ("Asia/Shanghai", "2026-11-25T21:00:00Z", "2026-11-25T23:00:00Z"),
        ("Nowhere/Land", "2026-11-25T21:00:00Z", "2026-11-26T06:00:00Z"),
        ("../../etc/passwd", "2026-11-25T21:00:00Z", "2026-11-26T06:00:00Z"),
        # the night on which the clock is put back is an hour longer
        (None, "2026-10-24T20:00:00Z", "2026-10-25T06:00:00Z"),
        (None, "2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"),
    ],
)
def test_quiet_hours(zone: str | None, now: str, until: str | None) -> None:
    found = quiet_until(NIGHT, zone, at(now))
    assert found == (None if until is None else at(until))


@given(
    st.times(),
    st.times(),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]),
    st.integers(0, 366 * 86_400).map(lambda seconds: at("2026-01-01T00:00:00Z") + dt.timedelta(seconds=seconds)),
)
def test_quiet_hours_end(begins: dt.time, ends: dt.time, zone: str, now: dt.datetime) -> None:
    quiet = QuietPeriod(begins, ends, "UTC")
    until = quiet_until(quiet, zone, now)
    if until is not None:
        assert now < until <= now + dt.timedelta(hours=25, minutes=30)


@pytest.mark.parametrize(
    "kind",
    ["claim_receipt", "counter_received", "outcome", "complaint_received", *sorted(WINDOW_KINDS), "account.email_code"],
)
def test_nothing_that_begins_a_window_waits_for_the_morning(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = policy.load("ipp-2026-11")
    hours = policy.QuietHours(begins="22:00", ends="07:00", zone="Europe/Berlin")
    night, day = at("2026-11-25T23:00:00Z"), at("2026-11-25T12:00:00Z")
    message = Message("m-1", "c", "p", kind, False, 0, night, items=[Item("c.1", 1, 0, facts())])
    if kind.startswith("account."):
        message.notice = AccountNotice(notice="n", account="p", kind="email_code", at=night)
    assert quiet_end(message, night) is None
    gone = Message("m-1", "c", "p", kind, False, 0, night, items=[Item("c.1", 1, 0, facts(policy="ipp-1999-01"))])
    assert quiet_end(gone, night) is None
    monkeypatch.setattr(policy, "load", lambda _version: msgspec.structs.replace(rules, quiet=hours))
    waits = kind not in WINDOW_KINDS and not kind.startswith("account.")
    assert quiet_end(message, night) == (at("2026-11-26T06:00:00Z") if waits else None)
    assert quiet_end(message, day) is None


def test_no_profile_that_we_ship_has_quiet_hours() -> None:
    assert all(policy.load(version).quiet is None for version in policy.versions())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('begins = "22:00"\nends = "22:00"\nzone = "UTC"', "quiet.ends"),
        ('begins = "22:00"\nends = "07:00"\nzone = "Mars/Base"', "quiet.zone"),
        ('begins = "25:00"\nends = "07:00"\nzone = "UTC"', "quiet.begins"),
    ],
)
def test_a_policys_quiet_hours_are_looked_at(text: str, key: str) -> None:
    file = policy.FOLDER / "ipp-2026-11.toml"
    with pytest.raises(policy.PolicyError, match=key):
        policy.parse(file.read_text() + f"\n[quiet]\n{text}\n", file.name)
