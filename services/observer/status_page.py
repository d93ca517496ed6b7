"""The status page: a process that shows what Prometheus says as one HTML page without scripts.

It has no state and no connection to broker or database, so it works while they are away. It shows an answer again for
`status_cache_s` seconds, however many readers there are: nobody can make it ask more often. `/` names no items;
`/operator` does, for readers who know `status_token` (HTTP Basic, any user name). Run it behind the operators' proxy.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Litestar, MediaType, Request, Response, get
from litestar.params import QueryParameter
from markupsafe import Markup
from msgspec import Struct

from services.observer.observing import Observer, Snapshot
from services.observer.status_view import SHOWN, Old, page
from shared import metrics, security_events
from shared.internal import Client, ServiceUnavailable
from shared.refusals import Refused
from shared.serving import serve
from shared.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "status"
ASK_S: Final = 3.0
"""Seconds that Prometheus may take for one answer; for all of them, three times as long."""
OLDEST: Final = 10
"""Number of oldest items to show."""
FOLDER: Final = Path(__file__).parent / "templates"
CSS: Final = (FOLDER / "status.css.jinja").read_text(encoding="utf-8")
_CSP: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

LOOKS = metrics.counter(
    "goodfaith_status_looks_total",
    "Queries of Prometheus by the status page, by whether it knew an answer.",
    {"result": ("known", "unknown")},
    of=NAME,
    do="`unknown` grows: the page shows that nothing is known; look at Prometheus",
)

Oldest = list[Old] | str
"""The oldest open items, or why they are not known."""
Every = Annotated[int | None, QueryParameter(ge=5, le=3600)]


class Looker:
    """Asks at most once every ``keep_s`` seconds, however many read. Simultaneous readers wait for the same answer."""

    def __init__(
        self,
        look: Callable[[], Awaitable[tuple[Snapshot, Oldest]]],
        keep_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._keep_s = keep_s
        self._now = now
        self._until = float("-inf")
        self._turn = asyncio.Lock()
        self._seen: tuple[Snapshot, Oldest] | None = None

    async def seen(self) -> tuple[Snapshot, Oldest]:
        """The last answer; asks again if it is too old."""
        async with self._turn:
            if self._seen is None or self._now() >= self._until:
                self._seen = None  # if asking fails, nothing old is shown
                self._seen = await self._look()
                LOOKS.labels("unknown" if self._seen[0].trouble else "known").inc()
                self._until = self._now() + self._keep_s
            return self._seen


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["css"] = Markup(CSS)  # noqa: S704 (a file of ours)
    return made


_TEMPLATE: Final = _environment().get_template("status.html.jinja")


def render(
    snapshot: Snapshot, oldest: Oldest, *, ids: bool = False, operator: bool = False, every: int | None = None
) -> str:
    """The page as HTML.

    Args:
        ids: whether to show items' ids.
        operator: whether there is a page that shows them.
        every: seconds after which the page reloads itself.
    """
    return _TEMPLATE.render(page=page(snapshot, oldest, ids=ids), ids=ids, operator=operator, every=every)


def _answer(content: str, every: int | None, status: int = 200) -> Response[str]:
    headers = HEADERS | ({"refresh": str(every)} if every else {})
    return Response(content, status_code=status, media_type=MediaType.HTML, headers=headers)


@get("/")
async def public(request: Request[Any, Any, Any], every: Every = None) -> Response[str]:
    """The page, without ids of items."""
    state = request.app.state
    snapshot, oldest = await state.looker.seen()
    return _answer(render(snapshot, oldest, operator=state.token is not None, every=every), every)


@get("/operator")
async def operator(request: Request[Any, Any, Any], every: Every = None) -> Response[str]:
    """The page with ids of items, for readers who know the token."""
    state = request.app.state
    if state.token is None:
        return _answer("<!doctype html><title>Not found</title><p>GOODFAITH_STATUS_TOKEN is not set.</p>", None, 404)
    if not _knows(request.headers.get("authorization") or "", state.token):
        address = None if request.client is None else request.client.host
        security_events.note("unauthenticated", address=address, reason="status_token", route="/operator")
        answer = _answer("<!doctype html><title>Who is there?</title><p>The status token is needed.</p>", None, 401)
        answer.headers["www-authenticate"] = 'Basic realm="Goodfaith status", charset="UTF-8"'
        return answer
    snapshot, oldest = await state.looker.seen()
    return _answer(render(snapshot, oldest, ids=True, operator=True, every=every), every)


@get("/status.json")
async def machine(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """The page's content as JSON, without ids of items."""
    snapshot, oldest = await request.app.state.looker.seen()
    return Response(page(snapshot, oldest).as_json(), headers=HEADERS)


