"""`python -m labs.bench.mail`: mails a second, from queued messages to a mail server's last answer. Prints JSON.

It runs on a stack of its own: PostgreSQL, senders as in an installation, a minimal SMTP server that stores nothing
(PIPELINING, DSN), and a minimal stand-in for intake's internal API, each a process of its own. Every message is a
seller's notice of one item, signed unless `--dkim off`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.notification.domain import Facts
from shared import db, migrate
from shared.events import State

INNER = "inner" * 8
_QUEUE = """
    insert into notification.message_items (item, revision, kind, party, claim, claim_size, partition, listing, facts, opened_wall, message)
    select 'c-' || n || '.1', 1, 'seller_notice', 's-' || n %% :sellers, 'c-' || n, 1, n %% 24, 'l-' || n, :facts, now(), 'm-' || lpad(to_hex(n), 32, '0')
    from generate_series(1, :count) n;
    insert into notification.messages (id, claim, party, kind, items, revisions, opened_wall)
    select message, claim, party, kind, array[item], array[revision], now() from notification.message_items;
    analyze notification.messages; analyze notification.message_items;
"""


class SinkServer(asyncio.Protocol):
    """A mail server that accepts everything, and keeps only the messages' ids."""

    ids: set[bytes] = set()  # noqa: RUF012 (one for the process)
    accepted = 0
    first = last = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.left = b""
        self.id = b""
        self.text = False
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        data = self.left + data
        out = []
        at = 0
        while True:
            if self.text:
                end = data.find(b"\r\n.\r\n", at)
                if end < 0:
                    break
                at, self.text = end + 5, False
                SinkServer.ids.add(self.id)
                SinkServer.accepted += 1
                SinkServer.last = time.time()
                SinkServer.first = SinkServer.first or SinkServer.last
                out.append(b"250 OK\r\n")
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            line = data[at:end]
            at = end + 2
            verb = line[:4].upper()
            if verb == b"DATA":
                self.text = True
                out.append(b"354 go on\r\n")
            elif verb == b"EHLO":
                out.append(b"250-sink\r\n250-PIPELINING\r\n250-DSN\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n")
            else:
                if verb == b"MAIL":
                    self.id = line.rpartition(b"ENVID=")[2]
                out.append(b"250 OK\r\n")
        self.left = data[at:]
        self.transport.write(b"".join(out))


