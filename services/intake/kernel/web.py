"""What all of intake's routes share: authentication, strict bodies, pages and cursors, and failures as RFC 9457.

Each route declares who may call it (``roles``); one that declares nothing is open to nobody. Each part's ``store``
decides what a caller may see of the tables.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import sqlalchemy as sa
import structlog
from cryptography.exceptions import InvalidTag
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.dto import AbstractDTO
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.typing import FieldDefinition

from services.intake.kernel import answers, domain, filings, requests, security, store
from services.intake.kernel import read_queue as turns
from services.intake.kernel.domain import Account, Refused, busy
from services.intake.kernel.filings import Filing
from services.intake.kernel.publishing import Publishing
from services.intake.kernel.rate_limits import Gate
from services.intake.kernel.read_queue import Turns
from shared import db, languages, outbound, security_events
from shared.callers import Callers
from shared.events import State
from shared.internal import Client
from shared.languages import mark
from shared.paging import bad_cursor as bad_cursor
from shared.paging import cursor_of as cursor_of
from shared.paging import key_of as key_of
from shared.settings import Settings

if TYPE_CHECKING:
    from services.intake.evidence.uploads import Evidence
    from services.intake.filing.group_commit import GroupCommit

log = structlog.get_logger(__name__)

PROBLEM: Final = "application/problem+json"
THREADS: Final = 6
"""Requests of all callers that may use the database at a time."""
EVERYONE: Final = frozenset({"holder", "seller", "reviewer", "operator", "upstream"})
PARTIES: Final = frozenset({"holder", "seller"})
STAFF: Final = frozenset({"reviewer", "operator"})
HOLDER: Final = frozenset({"holder"})
SELLER: Final = frozenset({"seller"})
OPERATOR: Final = frozenset({"operator"})
INTERNAL: Final = frozenset({"internal"})
PUBLIC: Final = frozenset({"public"})
_NOBODY: Final = Account("", "system")
_TITLES: Final = {
    400: mark("Bad request"),
    401: mark("Not authenticated"),
    403: mark("Forbidden"),
    404: mark("Not found"),
    405: mark("Method not allowed"),
    408: mark("Timeout"),
    409: mark("Conflict"),
    413: mark("Too large"),
    415: mark("Unsupported media type"),
    422: mark("Not acceptable content"),
    429: mark("Too many requests"),
    500: mark("Internal error"),
    503: mark("Unavailable"),
}
MAY_FAIL: Final = {
    status: ResponseSpec(answers.Problem, description=_TITLES[status], media_type=PROBLEM, generate_examples=False)
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503)
}
_T = TypeVar("_T")
_IN = TypeVar("_IN", bound=requests.In)

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body gets the same answer; with another body it gets 409.",
    ),
]
ItemState = Annotated[State | None, QueryParameter(name="state", description="Only entries in this state.")]
Cursor = Annotated[str | None, QueryParameter(max_length=400, description="`next` of the previous page.")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="Maximum number of entries.")]


# ---------------------------------------------------------------------------------------------------------------- parts


class Context:
    """The application context: engine, threads for reading, group commit, contacts, evidence, recently seen tokens.

    Args:
        group_commit: makes the group commit on the engine.
    """

    def __init__(
        self, settings: Settings, group_commit: Callable[[sa.Engine], GroupCommit], evidence: Evidence
    ) -> None:
        self.settings = settings
        self.engine = db.connect(
            settings.present("database"),
            schema="intake",
            name=f"intake-api-{settings.instance}",
            pool_size=8,
            statement_timeout=settings.http_statement_s,
        )
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self.turns = Turns(settings.http_account_reads)
        self.contacts = security.Contacts.of(settings)
        callers = settings.internal_callers
        self.internal = None if callers is None else Callers(callers, "intake")
        own = None if settings.internal_token is None else settings.internal_token.get_secret_value()
        self.enforcement = Client(
            settings.enforcement_url,
            own,
            timeout_s=settings.internal_timeout_s,
            authorities=settings.internal_ca,
        )
        self.notification = Client(
            settings.notification_url,
            own,
            timeout_s=settings.internal_timeout_s,
            authorities=settings.internal_ca,
        )
        self.group_commit = group_commit(self.engine)
        self.evidence = evidence
        self.outbound = outbound.Rules.of(settings)
        self.names: outbound.Names = outbound.Dns(5.0)
        self.gate = Gate(settings)
        self.publishing = Publishing()
        self._known: dict[bytes, tuple[Account, float]] = {}

    async def run(self, work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Run blocking work in a transaction, on a thread, once it is the caller's turn.

        Raises:
            Refused: 429 or 503, too many requests wait, it takes too long, or the database cannot be reached.
        """

        def transact() -> _T:
            with self.engine.begin() as connection:
                return work(connection, *arguments, **options)

        try:
            async with self.turns.turn():
                return await asyncio.get_running_loop().run_in_executor(self.threads, transact)
        except Exception as error:
            if db.timed_out(error):
                raise busy("The database takes too long over this request.") from error
            if db.is_transient(error):
                log.warning("database failed", error=f"{type(error).__name__}: {error}")
                raise busy("The database cannot be reached.") from error
            raise

    async def read(self, reader: Account, work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """``run``, on behalf of a reader: the database shows a party only what is its own."""

        def as_reader(connection: sa.Connection) -> _T:
            store.become(connection, reader)
            return work(connection, *arguments, **options)

        return await self.run(as_reader)

    async def account(self, token: str, address: str) -> Account | None:
        """The account of a bearer token, cached for ``token_cache_s``.

        Raises:
            Refused: 429, too many unknown tokens came from the address; 503.
        """
        if not security.is_token(token):
            return None
        digest = security.digest(token)
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        if known is None:
            self.gate.tries(address)
        found = await self.run(store.account_of_token, digest)
        if found is None:
            self._known.pop(digest, None)
            return None
        if known is None:
            self.gate.was_right(address)
        account, expires = found
        if len(self._known) > 50_000:
            self._known.clear()
        left = (expires - dt.datetime.now(dt.UTC)).total_seconds()
        self._known[digest] = (account, now + min(self.settings.token_cache_s, left))
        return account

    def forget(self, *, account: str) -> None:
        """Drop the account from the cache: it changed, or one of its tokens was revoked here."""
        self._known = {digest: known for digest, known in self._known.items() if known[0].id != account}

    def opened(self, sealed: Sequence[tuple[str, bytes, bytes]]) -> dict[str, requests.Contact]:
        """Decrypted contacts by account. One that cannot be decrypted is missing, and logged."""
        found = {}
        for account, wrapped, text in sealed:
            try:
                found[account] = self.contacts.open(account, wrapped, text)
            except InvalidTag:
                log.error("contact cannot be decrypted", account=account)
        return found


class Body(AbstractDTO[_IN]):
    """Reads a request's body strictly as the given struct, instead of Litestar's lenient conversion."""

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Iterator[DTOFieldDefinition]:  # type: ignore[override]
        """None: the struct itself is the model."""
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Never: the struct itself is the model."""
        return False

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to generate."""

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        """The struct's own schema."""
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.model_type))

    def decode_bytes(self, value: bytes) -> Any:
        """Decode.

        Raises:
            Refused: 400 if it is not JSON, 415 if it is declared to be something else, 422 naming the field.
        """
        kind = self.asgi_connection.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "not_json", "The body must be JSON.", cure="Send Content-Type: application/json.")
        return domain.decoded(value, self.model_type)


