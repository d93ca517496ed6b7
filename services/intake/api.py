"""The HTTP door: the routes of accounts, rights, claims and commands, and the application of all routes."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import sqlalchemy as sa
import structlog
from litestar import Litestar, Request, Response, delete, get, patch, post, put
from litestar.datastructures import State as AppState
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.intake import answers, domain, metrics, registers, requests, security, store
from services.intake.api_review import REVIEW_ROUTES
from services.intake.domain import Account, Refused
from services.intake.store import Filing
from services.intake.web import (
    EVERYONE,
    HOLDER,
    INTERNAL,
    MAY_FAIL,
    OPERATOR,
    PARTIES,
    PUBLIC,
    SELLER,
    STAFF,
    Body,
    Cursor,
    Front,
    IdempotencyKey,
    ItemState,
    Limit,
    authenticate,
    bad_cursor,
    command,
    filed,
    front_of,
    key_of,
    known_id,
    on_error,
    on_http_error,
    on_key_missing,
    on_refused,
    out,
    page_of,
)
from shared import clock, policy
from shared.events import ItemChanged
from shared.settings import Settings

log = structlog.get_logger(__name__)


# -------------------------------------------------------------------------------------------------------------- accounts


@post(
    "/v1/accounts",
    opt={"roles": PUBLIC},
    dto=Body[requests.OpenAccount],
    return_dto=None,
    responses=MAY_FAIL,
    security=[{}, {"bearer": []}],
    tags=["accounts"],
)
async def open_account(request: Request[Account, Any, Any], data: requests.OpenAccount) -> answers.AccountOpened:
    """Open an account; the answer has its token, this once. Other roles than `holder` are opened by an operator."""
    operator = request.user.role == "operator"
    if not operator:
        for field, wanted in (
            ("role", data.role != "holder"), ("id", data.id is not None),
            ("identity_verified", data.identity_verified), ("good_faith", data.good_faith),
        ):  # fmt: skip
            if wanted:
                raise Refused(
                    403, "operators_only", "Only an operator may set this.", field=field, cure="Leave the field out."
                )
    front = front_of(request)
    token = security.new_token()

    def work(connection: sa.Connection) -> answers.AccountOpened:
        _, wall = clock.read(connection)
        account = Account(
            data.id or domain.new_id("a", store.wall_ms(wall)),
            data.role,
            data.identity_verified,
            data.good_faith,
            operator,
        )
        if not store.open_account(connection, account, data.kind, by=request.user.id or None):
            raise Refused(
                409, "account_exists", "There is such an account already.", field="id", cure="Use another id."
            )
        expires = store.add_token(connection, account.id, security.digest(token), front.settings.token_ttl_days)
        return answers.AccountOpened(account=account.id, role=account.role, token=token, expires=expires)

    return await front.run(work)


@post("/v1/tokens", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def issue_token(request: Request[Account, Any, Any]) -> answers.TokenIssued:
    """A further token of the caller's account: use it, then delete the old one."""
    front = front_of(request)
    token = security.new_token()
    expires = await front.run(store.add_token, request.user.id, security.digest(token), front.settings.token_ttl_days)
    return answers.TokenIssued(account=request.user.id, token=token, expires=expires)


