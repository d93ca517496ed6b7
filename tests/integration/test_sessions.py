"""Sessions of the services: their settings are ours, and a server that falls silent is found out."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from deploy.local.stack import Stack
from shared import db
from tests.integration import relay

pytestmark = pytest.mark.stack
HERE, THERE = "10.231.47.1", "10.231.47.2"


def test_settings_are_ours_whatever_the_role_was_given(stack: Stack) -> None:
    given = {
        "default_transaction_isolation": "'repeatable read'",
        "statement_timeout": "'1h'",
        "lock_timeout": "'1h'",
        "synchronous_commit": "off",
        "idle_in_transaction_session_timeout": "0",
        "timezone": "'Asia/Tokyo'",
    }
    url = stack.role_url("intake")
    with closing(psycopg2.connect(stack.admin_url)) as session, session.cursor() as cursor:
        session.autocommit = True
        for name, value in given.items():
            cursor.execute(f"alter role goodfaith_intake set {name} = {value}")
        try:
            engine = db.connect(url, schema="intake", name="test")
            tight = db.connect(url, schema="intake", name="test", statement_timeout=2.5)
            with engine.connect() as connection:
                found = {name: connection.exec_driver_sql(f"show {name}").scalar() for name in given}
            with tight.connect() as connection:
                assert connection.exec_driver_sql("show statement_timeout").scalar() == "2500ms"
        finally:
            cursor.execute("alter role goodfaith_intake reset all")
    engine.dispose()
    tight.dispose()
    assert found == {
        "default_transaction_isolation": "read committed",
        "statement_timeout": "1min",
        "lock_timeout": "20s",
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": "10s",
        "timezone": "UTC",
    }


# --------------------------------------------------------------------------------------------------- a silent network

CLIENT = """
import sys, time
from shared import db
db.SILENT_S = 3
engine = db.connect(sys.argv[1], schema="public", name="silent")
with engine.connect() as connection:
    connection.exec_driver_sql("select 1")
    print("connected", flush=True)
    sys.stdin.readline()
    try:
        connection.exec_driver_sql("select 2")
    except Exception as error:
        print("transient" if db.is_transient(error) else repr(error), flush=True)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def silence(stack: Stack, tmp_path: Path) -> Iterator[tuple[list[str], str, Callable[[], None]]]:
    """A network of two hosts, the far one with the database: how to run at the near one, the URL, and what makes it silent.

    It lies in two network namespaces; the database's own host is reached by a socket in the file system.
    """
    near, far = (f"gf{secrets.token_hex(3)}{end}" for end in "ab")
    place = parse_dsn(stack.role_url("intake"))
    path = str(tmp_path / "db.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def reach() -> socket.socket:
        return socket.create_connection((place.get("host", "127.0.0.1"), int(place["port"])))

    threading.Thread(target=relay.serve, args=(server, reach), daemon=True).start()
    with contextlib.ExitStack() as after:
        after.callback(server.close)
        for name in (near, far):
            ip("netns", "add", name)
            after.callback(ip, "netns", "del", name)
        ip("-n", near, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", far)
        for name, address in ((near, HERE), (far, THERE)):
            ip("-n", name, "addr", "add", f"{address}/30", "dev", "veth0")
            ip("-n", name, "link", "set", "veth0", "up")
        end = subprocess.Popen(
            ["ip", "netns", "exec", far, sys.executable, "-m", "tests.integration.relay", THERE, "5432", path],
            stdout=subprocess.PIPE,
            text=True,
        )
        after.callback(end.wait)
        after.callback(end.kill)
        assert end.stdout is not None
        after.callback(end.stdout.close)
        assert end.stdout.readline() == "listening\n"
        url = f"postgresql://{place['user']}:{place.get('password', '')}@{THERE}:5432/{place['dbname']}"
        # nothing that the far end answers comes to the near one
        yield (["ip", "netns", "exec", near], url, lambda: ip("-n", far, "route", "add", "blackhole", f"{HERE}/32"))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2")
def test_a_statement_to_a_host_that_fell_silent_ends(silence: tuple[list[str], str, Callable[[], None]]) -> None:
    """Its packets are lost, and nothing says so: else the kernel sends them again for a quarter of an hour."""
    at, url, be_silent = silence
    client = subprocess.Popen(
        [*at, sys.executable, "-c", CLIENT, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        assert client.stdout.readline() == "connected\n"
        be_silent()
        said, _ = client.communicate("go\n", timeout=60)
        assert said == "transient\n"
    finally:
        client.kill()
        client.communicate()
