"""What all of intake's routes share: the application context, authentication, strict bodies, and filing requests.

Each route declares who may call it (``roles``); one that declares nothing is open to nobody. Each part's ``store``
decides what a caller may see of the tables. Problems and pages are those of all APIs (``shared/problems.py``,
``shared/paging.py``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeVar

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

from services.intake.kernel import read_queue as turns
from services.intake.kernel import requests, security, store
from services.intake.kernel.domain import Account
from services.intake.kernel.publishing import Publishing
from services.intake.kernel.rate_limits import RateLimits
from services.intake.kernel.read_queue import Turns
from services.intake.kernel.refusals import account_closed, busy, decoded, not_found
from shared import db, outbound, problems, security_events
from shared.callers import Callers
from shared.events import State
from shared.internal import Client, ServiceUnavailable
from shared.languages import mark
from shared.problems import TITLES, Problem
from shared.refusals import Refused
from shared.settings import Settings

if TYPE_CHECKING:
    from services.intake.evidence.uploads import EvidenceContext
    from services.intake.filing.group_commit import GroupCommit

log = structlog.get_logger(__name__)

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
MAY_FAIL: Final = {
    status: ResponseSpec(Problem, description=TITLES[status], media_type=problems.MEDIA, generate_examples=False)
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


# -------------------------------------------------------------------------------------------------- application context


class KnownToken(NamedTuple):
    """The account of a token that was seen lately, and until when it is not looked up again (monotonic seconds)."""

    account: Account
    until: float


class Context:
    """The application context: engine, threads for reading, group commit, contacts, evidence, recently seen tokens.

    Args:
        group_commit: makes the group commit on the engine.
    """

    def __init__(
        self, settings: Settings, group_commit: Callable[[sa.Engine], GroupCommit], evidence: EvidenceContext
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
        self.verification = Client(
            settings.verification_url,
            own,
            timeout_s=settings.internal_timeout_s,
            authorities=settings.internal_ca,
        )
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
        self.rate_limits = RateLimits(settings)
        self.publishing = Publishing()
        self._known: dict[bytes, KnownToken] = {}

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
                raise busy("The database takes too long to answer this request.") from error
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
        if known is not None and known.until > now:
            return known.account
        if known is None:
            self.rate_limits.tries(address)
        found = await self.run(store.account_of_token, digest)
        if found is None:
            self._known.pop(digest, None)
            return None
        if known is None:
            self.rate_limits.was_right(address)
        account, expires = found
        if len(self._known) > 50_000:
            self._known.clear()
        left = (expires - dt.datetime.now(dt.UTC)).total_seconds()
        self._known[digest] = KnownToken(account, now + min(self.settings.token_cache_s, left))
        return account

    def forget(self, *, account: str) -> None:
        """Drop the account from the cache: it changed, or one of its tokens was revoked here."""
        self._known = {digest: known for digest, known in self._known.items() if known.account.id != account}

    def opened(self, sealed: Sequence[tuple[str, bytes, bytes]]) -> dict[str, requests.Contact]:
        """Decrypted contacts by account. One that cannot be decrypted is missing, and logged."""
        found = {}
        for account, wrapped, text in sealed:
            try:
                found[account] = self.contacts.open(account, wrapped, text)
            except InvalidTag:
                log.error("contact cannot be decrypted", account=account)
        return found

    def former_names(self, sealed: Sequence[tuple[str, bytes, bytes]]) -> list[str]:
        """Decrypted names that an account had. One that cannot be decrypted is missing, and logged."""
        found = []
        for account, wrapped, text in sealed:
            try:
                found.append(self.contacts.open_name(account, wrapped, text))
            except InvalidTag:
                log.error("former name cannot be decrypted", account=account)
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
        return decoded(value, self.model_type)


async def authenticate(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: identify the caller, and check that its role may use the route."""
    roles: frozenset[str] | None = handler.opt.get("roles")
    if roles is None:
        if connection.scope["path"].startswith("/openapi"):
            return
        raise not_found()
    context: Context = connection.app.state.context
    header = connection.headers.get("authorization")
    address = address_of(connection)
    # a task may begin with the context of another request on the same connection
    turns.caller.set(None)
    if roles is INTERNAL:
        if context.internal is None or context.internal.who(header) is None:
            raise _unauthenticated()
        return
    context.rate_limits.arrives(address)
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
        raise account_closed()
    if account.role not in roles and roles is not PUBLIC:
        raise Refused(
            403,
            "not_your_role",
            f"This is not for the role {account.role}.",
            cure=f"It is for: {', '.join(sorted(roles))}.",
        )
    context.rate_limits.asks(account.id)
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


# ------------------------------------------------------------------------------------------------------------- failures

_NOTED: Final[Mapping[int, security_events.Kind]] = {401: "unauthenticated", 403: "forbidden", 429: "rate_limited"}
_FIELDS: Final = {
    "item_state": "state",
    "right_status": "status",
    "account_state": "state",
    "idempotency_key": "Idempotency-Key",
}
"""Parameters of handlers whose names differ from those that clients know."""


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


def on_refused(request: Request[Any, Any, Any], error: Refused) -> Response[Problem]:
    """Answer a request that intake refuses."""
    _note(request, error)
    return problems.on_refused(request, error)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Answer a request that Litestar refuses."""
    return problems.on_http_error(request, error, _FIELDS)


def on_key_missing(request: Request[Any, Any, Any], _: security.KeyMissing) -> Response[Problem]:
    """Answer 503: nothing can be sealed without the installation's key."""
    log.error("contact_key is not set")
    return on_refused(request, busy("Personal data and files cannot be stored at present."))


async def answered(call: Awaitable[_T], unavailable: Refused) -> _T:
    """The answer of another service's internal API.

    Args:
        unavailable: raised if there is no usable answer.

    Raises:
        Refused: what the other service refuses, with how to cure it.
    """
    try:
        return await call
    except ServiceUnavailable as error:
        log.warning("a service is unavailable", error=str(error))
        raise unavailable from error
    except Refused as refused:
        # what the other API's framework refuses is about our parameters: its cure would point to its own documents
        cure = "" if refused.reason.startswith("http-") else refused.cure
        raise Refused(
            refused.status,
            refused.reason,
            refused.detail,
            field=refused.field,
            cure=cure or mark("Correct the parameter; see /openapi.json."),
        ) from None


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
        raise not_found()
    return text


def out(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """Convert a row to an answer's struct, with only the fields that the struct names."""
    return kind(**{name: row[name] for name in kind.__struct_fields__ if name in row})  # type: ignore[attr-defined]
