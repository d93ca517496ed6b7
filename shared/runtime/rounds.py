"""The loop of processes that poll their tables for work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from shared import db, metrics
from shared.backoff import Quiet, pause_s
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)


class RoundFailed(Exception):
    """Another party's system is unavailable, and that has been logged: the next round waits longer."""


class Work(Protocol):
    """What the loop runs."""

    def once(self) -> int:
        """Run one round; returns how much was done. May raise ``RoundFailed``."""

    def close(self) -> None:
        """Release all resources."""


def run_rounds(settings: Settings, name: str, begin: Callable[[], Work], idle_s: float) -> None:
    """Run rounds until SIGTERM or SIGINT; waits while the database is unavailable.

    Args:
        name: name of the process.
        begin: makes the work; called once the process answers on its health port.
        idle_s: least wall seconds between rounds that find nothing to do.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    health = Health(name)
    server = health.serve(settings)
    work = begin()
    failures = 0
    quiet = Quiet()
    while not stop.is_set():
        try:
            pause = quiet.after_s(work.once(), idle_s)
            failures = 0
            health.ready()
        except Exception as error:
            if isinstance(error, RoundFailed):
                health.ready()
            elif not db.is_transient(error):
                raise
            failures += 1
            pause = pause_s(failures, settings.retry_max_s)
            if not isinstance(error, RoundFailed):
                log.warning("paused", pause_s=round(pause, 3), error=str(error))
        health.progress()
        metrics.PROGRESS.labels(name).set_to_current_time()
        stop.wait(pause)
    work.close()
    server.shutdown()
