"""Business time for a process without transactions of its own: the stored anchor, looked up now and then."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Final

from shared.clock import Anchor

NEVER: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Clock:
    """Business time by the anchor that was read last; the wall time in it goes on by the process's monotonic clock.

    It never goes back: until an anchor has been read it is 1970.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: tuple[Anchor, dt.datetime, float] | None = None
        self._last = NEVER

    def set(self, anchor: Anchor, wall: dt.datetime) -> None:
        """Go on by an anchor that was read when the database's wall time was ``wall``."""
        self._known = (anchor, wall, self._monotonic())

    def now(self) -> dt.datetime:
        """Business time."""
        if self._known is not None:
            anchor, wall, read = self._known
            at = anchor.at(wall + dt.timedelta(seconds=self._monotonic() - read))
            self._last = max(self._last, at)
        return self._last
