"""A worker that waits is not stuck: its progress is shown while it waits for the next try."""

from __future__ import annotations

import time

import pytest
from kafka.errors import KafkaError

from shared import metrics
from shared.runtime.worker import Worker
from shared.settings import Settings
from tests.integration.echo import Echo


def test_progress_is_shown_while_a_worker_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(Echo("none"), Settings(database="postgresql://nobody@127.0.0.1/none"))  # type: ignore[call-arg, arg-type, unused-ignore]
    shown: list[float] = []
    progress = metrics.PROGRESS.labels("echo")
    progress.set(0)
    monkeypatch.setattr(time, "sleep", lambda _s: shown.append(progress._value.get()))
    begun = time.time()
    worker._failures = 3
    clock = iter(range(1_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 10)
    worker._pause("broker", KafkaError("away"))
    assert shown
    assert min(shown) >= begun
