"""Notices to the parties, and the windows that they begin."""

from __future__ import annotations

import msgspec

from services.verification.draft import Draft
from services.verification.item import Frame, Notice, Timer, TimerKind
from services.verification.rules.complaints import audit
from shared.events import NoticeSent, NoticeUnreached, State
from shared.policy import Span


def awaited(d: Draft) -> bool:
    """The notice belongs to the present visit of the state, and its window has not begun."""
    event: NoticeSent | NoticeUnreached = d.event
    return event.kind in d.awaits and d.visit <= event.revision < d.revision


def seller_notice_awaited(d: Draft) -> bool:
    """Row 7: the seller's notice, whose window has not begun."""
    return d.event.kind == "seller_notice" and awaited(d)


def awaited_before(d: Draft) -> bool:
    """The notice belongs to a state to which the item may return."""
    return any(_awaits(frame, d.event) for frame in d.stack)


def _awaits(frame: Frame, event: NoticeSent | NoticeUnreached) -> bool:
    return event.kind in frame.awaits and frame.visit <= event.revision <= frame.until


def first_notice(d: Draft) -> bool:
    """The seller's notice, sent after the item had moved on: its date still counts (row 10)."""
    event: NoticeSent = d.event
    return (
        event.kind == "seller_notice"
        and event.revision < d.revision
        and d.item.noticed_at is None
        and d.notice_seen is None
    )


def _window(d: Draft, kind: Notice) -> tuple[TimerKind, Span]:
    timers = d.policy.timers
    if kind == "info_request":
        return "needs_info", timers.needs_info
    if kind == "counter_forwarded":
        abroad = timers.holder_response_abroad if d.item.abroad else None
        return "holder_response", abroad or timers.holder_response
    return "window", timers.refile if kind == "counter_defect" else timers.window


def open_window(d: Draft) -> None:
    """Begin the window of the present state, at the time that its notice says."""
    event: NoticeSent = d.event
    timer, span = _window(d, event.kind)
    due = d.after(span, event.begins)
    d.awaits = tuple([kind for kind in d.awaits if kind != event.kind])
    if timer == "window" and never_late(d):
        note(d)
        return
    if timer == "window":
        note(d)
        # a defective counter's new window never shortens the old one
        d.counter_due = due = due if d.counter_due is None else max(due, d.counter_due)
        if d.state is not State.NOTIFIED or d.awaits:
            return  # upheld items have no timer; and no window runs while a notice is still awaited
    d.start(timer, due)


def never_late(d: Draft) -> bool:
    """Row 9, where the seller's silence means nothing: no window runs."""
    return d.policy.rules.seller_silent == "nothing"


def stands(d: Draft) -> bool:
    """Row 9, where the seller's silence means nothing: its notice was sent."""
    return never_late(d) and seller_notice_awaited(d)


def stand(d: Draft) -> None:
    """Row 9: the takedown stands, and counts, until a counter or the complainant undoes it."""
    open_window(d)
    d.upheld = d.held


def unreached(d: Draft) -> bool:
    """Row 9: the seller's notice is in an inbox that nobody owns, which is news."""
    return not d.unreached and awaited(d)


def unreached_before(d: Draft) -> bool:
    """Row 9, while the item has left the state to which the notice belongs."""
    return not d.unreached and awaited_before(d)


def note_unreached(d: Draft) -> None:
    """Row 9: no window begins until the seller is reached."""
    d.unreached = True


def person_decides(d: Draft) -> bool:
    """Row 9: the seller is not reached, and the policy has a person decide."""
    return d.unreached and d.policy.sellers.unreachable == "review"


def put_to_person(d: Draft) -> None:
    """Row 9: have a person look at the takedown, and say why."""
    audit(d)
    d.code = "seller_unreached"


def reached(d: Draft) -> bool:
    """Row 9: the seller is reached while a person looks at the takedown."""
    return d.unreached and d.stack[-1].state is State.NOTIFIED and awaited_before(d)


def reached_meanwhile(d: Draft) -> bool:
    """Row 9: the seller was reached while the item was in court, or suspended."""
    return not d.unreached and d.stack[-1].state is State.NOTIFIED


def reached_before(d: Draft) -> bool:
    """Row 9: the seller is reached while the item has left the state to which the notice belongs."""
    return d.unreached and d.event.kind == "seller_notice" and awaited_before(d)


def reached_late(d: Draft) -> bool:
    """Row 9: the seller is reached after a person has confirmed the takedown."""
    return d.unreached and first_notice(d)


def begin_after_all(d: Draft) -> None:
    """Row 9: the seller's window begins, or none runs."""
    if never_late(d):
        stand(d)
    else:
        open_window(d)


def open_window_before(d: Draft) -> None:
    """Begin the window of a state to which the item may return; what is left of it applies on the return."""
    event: NoticeSent = d.event
    note(d)
    stack: list[Frame] = []
    for frame in d.stack:
        if _awaits(frame, event):
            timer, span = _window(d, event.kind)
            due = d.after(span, event.begins)
            awaits = tuple([kind for kind in frame.awaits if kind != event.kind])
            counter_due = frame.counter_due
            timers = frame.timers
            upheld = frame.upheld
            if timer == "window" and never_late(d):
                upheld = upheld or (frame.held and event.kind == "seller_notice")
            else:
                if timer == "window":
                    counter_due = due = due if counter_due is None else max(due, counter_due)
                if timer != "window" or (frame.state is State.NOTIFIED and not awaits):
                    timers = (*timers, Timer(timer, due))
            frame = msgspec.structs.replace(frame, awaits=awaits, counter_due=counter_due, timers=timers, upheld=upheld)
        stack.append(frame)
    d.stack = tuple(stack)


def note(d: Draft) -> None:
    """Note when the seller was notified."""
    if d.event.kind == "seller_notice":
        d.unreached = False
        if d.item.noticed_at is None:
            d.notice_seen = d.event.begins


def note_late(d: Draft) -> None:
    """Note when the seller was notified, and until when a counter is in time."""
    note(d)
    if d.counter_due is None and not never_late(d):
        d.counter_due = d.after(d.policy.timers.window, d.event.begins)
