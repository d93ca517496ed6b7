"""Crash points for fault tests: a worker dies, or hangs, at a named step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def crash_from(text: str | None, name: str) -> Callable[[str], None] | None:
    """A crash point for fault tests: ``verification:after_commit:17`` kills that worker at that step the 17th time.

    ``verification:after_commit:17:hang`` makes it hang there forever while its port keeps answering.
    """
    if not text:
        return None
    worker, step, count, *how = text.split(":")
    if worker != name:
        return None
    left = int(count)

    def crash(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0 and how == ["hang"]:
                while True:
                    time.sleep(3600)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash
