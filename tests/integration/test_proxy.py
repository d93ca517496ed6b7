"""Links between clients and a server: they carry all, in order, and can be cut and slowed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from deploy.local.children import free_port
from deploy.local.proxy import Link, Links


@pytest.fixture
def link() -> Iterator[Link]:
    """To a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(65_536):
                client.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    one = Link(free_port(), server.getsockname()[1])
    with Links(one):
        yield one
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def ask(connection: socket.socket, data: bytes) -> bytes:
    """What comes back, all of it; shorter when the connection ends."""
    threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
    found = b""
    while len(found) < len(data) and (more := connection.recv(65_536)):
        found += more
    return found


def connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def test_all_is_carried_in_order(link: Link) -> None:
    data = bytes(range(256)) * 20_000  # more than may be on its way at a time
    with connect(link) as connection:
        assert ask(connection, data) == data
    assert link.carried >= 2 * len(data)


def test_who_is_cut_off_is_told_and_may_come_again(link: Link) -> None:
    with connect(link) as connection:
        assert ask(connection, b"before") == b"before"
        link.cut()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    with contextlib.suppress(ConnectionResetError), connect(link) as connection:
        assert connection.recv(1) == b""
    link.heal()
    with connect(link) as connection:
        assert ask(connection, b"after") == b"after"


def test_a_slow_link_is_late_each_way_and_keeps_the_order(link: Link) -> None:
    with connect(link) as connection:
        link.slow(0.2)
        begun = time.monotonic()
        assert ask(connection, b"slowly" * 1000) == b"slowly" * 1000
        assert time.monotonic() - begun >= 0.4
        link.heal()
        assert ask(connection, b"and on") == b"and on"


def test_the_client_is_told_that_the_server_is_away() -> None:
    nobody = Link(free_port(), free_port())
    with Links(nobody), connect(nobody) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
