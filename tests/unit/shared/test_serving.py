"""What every answer of a process carries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.serving import Private


def headers_of(*given: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(given)})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Private(app)({"type": "http"}, None, send))
    assert sent[1] == {"type": "http.response.body", "body": b"{}"}
    found: list[tuple[bytes, bytes]] = sent[0]["headers"]
    return found


def test_answers_are_not_stored_and_read_as_what_they_are() -> None:
    assert headers_of((b"content-type", b"application/json")) == [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


@pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control"])
def test_a_route_may_say_otherwise(name: bytes) -> None:
    assert headers_of((name, b"public, max-age=60")) == [
        (name, b"public, max-age=60"),
        (b"x-content-type-options", b"nosniff"),
    ]
