"""The query API's oldest items: of all workers, and as many as are asked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import httpx
from litestar.testing import TestClient
from pydantic import SecretStr

from services.streams import api, registry
from services.streams.fold import Partition
from services.streams.items import Item
from services.streams.views import us
from shared import callers
from shared.internal import Client
from shared.settings import Settings

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
TOKEN = "t" * 32
SETTINGS = Settings(
    internal_token=SecretStr(TOKEN), internal_callers=SecretStr(callers.written({"streams": TOKEN})), partitions=3
)
PEER = "http://127.0.0.1:2"


class Source:
    """A worker with two partitions; the third is another's."""

    def __init__(self) -> None:
        self.owned: dict[int, Partition] = {}
        for number in (0, 1):
            self.owned[number] = partition = Partition(number, registry.VIEWS)
            for hours in (1 + number, 5 + number):
                item = Item(revision=1, received=us(NOW - dt.timedelta(hours=hours)), state="UNDER_REVIEW")
                partition.totals["items"].move(f"i-{hours}", None, item)

    def get(self, view: str, key: str) -> Any:
        return None

    def partitions(self) -> Mapping[int, Partition]:
        return self.owned

    def peers(self) -> Mapping[int, str]:
        return {0: PEER, 2: PEER}


def _ask(peer: httpx.MockTransport, **params: Any) -> dict[str, Any]:
    parts = api.Parts(SETTINGS, Source(), lambda: NOW)
    parts._clients[PEER] = Client(PEER, "token", transport=peer)
    with TestClient(api.create(parts)) as client:
        answer = client.get("/internal/streams/oldest", params=params, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _peer(request: httpx.Request) -> httpx.Response:
    assert request.url.params["local"] == "true"
    item = {"item": "i-9", "waits_for": "enforcement", "received": (NOW - dt.timedelta(hours=9)).isoformat()}
    return httpx.Response(200, json={"now": NOW.isoformat(), "partitions": 1, "of": 3, "items": [item]})


def test_oldest_of_all_workers() -> None:
    answer = _ask(httpx.MockTransport(_peer), limit=3)
    assert [(one["item"], one["waits_for"]) for one in answer["items"]] == [
        ("i-9", "enforcement"),
        ("i-6", "review"),
        ("i-5", "review"),
    ]
    assert (answer["partitions"], answer["of"]) == (3, 3)


def test_a_worker_that_is_away_is_seen() -> None:
    answer = _ask(httpx.MockTransport(lambda _: httpx.Response(500)))
    assert [one["item"] for one in answer["items"]] == ["i-6", "i-5", "i-2", "i-1"]
    assert (answer["partitions"], answer["of"]) == (2, 3)
    assert _ask(httpx.MockTransport(_peer), local="true")["partitions"] == 2