def _knows(authorization: str, token: bytes) -> bool:
    kind, _, given = authorization.partition(" ")
    if kind.lower() != "basic" or len(given) > 1000:
        return False
    try:
        password = base64.b64decode(given, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(password, token)


def create(
    look: Callable[[], Awaitable[tuple[Snapshot, Oldest]]],
    *,
    token: str | None = None,
    keep_s: float = 5.0,
    close: Callable[[], Awaitable[None]] | None = None,
    on_start: Callable[[], None] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> Litestar:
    """The application.

    Args:
        look: asks Prometheus and the stream views.
        token: password of `/operator`; None or empty: there is no such page.
        keep_s: seconds for which an answer is shown again.
        close: called at shutdown.
    """

    @asynccontextmanager
    async def life(app: Litestar) -> AsyncIterator[None]:
        app.state.looker = Looker(look, keep_s)
        app.state.token = token.encode() if token else None
        if on_start is not None:
            on_start()
        # ready even without Prometheus: the page then says that it is away
        if on_ready is not None:
            on_ready()
        yield
        if close is not None:
            await close()

    return Litestar(
        route_handlers=[public, operator, machine],
        lifespan=[life],
        request_max_body_size=1000,
        debug=False,  # else as LITESTAR_DEBUG says
        logging_config=None,
        openapi_config=None,
    )


class _Item(Struct, frozen=True):
    """The fields needed of ``services.streams.api.OldItem``, which would import Faust."""

    item: str
    waits_for: str
    received: dt.datetime


class _View(Struct, frozen=True):
    """The fields needed of ``services.streams.api.OldestView``."""

    now: dt.datetime
    partitions: int
    of: int
    items: list[_Item]


async def oldest_of(client: Client | None) -> Oldest:
    """The oldest open items from the stream views, or why they are not known."""
    if client is None:
        return "GOODFAITH_STREAMS_URL is not set"
    try:
        view = await client.get("/internal/streams/oldest", _View, {"limit": OLDEST})
    except (ServiceUnavailable, Refused) as error:
        return f"the stream views do not answer ({str(error)[:200]})"
    if view.partitions < view.of:
        return f"the stream views tell of {view.partitions} of {view.of} partitions"
    return [Old(one.item, one.waits_for, max((view.now - one.received).total_seconds(), 0)) for one in view.items]


def run(settings: Settings) -> None:
    """Serve as this process (``http_host``, ``http_port``) until SIGTERM.

    Raises:
        ValueError: ``prometheus_url`` is not set.
    """
    if not settings.prometheus_url:
        raise ValueError("GOODFAITH_PROMETHEUS_URL is needed")
    made: list[tuple[Observer, Client | None]] = []
    internal = settings.internal_token.get_secret_value() if settings.internal_token else None

    async def look() -> tuple[Snapshot, Oldest]:
        if not made:  # created in the event loop that uses it
            views = (
                Client(settings.streams_url, internal, timeout_s=ASK_S, authorities=settings.internal_ca)
                if settings.streams_url
                else None
            )
            made.append((Observer(settings.prometheus_url, timeout_s=ASK_S), views))
        observer, views = made[0]
        return await asyncio.gather(observer.look(SHOWN), oldest_of(views))

    async def close() -> None:
        for observer, views in made:
            await observer.close()
            if views is not None:
                await views.close()

    token = None if settings.status_token is None else settings.status_token.get_secret_value()
    serve(
        settings,
        NAME,
        lambda start, ready: create(
            look, token=token, keep_s=settings.status_cache_s, close=close, on_start=start, on_ready=ready
        ),
        backlog=128,
    )
