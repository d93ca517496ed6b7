"""The canary's rounds against an intake and a page that answer as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.observer.canary_rounds import COMPLETED, POLL_S, STEPS, STEPS_TOTAL, Canary, Failed
from shared.settings import Settings

TOKEN = "gf_canary00_" + "x" * 43


class Town:
    """An intake, a listing's page and a clock. An item goes one step further at every look, as long as ``until`` lets it."""

    def __init__(
        self, *, until: str = "restored", answers: Callable[[httpx.Request], int | None] = lambda _: None
    ) -> None:
        self.now = 100.0
        self.until = until
        self.answers = answers
        self.open: list[str] = []
        self.asked: list[str] = []
        self.keys: list[str] = []
        self.item: dict[str, Any] = {}
        self.page = 200
        settings = Settings(
            canary_token=SecretStr(TOKEN),
            canary_listing="canary",
            canary_page="http://shop.example/canary",
            canary_timeout_s=20,
        )
        self.canary = Canary(
            settings,
            intake=httpx.Client(base_url="http://intake.example", transport=httpx.MockTransport(self.intake)),
            pages=httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(self.page))),
            sleep=self.sleep,
            clock=lambda: self.now,
        )

    def sleep(self, seconds: float) -> bool:
        """Time goes by, and the item on."""
        self.now += seconds
        return True

    def intake(self, request: httpx.Request) -> httpx.Response:
        """What intake answers."""
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        self.asked.append(f"{request.method} {request.url.path}")
        status = self.answers(request)
        if request.method == "POST":
            self.keys.append(request.headers["idempotency-key"])
        if status is not None:
            return httpx.Response(status, json={})
        if request.url.path == "/v1/claims":
            if request.method == "GET":
                return httpx.Response(
                    200, json={"items": [{"id": name, "states": {"NOTIFIED": 1}} for name in self.open]}
                )
            assert json.loads(request.content)["listings"] == ["https://market.example/items/canary"]
            self.item = {
                "id": "i-1",
                "state": "RECEIVED",
                "revision": 0,
                "held": False,
                "noticed_at": None,
                "handled_at": None,
            }
            return httpx.Response(202, json={"claim": "c-1", "items": [{"item": "i-1", "listing": "canary"}]})
        if request.url.path.endswith("/withdraw"):
            if "/claims/" in request.url.path:
                self.open.remove(request.url.path.split("/")[3])
            self.item["asked"] = True
            return httpx.Response(202, json={})
        if request.url.path.endswith("/items"):
            return httpx.Response(200, json={"items": [{"id": "i-0"}]})
        if request.url.path.endswith("i-0"):
            return httpx.Response(200, json={"id": "i-0", "state": "WITHDRAWN"})
        self.step()
        return httpx.Response(200, json=self.item)

    def step(self) -> None:
        """The item goes one step on."""
        item, order = self.item, STEPS.index(self.until)  # type: ignore[arg-type]
        if not item["revision"]:
            if order >= 1:
                item.update(revision=1, state="NOTIFIED", held=True)
        elif self.page == 200 and item["held"] and order >= 2:
            self.page = 410
        elif item["noticed_at"] is None and order >= 3:
            item["noticed_at"] = "2026-11-24T12:00:00Z"
        elif item["handled_at"] is None and order >= 4:
            item["handled_at"] = "2026-11-24T12:00:00Z"
        elif item.get("asked") and item["state"] == "NOTIFIED" and order >= 6:
            item.update(state="WITHDRAWN", held=False)
        elif item["state"] == "WITHDRAWN" and order >= 7:
            self.page = 200


def counted(step: str, result: str) -> float:
    """The counter as it stands."""
    samples = [sample for family in STEPS_TOTAL.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.labels == {"step": step, "result": result})


def last() -> float:
    """When the last round went through."""
    ((sample,),) = (family.samples for family in COMPLETED.collect())
    return sample.value


def test_a_round_goes_through_every_step() -> None:
    before = {step: counted(step, "ok") for step in STEPS}
    town = Town()
    took = town.canary.round()
    assert took == town.now - 100.0  # by the town's clock
    assert {step: counted(step, "ok") - before[step] for step in STEPS} == dict.fromkeys(STEPS, 1.0)
    assert last() > 1.7e9
    first = len(town.asked)
    town.canary.round()
    # after a round that went through there is nothing to tidy
    assert town.asked[first] == "POST /v1/claims"
    assert len(set(town.keys)) == len(town.keys) == 4


@pytest.mark.parametrize("stuck", ["recorded", "down", "notified", "handled", "withdrawn", "restored"])
def test_a_round_that_gets_stuck_is_late_in_that_step_and_no_later_one(stuck: str) -> None:
    order = STEPS.index(stuck)  # type: ignore[arg-type]
    reached = STEPS[order - 1] if STEPS[order - 1] != "asked" else "handled"
    town, when, before = Town(until=reached), last(), counted(stuck, "late")
    with pytest.raises(Failed, match=stuck) as failed:
        town.canary.round()
    assert (failed.value.step, failed.value.result) == (stuck, "late")
    assert counted(stuck, "late") == before + 1
    assert last() == when
    assert 20 - 2 * POLL_S <= town.now - 100 <= 20


def test_what_an_earlier_round_left_open_is_withdrawn_before_the_next_is_filed() -> None:
    town = Town()
    town.open = ["c-0"]
    town.canary.round()
    start = ["GET /v1/claims", "POST /v1/claims/c-0/withdraw", "GET /v1/claims/c-0/items", "GET /v1/items/i-0"]
    assert town.asked[:5] == [*start, "POST /v1/claims"]


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    town = Town(answers=lambda request: status if request.method == "POST" else None)
    with pytest.raises(Failed) as failed:
        town.canary.round()
    assert (failed.value.step, failed.value.result) == ("filed", "refused")
    assert town.asked.count("POST /v1/claims") == 1


def test_an_intake_that_is_away_is_asked_again_under_the_same_key() -> None:
    left = [503, 429, 500]
    town = Town(answers=lambda request: left.pop() if request.method == "POST" and left else None)
    town.canary.round()
    assert len(set(town.keys[:4])) == 1
    gone = Town(answers=lambda _: 503)
    with pytest.raises(Failed) as failed:
        gone.canary.round()
    assert (failed.value.step, failed.value.result) == ("filed", "late")


@pytest.mark.parametrize(
    "state", ["DUPLICATE", "UNDER_REVIEW", "REJECTED", "NEEDS_INFO", "LINK_INVALID", "UPHELD_BY_DEFAULT"]
)
def test_a_state_that_no_canary_comes_to_ends_the_round_at_once(state: str) -> None:
    town = Town(until="recorded")

    def step() -> None:
        town.item.update(state=state, revision=1)

    town.step = step  # type: ignore[method-assign]
    with pytest.raises(Failed) as failed:
        town.canary.round()
    assert (failed.value.step, failed.value.result) == ("recorded", "astray")
    assert town.now == 100


def test_without_a_token_there_is_no_canary() -> None:
    with pytest.raises(ValueError, match="GOODFAITH_CANARY_TOKEN"):
        Canary(Settings(canary_listing="canary"))
