"""A holder's way into the good-faith mechanism and out of it again, on the real fleet; the clock is stepped."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from shared import policy
from tests.e2e.world import DAY, World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
TERMS = policy.current("ipp").good_faith


def test_upgraded_by_its_record_warned_and_demoted(world: World) -> None:
    holder, seller = world.account("h-faith"), world.account("s-faith", "seller")
    mark = world.right(holder)
    size = TERMS.min_items + 2
    links = world.offer(seller, *(f"faith-{number}" for number in range(size + 30)))

    def mine() -> dict[str, Any]:
        return dict(world.call(holder, "GET", "/v1/good-faith"))

    def subjects() -> list[str]:
        return [str(mail["Subject"]) for to, mail in world.mail() if to == f"{holder}@private.example"]

    def next_day() -> None:
        world.settle()
        world.to(world.now().replace(hour=2) + DAY)
        world.settle()

    def lane(number: int) -> str:
        return world.file(holder, mark, [links[number]]).lane

    good = world.file(holder, mark, links[:size])
    assert good.lane == "standard"
    world.until(lambda: world.states(good) == {"NOTIFIED": size})
    world.call(seller, "POST", f"/v1/claims/{good.id}/accept", {})
    world.until(lambda: world.states(good) == {"UPHELD": size})
    world.until(lambda: mine()["figures"]["overall"]["upheld"] == size)
    assert (mine()["figures"]["verdict"], mine()["state"]) == ("meets", "out")
    next_day()
    assert (mine()["state"], mine()["how"]) == ("in", "statistic")
    world.until(lambda: any("You take part in the good-faith takedown mechanism" in subject for subject in subjects()))
    used = iter(range(size, size + 30))
    world.until(lambda: lane(next(used)) == "express")

    # what it takes back as an error was a successful counter: 3 of 22 taken down
    for item in good.items[:3]:
        world.do(holder, item, "withdraw", {"ground": "error"})
    world.until(lambda: world.states(good) == {"UPHELD": size - 3, "WITHDRAWN": 3})
    world.until(lambda: mine()["figures"]["overall"]["restored"] == 3)
    next_day()
    warned = mine()
    assert (warned["state"], warned["member"]) == ("warned", True)
    assert {(miss["reason"], miss["rate"]) for miss in warned["figures"]["misses"]} >= {(None, "counter")}
    world.until(lambda: any("short of the good-faith" in subject for subject in subjects()))
    world.to(dt.datetime.fromisoformat(f"{warned['demote_on']}T02:00:00Z"))
    world.settle()
    # more of its claims have been upheld by default meanwhile; still one in ten is too many
    out = mine()
    assert (out["state"], out["member"]) == ("out", False)
    assert out["barred_until"] > warned["demote_on"]
    refused = world.call(holder, "DELETE", "/v1/good-faith", expect=409)
    assert refused["type"].endswith(":not_a_member")
    history = world.call(holder, "GET", "/v1/good-faith/history")["items"]
    assert [entry["kind"] for entry in history] == ["demoted", "warned", "upgraded"]
    world.until(lambda: any("mechanism no longer" in subject for subject in subjects()))
    world.verify()
