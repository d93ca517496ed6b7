"""The outside record: what was filed and acknowledged, kept outside the system, and the judgement on close calls."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class ClockReading(NamedTuple):
    """Business time at a moment of our own clock (monotonic)."""

    business: dt.datetime
    at: float


class CloseCall(NamedTuple):
    """A counter close to its deadline: the deadline that the seller was shown, and when the counter was accepted."""

    item: str
    command: str
    due: dt.datetime
    accepted_at: dt.datetime

    @property
    def in_time(self) -> bool:
        """Whether it was accepted by the deadline."""
        return self.accepted_at <= self.due


class LoggedChange(NamedTuple):
    """A change of an item in verification's log."""

    at: dt.datetime
    states: tuple[str | None, ...]
    """The state before, the states passed through, and the new state."""
    command: str | None


def submission_name(account: str, key: str) -> str:
    """How a lost submission is named."""
    return f"submission {account} {key}"


def judge_close_call(call: CloseCall, history: Sequence[LoggedChange]) -> str | None:
    """What is wrong with the outcome of a counter close to its deadline; None if nothing is.

    A counter in time beats the default; a later one does not.

    Args:
        call: The counter.
        history: The item's changes, oldest first.
    """
    name = f"counter {call.command} of {call.item}, accepted at {call.accepted_at.isoformat()}, due at {call.due.isoformat()}"
    own = next((change for change in history if change.command == call.command), None)
    if call.in_time:
        if own is None:
            return f"{name}, in time: not applied"
        # if the default had fired already, it is undone
        return None if "NOTIFIED" in own.states[:-1] else f"{name}, in time: lost to the default"
    before = history if own is None else history[: history.index(own)]
    if any(change.at == call.due and "UPHELD_BY_DEFAULT" in change.states[1:] for change in before):
        return None
    return f"{name}, too late: the default did not fire before it"


@dataclass(slots=True)
class OutsideRecord:
    """What was filed and acknowledged.

    Attributes:
        answers: (account, key) of an acknowledged submission -> its resource; None if it went by the upstream's topic.
        items: Item id -> listing, as the answers named them.
        named: Listing -> number of acknowledged claims that named it.
        commands: (item, kind) -> number of acknowledged commands.
        close_calls: Counters that came close to their deadlines.
        claims: Number of acknowledged claims.
        refused: Refusals by kind, status and problem type.
        retries: Requests that were sent again.
        contradictions: Answers that contradict each other, and requests without an answer.
    """

    answers: dict[tuple[str, str], str | None] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    named: Counter[str] = field(default_factory=Counter)
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)
    close_calls: list[CloseCall] = field(default_factory=list)
    claims: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    contradictions: list[str] = field(default_factory=list)
