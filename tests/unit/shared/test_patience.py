"""How long a worker waits for records: the longer nothing comes the longer, but never past its next look at timers."""

from __future__ import annotations

import pytest

from shared.runtime.worker import ASLEEP_S, QUIET_S
from tests.unit.shared.test_gone import made

NOW = 1_000.0


@pytest.mark.parametrize(
    ("queue", "quiet_s", "tick_s", "expected_ms"),
    [
        ("", 0.0, 1.0, 100),
        ("", QUIET_S, 1.0, 500),
        ("", QUIET_S, 0.2, 200),
        ("", QUIET_S, -1.0, 15),
        ("waiting", 0.0, 1.0, 15),
        ("waiting", QUIET_S, 1.0, 50),
        ("waiting", ASLEEP_S, 1.0, 250),
        ("waiting", ASLEEP_S, 0.125, 125),
    ],
)
def test_an_idle_worker_waits_longer_but_not_past_its_timers(
    monkeypatch: pytest.MonkeyPatch, queue: str, quiet_s: float, tick_s: float, expected_ms: int
) -> None:
    worker, _ = made()
    monkeypatch.setattr(worker.service, "queue", queue)
    worker._worked_at, worker._tick_at = NOW - quiet_s, NOW + tick_s
    assert worker._patience(NOW) == expected_ms
