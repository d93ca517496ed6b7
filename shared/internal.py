"""HTTP between the services: how a service serves an internal API, and how others call it.

A service gives its routes to ``run``. Each caller authenticates with its own bearer token (``shared/callers.py``),
over TLS if the URL is https; nobody else gets an answer. Failures are problems (RFC 9457). Ids are sent as query
parameters or in the body, never in a path. The port is not public: the API that asks decides what a *person* may see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import httpx
import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter
from msgspec import Struct

from shared import db, problems, security_events, tracing
from shared.callers import Callers, trust
from shared.problems import URN, Problem
from shared.refusals import Refused
from shared.serving import serve
from shared.settings import Settings

log = structlog.get_logger(__name__)

ANSWER_MAX: Final = 8_000_000
"""Most bytes that are read of an answer."""
_T = TypeVar("_T")

GivenId = Annotated[str, QueryParameter(min_length=1, max_length=120, pattern=r"^[\x21-\x7e]+$")]


class StrictStruct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies: unknown fields are refused."""


# ------------------------------------------------------------------------------------------------------------- answering


class Parts:
    """What routes work with: settings, the service's tables, and threads to read them on."""

    def __init__(
        self, settings: Settings, *, schema: Literal["verification", "enforcement", "notification"], name: str
    ) -> None:
        self.settings = settings
        self.callers = Callers(settings.internal_callers, schema)
        self.engine = db.connect(
            settings.present("database"), schema=schema, name=f"{name}-{settings.instance}", pool_size=4
        )
        self.threads = ThreadPoolExecutor(4, thread_name_prefix="read")

    async def run(self, work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Run the blocking ``work(connection, ...)`` in a transaction, on a thread.

        Raises:
            Refused: 503: the database cannot be reached.
        """

        def transact() -> _T:
            with self.engine.begin() as connection:
                return work(connection, *arguments, **options)

        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, transact)
        except Exception as error:
            if db.is_transient(error):
                log.warning("database", error=type(error).__name__)
                raise Refused(503, "busy", "The database cannot be reached.", cure="Try again later.") from error
            raise

    def close(self) -> None:
        """Release threads and connections."""
        self.threads.shutdown()
        self.engine.dispose()


def parts_of(request: Request[Any, Any, Any]) -> Parts:
    """The parts of the application that serves this request."""
    return request.app.state.parts  # type: ignore[no-any-return]


async def body_of(request: Request[Any, Any, Any], kind: type[_T]) -> _T:
    """The request's body, decoded strictly as ``kind``.

    Raises:
        Refused: 422: it does not fit ``kind``.
    """
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(422, "invalid", str(error)[:300]) from None


async def _authenticate(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.app.state.parts.callers.who(connection.headers.get("authorization")) is None:
        raise Refused(401, "not_internal", "There is no valid bearer token.")


def _on_refused(request: Request[Any, Any, Any], error: Refused) -> Response[Problem]:
    if error.status == 401:
        address = None if request.client is None else request.client.host
        path = request.scope.get("path_template")
        security_events.note("internal_refused", address=address, reason=error.reason, route=path)
    return problems.on_refused(request, error)


def create(
    routes: Sequence[Any],
    parts: Callable[[], Parts],
    *,
    on_start: Callable[[], None] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> Litestar:
    """Create the application.

    Args:
        parts: makes the parts once the event loop runs; a service may return a subclass.
        on_start: called once the event loop runs.
        on_ready: called once the database has answered.
    """

    @asynccontextmanager
    async def life(app: Litestar) -> AsyncIterator[None]:
        made = app.state.parts = parts()
        security_events.begin()
        if on_start is not None:
            on_start()
        beginning = asyncio.create_task(_begin(made, on_ready))
        yield
        beginning.cancel()
        made.close()

    return Litestar(
        route_handlers=list(routes),
        guards=[_authenticate],
        lifespan=[life],
        exception_handlers={
            Refused: _on_refused,
            HTTPException: problems.on_http_error,
            Exception: problems.on_error,
        },
        request_max_body_size=1_000_000,
        debug=False,
        logging_config=None,
        openapi_config=None,
    )


async def _begin(parts: Parts, on_ready: Callable[[], None] | None) -> None:
    while True:
        try:
            await parts.run(lambda connection: connection.exec_driver_sql("select 1").scalar_one())
        except Refused:
            await asyncio.sleep(0.5)
        else:
            break
    if on_ready is not None:
        on_ready()


def run(settings: Settings, name: str, routes: Sequence[Any], parts: Callable[[], Parts]) -> None:
    """Serve on ``http_host`` and ``http_port`` until SIGTERM; requests in progress are answered first.

    Args:
        name: name of the process, e.g. ``enforcement-api``.

    Raises:
        ValueError: ``internal_callers`` is not set.
    """
    Callers(settings.internal_callers, "enforcement")  # fail before anything is served
    serve(settings, name, lambda start, ready: create(routes, parts, on_start=start, on_ready=ready))


# ---------------------------------------------------------------------------------------------------------------- asking


class ServiceUnavailable(Exception):
    """The other service gave no usable answer: it is unreachable, does not know our token, or failed."""


class Client:
    """Calls another service's internal API from an event loop. Connections are opened when needed."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout_s: float = 5.0,
        authorities: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._token = token
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"} if token else None,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 2.0)),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
            trust_env=False,
            transport=transport,
            verify=trust(url, authorities),
        )

    async def get(self, path: str, kind: type[_T], params: Mapping[str, Any] | None = None) -> _T:
        """Send a GET request and return the answer; parameters that are None are left out.

        Raises:
            Refused: the other service refuses (400, 404, 409, 422), in its words.
            ServiceUnavailable: there is no usable answer.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return await self._ask(self._client.build_request("GET", path, params=given), kind)

    async def post(self, path: str, kind: type[_T], body: Any) -> _T:
        """Send a POST request and return the answer.

        Raises like ``get``; after ``ServiceUnavailable`` the request may or may not have taken effect.
        """
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        return await self._ask(self._client.build_request("POST", path, content=content, headers=headers), kind)

    async def _ask(self, request: httpx.Request, kind: type[_T]) -> _T:
        if self._token is None:
            raise ServiceUnavailable("internal_token is not set")
        if (context := tracing.here.get()) is not None:
            request.headers[tracing.HEADER] = context
        raw = bytearray()
        try:
            response = await self._client.send(request, stream=True)
            try:
                async for part in response.aiter_bytes():
                    raw += part
                    if len(raw) > ANSWER_MAX:
                        raise ServiceUnavailable("the answer is too long")
            finally:
                await response.aclose()
            if response.is_success:
                return msgspec.json.decode(raw or b"null", type=kind)
            if response.status_code in (400, 404, 409, 422):
                problem = msgspec.json.decode(raw, type=Problem)
                reason = problem.type.removeprefix(URN)
                raise Refused(problem.status, reason, problem.detail, field=problem.field, cure=problem.cure or "")
        except (httpx.HTTPError, msgspec.DecodeError, ValueError) as error:
            raise ServiceUnavailable(f"{request.url.path}: {type(error).__name__}") from error
        raise ServiceUnavailable(f"{request.url.path}: HTTP {response.status_code}")

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()
