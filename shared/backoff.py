"""How long a loop waits after failures. Where the tries have an end, ``stamina`` does the waiting."""

from __future__ import annotations

import random


def pause_s(failures: int, most_s: float, first_s: float = 0.1) -> float:
    """Seconds to wait after so many failures in a row.

    Doubles with each failure, from twice ``first_s`` up to ``most_s``, with jitter over the upper half, so that
    processes that failed together do not try again together.
    """
    ceiling = min(most_s, first_s * 2.0 ** min(failures, 12))
    return random.uniform(ceiling / 2, ceiling)
