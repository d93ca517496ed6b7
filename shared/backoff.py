"""How long a loop waits: after failures, and while there is nothing to do.

Where the tries have an end, ``stamina`` does the waiting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable


def pause_s(failures: int, most_s: float, first_s: float = 0.1) -> float:
    """Seconds to wait after so many failures in a row.

    Doubles with each failure, from twice ``first_s`` up to ``most_s``, with jitter over the upper half, so that
    processes that failed together do not try again together.
    """
    ceiling = min(most_s, first_s * 2.0 ** min(failures, 12))
    return random.uniform(ceiling / 2, ceiling)


class Quiet:
    """How long a loop that found nothing to do waits: a twentieth of the time since it last did something.

    What comes next has then been preceded by a quiet time twenty times as long as it waits, and an idle process costs
    next to nothing.

    Args:
        now: monotonic time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._worked_at = now()

    def worked(self) -> None:
        """Note that there was something to do. Safe from any thread."""
        self._worked_at = self._now()

    def wait_s(self, least_s: float, most_s: float = 1.0) -> float:
        """Seconds to wait now: from ``least_s`` to ``most_s``, or ``least_s`` if that is longer."""
        return max(least_s, min((self._now() - self._worked_at) / 20, most_s))

    def after_s(self, done: object, least_s: float) -> float:
        """Seconds to wait after a round: none if it found something to do (``done`` is truthy)."""
        if done:
            self.worked()
            return 0.0
        return self.wait_s(least_s)
