"""Faults that are declared: what each breaks under a steady load, and how it heals; one oracle for all.

For each fault claims are filed from outside, as in ``faults``; it is made while they flow, lasts, and heals. What was
acknowledged is written down outside the system; at rest it must be stored, once, and `verify` must find nothing.
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
from labs.faults.load import READY_S, Faults, Plan, Record, Submitter, submission

RATE: Final = 40.0
ITEMS: Final = 2_000
ROOM_S: Final = 240.0
"""A fault may last so long; listings are made for the load of that time."""
FLOWS_S: Final = 180.0
ANSWERS_S: Final = 400.0
PACE: Final = 0.3
"""Parties answer sooner than in a long run: each fault ends with everything at rest."""
Where = Literal["brokers", "database"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as declared.

    Attributes:
        name: by which it is asked for, and by which its row in the table is known.
        breaks: what is broken, in words.
        heals: what ends it.
        act: makes it, and ends it; returns once everything flows again.
        where: on three brokers, or on two databases.
        impossible: why it cannot be made on this machine; empty when it can.
        loses: what it is known to lose; no failure as far as nothing is lost that was to be safe (``Ground.safe``). Empty: nothing
            may be lost.
        items: least items that it is shown with.
        rate: items filed a second.
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
class Result:
    """What came of one. Seconds are wall time."""

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
        """Whether anything came to harm that should not."""
        return bool((self.lost and not self.loses) or self.doubled or self.problems)

    def json(self) -> dict[str, Any]:
        """As printed."""
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
    """What a fault takes place on: a stack under load, and the record of what was acknowledged.

    Attributes:
        links: what stands between clients and each broker, in the brokers' order; none on the databases' stack.
        recoveries: seconds from each `clock` to the `flows` after it.
        notes: what was seen meanwhile and is worth a line.
        safe: acknowledged submissions, by account and key, that must be there in the end even if the fault loses others.
    """

    def __init__(self, stack: Stack, fleet: Fleet, links: Sequence[Link], run: Faults, submitter: Submitter) -> None:
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
    def record(self) -> Record:
        """What was filed and acknowledged."""
        return self.submitter.record

    @property
    def filed_enough(self) -> bool:
        """Whether as many items were filed as the fault is to be shown with."""
        return self.submitter.filed >= self.least_items

    def keep(self) -> None:
        """All that was acknowledged until now is safe."""
        self.safe = frozenset(self.record.answers)

    def clock(self) -> None:
        """From now on it is counted until everything flows: what had been broken ends now, or heals by itself."""
        self._since = time.monotonic()
        with contextlib.suppress(sa.exc.DBAPIError):
            waiting = self._unjudged(set(self.record.items))
            self.in_flight = max(self.in_flight, len(waiting) + self.submitter.outstanding)

    def flows(self, within_s: float = FLOWS_S, *, whole: bool = True) -> float:
        """Wait until all that was acknowledged until now, and something after it, was judged; returns the seconds since `clock`.

        What was acknowledged after `clock` and before the fault took effect would show nothing.

        Args:
            within_s: for so long at most nothing more of it may be judged: what waits may be much.
            whole: False where some of what was acknowledged is known to be lost.

        Raises:
            StackError: nothing was judged for so long.
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
                raise StackError(
                    f"nothing flowed for {within_s:.0f} s: {left} items that were acknowledged are not judged"
                )
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
        """As an administrator; rows."""
        with self.run.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result] if result.returns_rows else []

    def wait(self, what: str, holds: Callable[[], bool], within_s: float = 60.0) -> float:
        """Wait until something holds; returns for how long.

        Raises:
            StackError: it does not within ``within_s``.
        """
        begun = time.monotonic()
        while not holds():
            if time.monotonic() - begun > within_s:
                raise StackError(f"not within {within_s:.0f} s: {what}")
            time.sleep(0.1)
        return time.monotonic() - begun

    @contextlib.contextmanager
    def everybody_stopped(self) -> Iterator[None]:
        """All of Goodfaith's processes are stopped in an orderly way, and started again."""
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
) -> Result:
    """One fault, from rest to rest.

    Whatever it meets on its way is a problem of its result, not an error: what it leaves behind may then be anything.
    """
    begun = time.monotonic()
    result = Result(fault.name, loses=fault.loses)
    if why := fault.impossible():
        result.skipped = why
        return result
    items, rate = items or fault.items, rate or fault.rate
    tell("accounts and listings")
    plan = Plan(items + int(rate * ROOM_S), seed, f"f{number:02d}", pace=PACE)
    run = Faults(stack, fleet, plan)
    troubles: list[str] = []
    try:
        run.prepare()
        submitter = Submitter(plan, run.settings, run.tokens, rate=rate, step=run.step_if_possible)
        ground = FaultBed(stack, fleet, links, run, submitter)
        ground.least_items = items
        load = threading.Thread(target=lambda: asyncio.run(submitter.run(lambda _: None)), name="load", daemon=True)
        load.start()
        try:
            ground.clock()
            ground.flows()
            ground.recoveries.clear()
            ground.in_flight = 0
            tell(f"{fault.breaks}")
            fault.act(ground)
            tell("filing the rest")
            ground.wait("items are filed", lambda: ground.filed_enough or submitter.ended, 60 + items / rate * 3)
        except Exception as error:
            troubles.append(_said(error))
        finally:
            submitter.enough = True
            _ended(load, submitter)
        outcome = run.judge(submitter, troubles, begun, tell)
        found = outcome.json()
        result.items, result.in_flight = submitter.filed, ground.in_flight
        result.recovery_s = max(ground.recoveries, default=None)
        result.acknowledged, result.close = found["acknowledged"], found["close"]
        result.lost, result.doubled, result.problems = found["lost"], found["doubled"], found["problems"]
        gone = unforgiven(outcome.lost, ground.safe)
        result.problems += len(gone)
        troubles += gone
        # what went wrong first, before what came of it
        result.notes, result.examples = ground.notes, list(dict.fromkeys([*troubles, *outcome.examples]))
    except Exception as error:
        result.examples = [*troubles, _said(error)]
        result.problems = len(result.examples)
    finally:
        run.close()
        result.seconds = time.monotonic() - begun
    return result


def unforgiven(lost: Sequence[str], safe: frozenset[tuple[str, str]]) -> list[str]:
    """Losses that no fault may have: of submissions that were safe."""
    named = {submission(*one) for one in safe}
    return [f"was safe, and is lost: {one}" for one in lost if one in named]


def _ended(load: threading.Thread, submitter: Submitter) -> None:
    """Wait until all that was asked is answered; after a long fault the parties have much to say.

    Raises:
        StackError: nothing more was answered for ``ANSWERS_S``.
    """
    answered, moved = -1, time.monotonic()
    while load.is_alive():
        load.join(1.0)
        if len(submitter.record.answers) > answered:
            answered, moved = len(submitter.record.answers), time.monotonic()
        if time.monotonic() - moved > ANSWERS_S:
            raise StackError(f"the load does not end: {submitter.outstanding} requests are not answered")


def _said(error: Exception) -> str:
    """An error in a line."""
    first = next(iter(str(error).splitlines()), "")
    return first if isinstance(error, StackError) else f"{type(error).__name__}: {first}"
