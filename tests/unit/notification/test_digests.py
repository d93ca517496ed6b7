"""One message a day: at the party's hour, and never of what sets a time."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.digests import next_at
from services.notification.domain import DIGEST, HELD, WINDOW_KINDS
from services.notification.preview import AGENT, CONTACTS, NOW, SITE, preview
from services.notification.render import LISTED, VERSIONS, MessageItem, render
from shared.events import State
from tests.unit.notification.making import facts

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "Pacific/Apia"]


def test_what_sets_a_time_is_never_held_back() -> None:
    assert not WINDOW_KINDS & set(HELD)
    assert set(HELD) < set(VERSIONS)
    assert DIGEST in VERSIONS


@given(
    st.integers(1_577_836_800, 2_051_222_400).map(lambda at: dt.datetime.fromtimestamp(at, dt.UTC)),
    st.integers(0, 23),
    st.sampled_from(ZONES),
)
def test_a_digest_is_due_once_a_day_at_its_hour(after: dt.datetime, hour: int, zone: str) -> None:
    at = next_at(after, hour, zone)
    assert dt.timedelta(0) < at - after <= dt.timedelta(hours=50 if zone == "Pacific/Apia" else 25)
    local = at.astimezone(ZoneInfo(zone))
    # an hour that a day leaves out in spring is the one after
    assert local.hour == hour or (local.hour, local.minute) in ((hour + 1, 0), (hour, 30), (hour + 1, 30))
    again = next_at(at, hour, zone)
    assert again.astimezone(ZoneInfo(zone)).date() > local.date()


@pytest.mark.parametrize(
    ("after", "at"),
    [
        ("2026-11-24T06:59:59+00:00", "2026-11-24T07:00:00+00:00"),
        ("2026-11-24T07:00:00+00:00", "2026-11-25T07:00:00+00:00"),
        ("2026-03-28T07:00:00+00:00", "2026-03-29T06:00:00+00:00"),  # summer time has begun
        ("2026-10-24T06:00:00+00:00", "2026-10-25T07:00:00+00:00"),
    ],
)
def test_eight_in_berlin(after: str, at: str) -> None:
    assert next_at(dt.datetime.fromisoformat(after), 8, "Europe/Berlin") == dt.datetime.fromisoformat(at)


def test_a_digest_counts_and_lists() -> None:
    states = [State.REJECTED] * 150 + [State.NOTIFIED] * 250
    told = [MessageItem(f"i-{n}", facts(f"l-{n}", complainant=AGENT, state=state)) for n, state in enumerate(states)]
    made = render(
        id="m-1",
        claim="c-1",
        party=AGENT,
        kind=DIGEST,
        items=told,
        claim_size=1,
        contacts=CONTACTS,
        right_number=None,
        site=SITE,
        now=NOW,
    )
    text = " ".join(made.body.split())
    assert "refused: 150" in text
    assert "taken up; the seller is notified: 250" in text
    assert made.body.count(f"{SITE}/items/") == LISTED
    assert f"And {400 - LISTED} more" in text
    assert "400 items" in made.subject
    assert "c-1" not in made.body
    for contact in CONTACTS.values():
        assert contact.email not in made.html


def test_a_digest_says_how_to_complain() -> None:
    assert '"complain"' in preview(DIGEST).body
