"""Whether accepted requests are being published to the topics, as the API sees it from its tables.

The API accepts requests while the broker is down, because they are in the database. Its health endpoint says that they
wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import sqlalchemy as sa

LOOK_S: Final = 1.0
DELAYED_S: Final = 5.0
"""What waits for longer than this is delayed. A busy worker, or a change of workers, takes less."""
State = Literal["current", "delayed", "unknown"]

_QUEUED: Final = "select exists (select from admission_queue)"
_HEADS: Final = "select partition, seq, published_upto from partitions"


class LogState(NamedTuple):
    """One observation.

    Attributes:
        waiting: whether accepted requests wait for the worker.
        heads: by partition, the log's last number, and the number up to which the broker has acknowledged it.
    """

    waiting: bool
    heads: Mapping[int, tuple[int, int]]


def look(connection: sa.Connection) -> LogState:
    """Read whether the admission queue is empty, and the log's heads."""
    waiting = bool(connection.exec_driver_sql(_QUEUED).scalar())
    heads = connection.exec_driver_sql(_HEADS)
    return LogState(waiting, {partition: (seq, upto) for partition, seq, upto in heads})


class Publishing:
    """Works out from repeated observations, at monotonic times, for how long something has stood still."""

    def __init__(self) -> None:
        self._queued: tuple[int, float] | None = None
        self._heads: dict[int, tuple[int, float]] = {}
        self._known = False
        self.delay_s = 0.0
        """Seconds for which what waits had not moved, at the last observation."""

    @property
    def state(self) -> State:
        """The state in one word."""
        if not self._known:
            return "unknown"
        return "delayed" if self.delay_s > DELAYED_S else "current"

    def lost(self) -> None:
        """The database did not answer."""
        self._known = False

    def seen(self, seen: LogState, now: float) -> None:
        """Record an observation made at ``now``."""
        admitted = sum(seq for seq, _ in seen.heads.values())
        if not seen.waiting:
            self._queued = None
        elif self._queued is None or self._queued[0] != admitted:
            self._queued = (admitted, now)
        self._heads = {
            partition: known if (known := self._heads.get(partition)) and known[0] == upto else (upto, now)
            for partition, (seq, upto) in seen.heads.items()
            if seq > upto
        }
        since = [when for _, when in self._heads.values()] + ([self._queued[1]] if self._queued else [])
        self.delay_s = now - min(since, default=now)
        self._known = True
