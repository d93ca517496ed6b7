"""Messages to webhooks of which some hang and some fail: how much longer the healthy ones wait than without the others.

    python -m labs.bench.webhooks --endpoints 1000 --rate 1000 --seconds 30

It runs on a stack of its own, with a real webhooks process, a stand-in for intake's internal API, and a receiver, each
a process of its own. Messages are written as notification's worker writes them, `--rate` a second. A message's time is
from then until its call reaches the receiver, in milliseconds. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import sqlalchemy as sa
import uvloop

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.accounts.webhooks import new_secret
from services.notification.domain import Facts
from shared import db, migrate
from shared.events import State, WebhookKnown

ROOT: Final = Path(".local")
STEP_S: Final = 0.05
"""Seconds between insertions: a worker's batches are as frequent under load."""
INNER: Final = "inner" * 8
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PATH: Final = re.compile(rb"^[A-Z]+ (/\w+)")
_ITEM: Final = re.compile(rb'"item":"b-(\d+)"')


# ------------------------------------------------------------------------------------------------------ the stand-ins


class Receiver(asyncio.Protocol):
    """A minimal and cheap HTTP server, because it shares the machine with what is measured."""

    answers: dict[bytes, Any]

    def __init__(self) -> None:
        self._raw = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._raw += data
        while (end := self._raw.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._raw[:end])
            length = _LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self._raw) < total:
                return
            body = bytes(self._raw[end + 4 : total])
            del self._raw[:total]
            path = _PATH.match(head)
            answer = self.answers[path[1] if path else b""](body)
            if answer is not None:
                self._transport.write(answer)


def _reply(status: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (status, len(body), body)


def _serve(port: int, answers: dict[bytes, Any], pipe: multiprocessing.connection.Connection, result: Any) -> None:
    """Serve until something comes through the pipe, then send `result()`."""
    _many_sockets()
    kind = type("Bound", (Receiver,), {"answers": answers})

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", port, backlog=4096)
        pipe.send("ready")
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        pipe.send(result())
        server.close()

    uvloop.run(run())


def receive(port: int, pipe: multiprocessing.connection.Connection) -> None:
    """The receiver: /ok accepts, /hang never answers, /fail answers 500. It keeps when each item came first."""
    came: dict[int, float] = {}
    calls = {"ok": 0, "hang": 0, "fail": 0, "twice": 0}

    def ok(body: bytes) -> bytes:
        found = _ITEM.search(body)
        number = int(found[1]) if found else -1
        calls["twice"] += number in came
        came.setdefault(number, time.time())
        calls["ok"] += 1
        return _reply(b"204 No Content")

    def hang(_: bytes) -> None:
        calls["hang"] += 1

    def fail(_: bytes) -> bytes:
        calls["fail"] += 1
        return _reply(b"500 Internal Server Error")

    _serve(port, {b"/ok": ok, b"/hang": hang, b"/fail": fail}, pipe, lambda: (came, calls))


def intake(port: int, webhooks: dict[str, Any], pipe: multiprocessing.connection.Connection) -> None:
    """A stand-in for intake's internal API."""
    decode, encode = msgspec.json.decode, msgspec.json.encode
    claim = {"right_number": "7654321"}
    contact = {"name": "Ada Example", "address": "Road 1\nTown", "email": "ada@example.org"}

    def answer(body: bytes) -> bytes:
        ids = decode(body).get("ids", ())
        # the first part of the path does not tell the calls apart, so each answer has the fields of all
        return _reply(
            b"200 OK",
            encode(
                {
                    "contacts": dict.fromkeys(ids, contact),
                    "claims": dict.fromkeys(ids, claim),
                    "webhooks": {id_: webhooks[id_] for id_ in ids if id_ in webhooks},
                    "challenges": [],
                }
            ),
        )

    _serve(port, {b"/internal": answer}, pipe, lambda: None)


def _many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65_536), hard))


