"""How long a worker waits for records: longer the longer nothing comes, but never past its next look at timers."""

from __future__ import annotations

import pytest

from shared.backoff import Quiet
from shared.runtime.worker import Worker
from shared.settings import Settings
from tests.integration.echo import Echo

NOW = 1_000.0


@pytest.mark.parametrize(
    ("queue", "quiet_s", "tick_s", "expected_ms"),
    [
        ("", 0.0, 1.0, 100),
        ("", 4.0, 1.0, 200),
        ("", 60.0, 4.0, 1000),
        ("", 60.0, 0.25, 250),
        ("", 60.0, -1.0, 15),
        ("waiting", 0.0, 1.0, 15),
        ("waiting", 4.0, 1.0, 200),
        ("waiting", 60.0, 4.0, 1000),
        ("waiting", 60.0, 0.125, 125),
    ],
)
def test_an_idle_worker_waits_longer_but_not_past_its_timers(
    monkeypatch: pytest.MonkeyPatch, queue: str, quiet_s: float, tick_s: float, expected_ms: int
) -> None:
    worker = Worker(Echo("none"), Settings(database="postgresql://nobody@127.0.0.1/none"))  # type: ignore[call-arg, arg-type, unused-ignore]
    worker._transactor.epochs = {0: 1}
    monkeypatch.setattr(worker.service, "queue", queue)
    worker._quiet = Quiet(iter((NOW - quiet_s, NOW)).__next__)
    worker._tick_at = NOW + tick_s
    assert worker._patience(NOW) == expected_ms
