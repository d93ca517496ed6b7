"""How the HTTP APIs, public and internal, answer what they do not do: problems as in RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct

from shared import languages
from shared.languages import mark
from shared.refusals import Refused

log = structlog.get_logger(__name__)

MEDIA: Final = "application/problem+json"
TITLES: Final = {
    400: mark("Bad request"),
    401: mark("Not authenticated"),
    403: mark("Forbidden"),
    404: mark("Not found"),
    405: mark("Method not allowed"),
    408: mark("Timeout"),
    409: mark("Conflict"),
    413: mark("Too large"),
    415: mark("Unsupported media type"),
    422: mark("Unprocessable content"),
    429: mark("Too many requests"),
    500: mark("Internal error"),
    503: mark("Unavailable"),
}
URN: Final = "urn:goodfaith:problem:"
_CURES: Final = {
    404: mark("Check the path; see /openapi.json."),
    405: mark("See the Allow header."),
    413: mark("Send less at a time."),
}


class Problem(Struct, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem, with the field that is wrong and how to cure it."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    cure: str | None = None


def problem_of(
    reason: str, status: int, detail: str | None = None, *, field: str | None = None, cure: str | None = None
) -> Problem:
    """Make a problem. Without ``detail``, the status's title says what is wrong."""
    title = TITLES.get(status, "Refused")
    return Problem(
        type=URN + reason, title=title, status=status, detail=detail or title, field=field, cure=cure or None
    )


def language_of(request: Request[Any, Any, Any]) -> str:
    """The reader's language: ``?language=`` if it is supported, else by ``Accept-Language``."""
    wanted = request.query_params.get("language")
    return wanted if wanted in languages.LANGUAGES else languages.choose(request.headers.get("accept-language"))


def answer(
    request: Request[Any, Any, Any], problem: Problem, headers: Mapping[str, str] | None = None
) -> Response[Problem]:
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
    return Response(problem, status_code=problem.status, media_type=MEDIA, headers=extra)


def on_refused(request: Request[Any, Any, Any], error: Refused) -> Response[Problem]:
    """Answer a request that is refused."""
    later = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return answer(
        request, problem_of(error.reason, error.status, error.detail, field=error.field, cure=error.cure), later
    )


def on_http_error(
    request: Request[Any, Any, Any], error: HTTPException, fields: Mapping[str, str] | None = None
) -> Response[Problem]:
    """Answer a request that Litestar refuses.

    Args:
        fields: names that the client knows, by the names of the handlers' parameters, where they differ.
    """
    status = error.status_code
    if status >= 500:
        return on_error(request, error)
    field, detail = None, TITLES.get(status, mark("The request cannot be served."))
    if isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        name, detail = str(first.get("key") or ""), str(first.get("message", ""))[:300]
        field = (fields or {}).get(name, name) or None
        if field == "data":
            field, detail = None, mark("A JSON body is needed.")
    allow = error.headers.get("allow") if error.headers else None
    return answer(
        request,
        problem_of(f"http-{status}", status, detail, field=field, cure=_CURES.get(status, mark("See /openapi.json."))),
        None if allow is None else {"Allow": allow},
    )


def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer after an unexpected error: logged with its traceback, answered without it."""
    log.error("internal error", route=request.scope.get("path_template"), exc_info=error)
    return answer(
        request,
        problem_of(
            "internal",
            500,
            mark("Something went wrong here."),
            cure=mark("Try again later, with the same Idempotency-Key."),
        ),
    )
