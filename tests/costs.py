"""What something costs, for tests that compare it with something else in the same run. No test asserts seconds."""

from __future__ import annotations

import time
from collections.abc import Callable


def cost(what: Callable[[], object], runs: int = 3) -> float:
    """Processor time of this process, in seconds: the least of some runs, because other work only ever adds to it."""
    took = []
    for _ in range(runs):
        begun = time.process_time()
        what()
        took.append(time.process_time() - begun)
    return min(took)
