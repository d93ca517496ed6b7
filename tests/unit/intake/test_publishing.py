"""What intake says of what it accepted: on its way, delayed, or unknown."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.intake.kernel.publishing import DELAYED_S, LogState, Publishing


def after(*looks: tuple[float, LogState]) -> Publishing:
    publishing = Publishing()
    for now, seen in looks:
        publishing.seen(seen, now)
    return publishing


def test_nothing_waits() -> None:
    assert Publishing().state == "unknown"
    assert after((0, LogState(False, {0: (7, 7)})), (99, LogState(False, {0: (7, 7)}))).state == "current"


def test_the_broker_is_away_and_the_log_is_not_acknowledged() -> None:
    stands = LogState(False, {0: (9, 7), 1: (3, 3)})
    assert after((0, stands), (DELAYED_S, stands)).state == "current"
    publishing = after((0, stands), (DELAYED_S + 1, stands))
    assert (publishing.state, publishing.delay_s) == ("delayed", DELAYED_S + 1)


def test_one_partition_that_stands_is_enough() -> None:
    looks = [(now, LogState(True, {0: (9, 7), 1: (now + 5, now + 4)})) for now in range(10)]
    assert after(*looks).state == "delayed"


def test_the_worker_is_away_and_intake_fills() -> None:
    assert after((0, LogState(True, {0: (7, 7)})), (6, LogState(True, {0: (7, 7)}))).state == "delayed"
    assert after((0, LogState(True, {0: (7, 7)})), (6, LogState(True, {0: (8, 8)}))).state == "current"


def test_what_moves_again_is_current_again() -> None:
    publishing = after(
        (0, LogState(True, {0: (9, 7)})), (60, LogState(True, {0: (9, 7)})), (61, LogState(True, {0: (40, 9)}))
    )
    assert (publishing.state, publishing.delay_s) == ("current", 0.0)


def test_without_the_database_nothing_is_known() -> None:
    publishing = after((0, LogState(True, {0: (9, 7)})), (60, LogState(True, {0: (9, 7)})))
    publishing.lost()
    assert publishing.state == "unknown"


def how_long(history: list[tuple[bool, int, int]]) -> int:
    """For how many looks before the last one the log, or intake, looked as it does now and something waited there."""
    _, seq, upto = history[-1]
    log = list(itertools.takewhile(lambda one: one[1] > one[2] == upto, reversed(history)))
    queue = list(itertools.takewhile(lambda one: one[0] and one[1] == seq, reversed(history)))
    return max(len(log), len(queue), 1) - 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_delay_is_how_long_it_looked_the_same(steps: list[tuple[bool, int, int]]) -> None:
    publishing, seq, upto = Publishing(), 0, 0
    history: list[tuple[bool, int, int]] = []
    for now, (waiting, more, acknowledged) in enumerate(steps):
        seq += more
        upto = min(upto + acknowledged, seq)
        history.append((waiting, seq, upto))
        publishing.seen(LogState(waiting, {0: (seq, upto)}), float(now))
        assert publishing.delay_s == how_long(history)
