"""The port of /live, /ready and /metrics."""

from __future__ import annotations

import socket

from shared.runtime.health import Health
from shared.settings import Settings


def test_a_scrape_that_breaks_off_is_no_error() -> None:
    server = Health("here").serve(Settings(metrics_host="127.0.0.1", metrics_port=0))
    theirs, ours = socket.socketpair()
    try:
        theirs.sendall(b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n")
        theirs.close()
        server.RequestHandlerClass(ours, ("there", 0), server)  # raises nothing
    finally:
        ours.close()
        server.shutdown()
        server.server_close()
