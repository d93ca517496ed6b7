"""The public HTTP API: the application with the routes of all parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Literal

import sqlalchemy as sa
import structlog
from litestar import Litestar, Request, get
from litestar.datastructures import State as AppState
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from services.intake import canary
from services.intake.accounts import api as accounts_api
from services.intake.accounts import domains_api, webhooks_api
from services.intake.evidence import api as evidence_api
from services.intake.evidence.uploads import EvidenceContext
from services.intake.filing import api as filing_api
from services.intake.filing import brake_api
from services.intake.filing.group_commit import GroupCommit
from services.intake.goodfaith import api as goodfaith_api
from services.intake.kernel import domain, metrics, publishing, requests, security, store
from services.intake.kernel.web import (
    PUBLIC,
    Context,
    authenticate,
    context_of,
    on_http_error,
    on_key_missing,
    on_refused,
)
from services.intake.misuse import api as misuse_api
from services.intake.reading import claims_api, deliveries_api, inbox_api
from services.intake.registry import api as registry_api
from services.intake.registry import forms_api
from services.intake.review import api as review_api
from services.intake.sellers import api as sellers_api
from shared import languages, policy, problems
from shared.refusals import Refused
from shared.settings import Settings
from shared.tracing import TRACE

log = structlog.get_logger(__name__)


class Alive(Struct, kw_only=True):
    """The process answers. ``publishing``: whether accepted requests are being published.

    If ``delayed``, they are durable and have waited for ``delayed_s`` seconds.
    """

    ok: bool = True
    publishing: Literal["current", "delayed", "unknown"] = "unknown"
    delayed_s: float | None = None


@get("/healthz", opt={"roles": PUBLIC, "anonymous": True}, security=[{}], tags=["process"])
async def healthz(request: Request[Any, Any, Any]) -> Alive:
    """Whether the process answers, and whether accepted requests are being published."""
    said = context_of(request).publishing
    return Alive(publishing=said.state, delayed_s=round(said.delay_s, 1) if said.state == "delayed" else None)


ROUTES: Final = [
    *accounts_api.ROUTES,
    *domains_api.ROUTES,
    *registry_api.ROUTES,
    *sellers_api.ROUTES,
    *filing_api.ROUTES,
    *brake_api.ROUTES,
    *claims_api.ROUTES,
    *deliveries_api.ROUTES,
    *inbox_api.ROUTES,
    *evidence_api.ROUTES,
    *goodfaith_api.ROUTES,
    *misuse_api.ROUTES,
    *review_api.ROUTES,
    *webhooks_api.ROUTES,
    *forms_api.ROUTES,
    healthz,
]


class Timed:
    """Measures every request, by route template. Outermost, so that refusals count too."""

    _bound: ClassVar[dict[tuple[str, str, str], Any]] = {}

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = scope.get("path_template") or "unmatched"
            method = scope["method"] if route != "unmatched" else "any"
            key = (method, route, f"{status // 100}xx")
            bound = self._bound.get(key)
            if bound is None:
                bound = self._bound[key] = metrics.HTTP_SECONDS.labels(*key)
            trace: Any = scope.get(TRACE)
            bound.observe(time.perf_counter() - started, None if trace is None else {"trace_id": trace})


async def begin(context: Context, on_ready: Callable[[Context], None] | None) -> None:
    """Create the first operator and the canary once the database answers, then report ready.

    Until the database answers, requests get 503.
    """

    def first_operator(connection: sa.Connection) -> None:
        token = context.settings.operator_token
        if token is not None:
            store.ensure_operator(
                connection, security.digest(token.get_secret_value()), context.settings.token_ttl_days
            )
        canary.ensure(connection, context.settings, context.contacts)

    while True:
        try:
            await context.run(first_operator)
        except Refused:
            await asyncio.sleep(0.5)
        else:
            break
    if on_ready is not None:
        on_ready(context)


async def watch_publishing(context: Context, details: dict[str, object]) -> None:
    """Keep checking whether accepted requests are being published; never returns."""
    said = context.publishing
    while True:
        try:
            said.seen(await context.run(publishing.look), time.monotonic())
        except Refused:
            said.lost()
        except Exception:
            log.exception("publishing state unknown")
            said.lost()
        details["publishing"] = said.state
        details["publishing_delay_s"] = round(said.delay_s, 1)
        await asyncio.sleep(publishing.LOOK_S)


def create(
    settings: Settings,
    *,
    on_start: Callable[[], None] | None = None,
    on_ready: Callable[[Context], None] | None = None,
    details: dict[str, object] | None = None,
) -> Litestar:
    """Create the application.

    Args:
        on_start: called when the event loop runs.
        on_ready: called once the database has answered.
        details: receives what the health endpoint reports in addition.
    """

    @asynccontextmanager
    async def life(app: Litestar) -> AsyncIterator[None]:
        context = Context(settings, lambda engine: GroupCommit(engine, settings), EvidenceContext.of(settings))
        app.state.context = context
        for profile in policy.profiles():  # read and validate now, not on the first claim
            policy.current(profile)
        try:
            domain.profiles_offered(settings.profiles)
        except policy.PolicyError as error:
            raise policy.PolicyError(f"GOODFAITH_PROFILES: {error}") from None
        for profile, version in settings.pinned_policies.items():
            if policy.load(version).profile != profile:
                raise policy.PolicyError(f"GOODFAITH_PINNED_POLICIES: {version!r} is not of the profile {profile!r}")
        for language in languages.LANGUAGES[1:]:
            languages.catalogue(language)
        if on_start is not None:
            on_start()
        beginning = asyncio.create_task(begin(context, on_ready))
        watching = asyncio.create_task(watch_publishing(context, {} if details is None else details))
        yield
        beginning.cancel()
        watching.cancel()
        await context.group_commit.close()
        await context.verification.close()
        await context.enforcement.close()
        await context.notification.close()
        context.threads.shutdown()
        context.engine.dispose()

    app = Litestar(
        route_handlers=ROUTES,
        guards=[authenticate],
        lifespan=[life],
        state=AppState(),
        exception_handlers={
            Refused: on_refused,
            HTTPException: on_http_error,
            security.KeyMissing: on_key_missing,
            Exception: problems.on_error,
        },
        request_max_body_size=settings.max_body_bytes,
        debug=False,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Goodfaith intake",
            version="1",
            description="Intake of the IP-protection programme: accounts, rights, claims, counters, responses.",
            path="/",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"bearer": []}],
            use_handler_docstrings=True,
        ),
    )
    strict = {
        kind.__name__ for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, requests.In)
    }
    for name, schema in (app.openapi_schema.components.schemas or {}).items():
        if name in strict:
            schema.additional_properties = False
    return app
