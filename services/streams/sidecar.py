"""Runs in a worker's event loop next to the folding: the query API, and the comparison of views with the database."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
import uvicorn

from services.streams import api
from services.streams.collector import ViewsCollector
from services.streams.figures import NAME
from services.streams.reconcile import Database, Reconciler
from services.streams.worker import Worker
from shared import bounded, serving
from shared.settings import Settings

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves signal handling to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(settings: Settings) -> socket.socket:
    """The bound socket of the query API (``http_host``, ``http_port``)."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((settings.http_host, settings.http_port))
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket, *, tls: bool = False) -> str:
    """The URL at which other workers reach a socket's query API."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - every address: the others know us by name
        host = socket.gethostname()
    return f"{'https' if tls else 'http'}://{host}:{port}"


@contextlib.asynccontextmanager
async def running(
    settings: Settings, worker: Worker, views: ViewsCollector, listening: socket.socket
) -> AsyncIterator[Reconciler | None]:
    """Serve the query API and compare views while the context is open.

    Without ``internal_callers`` nothing is served; without ``reconcile_s`` nothing is compared.
    """
    tasks: list[asyncio.Task[Any]] = []
    database: Database | None = None
    reconciler: Reconciler | None = None
    server: _Server | None = None
    if settings.reconcile_s:
        database = Database(settings)
        reconciler = Reconciler(worker.filled, database, views.reconciled)
        tasks.append(asyncio.create_task(reconciler.run(settings.reconcile_s)))
    if settings.internal_callers is not None:
        application = api.create(api.Parts(settings, worker, worker.now, reconciler))
        server = _Server(
            uvicorn.Config(
                serving.Private(bounded.Bodies(application, settings)),
                http=bounded.protocol(settings),
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                ssl_certfile=settings.http_certificate,
                ssl_keyfile=settings.http_key,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        tasks.append(asyncio.create_task(server.serve([listening])))
        log.info("query API started", worker=NAME, url=url_of(listening, tls=settings.http_certificate is not None))
    for task in tasks:
        task.add_done_callback(_ended)
    try:
        yield reconciler
    finally:
        if server is not None:
            server.should_exit = True
            await asyncio.wait([tasks.pop()], timeout=5)
        for task in tasks:
            task.cancel()
        if database is not None:
            database.close()


def _ended(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task failed", worker=NAME, error=f"{type(error).__name__}: {error}", exc_info=error)
