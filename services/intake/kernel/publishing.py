"""Whether what the door accepted goes on to the topics, as the door's own process sees it from its tables.

The door takes requests while the broker is away: they are in the database. Whoever looks at its health is told that they wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import sqlalchemy as sa

LOOK_S: Final = 1.0
DELAYED_S: Final = 5.0
"""What waits for longer than this is delayed: longer than a busy worker takes, or a change of workers."""
State = Literal["current", "delayed", "unknown"]

_DOOR: Final = "select exists (select from admission_queue)"
_HEADS: Final = "select partition, seq, published_upto from partitions"


class LogState(NamedTuple):
    """One look.

    Attributes:
        waiting: whether accepted requests wait for the worker.
        heads: by partition, the log's last number, and up to which it is acknowledged by the broker.
    """

    waiting: bool
    heads: Mapping[int, tuple[int, int]]


def look(connection: sa.Connection) -> LogState:
    """Look at the door's table and the log's heads."""
    waiting = bool(connection.exec_driver_sql(_DOOR).scalar())
    return LogState(waiting, {row[0]: (row[1], row[2]) for row in connection.exec_driver_sql(_HEADS)})


class Publishing:
    """Since when something stands still, over looks at moments of a monotonic clock."""

    def __init__(self) -> None:
        self._door: tuple[int, float] | None = None
        self._heads: dict[int, tuple[int, float]] = {}
        self._known = False
        self.delay_s = 0.0
        """For how long what waits has not moved, as of the last look."""

    @property
    def state(self) -> State:
        """In a word."""
        if not self._known:
            return "unknown"
        return "delayed" if self.delay_s > DELAYED_S else "current"

    def lost(self) -> None:
        """The database did not answer."""
        self._known = False

    def seen(self, seen: LogState, now: float) -> None:
        """Take note of a look."""
        admitted = sum(seq for seq, _ in seen.heads.values())
        if not seen.waiting:
            self._door = None
        elif self._door is None or self._door[0] != admitted:
            self._door = (admitted, now)
        self._heads = {
            partition: known if (known := self._heads.get(partition)) and known[0] == upto else (upto, now)
            for partition, (seq, upto) in seen.heads.items()
            if seq > upto
        }
        since = [when for _, when in self._heads.values()] + ([self._door[1]] if self._door else [])
        self.delay_s = now - min(since, default=now)
        self._known = True
