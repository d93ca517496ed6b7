"""The status page's process: its answers, and that it asks no more often than it may."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from services.observer import status_page
from services.observer.observing import Snapshot
from services.observer.status_page import Looker, Oldest, create, render
from services.observer.status_view import Old
from services.streams.api import OldestView, OldItem
from shared.internal import Client
from tests.unit.observer.observed import ALERT, AWAY, calm

OLD = [Old("i-00001", "review", 11_530)]
TOKEN = "gf_a_" + "b" * 40


async def look() -> tuple[Snapshot, Oldest]:
    return replace(calm(), alerts=(ALERT,)), OLD


class _Outline(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "html", [render(calm(), OLD), render(replace(calm(), alerts=(ALERT,)), [], ids=True), render(AWAY, "away")]
)
def test_the_page_is_accessible(html: str) -> None:
    outline = _Outline(html)
    assert outline.open == []
    assert outline.tags[0] == ("html", {"lang": "en"})
    headings = [tag for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in outline.tags:
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag in ("script", "img", "iframe", "object", "form") or "src" in attributes:
            pytest.fail(tag)


def test_what_others_wrote_is_escaped() -> None:
    html = render(replace(calm(), alerts=(replace(ALERT, summary="<b>x</b>", name='"><script>'),)), "<i>away</i>")
    assert "<b>" not in html
    assert "<script" not in html
    assert "<i>" not in html


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    with TestClient(create(look)) as client:
        answer = client.get("/")
    assert answer.status_code == 200
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["cache-control"] == "no-store"
    assert "refresh" not in answer.headers


def test_a_fault_tells_nothing_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> tuple[Snapshot, Oldest]:
        raise RuntimeError("an internal detail")

    monkeypatch.setenv("LITESTAR_DEBUG", "1")
    with TestClient(create(fails), raise_server_exceptions=False) as client:
        answer = client.get("/")
    assert answer.status_code == 500
    assert "internal detail" not in answer.text
    assert "RuntimeError" not in answer.text


def test_an_empty_token_opens_nothing() -> None:
    with TestClient(create(look, token="")) as client:
        for auth in (None, ("x", "")):
            assert client.get("/operator", auth=auth).status_code == 404


def test_ids_are_behind_the_token() -> None:
    with TestClient(create(look, token=TOKEN)) as client:
        assert "i-00001" not in client.get("/").text
        assert "i-00001" not in client.get("/status.json").text
        assert client.get("/operator").status_code == 401
        assert client.get("/operator").headers["www-authenticate"].startswith("Basic ")
        for wrong in (("x", "wrong"), ("x", TOKEN[:-1]), ("", "")):
            assert client.get("/operator", auth=wrong).status_code == 401
        for sent in (
            "Basic",
            "Basic ???",
            f"Bearer {TOKEN}",
            "Basic " + "A" * 5000,
            "Basic " + base64.b64encode(b"\xff").decode(),
        ):
            assert client.get("/operator", headers={"authorization": sent}).status_code == 401
        assert "i-00001" in client.get("/operator", auth=("anyone", TOKEN)).text
    with TestClient(create(look)) as client:
        assert client.get("/operator", auth=("anyone", "")).status_code == 404
        assert "/operator" not in client.get("/").text


def test_it_loads_itself_again_only_when_asked_to() -> None:
    with TestClient(create(look)) as client:
        assert client.get("/?every=30").headers["refresh"] == "30"
        assert client.get("/?every=1").status_code == 400
        assert client.get("/?every=x").status_code == 400


def test_many_readers_ask_once() -> None:
    async def read() -> tuple[int, list[tuple[Snapshot, Oldest]]]:
        asked, now = 0, 0.0

        async def count() -> tuple[Snapshot, Oldest]:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            if asked == 2:
                raise RuntimeError("away")
            return calm(), []

        looker = Looker(count, 5.0, lambda: now)
        seen = await asyncio.gather(*(looker.seen() for _ in range(50)))
        assert asked == 1
        now = 4.9
        await looker.seen()
        assert asked == 1
        now = 5.0
        with pytest.raises(RuntimeError):
            await looker.seen()
        await looker.seen()  # nothing old was kept
        return asked, seen

    asked, seen = asyncio.run(read())
    assert asked == 3
    assert len({id(one) for one in seen}) == 1


def _oldest(answer: Any) -> Oldest:
    handler = httpx.MockTransport(
        lambda request: httpx.Response(answer if isinstance(answer, int) else 200, json=answer)
    )

    async def ask() -> Oldest:
        client = Client("http://127.0.0.1:1", "token", transport=handler)
        try:
            return await status_page.oldest_of(client)
        finally:
            await client.close()

    return asyncio.run(ask())


def test_the_oldest_items_are_the_stream_views() -> None:
    now = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
    item = OldItem(item="i-1", waits_for="review", received=now - dt.timedelta(hours=3))
    view = msgspec.to_builtins(OldestView(now=now, partitions=6, of=6, items=[item]))
    assert _oldest(view) == [Old("i-1", "review", 10_800.0)]
    assert _oldest(view | {"partitions": 5}) == "the stream views tell of 5 of 6 partitions"
    assert str(_oldest(500)).startswith("the stream views do not answer")
    assert asyncio.run(status_page.oldest_of(None)) == "GOODFAITH_STREAMS_URL is not set"


def test_the_process_needs_a_prometheus() -> None:
    from shared.settings import Settings

    with pytest.raises(ValueError, match="GOODFAITH_PROMETHEUS_URL"):
        status_page.run(Settings(prometheus_url=""))
