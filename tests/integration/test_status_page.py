"""The status page in a real browser: on a phone and a desk, by day and by night, and when nothing is known."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from services.observer.observing import Snapshot
from services.observer.status_page import Oldest, create
from services.observer.status_view import Old
from tests.integration.browser import Tab, binary, browser
from tests.unit.observer.observed import ALERT, AWAY, calm

pytestmark = pytest.mark.skipif(
    binary() is None and not os.environ.get("CI"), reason="Chromium is not installed (deploy/local/setup.sh chromium)"
)
OLD = [Old(f"i-0JC9TQ8M2N5Q3R7S1T4V6W8X{number:03}", "review", 70_000 - number) for number in range(3)]
CASES: dict[str, tuple[Snapshot, Oldest]] = {
    "Claims are handled in time": (calm(), OLD),
    "A person is needed now": (replace(calm(), alerts=(ALERT, replace(ALERT, summary="a" * 200))), OLD),
    "Nothing is known": (AWAY, "streams does not answer"),
}
CONTRAST = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
  return Math.min(...[...document.querySelectorAll("main *")].map(one => {
    const ink = light(rgb(getComputedStyle(one).color));
    return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
  }));
})()
"""
"""Least contrast of any text with the paper, as WCAG counts it."""


class Server:
    """The application, with whatever `shown` is; in a thread of its own."""

    def __init__(self) -> None:
        self.shown: tuple[Snapshot, Oldest] = CASES["Nothing is known"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(create(self.look, token="t" * 40, keep_s=0), port=port, log_config=None, lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    async def look(self) -> tuple[Snapshot, Oldest]:
        return self.shown


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    made.thread.start()
    yield made
    made.server.should_exit = True
    made.thread.join(20)


async def _look(tab: Tab, url: str, **window: Any) -> dict[str, Any]:
    await tab.open(url, **window)
    return {
        "title": await tab.value("document.title"),
        "verdict": await tab.value("document.querySelector('.verdict').innerText"),
        "overflow": await tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth"),
        "paper": await tab.value("getComputedStyle(document.body).backgroundColor"),
        "contrast": await tab.value(CONTRAST),
        "values": await tab.value("[...document.querySelectorAll('.value')].map(one => one.innerText)"),
    }


def test_it_reads_well(server: Server, tmp_path: Path) -> None:
    async def look() -> None:
        async with browser(tmp_path) as tab:
            for verdict, shown in CASES.items():
                server.shown = shown
                for width in (375, 1280):
                    for dark in (False, True):
                        seen = await _look(tab, server.url, width=width, dark=dark)
                        where = (verdict, width, dark, seen)
                        assert seen["verdict"] == verdict, where
                        assert seen["title"] == f"{verdict} - Goodfaith", where
                        assert seen["overflow"] == 0, where
                        assert seen["paper"] == ("rgb(23, 24, 26)" if dark else "rgb(251, 251, 250)"), where
                        assert seen["contrast"] >= 4.5, where
                        assert (set(seen["values"]) == {"not known"}) == (verdict == "Nothing is known"), where
            assert tab.complaints == []
            # it would be noticed: a style that the policy does not know is refused
            await tab.value(
                "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))"
            )
            for _ in range(100):
                if tab.complaints:
                    break
                await asyncio.sleep(0.02)
            assert "Content Security Policy" in "".join(tab.complaints)

    asyncio.run(look())