@contextlib.contextmanager
def serving(target: Any, *arguments: Any) -> Iterator[multiprocessing.connection.Connection]:
    """Run a server in a process of its own; yields the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    assert ours.recv() == "ready"
    try:
        yield ours
    finally:
        process.kill()
        process.join()


# ---------------------------------------------------------------------------------------------------------- a run


def prepare(connection: sa.Connection, parties: dict[str, str]) -> None:
    """Empty the tables, and enter the parties' webhooks."""
    tables = connection.exec_driver_sql(
        "select tablename from pg_tables where schemaname = 'notification' and tablename not like 'alem%%'"
    ).scalars()
    connection.exec_driver_sql("truncate " + ", ".join(f"notification.{name}" for name in tables))
    for party, webhook in parties.items():
        known = msgspec.json.encode([WebhookKnown(webhook=webhook, generation=1)]).decode()
        connection.exec_driver_sql(
            "insert into notification.channels (party, revision, preferred, webhooks) values (%s, 1, '{webhook,email}', %s)",
            (party, known),
        )
        connection.exec_driver_sql(
            "insert into notification.endpoints (id, party, generation) values (%s, %s, 1)", (webhook, party)
        )


def write_messages(engine: sa.Engine, parties: list[str], rate: int, seconds: float) -> dict[int, float]:
    """Write items for messages at a constant rate; returns when each was written."""
    facts = Facts(
        listing="l",
        complainant="x",
        principal="x",
        right="r-1",
        right_type="trademark",
        reason="counterfeit",
        policy="ipp-2026-11",
        state=State.REJECTED,
    )
    text = msgspec.json.encode(facts).decode()
    written: dict[int, float] = {}
    began = time.time()
    while (now := time.time()) < began + seconds:
        numbers = range(len(written), int((now - began + STEP_S) * rate))
        with engine.begin() as connection:
            connection.exec_driver_sql(
                """insert into notification.message_items (item, revision, kind, party, claim, claim_size, partition, listing,
                    facts, opened_wall)
                select 'b-' || n.number, 2, 'outcome', n.party, 'c-' || n.number, 1, 0, 'l', %s, clock_timestamp()
                from unnest(%s::int[], %s::text[]) as n(number, party)""",
                (text, list(numbers), [parties[number % len(parties)] for number in numbers]),
            )
        written.update(dict.fromkeys(numbers, now))
        time.sleep(max(0.0, now + STEP_S - time.time()))
    return written


def ready(port: int) -> None:
    """Wait until the process is ready."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError("not ready within a minute")


def percentile(values: list[float], share: float) -> float:
    """The percentile of some values; NaN without values."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


