"""Unit tests reach no network: a decision that needs one is in the wrong place."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import psycopg2
import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection but those over Unix sockets (asyncio's own)."""

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        raise AssertionError(f"a unit test connects to {arguments[-1:]}; it belongs in tests/integration")

    def guarded(name: str) -> Any:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            return real(self, *arguments) if self.family == socket.AF_UNIX else refuse(*arguments)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    # libpq opens its sockets in C
    monkeypatch.setattr(psycopg2, "connect", refuse)
