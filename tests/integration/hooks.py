"""A real server of webhooks on a thread, with paths that behave well and badly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from deploy.local.children import free_port
from tests.patience import PATIENCE_S

METADATA = "http://169.254.169.254/latest/meta-data/"


@dataclass
class Received:
    """A call as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Hooks:
    """The server. What comes is kept in ``received``; ``/ok...`` takes all, other paths do as they are named."""

    def __init__(self, *, ssl_context: Any = None) -> None:
        self.port = free_port(set())
        self.received: list[Received] = []
        self.open: dict[str, int] = defaultdict(int)
        self.most_open: dict[str, int] = defaultdict(int)
        self.written = 0
        """Bytes that ``/big`` could get rid of."""
        self.flooded = 0
        """Bytes that ``/continue`` could get rid of."""
        self.answers: dict[str, list[int]] = {}
        """Statuses to be given first, by path."""
        self.check: Callable[[Received], int] | None = None
        """Decides on the status of what else would be taken."""
        self._ssl = ssl_context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = threading.Event()
        self._hung: list[asyncio.Future[None]] = []

    def start(self) -> Hooks:
        self._thread.start()
        assert self._began.wait(PATIENCE_S)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def url(self, path: str) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    def let_go(self) -> None:
        """End calls that hang."""
        for future in self._hung:
            self._loop.call_soon_threadsafe(lambda future=future: future.done() or future.set_result(None))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._ssl)
        self._loop.run_until_complete(site.start())
        self._began.set()
        self._loop.run_forever()
        self.let_go()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.open[path] += 1
        self.most_open[path] = max(self.most_open[path], self.open[path])
        try:
            return await self._answer(request, path)
        finally:
            self.open[path] -= 1

    async def _answer(self, request: web.Request, path: str) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        one = Received(path, headers, await request.read(), time.monotonic())
        self.received.append(one)
        if self.answers.get(path):
            status = self.answers[path].pop(0)
            return web.Response(status=status, headers={"Retry-After": "1"} if status == 429 else None)
        if path.startswith("/hang"):
            future: asyncio.Future[None] = self._loop.create_future()
            self._hung.append(future)
            await future
        elif path.startswith("/fail"):
            return web.Response(status=500, text="no " * 1000)
        elif path.startswith("/redirect"):
            return web.Response(status=307, headers={"Location": METADATA})
        elif path.startswith("/back"):
            return web.Response(status=302, headers={"Location": self.url("/ok/inner")})
        elif path.startswith("/gone"):
            return web.Response(status=410)
        elif path.startswith("/big"):
            return await self._big(request)
        elif path.startswith("/continue"):
            await self._continue(request)
        elif path.startswith("/lost"):
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=self.check(one) if self.check is not None else 204)

    async def _continue(self, request: web.Request) -> None:
        """Interim answers without end."""
        out: Any = request.transport
        while out is not None and not out.is_closing() and self.flooded < 1 << 30:
            if out.get_write_buffer_size() < 1 << 20:
                out.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 4000)
                self.flooded += 25 * 4000
            await asyncio.sleep(0)

    async def _big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1 << 30
        await response.prepare(request)
        try:
            for _ in range(1 << 14):
                await response.write(b"x" * (1 << 16))
                self.written += 1 << 16
        except (ConnectionError, asyncio.CancelledError):
            pass
        return response
