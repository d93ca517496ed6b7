"""Routes for evidence files: upload, lists, links, and the files themselves."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import tempfile
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import sqlalchemy as sa
import structlog
from litestar import Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from services.intake.evidence import answers, uploads
from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from services.intake.evidence.blobs import Altered, BlobsUnavailable
from services.intake.kernel import metrics, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.rate_limits import line_of
from services.intake.kernel.refusals import busy, not_found
from services.intake.kernel.web import (
    EVERYONE,
    MAY_FAIL,
    OPERATOR,
    PARTIES,
    PUBLIC,
    Body,
    Context,
    address_of,
    context_of,
    known_id,
    out,
)
from shared import clock
from shared.paging import Cursor, Limit, Page, RowNumber, key_of, page_of
from shared.problems import MEDIA, Problem
from shared.refusals import Refused

log = structlog.get_logger(__name__)

Kind = Annotated[
    str,
    QueryParameter(
        min_length=1,
        max_length=120,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="What the document is meant to prove, such as `ownership`, `identity`, `authority`, `statement`.",
    ),
]
About = Annotated[
    str | None, QueryParameter(max_length=120, description="Only documents named in this claim, right or account.")
]


class _Upload(Operation):
    """Declares in the OpenAPI document that the body is a file."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or ()),
            *(
                Parameter(
                    name=name,
                    param_in="header",
                    required=False,
                    description=text,
                    schema=Schema(type=OpenAPIType.STRING, max_length=2000),
                )
                for name, text in (
                    (
                        "Content-Disposition",
                        "Name of the file, RFC 6266: `attachment; filename*=UTF-8''certificate.pdf`.",
                    ),
                    ("Repr-Digest", "Expected SHA-256 of the file, RFC 9530: `sha-256=:<base64>:`."),
                )
            ),
        ]
        file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = RequestBody(
            content={"application/octet-stream": OpenAPIMediaType(schema=file)},
            required=True,
            description="The file's bytes.",
        )


class File(Stream):
    """A stream with its own media type instead of the route's."""

    def to_asgi_response(self, *arguments: Any, **options: Any) -> ASGIResponse:
        """Build the ASGI response with this stream's media type."""
        return super().to_asgi_response(*arguments, **{**options, "media_type": self.media_type})


# --------------------------------------------------------------------------------------------------------------- upload


@post(
    "/v1/evidence",
    opt={"roles": PARTIES | OPERATOR},
    responses={
        **MAY_FAIL,
        408: ResponseSpec(Problem, description="The file came too slowly.", media_type=MEDIA, generate_examples=False),
        200: ResponseSpec(
            answers.EvidenceOut, description="The caller already has this very file on file.", generate_examples=False
        ),
    },
    operation_class=_Upload,
    request_max_body_size=None,
    tags=["evidence"],
)
async def upload(request: Request[Account, Any, Any], kind: Kind) -> Response[answers.EvidenceOut]:
    """Upload a file as the request body. The same file again is the same document, and is answered with 200.

    Its type is detected from its content. `Content-Disposition` may give its name, `Repr-Digest` its SHA-256. Name it
    in a claim, right or account within a day.
    """
    context = context_of(request)
    try:
        row, new = await _upload(request, context, kind)
    except Refused as refused:
        metrics.EVIDENCE.labels(refused.reason).inc()
        raise
    metrics.EVIDENCE.labels("kept" if new else "known").inc()
    return Response(document_out(row), status_code=201 if new else 200, media_type="application/json")


