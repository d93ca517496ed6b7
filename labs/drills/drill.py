"""What a drill is: the fault and its alert as declared, the stack that it runs on, and its result."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa

from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.prometheus import model
from labs.drills.alerts import ALERTS, PrometheusClient, observed_at, pace
from labs.drills.load import NoticeLoad
from labs.drills.runbooks import CommandRun, Engineer
from labs.faults.load_run import LoadRun
from labs.pager import Pager

CLOSE: Final = 1.3
"""The rules' clock is left alone unless it could run more than this many times faster."""
GRACE_S: Final = 60.0
"""Wall seconds that an alert may take beyond its rule's own waiting time, for scraping, evaluation and notification."""
HOUR: Final = dt.timedelta(hours=1)


class DrillBed:
    """The stack that drills run on, under load and observed."""

    def __init__(self, stack: Stack, processes: Fleet, pager: Pager, run: LoadRun, folder: Path, most: float) -> None:
        self.stack = stack
        self.speed = self._most = most
        self.fleet = processes
        self.pager = pager
        self.run = run
        self.load = NoticeLoad(run)
        self.engineer = Engineer(stack, folder)
        self.prometheus = PrometheusClient(stack.observers()["prometheus"])
        self.sessions: list[Any] = []
        """Database sessions that a fault holds open until it is mended."""
        self.standing: set[str] = set()
        """Alerts that fire without any fault."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.prometheus.close()
        self.load.close()

    def adjust_speed(self) -> None:
        """Measure this machine, and let the rules' clock run as fast as the machine can follow.

        Raises:
            StackError: Prometheus does not accept the rules.
        """
        process = self.fleet["notification-bounces.0"]
        begun = time.monotonic()
        process.restart().wait_ready()
        speed = pace(self.prometheus.scrape_s(), time.monotonic() - begun, self._most)
        if not self.speed <= speed <= CLOSE * self.speed:
            self.speed = speed
            self.stack.observe(observed_at(speed, self.pager))
            # the last samples of a process that ends before the restarted Prometheus has scraped it would stay
            self.wait(self.prometheus.scraped, "Prometheus does not scrape every process")

    def wait(self, until: Callable[[], bool], otherwise: str) -> None:
        """Wait until a condition holds.

        Raises:
            StackError: it does not hold within ``GRACE_S`` seconds; the message is `otherwise`.
        """
        end = time.monotonic() + GRACE_S
        while not until():
            if time.monotonic() > end:
                raise StackError(otherwise)
            time.sleep(0.2)

    def sql(self, *statements: str) -> None:
        """Run statements as administrator, in one transaction."""
        with self.run.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))


@dataclass(frozen=True)
class Drill:
    """A fault, and the alert that must report it.

    Attributes:
        fault: What is done, in words.
        alert: The alert that must fire, and whose runbook is followed.
        inject: Causes the fault.
        mend: Removes the cause where no command of a runbook does: a new version, another company's server.
        over: What else must hold at the end, for alerts that also end with the process that raises them.
    """

    fault: str
    alert: str
    inject: Callable[[DrillBed], None]
    mend: Callable[[DrillBed], None] = lambda _: None
    over: Callable[[DrillBed], bool] | None = None

    @property
    def rule(self) -> model.Alert:
        """The alert's rule."""
        return ALERTS[self.alert]

    @property
    def after_s(self) -> float:
        """Seconds from the fault until its alert fires in an installation; hours do not count: time is set ahead."""
        return (
            float(model.Pace().seconds(self.rule.hold))
            if self.rule.after_s > HOUR.total_seconds()
            else self.rule.after_s
        )


@dataclass(slots=True)
class DrillResult:
    """The result of a drill. Seconds are wall time; the time to the alert is measured on the rules' fast clock."""

    drill: Drill
    speed: float = 1.0
    alert_s: float | None = None
    recovery_s: float | None = None
    lost: int = 0
    doubled: int = 0
    problems: int = 0
    reconciliation: float | None = None
    paged: list[str] = field(default_factory=list)
    commands: list[CommandRun] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "fault": self.drill.fault,
            "alert": self.drill.alert,
            "speed": self.speed,
            "alert_s": _round(self.alert_s),
            "recovery_s": _round(self.recovery_s),
            "lost": self.lost,
            "doubled": self.doubled,
            "problems": self.problems,
            "reconciliation": self.reconciliation,
            "paged": self.paged,
            "commands": len(self.commands),
            "steps": self.steps,
            "failures": self.failures,
        }


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
