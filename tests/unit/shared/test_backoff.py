"""Pauses: after failures they double, have a limit, and differ between processes; without work they grow."""

from __future__ import annotations

import pytest

from shared.backoff import Quiet, pause_s


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 0.2), (2, 0.4), (3, 0.8), (7, 10.0), (12, 10.0), (10_000, 10.0)])
def test_pauses_double_up_to_a_limit(failures: int, ceiling: float) -> None:
    pauses = [pause_s(failures, 10.0) for _ in range(200)]
    assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
    assert len(set(pauses)) > 100


def test_a_loop_waits_longer_the_longer_nothing_happens() -> None:
    now = 100.0
    quiet = Quiet(lambda: now)
    assert quiet.wait_s(0.1) == 0.1
    now += 10
    assert quiet.wait_s(0.1) == 0.5
    now += 100
    assert quiet.wait_s(0.1) == 1.0
    assert quiet.wait_s(0.1, 5.0) == 5.0
    assert quiet.wait_s(15.0) == 15.0  # what is rare anyway
    quiet.worked()
    assert quiet.wait_s(0.1) == 0.1
    now += 10
    assert quiet.after_s(0, 0.1) == 0.5
    assert quiet.after_s(3, 0.1) == 0.0
    assert quiet.after_s(0, 0.1) == 0.1