async def _upload(request: Request[Account, Any, Any], context: Context, kind: str) -> tuple[store.Row, bool]:
    account, settings = request.user.id, context.settings
    evidence.check_kind(kind)
    name = evidence.disposition_name(request.headers.get("content-disposition"))
    announced = evidence.announced_digest(request.headers)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(
            415,
            "encoded",
            "The request's body is compressed.",
            field="Content-Encoding",
            cure="Send the file uncompressed.",
        )
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refused(
            415,
            "multipart",
            "The body must be the file itself.",
            field="Content-Type",
            cure="Send the bytes, without a form.",
        )
    line = line_of(address_of(request))
    with (
        context.evidence.slots.slot(account, line, verified=request.user.identity_verified),
        tempfile.TemporaryFile() as file,
    ):
        size, digest = await uploads.receive(request, file, settings)
        evidence.check_digest(announced, digest)
        media = await uploads.judge(file, context.evidence.slots)
        unused = max(evidence.unused().values())
        document: store.Row = {"owner": account, "digest": digest, "size": size, "media": media, "name": name}

        def arrive(connection: sa.Connection) -> store.Row | None:
            now, wall = clock.read(connection)
            document["id"] = new_id("d", store.wall_ms(wall))
            document["key"] = context.contacts.new_key(document["id"])
            return evidence_store.arrive(
                connection, document, kind, now, most_bytes=settings.evidence_account_bytes, unused=unused
            )

        known = await context.run(arrive)
        if known is not None:
            return known, False
        try:
            async with asyncio.timeout(settings.evidence_upload_s):
                key = context.contacts.unwrap(document["id"], document["key"])
                await context.evidence.blobs.put(evidence.object_path(document["id"]), file, size, key)
        except (BlobsUnavailable, TimeoutError) as error:
            log.warning("evidence cannot be stored", error=str(error))
            with contextlib.suppress(Refused):
                await context.run(evidence_store.leave, document["id"])
            raise busy("Files cannot be stored at present.") from None
        return await context.run(evidence_store.settle, document, kind)


# -------------------------------------------------------------------------------------------------------------- reading


def document_out(row: store.Row) -> answers.EvidenceOut:
    """A document's row as the answer."""
    return out(answers.EvidenceOut, {**row, "media_type": row["media"], "sha256": row["digest"].hex()})


@get("/v1/evidence", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["evidence"])
async def list_evidence(
    request: Request[Account, Any, Any], about: About = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.EvidenceOut]:
    """The caller's documents; with `about`, those named there that the caller may read."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    caller, private = request.user, evidence.private_kinds()

    def work(connection: sa.Connection) -> list[store.Row]:
        if about is None:
            rows = evidence_store.list_own(connection, caller, after, limit + 1)
        else:
            rows = evidence_store.list_about(connection, caller, known_id(about), private, after, limit + 1)
        return evidence_store.readable(connection, caller, rows, private)

    rows = await context_of(request).run(work)
    return page_of([document_out(row) for row in rows], limit, lambda document: (document.id,))


@get("/v1/evidence/{document_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["evidence"])
async def get_evidence(request: Request[Account, Any, Any], document_id: str) -> answers.EvidenceOut:
    """One document, for its owner, for staff and, once the life cycle allows it, for the counterpart of a claim."""
    return document_out(
        await context_of(request).run(evidence_store.get, request.user, known_id(document_id), evidence.private_kinds())
    )


@get("/v1/evidence/{document_id:str}/reads", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["evidence"])
async def list_reads(
    request: Request[Account, Any, Any], document_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.EvidenceRead]:
    """Who received a link to the document or the file itself, latest first. For its owner and staff."""
    (before,) = key_of(cursor, tuple[RowNumber]) or (None,)
    caller = request.user

    def work(connection: sa.Connection) -> list[store.Row]:
        row = evidence_store.get(connection, caller, known_id(document_id), evidence.private_kinds())
        if not caller.sees_all and row["owner"] != caller.id:
            raise not_found()
        reads = evidence_store.list_reads(connection, row["id"], before, limit + 1)
        return store.without_staff(connection, caller, reads, "reader")

    rows = await context_of(request).run(work)
    return page_of([out(answers.EvidenceRead, row) for row in rows], limit, lambda read: (read.id,))


@delete("/v1/evidence/{document_id:str}", opt={"roles": PARTIES | OPERATOR}, responses=MAY_FAIL, tags=["evidence"])
async def delete_evidence(request: Request[Account, Any, Any], document_id: str) -> None:
    """Delete one of the caller's documents that nothing needs."""

    def work(connection: sa.Connection) -> None:
        now, _ = clock.read(connection)
        evidence_store.delete(connection, request.user, known_id(document_id), now, evidence.keeping())

    await context_of(request).run(work)


