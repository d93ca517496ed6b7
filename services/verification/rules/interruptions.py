"""Rows 16, 18, 21 and 22: courts and authorities, withdrawals, and rights that end."""

from __future__ import annotations

from typing import Any

from services.verification.draft import Draft
from services.verification.rules.review import lacking
from shared.events import ChangeRight, ReportAction, ReportResult, State, Withdraw


def remind(d: Draft) -> None:
    """Row 16: start the time to the next reminder."""
    d.start("reminder", d.after(d.policy.timers.litigation_reminder))


def suspended_in_court(d: Draft) -> bool:
    """The item is suspended while in court."""
    return any(frame.state is State.LITIGATION for frame in d.stack)


def proof_refusal(d: Draft) -> str | None:
    """Rows 16, 21: the code if there is no proof."""
    event: ReportAction | ReportResult = d.event
    return None if event.proof else "proof_missing"


def action_refusal(d: Draft) -> str | None:
    """Row 16: the code if an action is known already, or there is no proof."""
    if d.state is State.LITIGATION or suspended_in_court(d):
        return "action_known"
    return proof_refusal(d)


def result_is(outcome: str) -> Any:
    """Guard, row 21: the result is this one."""

    def guard(d: Draft) -> bool:
        event: ReportResult = d.event
        return event.outcome == outcome

    return guard


def withdraw(d: Draft) -> None:
    """Row 18: penalties are reversed, unless the parties settled."""
    event: Withdraw = d.event
    _withdrawn(d, event.ground)


def withdraw_ended(d: Draft) -> None:
    """Row 22: the time of suspension is over."""
    _withdrawn(d, "right_ended")


def _withdrawn(d: Draft, ground: str) -> None:
    d.code = ground
    if ground in d.policy.withdrawal.reverses:
        d.upheld = False


def right_ends(d: Draft) -> bool:
    """Row 22: the right is no longer active."""
    event: ChangeRight = d.event
    return event.status != "active"


def right_returns(d: Draft) -> bool:
    """Row 22, back: the right is active."""
    return not right_ends(d)


def right_is_back(d: Draft) -> bool:
    """Row 22, back while in court."""
    return d.right_ended and not right_ends(d)


def right_has_ended(d: Draft) -> bool:
    """Row 22, for an item that returns from court to an open state."""
    return d.right_ended


def suspend(d: Draft) -> None:
    """Row 22: note how the right ended, and start the time of suspension."""
    if isinstance(d.event, ChangeRight):
        d.right_status = d.event.status
    d.right_ended = True
    d.code = f"right_{d.right_status}"
    d.start("suspended", d.after(d.policy.timers.suspended))


def right_back(d: Draft) -> None:
    """Rows 4 and 22, back: note that the right is in force, and what that proves."""
    event: ChangeRight = d.event
    d.right_status = "active"
    d.materials = tuple(sorted({*d.materials, *event.materials}))
    d.right_ended = False
    if d.state is State.NEEDS_INFO:
        d.missing = lacking(d)
