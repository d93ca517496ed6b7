"""Declared faults: what each breaks under a steady load, and what ends it. All share one oracle.

Claims are submitted from outside. While they flow the fault is injected, lasts a while, and ends. What was acknowledged
is recorded outside the system. When the system is idle, it must be stored exactly once, and `verify` must find nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import sqlalchemy as sa

from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.proxy import Link
from deploy.local.stack import Stack
from labs.faults.load_run import READY_S, LoadRun
from labs.faults.plan import LoadPlan
from labs.faults.record import OutsideRecord, submission_name
from labs.faults.submitter import Submitter

RATE: Final = 40.0
ITEMS: Final = 2_000
ROOM_S: Final = 240.0
"""A fault may last this long. There are enough listings for the load of that time."""
FLOWS_S: Final = 180.0
ANSWERS_S: Final = 400.0
PACE: Final = 0.3
"""Parties answer sooner than in a long run, because each fault ends with an idle system."""
Where = Literal["brokers", "database"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A declared fault.

    Attributes:
        name: Name for `--only`, and of its row in the table.
        breaks: What is broken, in words.
        heals: What ends it.
        act: Injects and ends it; returns when everything flows again.
        where: On three brokers, or on two databases.
        impossible: Why it cannot be injected on this machine; empty if it can.
        loses: What it is known to lose, which is no failure unless it was safe (``FaultBed.safe``). Empty: it may lose
            nothing.
        items: The fewest items that it is shown with.
        rate: Items filed a second.
    """

    name: str
    breaks: str
    heals: str
    act: Callable[[FaultBed], None]
    where: Where
    impossible: Callable[[], str] = lambda: ""
    loses: str = ""
    items: int = ITEMS
    rate: float = RATE


@dataclass(slots=True)
class FaultResult:
    """The result of one fault. Seconds are wall time."""

    fault: str
    items: int = 0
    in_flight: int = 0
    recovery_s: float | None = None
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    problems: int = 0
    notes: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    skipped: str = ""
    loses: str = ""
    seconds: float = 0.0
    close: int = 0
    """Counters that came close to their deadlines."""

    @property
    def failed(self) -> bool:
        """Whether anything was harmed that should not have been."""
        return bool((self.lost and not self.loses) or self.doubled or self.problems)

    def json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "fault": self.fault,
            "items": self.items,
            "in_flight": self.in_flight,
            "recovery_s": None if self.recovery_s is None else round(self.recovery_s, 1),
            "acknowledged": self.acknowledged,
            "close": self.close,
            "lost": self.lost,
            "doubled": self.doubled,
            "problems": self.problems,
            "notes": self.notes,
            "examples": self.examples[:20],
            "skipped": self.skipped,
            "loses": self.loses,
            "seconds": round(self.seconds, 1),
        }


class FaultBed:
    """A stack under load, on which a fault is injected, and the outside record.

    Attributes:
        links: The links between clients and each broker, in the brokers' order; none on the databases' stack.
        recoveries: Seconds from each ``start_timer`` to the ``wait_until_flowing`` after it.
        notes: What was observed and is worth a line.
        safe: Acknowledged submissions (account, key) that must be stored at the end even if the fault loses others.
        in_flight: The most items that were acknowledged and not judged, and requests that were not answered, when a
            timer was started.
        least_items: The fewest items to file.
    """

    def __init__(self, stack: Stack, fleet: Fleet, links: Sequence[Link], run: LoadRun, submitter: Submitter) -> None:
        self.stack = stack
        self.fleet = fleet
        self.links = links
        self.run = run
        self.settings = run.settings
        self.submitter = submitter
        self.recoveries: list[float] = []
        self.notes: list[str] = []
        self.safe: frozenset[tuple[str, str]] = frozenset()
        self.in_flight = 0
        self.least_items = 0
        self._judged: set[str] = set()
        self._since = time.monotonic()
        self._before: set[str] = set()

    @property
    def record(self) -> OutsideRecord:
        """The outside record."""
        return self.submitter.record

    @property
    def filed_enough(self) -> bool:
        """Whether as many items were filed as the fault must be shown with."""
        return self.submitter.filed >= self.least_items

    def mark_safe(self) -> None:
        """Mark everything acknowledged so far as safe."""
        self.safe = frozenset(self.record.answers)

    def start_timer(self) -> None:
        """Start the timer of the recovery, at the fault or at the end of its cause; ``wait_until_flowing`` stops it."""
        self._since = time.monotonic()
        with contextlib.suppress(sa.exc.DBAPIError):
            waiting = self._unjudged(set(self.record.items))
            self.in_flight = max(self.in_flight, len(waiting) + self.submitter.outstanding)

    def wait_until_flowing(self, within_s: float = FLOWS_S, *, whole: bool = True) -> float:
        """Wait until everything acknowledged, and something newer, is judged; returns the seconds since ``start_timer``.

        What was acknowledged between ``start_timer`` and the moment the fault took effect would prove nothing.

        Args:
            within_s: The longest time without progress; a large backlog may take longer in total.
            whole: False if some of what was acknowledged is known to be lost.

        Raises:
            StackError: no progress for `within_s` seconds, or the load has ended.
        """
        self._before = set(self.record.items)
        least, moved = sys.maxsize, time.monotonic()
        while True:
            left = -1
            with contextlib.suppress(sa.exc.DBAPIError):
                left = len(self._unjudged(self._before)) if whole else 0
                if not left and self._judged_since():
                    took = time.monotonic() - self._since
                    self.recoveries.append(took)
                    return took
            if 0 <= left < least:
                least, moved = left, time.monotonic()
            if time.monotonic() - moved > within_s:
                raise StackError(f"no progress for {within_s:.0f} s: {left} acknowledged items are not judged")
            if self.submitter.ended:
                raise StackError(f"the load has ended: {self.record.contradictions[:3]}")
            time.sleep(0.1)

    def _judged_since(self) -> bool:
        new = [item for item in list(self.record.items) if item not in self._before]
        return len(self._unjudged(new)) < len(new)

    def _unjudged(self, items: Sequence[str] | set[str]) -> list[str]:
        asked = [item for item in items if item not in self._judged]
        if asked:
            with self.run.engine.connect() as connection:
                rows = connection.exec_driver_sql("select item from verification.items where item = any(%s)", (asked,))
                self._judged.update(rows.scalars())
        return [item for item in asked if item not in self._judged]

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as administrator; returns its rows."""
        with self.run.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result] if result.returns_rows else []

    def wait(self, what: str, holds: Callable[[], bool], within_s: float = 60.0) -> float:
        """Wait until a condition holds; returns the seconds that this took.

        Raises:
            StackError: it does not hold within `within_s` seconds; the message says `what`.
        """
        begun = time.monotonic()
        while not holds():
            if time.monotonic() - begun > within_s:
                raise StackError(f"not within {within_s:.0f} s: {what}")
            time.sleep(0.1)
        return time.monotonic() - begun

    @contextlib.contextmanager
    def all_stopped(self) -> Iterator[None]:
        """Stop all of Goodfaith's processes gracefully, and start them again at the end of the block."""
        spared = [process for process in self.fleet if process.name.partition(".")[0] != "mailbox"]
        with contextlib.ExitStack() as after:
            for process in spared:
                after.callback(process.start)
            threads = [threading.Thread(target=process.terminate) for process in spared]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            yield
        self.fleet.wait_ready(READY_S)


