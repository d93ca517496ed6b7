"""Whether a webhook is called, and how often at once: a circuit for each. Pure.

closed: it is called. After ``OPENS_AT`` failures in a row it is open: it is not called for a while, which doubles with
each further failure. Then it is half open: one call finds out. A success closes it. So what hangs or fails costs a call
now and then, and what waits for it waits in the database, not in the way of others.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from msgspec import Struct

OPENS_AT: Final = 3
"""Failures in a row (?)."""
FIRST_PAUSE: Final = dt.timedelta(seconds=10)
LONGEST_PAUSE: Final = dt.timedelta(minutes=15)
"""So that a webhook that works again is found within a quarter of an hour (?)."""
AT_ONCE: Final = 2
"""Calls to one webhook at a time, when it took the last one."""

State = Literal["closed", "open", "half_open"]


class Circuit(Struct, frozen=True):
    """What is known of a webhook. Times are wall times.

    Attributes:
        failures: in a row, up to now.
        since: when the first of them was; a webhook that only asks to wait has that too.
        until: not called before.
        proven: it took the last call.
    """

    failures: int = 0
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    proven: bool = False


def state(circuit: Circuit, now: dt.datetime) -> State:
    """Where the circuit is."""
    if circuit.until is not None and circuit.until > now:
        return "open"
    return "half_open" if circuit.failures >= OPENS_AT else "closed"


def room(circuit: Circuit, now: dt.datetime) -> int:
    """How many calls it may be given at one time."""
    where = state(circuit, now)
    if where == "open":
        return 0
    return AT_ONCE if where == "closed" and circuit.proven else 1


def succeeded() -> Circuit:
    """After a call that it took: nothing is held against it."""
    return Circuit(proven=True)


def failed(circuit: Circuit, now: dt.datetime, chance: float) -> Circuit:
    """After a call that it did not take.

    Args:
        chance: from 0 to 1; spreads calls that would come at one moment over the latter half of the pause.
    """
    failures = circuit.failures + 1
    until = None
    if failures >= OPENS_AT:
        pause = min(FIRST_PAUSE * 2 ** min(failures - OPENS_AT, 16), LONGEST_PAUSE)
        until = now + pause * (0.5 + 0.5 * chance)
    return Circuit(failures, circuit.since or now, until)


def throttled(circuit: Circuit, now: dt.datetime, until: dt.datetime) -> Circuit:
    """After an answer that asks to wait (``Retry-After``): it is no failure, but no call comes before ``until``, and then one
    at a time, until it takes one."""
    later = until if circuit.until is None else max(until, circuit.until)
    return Circuit(circuit.failures, circuit.since or now, later, proven=False)


def hopeless(circuit: Circuit, now: dt.datetime, lasts: dt.timedelta) -> bool:
    """Whether nothing has succeeded for so long that it is to be disabled."""
    return circuit.since is not None and now - circuit.since >= lasts
