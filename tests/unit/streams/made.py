"""Events for tests of the views: plausible histories of items, drawn by Hypothesis."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from services.streams.fold import Record
from services.streams.views import Meta
from shared.events import (
    ENDED,
    AccountNotice,
    ClaimFiled,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    NoticeSent,
    NoticeUnreached,
    SanctionChanged,
    StandingChanged,
    State,
    ViolationChanged,
)
from shared.topics import ACCOUNTS, ENFORCEMENT, FILINGS, INTAKE, LEDGER, NOTIFICATION, VERIFICATION, VIOLATIONS, Topic

BEGIN = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
KINDS = ("upgraded", "warned", "warning_lifted", "left", "removed", "bar_ended", "declared")
RIGHTS = (("trademark", "counterfeit"), ("copyright", "copied_image_or_text"), ("design", "design"))


def record(topic: Topic, offset: int, data: Any, id: str, at: dt.datetime) -> Record:
    """An event as read."""
    return Record(topic.name, offset, data, Meta(id, at, at))


def submitted(number: int, at: dt.datetime = BEGIN, **changes: Any) -> ItemSubmitted:
    """As from intake."""
    right, reason = RIGHTS[number % 3]
    values: dict[str, Any] = {
        "item": f"i-{number}",
        "claim": f"c-{number // 3}",
        "claim_size": 3,
        "listing": f"l-{number}",
        "complainant": "a-h",
        "principal": "a-h",
        "right": "r-1",
        "right_type": right,
        "reason": reason,
        "profile": "ipp",
        "policy": "ipp-2026-11",
        "accepted_at": at,
        "lane": ("express", "standard", "bulk")[number % 3],
    }
    return ItemSubmitted(**(values | changes))


def changed(number: int, revision: int, state: State, received: dt.datetime = BEGIN, **changes: Any) -> ItemChanged:
    """As from verification."""
    filed = submitted(number)
    values: dict[str, Any] = {
        "item": filed.item,
        "claim": filed.claim,
        "claim_size": 3,
        "listing": filed.listing,
        "seller": "s-1",
        "complainant": "a-h",
        "principal": "a-h",
        "right": "r-1",
        "right_type": filed.right_type,
        "reason": filed.reason,
        "profile": "ipp",
        "policy": "ipp-2026-11",
        "lane": filed.lane,
        "revision": revision,
        "state": state,
        "rule": "x",
        "received_at": received,
        "sla_due": received + dt.timedelta(days=1),
    }
    return ItemChanged(**(values | changes))


def violation(seller: str, claim: int, item: int, revision: int, in_force: bool, at: dt.datetime) -> ViolationChanged:
    """As from enforcement."""
    return ViolationChanged(
        seller=seller,
        claim=f"c-{claim}",
        item=f"i-{item}",
        listing=f"l-{item}",
        severity=("general", "serious")[item % 2],
        in_force=in_force,
        revision=revision,
        at=at,
    )


def filed(account: str, claim: int, items: int, at: dt.datetime, **changes: Any) -> ClaimFiled:
    """As from intake."""
    values: dict[str, Any] = {
        "claim": f"c-{claim}",
        "account": account,
        "items": items,
        "right_type": RIGHTS[claim % 3][0],
        "channel": "http",
        "at": at,
    }
    return ClaimFiled(**(values | changes))


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What four topics have of some items: in an order in which it may have happened, with the fates of real items in short."""
    found: list[tuple[dt.datetime, Topic, Any]] = []
    for number in range(draw(st.integers(1, 5))):
        at = BEGIN + dt.timedelta(seconds=draw(st.integers(0, 10_000)))
        received, pause = at, dt.timedelta()
        found.append((at, INTAKE, submitted(number, at)))
        handled: dt.datetime | None = None
        sla: Any = None
        held = upheld = False
        for revision in range(1, draw(st.integers(0, 6)) + 1):
            at += dt.timedelta(seconds=draw(st.sampled_from((1, 50, 400, 5000, 50_000))))
            state = draw(st.sampled_from(list(State)))
            if state is State.NOTIFIED:
                held = held or draw(st.booleans())
            elif state in ENDED:
                held = False
            if draw(st.booleans()) and handled is None and (held or state in ENDED):
                handled = at
            if state is State.NEEDS_INFO:
                pause += dt.timedelta(hours=1)
            due = received + dt.timedelta(days=1) + pause
            if sla is None and (handled or at > due):
                sla = "met" if handled and handled <= due else "missed"
            change = changed(
                number, revision, state, received, held=held, upheld=upheld, handled_at=handled, sla=sla, sla_due=due
            )
            found.append((at, VERIFICATION, change))
            if state is State.NOTIFIED and draw(st.booleans()):
                sent = at + dt.timedelta(seconds=draw(st.sampled_from((3, 700))))
                about: dict[str, Any] = {
                    "item": f"i-{number}",
                    "claim": f"c-{number // 3}",
                    "listing": f"l-{number}",
                    "message": "m",
                    "revision": revision,
                }
                if draw(st.booleans()):
                    found.append((sent, NOTIFICATION, NoticeUnreached(**about, at=sent)))
                else:
                    found.append((sent, NOTIFICATION, NoticeSent(**about, kind="seller_notice", sent_at=sent)))
            if held and draw(st.booleans()):
                taken = at + dt.timedelta(seconds=draw(st.sampled_from((2, 9000))))
                hold = HoldChanged(
                    item=f"i-{number}",
                    claim=f"c-{number // 3}",
                    listing=f"l-{number}",
                    held=draw(st.booleans()),
                    at=taken,
                )
                found.append((taken, ENFORCEMENT, hold))
    for number in range(draw(st.integers(0, 8))):
        at = BEGIN + dt.timedelta(days=draw(st.integers(0, 800)))
        seller = f"s-{draw(st.integers(0, 2))}"
        for revision in range(1, draw(st.integers(1, 3)) + 1):
            found.append((at, VIOLATIONS, violation(seller, number // 2, number, revision, draw(st.booleans()), at)))
            standing = StandingChanged(
                seller=seller,
                general_points=draw(st.integers(0, 12)),
                serious_strikes=0,
                violations=draw(st.integers(0, 3)),
                at=at,
            )
            found.append((at, LEDGER, standing))
            sanction = SanctionChanged(
                seller=seller,
                sanction=f"{seller}.s{number}",
                change=draw(st.sampled_from(("imposed", "lifted", "ended"))),
                cause="threshold",
                ledger="general",
                level=draw(st.integers(1, 3)),
                begins=at,
                entry="e-1",
                claim="c-1",
                at=at,
            )
            found.append((at, LEDGER, sanction))
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(KINDS))
        figures = (
            {"demote_on": "2027-01-01"}
            if kind == "warned"
            else {"barred_until": "2027-02-01"}
            if kind == "left"
            else {}
        )
        at = BEGIN + dt.timedelta(days=number)
        notice_ = AccountNotice(
            notice=f"n-{number}", account=f"a-{number % 2}", kind=f"good_faith_{kind}", figures=figures, at=at
        )
        found.append((at, ACCOUNTS, notice_))
    for number in range(draw(st.integers(0, 8))):
        at = BEGIN + dt.timedelta(hours=draw(st.integers(-900, 900)))
        items = draw(st.sampled_from((1, 2, 9, 10, 99, 100, 300)))
        channel = draw(st.sampled_from(("http", "kafka", "recurrence")))
        found.append((at, FILINGS, filed(f"a-{draw(st.integers(0, 3))}", number, items, at, channel=channel)))
    found.sort(key=lambda event: event[0])
    made = []
    for place, (at, topic, data) in enumerate(found):
        worker = topic.writer
        made.append(record(topic, place, data, f"{worker}.0.{place}", at))
    return made
