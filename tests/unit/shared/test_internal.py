"""The services' internal calls: who may, what comes back, and what a caller makes of failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from litestar import Request, get, post
from litestar.params import QueryParameter
from pydantic import SecretStr

from shared import callers, internal, tracing
from shared.callers import Callers
from shared.internal import Client, GivenId, ServiceUnavailable, StrictStruct
from shared.paging import Cursor, Limit, Page, key_of, page_of
from shared.refusals import Refused

TOKEN = "secret of the test"


class Asked(StrictStruct):
    count: Annotated[int, msgspec.Meta(ge=0, le=9)]


@get("/internal/numbers")
async def numbers(cursor: Cursor = None, limit: Limit = 2) -> Page[int]:
    (after,) = key_of(cursor, tuple[int]) or (0,)
    return page_of(list(range(after + 1, 6))[: limit + 1], limit, lambda number: (number,))


@get("/internal/one")
async def one(id: GivenId) -> dict[str, str]:
    if id == "none":
        raise Refused(404, "not_found", "There is no such thing.", field="id", cure="Name another.")
    if id == "bug":
        raise RuntimeError("a bug")
    return {"id": id}


@post("/internal/asked")
async def asked(request: Request[Any, Any, Any]) -> int:
    return (await internal.body_of(request, Asked)).count


@get("/internal/long")
async def long(size: Annotated[int, QueryParameter(ge=0)]) -> list[str]:
    return ["x" * size]


@get("/internal/traced")
async def traced(request: Request[Any, Any, Any]) -> list[str]:
    return request.headers.getall("traceparent", [])


def ask(work: Callable[[Client], Awaitable[Any]], *, token: str | None = TOKEN, wanted: str = TOKEN) -> Any:
    """Run ``work`` with a client of an application without a database."""
    parts: Any = SimpleNamespace(
        callers=Callers(SecretStr(callers.written({"intake-api": wanted})), "enforcement"), close=lambda: None
    )

    async def ran(*_: Any) -> int:
        return 1

    parts.run = ran
    app = internal.create([numbers, one, asked, long, traced], lambda: parts)

    async def run() -> Any:
        async with app.lifespan():
            client = Client("http://there", token, transport=httpx.ASGITransport(app, raise_app_exceptions=False))
            try:
                return await work(client)
            except Exception as error:  # what ends the application's life would be wrapped in a group
                return error
            finally:
                await client.close()

    found = asyncio.run(run())
    if isinstance(found, Exception):
        raise found
    return found


def test_an_answer_is_read_as_its_kind() -> None:
    assert ask(lambda client: client.get("/internal/one", dict[str, str], {"id": "a/b?c"})) == {"id": "a/b?c"}
    assert ask(lambda client: client.post("/internal/asked", int, Asked(count=3))) == 3
    with pytest.raises(ServiceUnavailable):
        ask(lambda client: client.get("/internal/one", int, {"id": "a"}))


def test_a_call_carries_on_the_trace_of_the_request_that_it_is_made_for() -> None:
    context = f"00-{'ab' * 16}-{'cd' * 8}-01"

    async def within(client: Client) -> list[list[str]]:
        before = await client.get("/internal/traced", list[str])
        token = tracing.here.set(context)
        try:
            return [before, await client.get("/internal/traced", list[str])]
        finally:
            tracing.here.reset(token)

    assert ask(within) == [[], [context]]


def test_pages_follow_each_other_to_the_end() -> None:
    async def all_pages(client: Client) -> list[list[int]]:
        pages, cursor = [], None
        while True:
            page = await client.get("/internal/numbers", Page[int], {"cursor": cursor, "limit": 2})
            pages.append(page.items)
            cursor = page.next
            if cursor is None:
                return pages

    assert ask(all_pages) == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("token", [None, "", "another", TOKEN + "x", "Bearer", callers.digest(TOKEN)])
def test_nobody_else_is_answered(token: str | None) -> None:
    with pytest.raises(ServiceUnavailable):
        ask(lambda client: client.get("/internal/one", dict[str, str], {"id": "a"}), token=token)


@pytest.mark.parametrize("token", ["", "another"])
def test_an_empty_secret_lets_nobody_in(token: str) -> None:
    with pytest.raises(ServiceUnavailable, match="401"):
        ask(lambda client: client.get("/internal/one", dict[str, str], {"id": "a"}), token=token, wanted="")


@pytest.mark.parametrize(
    ("work", "status", "field"),
    [
        (lambda client: client.get("/internal/one", dict[str, str], {"id": "none"}), 404, "id"),
        (lambda client: client.get("/internal/one", dict[str, str], {"id": "x" * 121}), 400, "id"),
        (lambda client: client.get("/internal/one", dict[str, str], {"id": "a\0b"}), 400, "id"),
        (lambda client: client.get("/internal/one", dict[str, str]), 400, None),
        (lambda client: client.get("/internal/numbers", Page[int], {"limit": 201}), 400, "limit"),
        (lambda client: client.get("/internal/numbers", Page[int], {"cursor": "!"}), 400, "cursor"),
        (lambda client: client.get("/internal/nowhere", int), 404, None),
        (lambda client: client.post("/internal/asked", int, {"count": 10}), 422, None),
        (lambda client: client.post("/internal/asked", int, {"count": 1, "more": 1}), 422, None),
        (lambda client: client.post("/internal/asked", int, None), 422, None),
    ],
)
def test_refusals_come_through_in_the_others_words(
    work: Callable[[Client], Awaitable[Any]], status: int, field: str | None
) -> None:
    with pytest.raises(Refused) as refused:
        ask(work)
    assert (refused.value.status, refused.value.field) == (status, field)


def test_a_failure_over_there_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServiceUnavailable, match="HTTP 500"):
        ask(lambda client: client.get("/internal/one", dict[str, str], {"id": "bug"}))


def test_an_answer_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "ANSWER_MAX", 100)
    assert ask(lambda client: client.get("/internal/long", list[str], {"size": 50})) == ["x" * 50]
    with pytest.raises(ServiceUnavailable, match="too long"):
        ask(lambda client: client.get("/internal/long", list[str], {"size": 200}))


def test_a_service_that_is_away_is_no_answer() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def run() -> None:
        client = Client("http://there", TOKEN, transport=httpx.MockTransport(refuse))
        with pytest.raises(ServiceUnavailable):
            await client.get("/internal/one", int)
        await client.close()

    asyncio.run(run())


# ---- who calls


TOKENS: dict[callers.Caller, str] = {caller: f"token of {caller}" for caller in callers.CALLERS}


@pytest.mark.parametrize("api", list(callers.ANSWERS))
@pytest.mark.parametrize("caller", callers.CALLERS)
def test_an_api_answers_those_that_the_code_names_and_nobody_else(api: callers.Api, caller: callers.Caller) -> None:
    known = Callers(SecretStr(callers.written(TOKENS)), api)
    found = known.who(f"Bearer {TOKENS[caller]}")
    assert found == (caller if caller in callers.ANSWERS[api] else None)


def test_two_tokens_of_a_caller_are_good_while_they_are_exchanged() -> None:
    text = msgspec.json.encode({"status": [callers.digest("old"), callers.digest("new")]}).decode()
    known = Callers(SecretStr(text), "streams")
    assert [known.who(f"Bearer {token}") for token in ("old", "new", "other")] == ["status", "status", None]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"nobody": "00"}', '{"status": "short"}', '{"status": []}', '{"status": "' + "A" * 64 + '"}'],
)
def test_what_names_no_callers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON object such as"):
        callers.read(text)


def test_an_api_that_knows_nobody_does_not_start() -> None:
    with pytest.raises(ValueError, match="GOODFAITH_INTERNAL_CALLERS"):
        Callers(None, "enforcement")
