"""Rows 8 to 15 and 17: the counter-notification, the holder's answer, and the platform's decision."""

from __future__ import annotations

from services.verification.draft import Draft
from services.verification.item import Timer
from shared.events import Counter, Respond


def counter_in_time(d: Draft) -> bool:
    """Row 10: the window has not begun, or has not ended."""
    return d.counter_due is None or "counter_defect" in d.awaits or d.when <= d.counter_due


def counter_refusal(d: Draft) -> str | None:
    """Row 10: the code if no round is left, or the counter is too late."""
    if d.counter_round >= d.policy.counter.rounds:
        return "rounds_used"
    if counter_in_time(d):
        return None
    if d.late_counters >= d.policy.counter.late:
        return "counter_too_late"
    noticed_at = d.item.noticed_at or d.notice_seen
    if noticed_at is not None and d.when > d.after(d.policy.timers.late_counter, noticed_at):
        return "counter_too_late"
    return None


def count_round(d: Draft) -> None:
    """Row 10, before the state is left: count the round, and whether it is late."""
    if not counter_in_time(d):
        d.late_counters += 1
    d.counter_round += 1
    d.counter_at = d.when


def check_counter(d: Draft) -> None:
    """Row 10: start the check's deadline, and note what is missing."""
    d.start("counter_check", d.after(d.policy.timers.counter_check))
    event: Counter = d.event
    d.missing = tuple([element for element in d.policy.counter.required if element not in event.materials])


def checked_by_rule(d: Draft) -> bool:
    """Rows 11, 12: the policy's list decides."""
    return d.policy.rules.counter_check == "rule"


def counter_incomplete(d: Draft) -> bool:
    """Row 11, by the rule: elements are missing."""
    return checked_by_rule(d) and bool(d.missing)


def overdue_incomplete(d: Draft) -> bool:
    """Row 11, overdue: the policy takes an unchecked counter as incomplete."""
    return d.policy.rules.overdue_counter_check == "incomplete"


def send_back(d: Draft) -> None:
    """Row 11: the round does not count; while refilings remain, a window to file again follows the notice."""
    d.code = "counter_incomplete"
    d.missing = d.left_missing
    d.counter_round -= 1
    if d.refiles < d.policy.counter.refiles:
        d.refiles += 1
        d.awaits = (*[kind for kind in d.awaits if kind != "counter_defect"], "counter_defect")
        d.timers = tuple([timer for timer in d.timers if timer.kind != "window"])
    else:
        # the rest of the window runs on; if nothing is left, it ends now
        d.timers = tuple([Timer(timer.kind, max(timer.due, d.at)) for timer in d.timers])


def forward(d: Draft) -> None:
    """Row 12: the holder's window begins when the counter is forwarded."""
    d.stack = d.stack[:-1]
    d.refiles = 0
    d.awaits = ("counter_forwarded",)
    restore_by = d.policy.timers.restore_by
    if restore_by is not None:
        d.start("restore_by", d.after(restore_by, d.counter_at))


def accepts(d: Draft) -> bool:
    """Row 13: the holder accepts the counter."""
    event: Respond = d.event
    return event.accept


def rejects_to_platform(d: Draft) -> bool:
    """Row 14: the holder rejects the counter, and the platform reviews it."""
    return not d.event.accept and d.policy.rules.holder_rejects == "platform_review"


def rejects_in_vain(d: Draft) -> bool:
    """Row 14: the holder rejects the counter, but only a filed action stops the restoration."""
    return not d.event.accept and d.policy.rules.holder_rejects == "no_effect"


def holder_rejected(d: Draft) -> None:
    """Row 14, without effect: note the answer."""
    d.code = "holder_rejected"


def silent_to_platform(d: Draft) -> bool:
    """Row 15: the holder is silent, and the platform reviews the counter."""
    return d.policy.rules.holder_silent == "platform_review"


def platform_review(d: Draft) -> None:
    """Rows 14, 15: start the platform's own deadline."""
    d.start("platform_review", d.after(d.policy.timers.platform_review))


def escalate(d: Draft) -> None:
    """Row 17, overdue: start the grace period."""
    d.timers = tuple([timer for timer in d.timers if timer.kind != "platform_review"])
    d.start("platform_grace", d.after(d.policy.timers.platform_review_grace))


def overdue_restores(d: Draft) -> bool:
    """Row 17, nobody decided: the policy restores."""
    return d.policy.rules.overdue_decision == "restore"


def open_round(d: Draft) -> None:
    """Rows 17, 19, 21: start the time for a further counter."""
    d.counter_due = d.after(d.policy.timers.round_window)


def respond_refusal(d: Draft) -> str | None:
    """Row 14: the code if the holder has answered already."""
    return "already_answered" if d.code == "holder_rejected" else None
