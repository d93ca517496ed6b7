"""How a client of intake's API handles refusals."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from labs import clients
from shared.settings import Settings


@pytest.mark.parametrize(
    ("wait", "answers", "asked"), [("0", [429, 503, 429, 201], 4), ("3600", [429, 201], 1), ("soon", [429, 201], 1)]
)
def test_it_repeats_a_request_after_the_seconds_of_retry_after(wait: str, answers: list[int], asked: int) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(answers[len(seen) - 1], headers={"retry-after": wait})

    http = clients.HttpClient(Settings(operator_token=SecretStr("t" * 40)))
    http._client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://intake.example")
    (response,) = http.all([http.call("POST", "/v1/accounts", {}, token="t")])
    assert (response.status_code, len(seen)) == (answers[asked - 1], asked)
    http.close()
