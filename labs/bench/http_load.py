"""Durable claims a second through intake's HTTP API alone: raw sockets, keep-alive, one claim per request.

    python -m labs.bench.http_load --url http://127.0.0.1:8080 --seconds 10

The client is cheap (it reads only the status of answers), because it shares the machine with what it measures. It needs
GOODFAITH_OPERATOR_TOKEN to open verified accounts.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import uvloop


@dataclass(slots=True)
class ClientResult:
    """The answers that one client process got: accepted, others by status, and the seconds of each."""

    accepted: int = 0
    other: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HttpFigures:
    """The measurement; `other` counts answers with another status than 202."""

    claims_per_s: float
    items_per_s: float
    accepted: int
    p50_ms: float
    p99_ms: float
    other: dict[int, int]


class Client(asyncio.Protocol):
    """One connection, which sends the next request when the previous answer is complete."""

    def __init__(self, head: bytes, right: str, items: int, result: ClientResult, until: float) -> None:
        self._head = head
        self._right = right
        self._items = items
        self._result = result
        self._until = until
        self._buffer = b""
        self._sent = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        links = ",".join(f'"https://market.example/items/b{secrets.token_hex(8)}"' for _ in range(self._items))
        body = f'{{"right":"{self._right}","reason":"counterfeit","listings":[{links}]}}'.encode()
        self._sent = time.perf_counter()
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self._buffer.lower().find(b"content-length: ", 0, end)
        length = int(self._buffer[start + 16 : self._buffer.index(b"\r", start)])
        if len(self._buffer) < end + 4 + length:
            return
        status = int(self._buffer[9:12])
        self._buffer = b""
        self._result.seconds.append(time.perf_counter() - self._sent)
        if status == 202:
            self._result.accepted += 1
        else:
            self._result.other[status] = self._result.other.get(status, 0) + 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _drive(url: str, tokens: list[tuple[str, str]], connections: int, items: int, seconds: float) -> ClientResult:
    parts = urlsplit(url)
    result = ClientResult()
    until = time.perf_counter() + seconds
    clients = []
    for number in range(connections):
        token, right = tokens[number % len(tokens)]
        head = (
            f"POST /v1/claims HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        _, client = await asyncio.get_running_loop().create_connection(
            lambda head=head, right=right: Client(head, right, items, result, until),  # type: ignore[misc]
            parts.hostname or "127.0.0.1",
            parts.port or 80,
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return result


def _child(url: str, tokens: list[tuple[str, str]], connections: int, items: int, seconds: float, out: object) -> None:
    result = uvloop.run(_drive(url, tokens, connections, items, seconds))
    out.put((result.accepted, result.other, result.seconds))  # type: ignore[attr-defined]


def complainants(url: str, count: int, operator: str) -> list[tuple[str, str]]:
    """Open verified accounts with a contact and a right each; returns (token, right) pairs."""
    made = []
    staff = {"Authorization": f"Bearer {operator}"}
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(count):
            account = (
                client.post("/v1/accounts", headers=staff, json={"identity_verified": True, "seen": "bench"})
                .raise_for_status()
                .json()
            )
            name = f"bench-{number}"
            client.put(
                "/v1/contact",
                headers={"Authorization": f"Bearer {account['token']}"},
                json={"name": name, "address": "1 Long Lane", "email": f"{name}@party.example"},
            ).raise_for_status()
            client.post(
                f"/v1/accounts/{account['account']}/verify", headers=staff, json={"email_confirmed": True}
            ).raise_for_status()
            right = (
                client.post(
                    "/v1/rights",
                    headers={"Authorization": f"Bearer {account['token']}"},
                    json={"right_type": "trademark", "number": str(number), "proof": "bench"},
                )
                .raise_for_status()
                .json()
            )
            made.append((account["token"], right["id"]))
    return made


def measure(
    urls: list[str], operator: str, *, connections: int = 64, items: int = 1, seconds: float = 10.0, accounts: int = 16
) -> HttpFigures:
    """Load intake for some seconds, with one client process per API process.

    Args:
        urls: Base URLs of the API processes.
        operator: The operator's token.
        connections: Connections of all clients together.
        items: Listings per claim.
        seconds: How long to load.
        accounts: Number of accounts that file.
    """
    tokens = complainants(urls[0], accounts, operator)
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    children = [
        context.Process(target=_child, args=(url, tokens, connections // len(urls), items, seconds, out))
        for url in urls
    ]
    for child in children:
        child.start()
    results = [out.get() for _ in children]
    for child in children:
        child.join()
    times = sorted(time for _, _, seconds_ in results for time in seconds_)
    accepted = sum(result[0] for result in results)
    other: dict[int, int] = {}
    for _, codes, _ in results:
        for code, count in codes.items():
            other[code] = other.get(code, 0) + count
    return HttpFigures(
        claims_per_s=round(accepted / seconds, 1),
        items_per_s=round(accepted * items / seconds, 1),
        accepted=accepted,
        p50_ms=round(1000 * times[len(times) // 2], 2) if times else 0.0,
        p99_ms=round(1000 * times[int(len(times) * 0.99)], 2) if times else 0.0,
        other=other,
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", required=True, help="base URL of an API process; repeatable")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--items", type=int, default=1, help="listings per claim")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--accounts", type=int, default=16)
    options = parser.parse_args()
    operator = os.environ["GOODFAITH_OPERATOR_TOKEN"]
    print(
        json.dumps(
            dataclasses.asdict(
                measure(
                    options.url,
                    operator,
                    connections=options.connections,
                    items=options.items,
                    seconds=options.seconds,
                    accounts=options.accounts,
                )
            )
        )
    )


if __name__ == "__main__":
    main()