def exercise(
    fault: Fault,
    number: int,
    stack: Stack,
    fleet: Fleet,
    links: Sequence[Link],
    *,
    items: int | None = None,
    rate: float | None = None,
    seed: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> FaultResult:
    """Run one fault, from an idle system to an idle system.

    Exceptions become problems of the result. The stack may be in any state after a fault that failed.

    Args:
        fault: The fault.
        number: Distinguishes the ids of this fault from those of others on the same stack.
        stack: A running stack.
        fleet: Its processes.
        links: The links to its brokers.
        items: The fewest items to file; None: the fault's own number.
        rate: Items filed a second; None: the fault's own rate.
        seed: Seed of the load.
        tell: Called with what is being done.
    """
    begun = time.monotonic()
    result = FaultResult(fault.name, loses=fault.loses)
    if why := fault.impossible():
        result.skipped = why
        return result
    items, rate = items or fault.items, rate or fault.rate
    tell("accounts and listings")
    plan = LoadPlan(items + int(rate * ROOM_S), seed, f"f{number:02d}", pace=PACE)
    run = LoadRun(stack, fleet, plan)
    troubles: list[str] = []
    try:
        run.prepare()
        submitter = Submitter(plan, run.settings, run.tokens, rate=rate, step=run.next_day_if_possible)
        bed = FaultBed(stack, fleet, links, run, submitter)
        bed.least_items = items
        load = threading.Thread(target=lambda: asyncio.run(submitter.run(lambda _: None)), name="load", daemon=True)
        load.start()
        try:
            bed.start_timer()
            bed.wait_until_flowing()
            bed.recoveries.clear()
            bed.in_flight = 0
            tell(fault.breaks)
            fault.act(bed)
            tell("filing the rest")
            bed.wait("items are filed", lambda: bed.filed_enough or submitter.ended, 60 + items / rate * 3)
        except Exception as error:
            troubles.append(_said(error))
        finally:
            submitter.enough = True
            _ended(load, submitter)
        outcome = run.judge(submitter, troubles, begun, tell)
        found = outcome.json()
        result.items, result.in_flight = submitter.filed, bed.in_flight
        result.recovery_s = max(bed.recoveries, default=None)
        result.acknowledged, result.close = found["acknowledged"], found["close"]
        result.lost, result.doubled, result.problems = found["lost"], found["doubled"], found["problems"]
        gone = unforgiven(outcome.lost, bed.safe)
        result.problems += len(gone)
        troubles += gone
        # causes before consequences
        result.notes, result.examples = bed.notes, list(dict.fromkeys([*troubles, *outcome.examples]))
    except Exception as error:
        result.examples = [*troubles, _said(error)]
        result.problems = len(result.examples)
    finally:
        run.close()
        result.seconds = time.monotonic() - begun
    return result


def unforgiven(lost: Sequence[str], safe: frozenset[tuple[str, str]]) -> list[str]:
    """Losses that no fault may cause: of submissions that were safe."""
    named = {submission_name(*one) for one in safe}
    return [f"safe, but lost: {one}" for one in lost if one in named]


def _ended(load: threading.Thread, submitter: Submitter) -> None:
    """Wait until every request is answered; after a long fault there may be many.

    Raises:
        StackError: nothing more was answered for ``ANSWERS_S`` seconds.
    """
    answered, moved = -1, time.monotonic()
    while load.is_alive():
        load.join(1.0)
        if len(submitter.record.answers) > answered:
            answered, moved = len(submitter.record.answers), time.monotonic()
        if time.monotonic() - moved > ANSWERS_S:
            raise StackError(f"the load does not end: {submitter.outstanding} requests are not answered")


def _said(error: Exception) -> str:
    """An error in one line."""
    first = next(iter(str(error).splitlines()), "")
    return first if isinstance(error, StackError) else f"{type(error).__name__}: {first}"
