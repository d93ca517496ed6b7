"""Events for tests of the views: plausible histories of items, drawn by Hypothesis."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from services.streams.fold import Record
from services.streams.views import Meta
from shared.events import ENDED, HoldChanged, ItemChanged, ItemSubmitted, NoticeSent, State
from shared.topics import ENFORCEMENT, INTAKE, NOTIFICATION, VERIFICATION, Topic

BEGIN = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
RIGHTS = (("trademark", "counterfeit"), ("copyright", "copied_image_or_text"), ("design", "design"))


def record(topic: Topic, offset: int, data: Any, id: str, at: dt.datetime) -> Record:
    """An event as read."""
    return Record(topic.name, offset, data, Meta(id, at, at))


def submitted(number: int, at: dt.datetime = BEGIN, **changes: Any) -> ItemSubmitted:
    """As from intake."""
    right, reason = RIGHTS[number % 3]
    values: dict[str, Any] = {
        "item": f"i-{number}", "claim": f"c-{number // 3}", "claim_size": 3, "listing": f"l-{number}", "complainant": "a-h", "principal": "a-h",
        "right": "r-1", "right_type": right, "reason": reason, "profile": "ipp", "policy": "ipp-2026-11", "accepted_at": at,
        "lane": ("express", "standard", "bulk")[number % 3],
    }  # fmt: skip
    return ItemSubmitted(**(values | changes))


def changed(number: int, revision: int, state: State, received: dt.datetime = BEGIN, **changes: Any) -> ItemChanged:
    """As from verification."""
    filed = submitted(number)
    values: dict[str, Any] = {
        "item": filed.item, "claim": filed.claim, "claim_size": 3, "listing": filed.listing, "seller": "s-1", "complainant": "a-h",
        "principal": "a-h", "right": "r-1", "right_type": filed.right_type, "reason": filed.reason, "profile": "ipp", "policy": "ipp-2026-11",
        "lane": filed.lane, "revision": revision, "state": state, "rule": "x", "received_at": received,
        "sla_due": received + dt.timedelta(days=1),
    }  # fmt: skip
    return ItemChanged(**(values | changes))


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
                notice = NoticeSent(
                    item=f"i-{number}", claim=f"c-{number // 3}", listing=f"l-{number}", message="m", kind="seller_notice",
                    revision=revision, sent_at=sent,
                )  # fmt: skip
                found.append((sent, NOTIFICATION, notice))
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
    found.sort(key=lambda event: event[0])
    made = []
    for place, (at, topic, data) in enumerate(found):
        worker = topic.writer
        made.append(record(topic, place, data, f"{worker}.0.{place}", at))
    return made