def run(stack: Stack, options: argparse.Namespace, sick: float) -> dict[str, Any]:
    """Make one run, in which a share `sick` of the endpoints hangs and an equal share fails.

    Sick endpoints that are left out do not add load either.
    """
    count = options.endpoints
    bad = round(count * sick)
    paths = ["/hang"] * bad + ["/fail"] * bad + ["/ok"] * (count - 2 * round(count * options.sick))
    taken: set[int] = set()
    hook_port, intake_port = free_port(taken), free_port(taken)
    parties = {f"p-{n}": f"w-{n}" for n in range(len(paths))}
    webhooks = {
        f"p-{n}": {
            "webhooks": [
                {
                    "id": f"w-{n}",
                    "url": f"http://127.0.0.1:{hook_port}{path}/{n}",
                    "secrets": [new_secret()],
                    "generation": 1,
                }
            ]
        }
        for n, path in enumerate(paths)
    }
    engine = db.administer(stack.admin_url, pooled=True)
    with engine.begin() as connection:
        prepare(connection, parties)
    settings = {
        "DATABASE": stack.role_url("notification"),
        "KAFKA": stack.kafka,
        "INTAKE_URL": f"http://127.0.0.1:{intake_port}",
        "INTERNAL_TOKEN": INNER,
        "WEBHOOK_NETWORKS": '["127.0.0.0/8"]',
        "WEBHOOK_HTTP": "true",
        "WEBHOOK_PORTS": "[]",
        "POLL_MS": "20",
        "WEBHOOK_TIMEOUT_S": str(options.timeout),
    }
    env = {**os.environ, **{f"GOODFAITH_{name}": value for name, value in settings.items()}}
    # mix sick and healthy parties
    order = [f"p-{(n * 7919) % len(paths)}" for n in range(len(paths))]
    rate = round(options.rate * len(paths) / count)
    with (
        serving(receive, hook_port) as receiver,
        serving(intake, intake_port, webhooks),
        (ROOT / "bench-webhooks.log").open("wb") as log,
    ):
        health = [free_port(taken) for _ in range(options.processes)]
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "services.notification", "webhooks"],
                env={**env, "GOODFAITH_METRICS_PORT": str(port)},
                stdout=log,
                stderr=log,
            )
            for port in health
        ]
        try:
            for port in health:
                ready(port)
            before = [psutil.Process(worker.pid).memory_info().rss for worker in workers]
            cpu = sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in workers)
            began = time.time()
            written = write_messages(engine, order, rate, options.seconds)
            well = {f"p-{n}" for n, path in enumerate(paths) if path == "/ok"}
            healthy = [number for number in written if order[number % len(order)] in well]
            until = time.time() + 30
            left = "select count(*) from notification.messages where state in ('queued', 'sending') and party = any(%s)"
            waiting = "select count(*) from notification.message_items where message is null"
            while time.time() < until:
                with engine.connect() as connection:
                    if not (
                        connection.exec_driver_sql(waiting).scalar_one()
                        or connection.exec_driver_sql(left, (sorted(well),)).scalar_one()
                    ):
                        break
                time.sleep(0.2)
            took = time.time() - began
            peak = [psutil.Process(worker.pid).memory_info().rss for worker in workers]
            cpu = sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in workers) - cpu
            receiver.send("stop")
            came, calls = receiver.recv()
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                try:
                    worker.wait(30)
                except subprocess.TimeoutExpired:
                    worker.kill()
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("select state, count(*) from notification.webhook_deliveries group by 1")
        deliveries = {row[0]: row[1] for row in rows}
    engine.dispose()
    # leave out the first seconds, in which connections are made and circuits open
    first = min(written.values(), default=0.0) + options.warm
    waits = [
        1000 * (came[number] - written[number]) for number in healthy if number in came and written[number] >= first
    ]
    return {
        "endpoints": len(paths),
        "sick": 2 * bad,
        "rate_per_s": rate,
        "messages": len(written),
        "healthy_messages": len(healthy),
        "healthy_received": sum(number in came for number in healthy),
        "healthy_per_s": round(sum(number in came for number in healthy) / took, 1),
        "p50_ms": round(percentile(waits, 0.5), 1),
        "p95_ms": round(percentile(waits, 0.95), 1),
        "p99_ms": round(percentile(waits, 0.99), 1),
        "max_ms": round(max(waits, default=float("nan")), 1),
        "calls": calls,
        "deliveries": deliveries,
        "rss_mb": round(sum(peak) / 1e6, 1),
        "rss_growth_mb": round((sum(peak) - sum(before)) / 1e6, 1),
        "cpu_s": round(cpu, 2),
        "seconds": round(took, 1),
    }


def main() -> None:
    """Make both runs, and print their figures and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second to all endpoints")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument(
        "--sick", type=float, default=0.1, help="share of endpoints that hangs, and equal share that fails"
    )
    parser.add_argument("--processes", type=int, default=1, help="number of webhooks processes")
    parser.add_argument("--warm", type=float, default=5, help="seconds at the start that are not timed")
    parser.add_argument("--timeout", type=float, default=15, help="GOODFAITH_WEBHOOK_TIMEOUT_S")
    options = parser.parse_args()
    _many_sockets()
    stack = Stack.start(ROOT, f"bench-webhooks-{os.getpid()}")
    try:
        migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
        without = run(stack, options, 0.0)
        with_sick = run(stack, options, options.sick)
    finally:
        stack.destroy()
    figures = {"without": without, "with": with_sick, "p99_ratio": round(with_sick["p99_ms"] / without["p99_ms"], 2)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
