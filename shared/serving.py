"""A process that serves HTTP, with a health port and a shutdown that answers the requests in progress first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvicorn

from shared import bounded, metrics, tracing
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)
Hook = Callable[[], None]


class Private:
    """ASGI: forbid caching and content-type sniffing of all answers, unless a route sets these headers itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _PRIVATE if pair[0] not in given)]
            await send(message)

        await self._app(scope, receive, marked)


_PRIVATE: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def serve(
    settings: Settings,
    name: str,
    make: Callable[[Hook, Hook], Any],
    *,
    backlog: int = 2048,
    details: dict[str, object] | None = None,
    own_bounds: frozenset[tuple[str, str]] = frozenset(),
) -> None:
    """Serve an application on ``http_host`` and ``http_port`` until SIGTERM; requests in progress are answered first.

    Args:
        name: name of the process, e.g. ``enforcement-api``.
        make: makes the application; gets two hooks to call, once its event loop runs and once it is ready.
        backlog: most connections that wait to be accepted.
        details: further facts for the health port; the application keeps them up to date.
        own_bounds: method and path of requests that limit the time of their bodies themselves.
    """
    health = Health(name)
    health.details = {} if details is None else details

    async def beat() -> None:
        # the process makes progress as long as its event loop turns
        while True:
            health.progress()
            metrics.PROGRESS.labels(name).set_to_current_time()
            await asyncio.sleep(1)

    beats: list[asyncio.Task[None]] = []

    def start() -> None:
        beats.append(asyncio.get_running_loop().create_task(beat()))

    server = health.serve(settings)
    log.info("started", worker=name, health_port=server.server_address[1], http_port=settings.http_port)
    app: Any = Private(bounded.Bodies(make(start, health.ready), settings, own_bounds))
    if (traced := tracing.current()) is not None:
        app = tracing.Requests(app, traced)
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http=bounded.protocol(settings),
        proxy_headers=bool(settings.http_proxies),
        forwarded_allow_ips=list(settings.http_proxies),
        ws="none",
        access_log=False,
        log_config=None,
        ssl_certfile=settings.http_certificate,
        ssl_keyfile=settings.http_key,
        server_header=False,
        date_header=False,
        backlog=backlog,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    server.shutdown()
