"""Limits for slow clients: how long a request's headers and body may take, and how large its headers may be."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.refusals import Refused
from shared.settings import Settings

HEADERS_MOST: Final = 32_768
"""Most bytes of a request's target and headers."""
_RAW: Final = (
    b"connection: close\r\ncontent-length: 0\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n"
)
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\n" + _RAW
_UNREADABLE: Final = b"HTTP/1.1 400 Bad Request\r\n" + _RAW


def protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with limits: on its own it waits for headers forever and accepts any amount of them."""

    class Bounded(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _size = 0
        _whole = True
        """Whether the last message was read to the end."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._expected()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self._expect()  # uvicorn's timer for idle connections ends here
            super().data_received(data)

        def send_400_response(self, msg: str) -> None:
            self.transport.write(_UNREADABLE)
            self.transport.close()

        def on_message_begin(self) -> None:
            self._size = 0
            self._whole = False
            self._expect()
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._grows(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._grows(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._expected()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._whole = True
            super().on_message_complete()
            if self.cycle.response_complete:
                self._expected()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._whole:
                self._expect()  # answered before the body ended: the rest of it has to come in time too

        def _grows(self, by: int) -> None:
            self._size += by
            if self._size > HEADERS_MOST:
                raise ValueError("the headers are too long")  # answered 400

        def _expect(self) -> None:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(settings.http_header_s, self._give_up)

        def _expected(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                if self.cycle is None or self.cycle.response_complete:
                    self.transport.write(_TOO_SLOW)
                self.transport.close()

    return Bounded


class Bodies:
    """Wraps an application: each request must send its body within ``http_body_s`` seconds.

    Args:
        but: method and path of requests that limit the time of their bodies themselves.
    """

    def __init__(self, app: Any, settings: Settings, but: frozenset[tuple[str, str]] = frozenset()) -> None:
        self._app = app
        self._seconds = settings.http_body_s
        self._but = but

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http" or (scope["method"], scope["path"].rstrip("/")) in self._but:
            await self._app(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + self._seconds
        more = True

        async def received() -> Any:
            nonlocal more
            if not more:  # only the disconnect is left, and it may take as long as it likes
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, "too_slow", "The body came too slowly.", cure="Send it again.") from None
            more = message.get("more_body", False)
            return message

        await self._app(scope, received, send)
