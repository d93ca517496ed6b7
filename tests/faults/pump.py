"""A trickle of claims, for tests that do things to processes meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading

from deploy.local.fleet import settings_of
from deploy.local.processes import Fleet
from labs.faults.load_run import LoadRun
from labs.faults.plan import LoadPlan
from labs.faults.submitter import Submitter
from services.ops.verify.verify import verify_stack

HANGS_S = 300
"""Seconds after which something hangs. No test asks how fast a machine is."""

_names = itertools.count()


class Pump:
    """Files small claims, by HTTP and by topic, and acts on them, until told to stop; keeps the outside record."""

    def __init__(self, fleet: Fleet) -> None:
        self.run = LoadRun(fleet.stack, fleet, LoadPlan(2000, 3, f"p{next(_names)}"))
        self.run.prepare()
        self._stop = threading.Event()
        self._submitter = Submitter(self.run.plan, self.run.settings, self.run.tokens, rate=15, step=lambda: None)
        claims = self.run.plan.claims()
        self.run.plan.claims = lambda: itertools.takewhile(lambda _: not self._stop.is_set(), claims)  # type: ignore[method-assign]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._submitter.run(lambda _: None)))
        self._thread.start()

    def close(self) -> None:
        """File no more."""
        self._stop.set()
        self._thread.join(60)

    def finish(self) -> None:
        """File no more; wait until all is answered and at rest; nothing may be lost or double."""
        self._stop.set()
        self._thread.join(HANGS_S)
        assert not self._thread.is_alive(), "requests stay unanswered"
        self.run.fleet.wait_ready(60)
        self.run.settle(HANGS_S)
        lost, doubled = self.run.compare(self._submitter.record)
        assert (lost, doubled, self._submitter.record.contradictions) == ([], [], [])
        self.run.close()


def clean(fleet: Fleet) -> None:
    """Nothing that `verify` finds."""
    report = verify_stack(settings_of(fleet.stack))
    assert report.clean, report.kinds
