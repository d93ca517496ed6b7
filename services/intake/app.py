"""The public HTTP API: the routes of claims and commands, and the application with all routes."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
import structlog
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State as AppState
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.intake import canary
from services.intake.accounts import api as api_accounts
from services.intake.accounts import webhooks_api as api_webhooks
from services.intake.evidence import api as api_evidence
from services.intake.evidence.uploads import Evidence
from services.intake.filing.group_commit import GroupCommit
from services.intake.goodfaith import api as api_goodfaith
from services.intake.kernel import answers, domain, filings, metrics, publishing, requests, security, store
from services.intake.kernel.domain import Account, Refused
from services.intake.kernel.filings import Filing
from services.intake.kernel.web import (
    EVERYONE,
    HOLDER,
    INTERNAL,
    MAY_FAIL,
    PARTIES,
    PUBLIC,
    SELLER,
    STAFF,
    Body,
    Context,
    Cursor,
    IdempotencyKey,
    ItemState,
    Limit,
    authenticate,
    command,
    context_of,
    filed,
    key_of,
    known_id,
    language_of,
    on_error,
    on_http_error,
    on_key_missing,
    on_refused,
    out,
    page_of,
)
from services.intake.misuse import api as api_misuse
from services.intake.reading import deliveries_api as api_deliveries
from services.intake.reading import inbox_api as api_inbox
from services.intake.reading import store as reading_store
from services.intake.registry import api as api_rights
from services.intake.registry import forms
from services.intake.registry import forms_api as api_forms
from services.intake.review import api as api_review
from services.intake.sellers import api as api_standing
from shared import languages, policy
from shared.events import ItemChanged, State, Triage
from shared.settings import Settings
from shared.tracing import TRACE

log = structlog.get_logger(__name__)


# ---------------------------------------------------------------------------------------------------------------- claims


@post(
    "/v1/claims",
    opt={"roles": HOLDER},
    dto=Body[requests.SubmitClaim],
    return_dto=None,
    status_code=202,
    responses=MAY_FAIL,
    tags=["claims"],
)
async def submit_claim(
    request: Request[Account, Any, Any], data: requests.SubmitClaim, idempotency_key: IdempotencyKey = None
) -> Response[answers.ClaimAccepted]:
    """File a claim. Once answered with 202, it is durable and can be read."""
    context, caller = context_of(request), request.user
    rules = domain.check_claim(data, caller)
    listings = domain.listings_of(data.listings, context.settings.site_hosts)
    domain.check_canary(caller, listings, context.settings.canary_listing)
    return await filed(
        request,
        Filing(
            caller,
            idempotency_key,
            caller.id,
            filings.digest("submit_claim", "", await request.body()),
            "submit_claim",
            data,
            caller.channel,
            listings=listings,
            rules=rules,
            over_quota=context.group_commit.quota.over(caller.id),
        ),
    )


@get("/v1/claims", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_claims(
    request: Request[Account, Any, Any], item_state: ItemState = None, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.ClaimOut]:
    """Claims that the caller is party to, latest first. With `state`, only those with an item in that state."""
    (before,) = key_of(cursor, tuple[str]) or (None,)
    rows = await context_of(request).read(
        request.user, reading_store.list_claims, request.user, state=item_state, before=before, limit=limit + 1
    )
    return page_of([claim_out(row) for row in rows], limit, lambda claim: (claim.id,))


@get("/v1/claims/{claim_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def get_claim(request: Request[Account, Any, Any], claim_id: str) -> answers.ClaimOut:
    """One claim."""
    return claim_out(
        await context_of(request).read(request.user, reading_store.get_claim, request.user, known_id(claim_id))
    )


@get("/v1/claims/{claim_id:str}/items", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_items(
    request: Request[Account, Any, Any],
    claim_id: str,
    item_state: ItemState = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> answers.Page[answers.ItemOut]:
    """Items of a claim."""
    (after,) = key_of(cursor, tuple[str]) or (None,)
    rows = await context_of(request).read(
        request.user,
        reading_store.list_items,
        request.user,
        known_id(claim_id),
        state=item_state,
        after=after,
        limit=limit + 1,
    )
    language = language_of(request)
    return page_of([item_out(row, request.user, language) for row in rows], limit, lambda item: (item.id,))


@get("/v1/claims/{claim_id:str}/timeline", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def timeline(
    request: Request[Account, Any, Any], claim_id: str, cursor: Cursor = None, limit: Limit = 100
) -> answers.Page[answers.ChangeOut]:
    """What happened to the items of a claim."""
    after = key_of(cursor, tuple[str, Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]])
    rows = await context_of(request).read(
        request.user, reading_store.timeline, request.user, known_id(claim_id), after=after, limit=limit + 1
    )
    return page_of([out(answers.ChangeOut, row) for row in rows], limit, lambda change: (change.item, change.revision))


@get("/v1/items/{item_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["items"])
async def get_item(request: Request[Account, Any, Any], item_id: str) -> answers.ItemOut:
    """One item."""
    row = await context_of(request).read(request.user, reading_store.get_item, request.user, known_id(item_id))
    return item_out(row, request.user, language_of(request))


@get("/v1/commands/{command_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["commands"])
async def get_command(request: Request[Account, Any, Any], command_id: str) -> answers.CommandOut:
    """What became of a command."""
    found = out(
        answers.CommandOut,
        await context_of(request).read(request.user, reading_store.get_command, request.user, known_id(command_id)),
    )
    found.detail = found.detail and languages.translate(found.detail, language_of(request))
    return found


def claim_out(row: Mapping[str, Any]) -> answers.ClaimOut:
    """Convert a claim's row to the answer."""
    return out(answers.ClaimOut, {**row, "states": msgspec.json.decode(row["states"])})