class IntakeStub(asyncio.Protocol):
    """A stand-in for intake's internal API, in which every account has an address."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.left = b""

    def data_received(self, data: bytes) -> None:
        self.left += data
        head, found, body = self.left.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < size:
            return
        self.left = body[size:]
        ids = json.loads(body[:size])["ids"]
        answer: dict[str, Any] = {"claims": {id_: {"right_number": "7654321"} for id_ in ids}}
        if b"/internal/contacts" in head.split(b"\r\n")[0]:
            answer = {
                "contacts": {
                    id_: {
                        "name": f"Name of {id_}",
                        "address": f"1 Road of {id_}\nTown",
                        "email": f"{id_}@x.example",
                        "confirmed": True,
                    }
                    for id_ in ids
                }
            }
        raw = json.dumps(answer).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)


def _serve(kind: type[Any], port: int, pipe: Connection) -> None:
    """Run a server in this process. On "count" it sends the sink's figures through the pipe."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(kind, "127.0.0.1", port)
        pipe.send("ready")
        while (await loop.run_in_executor(None, pipe.recv)) == "count":
            pipe.send((SinkServer.accepted, len(SinkServer.ids), SinkServer.first, SinkServer.last))

    asyncio.run(main())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(stack: Stack, *, messages: int, senders: int, dkim: str, timeout_s: float) -> dict[str, Any]:
    """Queue messages, start senders, and measure them.

    Args:
        stack: A running stack.
        messages: Number of messages.
        senders: Number of sender processes.
        dkim: `rsa`, `ed25519` or `off`.
        timeout_s: Seconds to wait.

    Raises:
        RuntimeError: not all messages were sent in time.
    """
    migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
    engine = db.administer(stack.admin_url, autocommit=True)
    facts = Facts(
        listing="l-1",
        seller="s-1",
        complainant="h-1",
        principal="h-1",
        right="r-1",
        right_type="trademark",
        reason="counterfeit",
        policy="ipp-2026-11",
        state=State.NOTIFIED,
    )
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "truncate notification.messages, notification.message_items, notification.deliveries, notification.announcements"
            )
        )
        for statement in _QUEUE.replace("%%", "%").split(";"):
            if statement.strip():
                connection.execute(
                    sa.text(statement),
                    {"count": messages, "sellers": messages, "facts": msgspec.json.encode(facts).decode()}
                    if ":count" in statement
                    else {},
                )
        connection.execute(sa.text("checkpoint"))
    taken: set[int] = set()
    smtp, intake = free_port(taken), free_port(taken)
    pipes, servers = [], []
    for kind, port in ((SinkServer, smtp), (IntakeStub, intake)):
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=_serve, args=(kind, port, theirs), daemon=True)
        server.start()
        ours.recv()
        pipes.append(ours)
        servers.append(server)
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "GOODFAITH_DATABASE": stack.role_url("notification"),
            "GOODFAITH_INTAKE_URL": f"http://127.0.0.1:{intake}",
            "GOODFAITH_INTERNAL_TOKEN": INNER,
            "GOODFAITH_SMTP_PORT": str(smtp),
            "GOODFAITH_MAIL_KEY": "k" * 32,
            "GOODFAITH_LOG_LEVEL": "warning",
            "GOODFAITH_STATE_DIR": folder,
        }
        if dkim != "off":
            key = rsa.generate_private_key(65537, 2048) if dkim == "rsa" else ed25519.Ed25519PrivateKey.generate()
            file = Path(folder) / "dkim.pem"
            file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            environment["GOODFAITH_DKIM_KEY_FILE"] = str(file)
        processes = [
            subprocess.Popen([sys.executable, "-m", "services.notification", "sender"], env=environment)
            for _ in range(senders)
        ]
        watched = [psutil.Process(process.pid) for process in processes]
        sink = psutil.Process(servers[0].pid)
        busy = begun = 0.0
        before = 0
        until = time.monotonic() + timeout_s
        try:
            while True:
                time.sleep(0.1)
                pipes[0].send("count")
                accepted, distinct, first, last = pipes[0].recv()
                busy = sum(map(_cpu, watched))
                if accepted and not before:
                    # do not count the CPU time of starting
                    before, begun = accepted, busy
                if distinct >= messages:
                    break
                if time.monotonic() > until:
                    raise RuntimeError(f"{distinct} of {messages} within {timeout_s} s")
            rss = max(process.memory_info().rss for process in watched)
            sink_busy = _cpu(sink)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(30)
            for pipe, server in zip(pipes, servers, strict=True):
                pipe.send("end")
                server.join(10)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("select state, count(*) from notification.messages group by 1")).all()
    engine.dispose()
    seconds = last - first
    return {
        "messages": messages,
        "senders": senders,
        "dkim": dkim,
        "seconds": round(seconds, 2),
        "messages_per_s": round((messages - 1) / seconds, 1),
        "doubled": accepted - distinct,
        "states": dict(rows),
        "sender_cpu_us_per_message": round((busy - begun) / max(1, messages - before) * 1e6),
        "server_cpu_us_per_message": round(sink_busy / messages * 1e6),
        "sender_rss_mb": round(rss / 2**20),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--senders", type=int, default=2)
    parser.add_argument("--dkim", choices=("rsa", "ed25519", "off"), default="rsa")
    parser.add_argument("--timeout", type=float, default=120.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goodfaith-mail-") as root:
        stack = Stack.start(Path(root), "mail")
        try:
            found = measure(
                stack, messages=given.messages, senders=given.senders, dkim=given.dkim, timeout_s=given.timeout
            )
        finally:
            stack.destroy()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
