"""A circuit breaker for each webhook: whether it is called, and with how many calls at a time. Pure.

A closed circuit lets calls through. After ``OPENS_AT`` consecutive failures it opens: no calls for a pause that
doubles with each further failure. Then it is half open: one call probes the webhook, and a success closes the
circuit. So a webhook that hangs or fails costs only an occasional call, and its messages wait in the database without
delaying others.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from msgspec import Struct

OPENS_AT: Final = 3
"""Consecutive failures (?)."""
FIRST_PAUSE: Final = dt.timedelta(seconds=10)
LONGEST_PAUSE: Final = dt.timedelta(minutes=15)
"""A webhook that works again is noticed within a quarter of an hour (?)."""
AT_ONCE: Final = 2
"""Calls to one webhook at a time if it accepted the last one."""

State = Literal["closed", "open", "half_open"]


class Circuit(Struct, frozen=True):
    """The circuit of a webhook. Times are wall times.

    Attributes:
        failures: consecutive failures so far.
        since: time of the first of them; also set for a webhook that only asks to wait.
        until: no calls before this time.
        proven: the webhook accepted the last call.
    """

    failures: int = 0
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    proven: bool = False


def state(circuit: Circuit, now: dt.datetime) -> State:
    """The state of the circuit."""
    if circuit.until is not None and circuit.until > now:
        return "open"
    return "half_open" if circuit.failures >= OPENS_AT else "closed"


def room(circuit: Circuit, now: dt.datetime) -> int:
    """How many calls may be made at a time."""
    where = state(circuit, now)
    if where == "open":
        return 0
    return AT_ONCE if where == "closed" and circuit.proven else 1


def succeeded() -> Circuit:
    """The circuit after a call that was accepted."""
    return Circuit(proven=True)


def failed(circuit: Circuit, now: dt.datetime, chance: float) -> Circuit:
    """The circuit after a failed call.

    Args:
        chance: from 0 to 1; spreads retries over the second half of the pause, or many would come at the same moment.
    """
    failures = circuit.failures + 1
    until = None
    if failures >= OPENS_AT:
        pause = min(FIRST_PAUSE * 2 ** min(failures - OPENS_AT, 16), LONGEST_PAUSE)
        until = now + pause * (0.5 + 0.5 * chance)
    return Circuit(failures, circuit.since or now, until)


def throttled(circuit: Circuit, now: dt.datetime, until: dt.datetime) -> Circuit:
    """The circuit after an answer that asks to wait (``Retry-After``).

    It does not count as a failure. No call is made before ``until``, then one at a time until one is accepted.
    """
    later = until if circuit.until is None else max(until, circuit.until)
    return Circuit(circuit.failures, circuit.since or now, later, proven=False)


def hopeless(circuit: Circuit, now: dt.datetime, lasts: dt.timedelta) -> bool:
    """Whether nothing has succeeded for so long that the webhook should be disabled."""
    return circuit.since is not None and now - circuit.since >= lasts
