"""The query API: what it says, and that any worker may be asked."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.streams import api, registry
from services.streams.fold import Partition, Record
from shared import callers
from shared.events import SanctionChanged, StandingChanged, State
from shared.ids import items_of
from shared.internal import Client
from shared.settings import Settings
from shared.topics import FILINGS, LEDGER, VERIFICATION, VIOLATIONS, partition_of
from tests.unit.streams.made import BEGIN, changed, filed, record, violation

CLAIM = "c-" + "0" * 22 + "7000"
ITEMS = list(items_of(CLAIM, 3))
TOKEN = "t" * 32
NOW = BEGIN + dt.timedelta(hours=1)


class Worker:
    """A worker with some partitions; the others are the other's."""

    def __init__(self, owned: tuple[int, ...], other: str) -> None:
        self.tables: dict[tuple[str, str], Any] = {}
        self.known = {number: Partition(number, registry.VIEWS) for number in owned}
        self.other = other

    def get(self, view: str, key: str) -> Any:
        """A state."""
        return self.tables.get((view, key))

    def partitions(self) -> Mapping[int, Partition]:
        """Owned."""
        return self.known

    def peers(self) -> Mapping[int, str]:
        """The others."""
        return {number: self.other for number in range(4) if number not in self.known} if self.other else {}

    def take(self, number: int, *events: Record) -> None:
        """Fold."""
        for change in self.known[number].fold(events, self.get)[0]:
            self.tables[change.table, change.key] = change.state


class Two:
    """Two workers that can ask each other."""

    def __init__(self) -> None:
        self.workers = {"http://one": Worker((0, 1), "http://two"), "http://two": Worker((2, 3), "http://one")}
        settings = Settings(
            internal_token=SecretStr(TOKEN),
            internal_callers=SecretStr(callers.written({"streams": TOKEN})),
            partitions=4,
        )  # type: ignore[call-arg, unused-ignore]
        self.apps = {}
        for url, worker in self.workers.items():
            parts = api.Parts(settings, worker, lambda: NOW)
            parts.client = self.client  # type: ignore[method-assign]
            app = api.create(parts)
            app.state.parts = parts  # no lifespan here
            self.apps[url] = app

    def client(self, url: str) -> Client:
        """To one of them."""
        return Client(url, TOKEN, transport=httpx.ASGITransport(app=self.apps[url]))  # type: ignore[arg-type]

    def ask(self, url: str, path: str, token: str = TOKEN, **params: str) -> tuple[int, Any]:
        """Status and body."""

        async def asking() -> tuple[int, Any]:
            transport = httpx.ASGITransport(app=self.apps[url])  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url=url) as client:
                answer = await client.get(path, params=params, headers={"authorization": f"Bearer {token}"})
                return answer.status_code, answer.json()

        return asyncio.run(asking())


@pytest.fixture
def two() -> Two:
    made = Two()
    for number, item in enumerate(ITEMS[:2]):
        change = changed(0, 1, State.NEEDS_INFO if number else State.NOTIFIED, item=item, claim=CLAIM, held=not number)
        made.workers[("http://one", "http://two")[number]].take(
            2 * number, record(VERIFICATION, 1, change, f"verification.{2 * number}.1", BEGIN)
        )
    return made


@pytest.mark.parametrize("url", ["http://one", "http://two"])
def test_a_claims_items_are_told_by_whomever_is_asked(two: Two, url: str) -> None:
    status, told = two.ask(url, "/internal/streams/claim", claim=CLAIM)
    assert status == 200
    assert (told["size"], told["missing"], told["open"]) == (3, 1, 2)
    first, second = told["items"]
    assert (first["item"], first["waits_for"], first["taken_down"]) == (ITEMS[0], "enforcement", True)
    assert (second["item"], second["waits_for"], second["paused"]) == (ITEMS[1], "complainant", True)
    assert [(stage["stage"], stage["late"]) for stage in first["stages"]] == [
        ("recorded", False),
        ("notification", True),
        ("enforcement", False),
    ]


def test_what_the_other_has_is_left_out_while_it_is_away(two: Two) -> None:
    del two.apps["http://two"]
    two.workers["http://one"].other = ""
    assert two.ask("http://one", "/internal/streams/claim", claim=CLAIM)[1]["missing"] == 2


def test_a_claim_that_may_be_with_who_is_away_is_not_denied(two: Two) -> None:
    unknown = "c-" + "1" * 23 + "000"
    two.workers["http://one"].other = "http://gone"
    two.apps["http://gone"] = two.apps["http://one"].__class__([])
    assert two.ask("http://one", "/internal/streams/claim", claim=unknown)[0] == 503
    two.workers["http://one"].other = ""
    assert two.ask("http://one", "/internal/streams/claim", claim=unknown)[0] == 503


