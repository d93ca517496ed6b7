"""What programs that stand in for other systems have in common."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Protocol


class Served(Protocol):
    """A stand-in with an HTTP server."""

    url: str

    def start(self) -> None:
        """Serve on a thread."""

    def stop(self) -> None:
        """Stop serving."""


def until_signal(served: Served) -> None:
    """Serve, and print the address, until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    served.start()
    sys.stdout.write(f"{served.url}\n")
    sys.stdout.flush()
    stop.wait()
    served.stop()