@delete("/v1/tokens/current", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def drop_token(request: Request[Account, Any, Any]) -> None:
    """Revoke the token that this request carries. Other processes notice within `token_cache_s`."""
    token = request.headers["authorization"].partition(" ")[2].strip()
    await front_of(request).run(store.drop_token, security.digest(token))
    front_of(request).forget(token=token)


@get("/v1/me", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def me(request: Request[Account, Any, Any]) -> answers.AccountOut:
    """The caller's account."""
    row = await front_of(request).run(store.account_row, request.user.id)
    if row is None:
        raise domain.not_found()
    return out(answers.AccountOut, row)


@put(
    "/v1/contact",
    opt={"roles": EVERYONE},
    dto=Body[requests.Contact],
    return_dto=None,
    status_code=204,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def put_contact(request: Request[Account, Any, Any], data: requests.Contact) -> None:
    """How to reach the caller. Kept encrypted; released to a counterpart only as the life cycle says."""
    front = front_of(request)

    def work(connection: sa.Connection) -> None:
        account = request.user.id
        wrapped = store.subject_key(connection, account, lambda: front.contacts.new_key(account))
        store.put_contact(connection, account, front.contacts.seal(account, wrapped, data))

    await front.run(work)


@get("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def get_contact(request: Request[Account, Any, Any]) -> answers.ContactFor:
    """The caller's own contact."""
    front = front_of(request)
    found = front.opened(await front.run(store.sealed_contacts, [request.user.id])).get(request.user.id)
    if found is None:
        raise domain.not_found()
    return answers.ContactFor(account=request.user.id, name=found.name, address=found.address, email=found.email)


@delete("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def erase_contact(request: Request[Account, Any, Any]) -> None:
    """Erase the caller's contact by destroying its key."""
    await front_of(request).run(store.erase_contact, request.user.id)


@post(
    "/v1/accounts/{account_id:str}/verify",
    opt={"roles": STAFF},
    dto=Body[requests.Verify],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def verify_account(
    request: Request[Account, Any, Any], account_id: str, data: requests.Verify
) -> answers.AccountOut:
    """Write down that an account's identity was verified, or that it takes part in the good-faith mechanism."""
    front = front_of(request)
    account = known_id(account_id)

    def work(connection: sa.Connection) -> store.Row:
        store.verify_account(
            connection, account,
            identity_verified=None if data.identity_verified is msgspec.UNSET else data.identity_verified,
            good_faith=None if data.good_faith is msgspec.UNSET else data.good_faith,
        )  # fmt: skip
        row = store.account_row(connection, account)
        if row is None:
            raise domain.not_found()
        return row

    row = await front.run(work)
    front.forget(account=account)
    return out(answers.AccountOut, row)


# ---------------------------------------------------------------------------------------------------------------- rights


@post(
    "/v1/rights",
    opt={"roles": HOLDER | OPERATOR},
    dto=Body[requests.RegisterRight],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def register_right(request: Request[Account, Any, Any], data: requests.RegisterRight) -> answers.RightOut:
    """Register a right, once; claims refer to it."""
    if data.number is None and data.right_type != "copyright":
        raise Refused(
            422, "number_missing", "Only an unregistered copyright has no number.", field="number",
            cure="Give the number in the register.",
        )  # fmt: skip
    if data.number is not None:
        number = registers.normalise(data.register, data.right_type, data.number)
        data = msgspec.structs.replace(data, number=number)
    if data.owner not in (None, request.user.id) and request.user.role != "operator":
        raise Refused(
            403, "operators_only", "Only an operator may set this.", field="owner", cure="Leave the field out."
        )
    owner = data.owner or request.user.id

    def work(connection: sa.Connection) -> store.Row:
        now, wall = clock.read(connection)
        if owner not in store.accounts(connection, [owner]):
            raise Refused(422, "unknown_account", "There is no such account.", field="owner", cure="Open it first.")
        return store.add_right(connection, domain.new_id("r", store.wall_ms(wall)), owner, data, now)

    return out(answers.RightOut, await front_of(request).run(work))


@get("/v1/rights", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def list_rights(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.RightOut]:
    """The caller's rights."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await front_of(request).run(store.list_rights, request.user, after, limit + 1)
    return page_of([out(answers.RightOut, row) for row in rows], limit, lambda right: (right.id,))


@patch(
    "/v1/rights/{right_id:str}",
    opt={"roles": HOLDER | OPERATOR},
    dto=Body[requests.ChangeRight],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def change_right(
    request: Request[Account, Any, Any], right_id: str, data: requests.ChangeRight
) -> answers.Changed:
    """A right was lost, has expired, or is in force again: its open items are told (row 22)."""
    front, caller = front_of(request), request.user

    def work(connection: sa.Connection) -> int:
        right = store.right_row(connection, known_id(right_id))
        if caller.role != "operator" and right["owner"] != caller.id:
            raise domain.not_found()
        expires_at = right["expires_at"] if data.expires_at is msgspec.UNSET else data.expires_at
        now, _ = clock.read(connection)
        if data.status == "active":
            if caller.role != "operator" and right["status"] in ("lost", "pending"):
                raise Refused(
                    403, "operators_only", f"A right that is {right['status']} is made active by an operator.", field="status",
                    cure="Show the proof to an operator.",
                )  # fmt: skip
            if expires_at is not None and expires_at <= now:
                raise Refused(
                    422,
                    "expired",
                    "The right's time has passed.",
                    field="expires_at",
                    cure="Give the new end of its time.",
                )
        return store.change_right(connection, right_id, data.status, expires_at, front.settings.partitions)

    return answers.Changed(items_told=await front.run(work))


@post(
    "/v1/authorisations",
    opt={"roles": HOLDER},
    dto=Body[requests.Authorise],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def authorise(request: Request[Account, Any, Any], data: requests.Authorise) -> answers.AuthorisationOut:
    """The caller lets an agent file claims for its rights."""
    caller = request.user.id
    if data.agent == caller:
        raise Refused(422, "own_agent", "An owner needs no authorisation.", field="agent", cure="Name another account.")

    def work(connection: sa.Connection) -> answers.AuthorisationOut:
        now, wall = clock.read(connection)
        id = domain.new_id("u", store.wall_ms(wall))
        store.add_authorisation(connection, id, caller, data, now)
        return answers.AuthorisationOut(
            id=id, agent=data.agent, principal=caller, rights=None if data.rights is None else list(data.rights),
            expires_at=data.expires_at, status="active", granted_at=now,
        )  # fmt: skip

    return await front_of(request).run(work)


@get("/v1/authorisations", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def list_authorisations(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.AuthorisationOut]:
    """Authorisations that the caller has given or received."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await front_of(request).run(store.list_authorisations, request.user, after, limit + 1)
    return page_of([out(answers.AuthorisationOut, row) for row in rows], limit, lambda grant: (grant.id,))


@delete(
    "/v1/authorisations/{authorisation_id:str}",
    opt={"roles": HOLDER | OPERATOR},
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def end_authorisation(request: Request[Account, Any, Any], authorisation_id: str) -> answers.Changed:
    """End an authorisation: the agent's open items are told (row 22)."""
    front = front_of(request)
    told = await front.run(
        store.end_authorisation, known_id(authorisation_id), request.user, "ended", front.settings.partitions
    )
    return answers.Changed(items_told=told)


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
    """File a claim. 202: it is durable, and can be read from now on."""
    front, caller = front_of(request), request.user
    rules = domain.check_claim(data, caller)
    listings = domain.listings_of(data.listings, front.settings.site_hosts)
    return await filed(
        request,
        Filing(
            caller, idempotency_key, caller.id, store.digest("submit_claim", "", await request.body()), "submit_claim", data,
            "http", listings=listings, rules=rules, over_quota=front.door.quota.over(caller.id),
        ),
    )  # fmt: skip


@get("/v1/claims", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_claims(
    request: Request[Account, Any, Any], item_state: ItemState = None, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.ClaimOut]:
    """Claims that the caller is party to, latest first; with `state`, those with an item in it."""
    (before,) = key_of(cursor, tuple[str]) or (None,)
    rows = await front_of(request).run(
        store.list_claims, request.user, state=item_state, before=before, limit=limit + 1
    )
    return page_of([claim_out(row) for row in rows], limit, lambda claim: (claim.id,))


@get("/v1/claims/{claim_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def get_claim(request: Request[Account, Any, Any], claim_id: str) -> answers.ClaimOut:
    """One claim."""
    return claim_out(await front_of(request).run(store.get_claim, request.user, known_id(claim_id)))


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
    rows = await front_of(request).run(
        store.list_items, request.user, known_id(claim_id), state=item_state, after=after, limit=limit + 1
    )
    return page_of([item_out(row) for row in rows], limit, lambda item: (item.id,))


@get("/v1/claims/{claim_id:str}/timeline", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def timeline(
    request: Request[Account, Any, Any], claim_id: str, cursor: Cursor = None, limit: Limit = 100
) -> answers.Page[answers.ChangeOut]:
    """What happened to the items of a claim."""
    after = key_of(cursor, tuple[str, Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]])
    rows = await front_of(request).run(store.timeline, request.user, known_id(claim_id), after=after, limit=limit + 1)
    return page_of([out(answers.ChangeOut, row) for row in rows], limit, lambda change: (change.item, change.revision))


@get("/v1/items/{item_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["items"])
async def get_item(request: Request[Account, Any, Any], item_id: str) -> answers.ItemOut:
    """One item."""
    return item_out(await front_of(request).run(store.get_item, request.user, known_id(item_id)))


@get("/v1/commands/{command_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["commands"])
async def get_command(request: Request[Account, Any, Any], command_id: str) -> answers.CommandOut:
    """What became of a command."""
    return out(answers.CommandOut, await front_of(request).run(store.get_command, request.user, known_id(command_id)))


@get("/v1/inbox", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["messages"])
async def inbox(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.MessageOut]:
    """Messages that were sent to the caller, latest first, with the counterpart's contact where it is released."""
    front, caller = front_of(request), request.user
    before = key_of(cursor, tuple[dt.datetime, str])
    if before is not None and before[0].tzinfo is None:
        raise bad_cursor()

    def work(connection: sa.Connection) -> tuple[list[store.Row], list[tuple[str, bytes, bytes]]]:
        rows = store.list_messages(connection, caller, before=before, limit=limit + 1)
        wanted = {account for row in rows for account, _ in released(caller.id, row)}
        return rows, store.sealed_contacts(connection, wanted) if wanted else []

    rows, sealed = await front.run(work)
    contacts = front.opened(sealed)
    messages = [
        answers.MessageOut(
            **{name: row[name] for name in answers.MessageOut.__struct_fields__ if name in row},
            contacts=[
                answers.ContactOut(account=account, part=part, name=c.name, address=c.address, email=c.email)
                for account, part in released(caller.id, row)
                if (c := contacts.get(account)) is not None
            ],
        )
        for row in rows
    ]
    return page_of(messages, limit, lambda message: (message.sent_at, message.id))


def released(account: str, row: Mapping[str, Any]) -> list[tuple[str, Literal["complainant", "principal", "seller"]]]:
    """Whose contact data the account may see beside a message: the seller the holder's from NOTIFIED on, the holder the
    seller's from HOLDER_RESPONSE on (rows 7 and 12)."""
    if account in (row["complainant"], row["principal"]):
        return [(row["seller"], "seller")] if row["told"] >= 2 and row["seller"] else []
    if account == row["seller"] and row["told"] >= 1:
        both: list[tuple[str, Literal["complainant", "principal", "seller"]]] = [(row["complainant"], "complainant")]
        if row["principal"] != row["complainant"]:
            both.append((row["principal"], "principal"))
        return both
    return []


def claim_out(row: Mapping[str, Any]) -> answers.ClaimOut:
    """A claim's row as the answer."""
    return out(answers.ClaimOut, {**row, "states": msgspec.json.decode(row["states"])})


_last_change = msgspec.json.Decoder(ItemChanged).decode


def item_out(row: Mapping[str, Any]) -> answers.ItemOut:
    """An item's row as the answer, with what its last event says."""
    last = msgspec.structs.asdict(_last_change(row["last"])) if row["last"] else {}
    own = {name: value for name, value in row.items() if name in answers.ItemOut.__struct_fields__}
    return msgspec.convert({**last, **own}, answers.ItemOut, builtin_types=(dt.datetime,))


# -------------------------------------------------------------------------------------------------------------- commands


def _routes(
    path: str,
    kind: str,
    body: type[requests.In],
    roles: frozenset[str],
    text: str,
    *,
    whole: str = "For all of a claim's items that the caller is party to.",
) -> list[Any]:
    """The routes of a command: about an item, and about items of a claim, ``whole`` says which."""
    options: dict[str, Any] = {
        "opt": {"roles": roles}, "dto": Body[body], "return_dto": None, "status_code": 202, "responses": MAY_FAIL,  # type: ignore[valid-type]
        "tags": ["commands"],
    }  # fmt: skip

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
            "request": Request[Account, Any, Any], f"{owner}_id": str, "data": body, "idempotency_key": IdempotencyKey,
            "return": Response[answers.CommandsAccepted],
        }  # fmt: skip
        function.__doc__ = text if owner == "item" else f"{text} {whole}"
        function.__name__ = f"{kind}_{owner}"
        made.append(
            post(f"/v1/{owner}s/{{{owner}_id:str}}/{path}", operation_id=f"{kind}_{owner}", **options)(function)
        )
    return made


COMMAND_ROUTES: Final = [
    *_routes("information", "add_information", requests.AddInformation, HOLDER, "Add what was missing (row 5)."),
    *_routes("withdraw", "withdraw", requests.Withdraw, HOLDER, "Take the claim back (row 18)."),
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
        "A court or authority action was filed (row 16).",
    ),
    *_routes("result", "report_result", requests.ReportResult, PARTIES, "How the action ended (row 21)."),
    *_routes(
        "complaint",
        "complain",
        requests.Complain,
        PARTIES,
        "A complaint against the decision, by the side that it went against (row 19).",
    ),
    *_routes(
        "decision",
        "decide",
        requests.Decide,
        STAFF,
        "A reviewer's decision, under a lease (rows 6, 7, 12, 17, 19).",
        whole="For all of a claim's items that the lease covers.",
    ),
]


# -------------------------------------------------------------------------------------------------------------- internal


@post(
    "/internal/contacts",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_contacts(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.ContactsFor:
    """Contacts for the sending of messages, many in one call."""
    front = front_of(request)
    found = front.opened(await front.run(store.sealed_contacts, data.ids))
    return answers.ContactsFor(
        contacts={
            account: answers.ContactFor(
                account=account, name=contact.name, address=contact.address, email=contact.email
            )
            for account, contact in found.items()
        }
    )


@post(
    "/internal/claims",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_claims(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.ClaimsFacts:
    """What messages say of claims, many in one call."""
    rows = await front_of(request).run(store.claim_facts, data.ids)
    return answers.ClaimsFacts(claims={row["claim"]: out(answers.ClaimFacts, row) for row in rows})


@get("/healthz", opt={"roles": PUBLIC}, security=[{}], tags=["process"])
async def healthz() -> answers.Alive:
    """The process answers."""
    return answers.Alive()


# ------------------------------------------------------------------------------------------------------------------- app

ROUTES: Final = [
    open_account, issue_token, drop_token, me, put_contact, get_contact, erase_contact, verify_account,
    register_right, list_rights, change_right, authorise, list_authorisations, end_authorisation,
    submit_claim, list_claims, get_claim, list_items, timeline, get_item, get_command, inbox,
    *COMMAND_ROUTES, *REVIEW_ROUTES, internal_contacts, internal_claims, healthz,
]  # fmt: skip


class Timed:
    """Measures every request, by route template: outermost, so that refusals count too."""

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
            bound.observe(time.perf_counter() - started)


async def begin(front: Front, on_ready: Callable[[Front], None] | None) -> None:
    """Once the database answers: the first operator, and ready. Until then requests are answered 503."""

    def first_operator(connection: sa.Connection) -> None:
        token = front.settings.operator_token
        if token is not None:
            store.ensure_operator(connection, security.digest(token.get_secret_value()), front.settings.token_ttl_days)

    while True:
        try:
            await front.run(first_operator)
        except Refused:
            await asyncio.sleep(0.5)
        else:
            break
    if on_ready is not None:
        on_ready(front)


def create(
    settings: Settings,
    *,
    on_start: Callable[[], None] | None = None,
    on_ready: Callable[[Front], None] | None = None,
) -> Litestar:
    """The application.

    Args:
        on_start: called when the event loop runs.
        on_ready: called once the database has answered.
    """

    @asynccontextmanager
    async def life(app: Litestar) -> AsyncIterator[None]:
        front = Front(settings)
        app.state.front = front
        for profile in policy.profiles():  # read and validated now, not under the first claim
            policy.current(profile)
        if on_start is not None:
            on_start()
        beginning = asyncio.create_task(begin(front, on_ready))
        yield
        beginning.cancel()
        await front.door.close()
        front.threads.shutdown()
        front.engine.dispose()

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
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Goodfaith intake",
            version="1",
            description="Front door of the IP-protection programme: accounts, rights, claims, counters, responses.",
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