def test_a_claim_that_nobody_has(two: Two) -> None:
    for claim in ("c-" + "1" * 23 + "000", "c-1", "nonsense"):
        assert two.ask("http://one", "/internal/streams/claim", claim=claim)[0] == 404


@pytest.mark.parametrize("url", ["http://one", "http://two"])
def test_a_seller_is_told_by_its_owner(two: Two, url: str) -> None:
    seller = "s-1"
    number = partition_of(seller, 4)
    owner = two.workers["http://one" if number < 2 else "http://two"]
    days = (500, 200, 10)
    events = [
        record(
            VIOLATIONS,
            place,
            violation(seller, place, place, 1, True, NOW - dt.timedelta(days=ago)),
            f"enforcement.0.{place}",
            NOW,
        )
        for place, ago in enumerate(days)
    ]
    standing = StandingChanged(seller=seller, general_points=6, serious_strikes=0, violations=2, at=NOW)
    sanction = SanctionChanged(
        seller=seller,
        sanction="x.s1",
        change="imposed",
        cause="threshold",
        measures=("frozen",),
        ledger="general",
        level=2,
        begins=NOW,
        entry="e-1",
        claim="c-1",
        at=NOW,
    )
    events += [
        record(LEDGER, 0, standing, f"enforcement-ledger.{number}.1", NOW),
        record(LEDGER, 1, sanction, f"enforcement-ledger.{number}.2", NOW),
    ]
    owner.take(number, *events)
    status, told = two.ask(url, "/internal/streams/seller", seller=seller)
    assert status == 200
    assert (told["violations"], told["violations_ever"], told["tier"], told["recidivist"]) == (2, 3, "2", True)
    assert (told["mean_interval_days"], told["general_points"]) == (245.0, 6)
    assert [one["measures"] for one in told["sanctions"]] == [["frozen"]]


def test_an_unknown_seller_stands_at_nothing(two: Two) -> None:
    told = two.ask("http://one", "/internal/streams/seller", seller="s-nobody")[1]
    assert (told["violations"], told["tier"], told["standing_at"], told["sanctions"]) == (0, None, None, [])


def test_nobody_answers_without_the_token_or_an_owner(two: Two) -> None:
    assert two.ask("http://one", "/internal/streams/claim", token="x", claim=CLAIM)[0] == 401
    for worker in two.workers.values():
        worker.known.clear()
        worker.other = ""
    assert two.ask("http://one", "/internal/streams/seller", seller="s-1")[0] == 503


def test_status_tells_positions(two: Two) -> None:
    told = two.ask("http://two", "/internal/streams/status")[1]
    assert [one["partition"] for one in told["partitions"]] == [2, 3]
    assert told["partitions"][0]["positions"] == {"@verification.events": 1, "verification.2@verification.events": 1}
    assert told["compared"] == []


def file_some(two: Two) -> None:
    """Five complainants on four partitions: 64, 30, 3, 2 and 1 items, and what is out of the window."""
    for number, (items, ago) in enumerate(((64, 0), (30, 29), (3, 1), (2, 2), (1, 3), (500, 31))):
        account, partition = f"a-{number}", number % 4
        worker = two.workers["http://one" if partition < 2 else "http://two"]
        event = filed(account, number, items, NOW - dt.timedelta(days=ago))
        worker.take(partition, record(FILINGS, number, event, f"intake.{partition}.{number}", NOW))


@pytest.mark.parametrize("url", ["http://one", "http://two"])
def test_concentration_is_told_of_all_workers(two: Two, url: str) -> None:
    file_some(two)
    status, told = two.ask(url, "/internal/streams/filings", most="2")
    assert status == 200
    assert (told["partitions"], told["of"]) == (4, 4)
    assert (told["complainants"], told["items"], told["squares"]) == (5, 100, 64**2 + 30**2 + 9 + 4 + 1)
    assert told["hhi"] == 0.501
    assert told["largest"] == [
        {"account": "a-0", "items": 64, "share": 0.64},
        {"account": "a-1", "items": 30, "share": 0.3},
    ]
    assert dt.datetime.fromisoformat(told["since"]) == dt.datetime(2026, 10, 4, tzinfo=dt.UTC)


def test_concentration_of_what_can_be_asked(two: Two) -> None:
    empty = two.ask("http://one", "/internal/streams/filings")[1]
    assert (empty["hhi"], empty["items"], empty["largest"]) == (None, 0, [])
    file_some(two)
    local = two.ask("http://one", "/internal/streams/filings", local="true")[1]
    assert (local["partitions"], local["of"], local["items"]) == (2, 4, 64 + 30 + 1)
    assert two.ask("http://one", "/internal/streams/filings", most="0")[0] == 400
    assert two.ask("http://one", "/internal/streams/filings", token="x")[0] == 401
