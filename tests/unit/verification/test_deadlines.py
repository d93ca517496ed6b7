"""Time of right: in time is what was accepted by the deadline, however late it is read; to the microsecond."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from services.verification.lifecycle import Outcome, fire
from shared.calendars import calendar
from shared.events import State
from tests.unit.verification.world import COMPLETE, DAY, HOUR, IPP, MANUAL, MICRO, T, World, policy

S = State
CN = calendar("cn")
Act = Callable[..., Outcome]

WINDOWS: dict[str, tuple[State, Callable[[World], Act], dict[str, Any], State, State]] = {
    # state, command, its arguments, where it leads in time, where silence leads
    "counter": (S.NOTIFIED, lambda w: w.counter, {}, S.HOLDER_RESPONSE, S.UPHELD_BY_DEFAULT),
    "accept": (S.NOTIFIED, lambda w: w.accept, {}, S.UPHELD, S.UPHELD_BY_DEFAULT),
    "information": (
        S.NEEDS_INFO,
        lambda w: w.add_information,
        {"materials": ("ownership",)},
        S.NOTIFIED,
        S.LAPSED,
    ),
    "reject": (S.HOLDER_RESPONSE, lambda w: w.respond, {"accept": False}, S.PLATFORM_REVIEW, S.RESTORED),
    "concede": (S.HOLDER_RESPONSE, lambda w: w.respond, {"accept": True}, S.RESTORED, S.PLATFORM_REVIEW),
    "withdraw": (S.NOTIFIED, lambda w: w.withdraw, {}, S.WITHDRAWN, S.UPHELD_BY_DEFAULT),
    "action": (S.HOLDER_RESPONSE, lambda w: w.action, {}, S.LITIGATION, S.RESTORED),
    "right": (S.SUSPENDED, lambda w: w.right, {"status": "active"}, S.NOTIFIED, S.WITHDRAWN),
}


def at_the_window(name: str) -> tuple[World, Act, dict[str, Any], State, State, dt.datetime]:
    state, command, arguments, in_time, silent = WINDOWS[name]
    rules = policy(holder_silent="restore") if silent is S.RESTORED else IPP
    world = World(rules).to(state)
    due = world.got.timers[-1].due
    assert world.got.timers[-1].kind != "sla"
    return world, command(world), arguments, in_time, silent, due


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("late", [dt.timedelta(), MICRO, HOUR, 30 * DAY])
def test_accepted_at_the_deadline_is_in_time_however_late_it_is_read(name: str, late: dt.timedelta) -> None:
    world, act, arguments, in_time, _, due = at_the_window(name)
    world.now = due + late
    outcome = act(accepted_at=due, **arguments)
    assert outcome.refused is None
    assert world.state is in_time


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("late", [dt.timedelta(), MICRO, HOUR, DAY])
def test_a_timer_that_has_fired_does_not_beat_it(name: str, late: dt.timedelta) -> None:
    world, act, arguments, in_time, silent, due = at_the_window(name)
    world.now = due + late
    world.tick()
    assert world.state is silent
    outcome = act(accepted_at=due, **arguments)
    assert outcome.refused is None
    assert world.state is in_time
    assert outcome.changes[0].data.previous is silent


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("fired", [False, True])
def test_a_microsecond_later_silence_has_won(name: str, fired: bool) -> None:
    """Whether the timer or the command is read first makes no difference."""
    world, act, arguments, _, silent, due = at_the_window(name)
    world.now = due + HOUR
    if fired:
        world.tick()
    before = len(world.changes)
    act(accepted_at=due + MICRO, **arguments)
    states = [change.data.state for change in world.changes]
    assert silent in states
    if not fired:
        assert world.changes[before].at == due
    if name in ("accept", "information", "reject", "concede"):
        assert world.last.refused is not None
        assert world.last.refused.code == "too_late"
        assert world.state is silent


def test_late_counter_from_a_window_that_has_not_fired_yet() -> None:
    world = World().to(S.NOTIFIED)
    world.now = T + 4 * DAY
    outcome = world.counter()
    assert [change.data.rule for change in outcome.changes] == ["9-window-ended", "12-counter-complete"]
    assert (world.got.late_counters, world.got.upheld) == (1, True)


def test_counter_in_time_read_late_undoes_the_violation() -> None:
    world = World().to(S.NOTIFIED)
    world.pass_time(10 * DAY)
    assert world.got.upheld
    outcome = world.counter(accepted_at=T + DAY)
    assert (world.got.upheld, world.got.late_counters, world.got.held) == (False, 0, True)
    assert outcome.changes[0].data.via == (S.NOTIFIED, S.COUNTERED)


def test_information_in_time_but_not_enough_lapses_again() -> None:
    world = World().to(S.NEEDS_INFO)
    world.pass_time(5 * DAY)
    world.add_information(accepted_at=T + DAY)
    assert world.got.state is S.NEEDS_INFO
    world.tick()
    assert world.state is S.LAPSED


def test_a_lapsed_claim_that_comes_back_may_be_a_duplicate_by_now() -> None:
    world = World().to(S.LAPSED)
    world.original = "younger"
    world.add_information(materials=("ownership",), accepted_at=T + DAY)
    assert (world.state, world.got.original) == (S.DUPLICATE, "younger")


def test_what_happened_after_the_timer_is_not_undone() -> None:
    world = World().to(S.HOLDER_RESPONSE)
    world.pass_time(4 * DAY)
    world.decide("uphold")
    refused = world.respond(True, accepted_at=T + DAY).refused
    assert refused is not None
    assert refused.code == "not_now"


def test_accepted_in_the_future_counts_as_now() -> None:
    world = World().to(S.NOTIFIED)
    world.counter(accepted_at=T + 300 * DAY)
    assert (world.state, world.got.late_counters) == (S.HOLDER_RESPONSE, 0)


def test_fire_before_the_deadline_does_nothing() -> None:
    world = World().to(S.NOTIFIED)
    due = world.got.due
    assert due is not None
    outcome = fire(world.got, world.facts, IPP, due - MICRO)
    assert outcome.ignored
    assert outcome.item is world.item
    assert fire(world.got, world.facts, IPP, due).changes


def test_a_chain_of_timers_counts_from_their_deadlines() -> None:
    """A worker that was down for a year finds what would have been."""
    world = World(MANUAL).to(S.COUNTERED)
    world.pass_time(365 * DAY)
    assert (world.state, world.changes[-1].at) == (S.HOLDER_RESPONSE, T + 2 * DAY)
    world.sent("counter_forwarded", at=T + 2 * DAY)
    world.tick()
    due = IPP.timers.holder_response.after(T + 2 * DAY, CN)
    due = IPP.timers.platform_review.after(due, CN)
    due = IPP.timers.platform_review_grace.after(due, CN)
    assert (world.state, world.changes[-1].at) == (S.RESTORED, due)


@pytest.mark.parametrize(("after", "sla"), [(24 * HOUR, "met"), (24 * HOUR + MICRO, "missed")])
def test_24_hours_to_the_microsecond(after: dt.timedelta, sla: str) -> None:
    world = World()
    world.submit()
    world.now = T + after
    world.receipt()
    assert (world.got.sla, world.got.handled_at) == (sla, T + after)


def test_the_24_hours_are_missed_once() -> None:
    world = World()
    world.submit()
    world.now = T + 25 * HOUR
    world.tick()
    world.receipt(at=T + 23 * HOUR)  # the receipt was under way: what was published stands
    assert (world.got.sla, world.got.handled_at) == ("missed", T + 23 * HOUR)
    assert [change.kind for change in world.changes] == ["notified", "overdue", "handled"]


def test_a_stale_timer_cannot_fire() -> None:
    world = World().to(S.NOTIFIED)
    world.accept()
    assert world.pass_time(100 * DAY) == []


@pytest.mark.parametrize(("offset", "code"), [(dt.timedelta(), None), (MICRO, "counter_too_late")])
def test_late_counter_to_the_microsecond(offset: dt.timedelta, code: str | None) -> None:
    world = World().to(S.UPHELD_BY_DEFAULT)
    world.now = T + 200 * DAY
    refused = world.counter(COMPLETE, accepted_at=T + 180 * DAY + offset).refused
    assert (refused.code if refused else None) == code


@pytest.mark.parametrize(("offset", "late"), [(dt.timedelta(), 0), (MICRO, 1)])
def test_round_window_to_the_microsecond(offset: dt.timedelta, late: int) -> None:
    world = World().to(S.UPHELD_AFTER_COUNTER)
    due = world.got.counter_due
    assert due is not None
    world.now += 100 * DAY
    world.counter(accepted_at=due + offset)
    assert world.got.late_counters == late


def test_an_undone_check_of_a_counter_counts_neither_round_nor_refiling() -> None:
    """Found by the random machine: sent back by the deadline, but an action had been filed in time."""
    world = World(policy(counter_check="manual", overdue_counter_check="incomplete")).to(S.COUNTERED)
    before = world.got
    due = before.timers[0].due
    world.pass_time(due + HOUR)
    assert (world.state, world.got.counter_round, world.got.refiles) == (S.NOTIFIED, 0, 1)
    world.action(accepted_at=due)
    world.result("ended")
    assert (world.state, world.got.counter_round, world.got.refiles) == (S.COUNTERED, 1, 0)