_last_change = msgspec.json.Decoder(ItemChanged).decode


_triage = msgspec.json.Decoder(Triage).decode


def item_out(row: Mapping[str, Any], reader: Account, language: str) -> answers.ItemOut:
    """Convert an item's row to the answer, with the fields of its last event and, if refused, how to cure it.

    Only reviewers and operators see the triage.
    """
    last = msgspec.structs.asdict(_last_change(row["last"])) if row["last"] else {}
    own = {name: value for name, value in row.items() if name in answers.ItemOut.__struct_fields__}
    own["triage"] = _triage(row["triage"]) if row["triage"] and reader.sees_all else None
    item = msgspec.convert({**last, **own}, answers.ItemOut, builtin_types=(dt.datetime,))
    if item.state == State.REJECTED and item.code is not None:
        item.cure = forms.cure(last["policy"], item.code, language)
    return item


# -------------------------------------------------------------------------------------------------------------- commands


def _routes(
    path: str,
    kind: str,
    body: type[requests.In],
    roles: frozenset[str],
    text: str,
    *,
    whole: str = "For all of the claim's items that the caller is party to.",
) -> list[Any]:
    """Make a command's two routes: for one item, and for items of a claim (``whole`` says which)."""
    options: dict[str, Any] = {
        "opt": {"roles": roles},
        "dto": Body[body],
        "return_dto": None,
        "status_code": 202,
        "responses": MAY_FAIL,  # type: ignore[valid-type]
        "tags": ["commands"],
    }

    async def for_item(
        request: Request[Account, Any, Any],
        item_id: str,
        data: Any,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[answers.CommandsAccepted]:
        return await command(request, kind, data, idempotency_key, item=item_id)

    async def for_claim(
        request: Request[Account, Any, Any],
        claim_id: str,
        data: Any,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[answers.CommandsAccepted]:
        return await command(request, kind, data, idempotency_key, claim=claim_id)

    made = []
    for function, owner in ((for_item, "item"), (for_claim, "claim")):
        # the annotations are resolved here, where `body` is known
        function.__annotations__ = {
            "request": Request[Account, Any, Any],
            f"{owner}_id": str,
            "data": body,
            "idempotency_key": IdempotencyKey,
            "return": Response[answers.CommandsAccepted],
        }
        function.__doc__ = text if owner == "item" else f"{text} {whole}"
        function.__name__ = f"{kind}_{owner}"
        made.append(
            post(f"/v1/{owner}s/{{{owner}_id:str}}/{path}", operation_id=f"{kind}_{owner}", **options)(function)
        )
    return made


COMMAND_ROUTES: Final = [
    *_routes("information", "add_information", requests.AddInformation, HOLDER, "Add what was missing (row 5)."),
    *_routes("withdraw", "withdraw", requests.Withdraw, HOLDER, "Withdraw the claim (row 18)."),
    *_routes("accept", "accept", requests.Accept, SELLER, "The seller accepts the takedown (row 8)."),
    *_routes("counter", "counter", requests.Counter, SELLER, "The seller's counter-notification (row 10)."),
    *_routes(
        "response", "respond", requests.Respond, HOLDER, "The holder accepts or rejects the counter (rows 13, 14)."
    ),
    *_routes(
        "action",
        "report_action",
        requests.ReportAction,
        PARTIES,
        "Report that a court or authority action was filed (row 16).",
    ),
    *_routes("result", "report_result", requests.ReportResult, PARTIES, "Report how the action ended (row 21)."),
    *_routes(
        "complaint",
        "complain",
        requests.Complain,
        PARTIES,
        "Complain about the decision, as the side that it went against (row 19).",
    ),
    *_routes(
        "decision",
        "decide",
        requests.Decide,
        STAFF,
        "A reviewer's decision, under a lease (rows 6, 7, 12, 17, 19).",
        whole="For all of the claim's items that the lease covers.",
    ),
]


# -------------------------------------------------------------------------------------------------------------- internal


@post(
    "/internal/claims",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_claims(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.ClaimsFacts:
    """Facts about claims for messages, many claims in one call."""
    rows = await context_of(request).run(reading_store.claim_facts, data.ids)
    return answers.ClaimsFacts(claims={row["claim"]: out(answers.ClaimFacts, row) for row in rows})


@get("/healthz", opt={"roles": PUBLIC, "anonymous": True}, security=[{}], tags=["process"])
async def healthz(request: Request[Any, Any, Any]) -> answers.Alive:
    """Whether the process answers, and whether accepted requests are being published."""
    said = context_of(request).publishing
    return answers.Alive(publishing=said.state, delayed_s=round(said.delay_s, 1) if said.state == "delayed" else None)


# ------------------------------------------------------------------------------------------------------------------- app

ROUTES: Final = [
    *api_accounts.ROUTES,
    *api_rights.ROUTES,
    *api_standing.ROUTES,
    submit_claim,
    list_claims,
    get_claim,
    list_items,
    timeline,
    get_item,
    get_command,
    *api_deliveries.ROUTES,
    *api_inbox.ROUTES,
    *api_evidence.ROUTES,
    *api_goodfaith.ROUTES,
    *api_misuse.ROUTES,
    *api_review.ROUTES,
    *api_webhooks.ROUTES,
    *COMMAND_ROUTES,
    internal_claims,
    healthz,
    *api_forms.ROUTES,
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
        context = Context(settings, lambda engine: GroupCommit(engine, settings), Evidence.of(settings))
        app.state.context = context
        for profile in policy.profiles():  # read and validate now, not on the first claim
            policy.current(profile)
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
            Exception: on_error,
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