@post(
    "/v1/evidence/{document_id:str}/link",
    opt={"roles": EVERYONE},
    status_code=200,
    responses=MAY_FAIL,
    tags=["evidence"],
)
async def link_evidence(request: Request[Account, Any, Any], document_id: str) -> answers.EvidenceLink:
    """A link to the file, valid for some minutes.

    Anyone who has the link can fetch the file as the caller. Each read is recorded.
    """
    context, caller = context_of(request), request.user

    def work(connection: sa.Connection) -> tuple[store.Row, dt.datetime]:
        row = evidence_store.get(connection, caller, known_id(document_id), evidence.private_kinds())
        evidence_store.note_read(connection, row["id"], caller.id, "link")
        return row, clock.read(connection)[1]

    row, wall = await context.run(work)
    expires = (wall + dt.timedelta(minutes=context.settings.evidence_link_minutes)).replace(microsecond=0)
    return answers.EvidenceLink(url=context.evidence.links.make(row["id"], caller.id, expires), expires=expires)


@get(
    "/evidence/{document_id:str}",
    opt={"roles": PUBLIC},
    security=[{}],
    responses=MAY_FAIL,
    media_type="application/octet-stream",
    tags=["evidence"],
)
async def fetch_evidence(
    request: Request[Any, Any, Any],
    document_id: str,
    reader: Annotated[str, QueryParameter(max_length=120)],
    expires: Annotated[int, QueryParameter(ge=0, le=2**40)],
    signature: Annotated[str, QueryParameter(max_length=60)],
) -> File:
    """Download the file by a link, always as an attachment."""
    context = context_of(request)

    def work(connection: sa.Connection) -> store.Row:
        context.evidence.links.check(document_id, reader, expires, signature, clock.read(connection)[1])
        # the reader may have lost access, or their account, since
        account = store.accounts(connection, [reader]).get(reader)
        if account is None or account.status == "closed":
            raise evidence.bad_link()
        row = evidence_store.get(connection, account, document_id, evidence.private_kinds())
        evidence_store.note_read(connection, row["id"], reader, "file")
        return row

    row = await context.run(work)
    key = context.contacts.unwrap(row["id"], row["key"]) if row["sealed"] else None
    pieces = context.evidence.blobs.read(evidence_store.path_of(row), row["size"], row["digest"], key)
    try:
        first = await anext(pieces)
    except BlobsUnavailable as error:
        log.warning("evidence cannot be read", error=str(error))
        raise busy("Files cannot be read at present.") from None
    except Altered:
        log.error("stored evidence was altered or is missing", document=row["id"])
        raise

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in pieces:
                yield piece
        except (Altered, BlobsUnavailable) as error:
            # fewer bytes than announced went out, so the client knows that the file is incomplete
            log.error("sending evidence broke off", document=row["id"], error=f"{type(error).__name__}: {error}")
            raise

    charset = "; charset=utf-8" if row["media"].startswith("text/") else ""
    return File(
        all_pieces,
        media_type=row["media"] + charset,
        headers={
            "Content-Length": str(row["size"]),
            "Content-Disposition": evidence.attachment(row["name"], row["id"], row["media"]),
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "private, no-store",
        },
    )


@post(
    "/v1/me/evidence",
    opt={"roles": PARTIES | OPERATOR},
    dto=Body[requests.NameDocuments],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["evidence"],
)
async def name_own(request: Request[Account, Any, Any], data: requests.NameDocuments) -> answers.EvidenceNamed:
    """Name documents that prove who the caller is. Reviewers see them; counterparts do not."""
    caller = request.user.id

    def work(connection: sa.Connection) -> list[str]:
        now, _ = clock.read(connection)
        return [
            document.id
            for document in evidence_store.name_in(connection, data.evidence, caller, caller, "account", now)
        ]

    return answers.EvidenceNamed(about=caller, documents=await context_of(request).run(work))


ROUTES: Final = [
    upload,
    list_evidence,
    get_evidence,
    list_reads,
    delete_evidence,
    link_evidence,
    fetch_evidence,
    name_own,
]
