"""Forwards what comes to a socket to another one: ``relay ADDRESS PORT SOCKET`` from TCP to a socket in the file system.

Run in a network namespace it reaches a server outside, since the file system is the same there.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(server: socket.socket, reach: Callable[[], socket.socket]) -> None:
    """Forward every connection, until ``server`` is closed."""
    with contextlib.suppress(OSError):
        while True:
            one, other = server.accept()[0], reach()
            for pair in ((one, other), (other, one)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _reach() -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[3])
    return one


if __name__ == "__main__":
    server = socket.create_server((sys.argv[1], int(sys.argv[2])))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    serve(server, _reach)
