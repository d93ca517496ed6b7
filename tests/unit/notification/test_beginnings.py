"""From when a window runs: sent, delivered, read or deemed, whichever comes first of what the policy lets count."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import (
    WINDOW_KINDS,
    ItemRevision,
    WindowRule,
    WindowStart,
    notices_of,
    unreached_of,
    window_rule,
    window_start,
)
from shared import events, policy
from tests.unit.notification.making import NOW

By = Literal["sent", "delivered", "read"]
MOMENTS = st.none() | st.integers(-10, 40).map(lambda hours: NOW + dt.timedelta(hours=hours))


def notice(monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Let every policy say this of the beginning."""
    real = policy.load

    def load(version: str) -> policy.Policy:
        return msgspec.structs.replace(real(version), notice=policy.Notice(**settings))  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "load", load)


@given(
    by=st.sampled_from(["sent", "delivered", "read"]),
    sent=MOMENTS,
    delivered=MOMENTS,
    read=MOMENTS,
    deemed=MOMENTS,
    now=MOMENTS,
)
def test_a_beginning_is_known_for_what_it_is(
    by: By,
    sent: dt.datetime | None,
    delivered: dt.datetime | None,
    read: dt.datetime | None,
    deemed: dt.datetime | None,
    now: dt.datetime | None,
) -> None:
    now = now or NOW
    found = window_start(by, sent_at=sent, delivered_at=delivered, read_at=read, deemed_at=deemed, now=now)
    if sent is None:
        assert found is None
        return
    counting = {
        "sent": {"sent": sent},
        "delivered": {"delivered": delivered, "read": read, "deemed": deemed},
        "read": {"read": read, "deemed": deemed},
    }[by]
    known = {name: at for name, at in counting.items() if at is not None and (name != "deemed" or at <= now)}
    if not known:
        assert found is None
        return
    assert found is not None
    assert found.at >= sent, "no window begins before the message went out"
    assert found.at == max(min(known.values()), sent)
    assert found.by in known


@given(by=st.sampled_from(["delivered", "read"]), read=MOMENTS, deemed=MOMENTS, more=MOMENTS)
def test_more_knowledge_never_begins_later(
    by: By, read: dt.datetime | None, deemed: dt.datetime | None, more: dt.datetime | None
) -> None:
    now = NOW + dt.timedelta(days=30)
    before = window_start(by, sent_at=NOW, delivered_at=None, read_at=read, deemed_at=deemed, now=now)
    after = window_start(by, sent_at=NOW, delivered_at=more, read_at=read, deemed_at=deemed, now=now)
    if before is not None:
        assert after is not None
        assert after.at <= before.at


def test_every_profile_begins_with_the_sending() -> None:
    """Why: docs/reference/policies.md, "When a window begins"."""
    for version in policy.versions():
        assert policy.load(version).notice == policy.Notice()
        assert window_rule("seller_notice", version, NOW) == WindowRule("sent", None)


def test_what_lies_in_an_inbox_that_nobody_owns_begins_with_its_reading() -> None:
    for profile in policy.profiles():
        rules = policy.current(profile)
        proceeds = rules.sellers.unreachable == "proceed"
        found = window_rule("seller_notice", rules.version, NOW, reached=False)
        assert found == WindowRule("sent" if proceeds else "read", None)
    (lost,) = unreached_of("m", "c", NOW, [ItemRevision("i", 2, "l")])
    assert (lost.item, lost.revision, lost.listing, lost.kind, lost.at) == ("i", 2, "l", "seller_notice", NOW)


def test_what_begins_no_window_has_no_beginning() -> None:
    assert window_rule("outcome", "ipp-2026-11", NOW) is None
    assert notices_of("m", "c", "outcome", NOW, WindowStart("sent", NOW), [ItemRevision("i", 1, "l")]) == []
    assert window_rule("seller_notice", "no-such-policy", NOW) == WindowRule("sent", None)


def test_a_deemed_receipt_counts_in_the_policys_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    notice(monkeypatch, begins="read", deemed=policy.Span("3 wd"))
    friday = dt.datetime(2026, 11, 27, 2, tzinfo=dt.UTC)
    assert window_rule("seller_notice", "ipp-2026-11", friday) == WindowRule("read", friday + dt.timedelta(days=5))


def test_an_event_says_from_when_and_by_what() -> None:
    later = NOW + dt.timedelta(hours=5)
    for kind in sorted(WINDOW_KINDS):
        (sent,) = notices_of("m", "c", kind, NOW, WindowStart("sent", NOW), [ItemRevision("i", 2, "l")])
        assert (sent.begins, sent.begun_by, sent.begins_at) == (NOW, "sent", None), "as before there was a choice"
        (read,) = notices_of("m", "c", kind, NOW, WindowStart("read", later), [ItemRevision("i", 2, "l")])
        assert (read.begins, read.sent_at, read.begun_by) == (later, NOW, "read")
    old = msgspec.json.decode(
        b'{"item":"i","claim":"c","listing":"l","message":"m","kind":"seller_notice","revision":2,"sent_at":"2026-11-24T12:00:00Z"}',
        type=events.NoticeSent,
    )
    assert old.begins == NOW, "what was published before is read as it was meant"


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('begins = "read"', "notice.deemed"),
        ('begins = "sent"\ndeemed = "3 wd"', "notice.deemed"),
        ('begins = "seen"', "notice.begins"),
    ],
)
def test_wrong_settings_are_found(lines: str, key: str) -> None:
    text = (policy.FOLDER / "ipp-2026-11.toml").read_text(encoding="utf-8")
    with pytest.raises(policy.PolicyError, match=key):
        policy.parse(f"{text}\n[notice]\n{lines}\n", "ipp-2026-11.toml")
