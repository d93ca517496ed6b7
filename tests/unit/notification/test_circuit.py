"""The circuit of a webhook: when it is called, and how often at once."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.notification.circuit import (
    AT_ONCE,
    LONGEST_PAUSE,
    OPENS_AT,
    Circuit,
    failed,
    hopeless,
    room,
    state,
    succeeded,
    throttled,
)

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
S = dt.timedelta(seconds=1)
DAYS = dt.timedelta(days=5)


def after(failures: int, at: dt.datetime = NOW) -> Circuit:
    circuit = Circuit()
    for _ in range(failures):
        circuit = failed(circuit, at, 1.0)
    return circuit


def test_one_that_nothing_is_known_of_gets_one_call_at_a_time() -> None:
    assert (state(Circuit(), NOW), room(Circuit(), NOW)) == ("closed", 1)
    assert room(succeeded(), NOW) == AT_ONCE


def test_it_opens_after_failures_in_a_row_and_one_call_finds_out() -> None:
    assert state(after(OPENS_AT - 1), NOW) == "closed"
    assert room(after(OPENS_AT - 1), NOW) == 1
    opened = after(OPENS_AT)
    assert (state(opened, NOW), room(opened, NOW)) == ("open", 0)
    assert opened.until is not None
    assert (state(opened, opened.until), room(opened, opened.until)) == ("half_open", 1)
    assert succeeded() == Circuit(proven=True)


def test_pauses_double_up_to_the_longest() -> None:
    pauses = []
    for failures in range(OPENS_AT, OPENS_AT + 12):
        until = after(failures).until
        assert until is not None
        pauses.append((until - NOW) / S)
    assert pauses[:4] == [10, 20, 40, 80]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE / S


def test_asked_to_wait_is_no_failure() -> None:
    waiting = throttled(succeeded(), NOW, NOW + 60 * S)
    assert (waiting.failures, state(waiting, NOW), room(waiting, NOW)) == (0, "open", 0)
    assert (state(waiting, NOW + 60 * S), room(waiting, NOW + 60 * S)) == ("closed", 1)
    assert not waiting.proven, "one that only asks to wait would keep its place among those that take what they get"
    assert throttled(waiting, NOW, NOW + S).until == NOW + 60 * S


def test_hopeless_after_days_without_a_success() -> None:
    circuit = after(1)
    assert not hopeless(circuit, NOW + DAYS - S, DAYS)
    assert hopeless(failed(circuit, NOW + DAYS, 0.0), NOW + DAYS, DAYS)
    assert not hopeless(succeeded(), NOW + 10 * DAYS, DAYS)
    # one that always asks to wait takes nothing either
    assert hopeless(throttled(throttled(succeeded(), NOW, NOW + S), NOW + DAYS, NOW + DAYS), NOW + DAYS, DAYS)


@given(st.floats(0, 1), st.integers(OPENS_AT, 60))
def test_chance_spreads_over_the_latter_half(chance: float, failures: int) -> None:
    whole, some = after(failures).until, failed(after(failures - 1), NOW, chance).until
    assert whole is not None
    assert some is not None
    assert (whole - NOW) / 2 <= some - NOW <= whole - NOW


class Histories(RuleBasedStateMachine):
    """Any history: what is open is not called, what failed lately is called at most once at a time, a success forgives all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.circuit = Circuit()
        self.row = 0

    @rule(seconds=st.integers(0, 2_000))
    def wait(self, seconds: int) -> None:
        self.now += seconds * S

    @rule()
    def succeed(self) -> None:
        if room(self.circuit, self.now):
            self.circuit, self.row = succeeded(), 0

    @rule(chance=st.floats(0, 1))
    def fail(self, chance: float) -> None:
        if room(self.circuit, self.now):
            self.circuit = failed(self.circuit, self.now, chance)
            self.row += 1

    @rule(seconds=st.integers(1, 5_000))
    def throttle(self, seconds: int) -> None:
        if room(self.circuit, self.now):
            self.circuit = throttled(self.circuit, self.now, self.now + seconds * S)

    @invariant()
    def as_it_should_be(self) -> None:
        assert self.circuit.failures == self.row
        allowed = room(self.circuit, self.now)
        assert 0 <= allowed <= AT_ONCE
        if self.row:
            assert allowed <= 1
            assert self.circuit.since is not None
        if state(self.circuit, self.now) == "open":
            assert allowed == 0
            assert self.circuit.until is not None
            assert self.circuit.until > self.now


TestHistories = Histories.TestCase