async def authenticate(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: identify the caller, and check that its role may use the route."""
    roles: frozenset[str] | None = handler.opt.get("roles")
    if roles is None:
        if connection.scope["path"].startswith("/openapi"):
            return
        raise domain.not_found()
    context: Context = connection.app.state.context
    header = connection.headers.get("authorization")
    address = address_of(connection)
    # a task may begin with the context of another request on the same connection
    turns.caller.set(None)
    if roles is INTERNAL:
        if context.internal is None or context.internal.who(header) is None:
            raise _unauthenticated()
        return
    context.gate.arrives(address)
    # a probe is answered, whatever token it carries
    if roles is PUBLIC and (header is None or handler.opt.get("anonymous")):
        turns.caller.set(f"address {address}")
        connection.scope["user"] = _NOBODY
        return
    scheme, _, token = (header or "").partition(" ")
    account = await context.account(token.strip(), address) if scheme.lower() == "bearer" else None
    if account is None:
        raise _unauthenticated()
    turns.caller.set(account.id)
    if account.status == "closed":
        raise Refused(401, "account_closed", "The account is closed.", cure="Write to the operator of the programme.")
    if account.role not in roles and roles is not PUBLIC:
        raise Refused(
            403,
            "not_your_role",
            f"This is not for the role {account.role}.",
            cure=f"It is for: {', '.join(sorted(roles))}.",
        )
    context.gate.asks(account.id)
    connection.scope["user"] = account


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The address that the request came from."""
    return "" if connection.client is None else connection.client.host


def _unauthenticated() -> Refused:
    return Refused(
        401,
        "no_account",
        "There is no valid bearer token.",
        cure="Send Authorization: Bearer <token>; open an account by POST /v1/accounts.",
    )


# -------------------------------------------------------------------------------------------------------------- problems


def language_of(request: Request[Any, Any, Any]) -> str:
    """The reader's language: ``?language=`` if it is supported, else by ``Accept-Language``."""
    wanted = request.query_params.get("language")
    return wanted if wanted in languages.LANGUAGES else languages.choose(request.headers.get("accept-language"))


def problem_response(
    request: Request[Any, Any, Any], problem: answers.Problem, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    """A problem as the answer, in the reader's language where it is translated. Codes are never translated."""
    extra = dict(headers or {})
    language = language_of(request)
    if language != languages.SOURCE:
        extra["Content-Language"] = language
        problem.title = languages.translate(problem.title, language)
        problem.detail = languages.translate(problem.detail, language)
        problem.cure = problem.cure and languages.translate(problem.cure, language)
    if problem.status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="goodfaith"'
    if problem.status == 503:
        extra["Retry-After"] = "1"
    if (
        problem.status == 408
        or "transfer-encoding" in request.headers
        or len(request.headers.get("content-length", "")) > 6
    ):
        # do not wait for a body that may not have been read to its end
        extra["Connection"] = "close"
    return Response(problem, status_code=problem.status, media_type=PROBLEM, headers=extra)


_NOTED: Final[Mapping[int, security_events.Kind]] = {401: "unauthenticated", 403: "forbidden", 429: "rate_limited"}


def _note(request: Request[Any, Any, Any], error: Refused) -> None:
    kind = _NOTED.get(error.status)
    if kind is None:
        return
    path = request.scope.get("path_template")
    if error.status == 401 and str(path).startswith("/internal/"):
        kind = "internal_refused"
    elif error.reason == "locked_out":
        kind = "locked_out"
    caller = turns.caller.get()
    security_events.note(
        kind,
        address=address_of(request),
        account=caller if caller and " " not in caller else None,
        reason=error.reason,
        route=path,
        method=str(request.method),
    )


def on_refused(request: Request[Any, Any, Any], error: Refused) -> Response[Any]:
    """Answer a request that intake refuses."""
    _note(request, error)
    problem = answers.Problem(
        type=f"urn:goodfaith:problem:{error.reason}",
        title=_TITLES.get(error.status, "Refused"),
        status=error.status,
        detail=error.detail,
        field=error.field,
        cure=error.cure or None,
    )
    later = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem_response(request, problem, later)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer a request that Litestar refuses."""
    status = error.status_code
    if status >= 500:
        return on_error(request, error)
    field, detail = None, _TITLES.get(status, mark("The request cannot be served."))
    if isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        field, detail = str(first.get("key") or "") or None, str(first.get("message", ""))[:300]
        field = {
            "item_state": "state",
            "right_status": "status",
            "account_state": "state",
            "idempotency_key": "Idempotency-Key",
        }.get(field or "", field)
        if field == "data":
            field, detail = None, mark("A JSON body is needed.")
    cure = {
        404: mark("Check the path; see /openapi.json."),
        405: mark("See the Allow header."),
        413: mark("Send less at a time."),
    }
    problem = answers.Problem(
        type=f"urn:goodfaith:problem:http-{status}",
        title=_TITLES.get(status, "Refused"),
        status=status,
        detail=detail,
        field=field,
        cure=cure.get(status, mark("See /openapi.json.")),
    )
    return problem_response(
        request, problem, {"Allow": error.headers["allow"]} if error.headers and "allow" in error.headers else None
    )


def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer after an unexpected error: logged with its traceback, answered without it."""
    log.error("internal error", route=request.scope.get("path_template"), exc_info=error)
    problem = answers.Problem(
        type="urn:goodfaith:problem:internal",
        title=_TITLES[500],
        status=500,
        detail=mark("Something went wrong here."),
        cure=mark("Try again later, with the same Idempotency-Key."),
    )
    return problem_response(request, problem)


def on_key_missing(request: Request[Any, Any, Any], _: security.KeyMissing) -> Response[Any]:
    """Answer 503: nothing can be sealed without the installation's key."""
    log.error("contact_key is not set")
    return on_refused(request, busy("Contacts and files cannot be kept at present."))


# --------------------------------------------------------------------------------------------------------------- helpers


def context_of(request: Request[Any, Any, Any]) -> Context:
    """The application context."""
    return request.app.state.context  # type: ignore[no-any-return]


def known_id(text: str) -> str:
    """Check a path parameter: what cannot be an id does not exist.

    Raises:
        Refused: 404.
    """
    if len(text) > 120 or not text.isascii() or not text.isprintable():
        raise domain.not_found()
    return text


def page_of(rows: list[_T], limit: int, key: Callable[[_T], tuple[object, ...]]) -> answers.Page[_T]:
    """A page of up to ``limit + 1`` rows; the extra one shows that there is more."""
    return answers.Page(items=rows[:limit], next=cursor_of(*key(rows[limit - 1])) if len(rows) > limit else None)


def out(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """Convert a row to an answer's struct, with only the fields that the struct names."""
    return kind(**{name: row[name] for name in kind.__struct_fields__ if name in row})  # type: ignore[attr-defined]


async def filed(request: Request[Account, Any, Any], filing: Filing) -> Response[Any]:
    """File a request through the group commit: 202 once it is durable."""
    result = await context_of(request).group_commit.file(filing)
    headers = {"Idempotency-Replayed": "true"} if result.replayed else None
    return Response(result.answer, status_code=202, media_type="application/json", headers=headers)


async def command(
    request: Request[Account, Any, Any],
    kind: str,
    body: requests.In,
    key: str | None,
    *,
    item: str | None = None,
    claim: str | None = None,
) -> Response[Any]:
    """File a command about an item, or about all items of a claim."""
    target = known_id(item or claim or "")
    return await filed(
        request,
        Filing(
            request.user,
            key,
            request.user.id,
            filings.digest(kind, target, await request.body()),
            kind,
            body,
            request.user.channel,
            item=item,
            claim=claim,
        ),
    )
