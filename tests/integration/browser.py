"""A headless Chromium, spoken to by its DevTools protocol: what a page looks like to a reader, and what it complains of."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.patience import PATIENCE_S

START_S = 30.0
ANSWER_S = 20.0


def binary() -> str | None:
    """Chromium as it is called here; None: it is not installed."""
    return next(
        (
            path
            for name in ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
            if (path := shutil.which(name))
        ),
        None,
    )


class Tab:
    """A tab. `complaints` are what a console would show in red: errors, refused by the policy, not found."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._session: str | None = None
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            heard = message.json()
            if "id" in heard:
                self._waiting.pop(heard["id"]).set_result(heard)
                continue
            method, given = heard["method"], heard["params"]
            if method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
                self.complaints.append(given["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(given["args"]))
            elif method == "Runtime.exceptionThrown":
                self.complaints.append(given["exceptionDetails"]["text"])
            elif method == "Network.loadingFailed":
                self.complaints.append(given["errorText"])
            self._events.setdefault(method, asyncio.Event()).set()

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """What a command answers."""
        self._number += 1
        self._waiting[self._number] = asyncio.get_running_loop().create_future()
        message = {"id": self._number, "method": method, "params": given}
        if self._session is not None:
            message["sessionId"] = self._session
        answer = self._waiting[self._number]
        await self._socket.send_json(message)
        heard = await asyncio.wait_for(answer, ANSWER_S)
        assert "error" not in heard, (method, heard)
        result: dict[str, Any] = heard["result"]
        return result

    async def begin(self) -> None:
        """Open a tab and listen to it."""
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")

    async def open(self, url: str, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Open a page in a window of so many CSS pixels, and wait until it is there."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        loaded = self._events["Page.loadEventFired"] = asyncio.Event()
        answer = await self.ask("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        await asyncio.wait_for(loaded.wait(), ANSWER_S)

    async def value(self, expression: str) -> Any:
        """What an expression is, in the page. (The page's policy forbids scripts of its own, not this.)"""
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def picture(self, *, whole: bool = True) -> bytes:
        """The page as PNG."""
        answer = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def end(self) -> None:
        """Listen no more."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A browser with one tab, its profile in `folder`; ended with all its children."""
    program = binary()
    assert program is not None, "chromium is not installed: sh deploy/local/setup.sh chromium"
    flags = (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "hide-scrollbars",
        "no-first-run",
        "disable-extensions",
        "disable-background-networking",
        "disable-component-update",
        "remote-debugging-port=0",
    )
    with (folder / "chromium.log").open("wb") as log:
        child = subprocess.Popen(
            [program, *(f"--{flag}" for flag in flags), f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        place = folder / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(START_S):
            while not (place.exists() and len(lines := place.read_text().splitlines()) == 2):
                assert child.poll() is None, (folder / "chromium.log").read_text(errors="replace")
                await asyncio.sleep(0.02)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_msg_size=0) as socket,
        ):
            tab = Tab(socket)
            await tab.begin()
            try:
                yield tab
            finally:
                await tab.end()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(PATIENCE_S)
