"""The port of /live, /ready and /metrics."""

from __future__ import annotations

import socket

import pytest

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


@pytest.mark.parametrize("line", [b"GET /live", b"GET /nowhere", b"POST /metrics"])
def test_no_answer_is_read_as_another_type(line: bytes) -> None:
    server = Health("here").serve(Settings(metrics_host="127.0.0.1", metrics_port=0))
    theirs, ours = socket.socketpair()
    try:
        theirs.sendall(line + b" HTTP/1.0\r\n\r\n")
        server.RequestHandlerClass(ours, ("there", 0), server)
        assert b"\r\nx-content-type-options: nosniff\r\n" in theirs.recv(65536)
    finally:
        theirs.close()
        ours.close()
        server.shutdown()
        server.server_close()
