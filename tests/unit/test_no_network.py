"""The guard of the unit tests itself: it refuses the network, and lets asyncio's own sockets pass."""

from __future__ import annotations

import asyncio
import socket

import psycopg2
import pytest


def test_connections_are_refused() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="belongs in tests/integration"):
        client.connect(("127.0.0.1", 9))
    with pytest.raises(AssertionError, match="belongs in tests/integration"):
        psycopg2.connect("postgresql://127.0.0.1/x")


def test_an_event_loop_still_runs() -> None:
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
