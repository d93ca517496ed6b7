"""Work that a process repeats on threads next to its main loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog
from kafka.errors import KafkaError

from shared import db, kafka_links, log_limits
from shared.backoff import Quiet

log = structlog.get_logger(__name__)


class Background:
    """Repeats a job on a thread. Failures are logged and tried again.

    Args:
        every_s: seconds between runs.
        quiet: with it, runs become rarer while there is nothing to do, up to ``rarest_s`` apart.
    """

    def __init__(
        self,
        name: str,
        every_s: float,
        work: Callable[[], object],
        quiet: Quiet | None = None,
        rarest_s: float = 1.0,
    ) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._quiet = quiet
        self._rarest_s = rarest_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        said = False
        while not self._stop.is_set():
            try:
                self._work()
                said = False
            except Exception as error:
                passing = isinstance(error, KafkaError) or db.is_transient(error)
                refused = str(error) if isinstance(error, kafka_links.LinkRefused) else db.refused(error)
                if (not said or not passing) and (refused is None or log_limits.seldom(refused)):
                    log.warning("job failed", job=self._name, error=refused or f"{type(error).__name__}: {error}")
                said = True
            self._stop.wait(self._every_s if self._quiet is None else self._quiet.wait_s(self._every_s, self._rarest_s))

    def close(self) -> None:
        """Stop after the current run."""
        self._stop.set()
        self._thread.join(5)


OBSERVE_S: Final = 0.25
