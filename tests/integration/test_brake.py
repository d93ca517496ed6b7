"""The brake on a real database: what is held back, what the API says of it, and complaints about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from shared import policy
from tests.integration.intake_parts import Parts, People

TERMS = policy.current("ipp").brake
assert TERMS is not None
SITE = "https://market.example/items/"


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    made = Parts(stack, tmp_path_factory.mktemp("brake"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(parts: Parts) -> Iterator[httpx.Client]:
    with parts.api() as client:
        yield client


class Holder:
    """A holder with a right; ``settled``: items of its record."""

    def __init__(self, parts: Parts, client: httpx.Client, settled: int) -> None:
        self.client = client
        people = People(client, parts.operator)
        self.operator = people.operator
        self.account, self.headers = people.open()
        body = {"right_type": "trademark", "number": self.account[-8:], "seen": "s", "owner": self.account}
        self.right = client.post("/v1/rights", json=body, headers=self.operator).json()["id"]
        self.filed = 0
        if settled:
            record = f'{{"settled": {settled}, "upheld": {settled}}}'
            parts.query("update accounts set record = %s where id = %s", record, self.account)

    def claim(self, items: int, key: str | None = None, **more: Any) -> dict[str, Any]:
        links = [f"{SITE}{self.account}-{self.filed + n}" for n in range(items)]
        self.filed += items
        body = {"right": self.right, "reason": "counterfeit", "listings": links, **more}
        headers = self.headers if key is None else {**self.headers, "Idempotency-Key": key}
        answer = self.client.post("/v1/claims", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def brake(self, language: str = "en") -> dict[str, Any]:
        answer = self.client.get("/v1/brake", headers={**self.headers, "Accept-Language": language})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def test_a_stolen_account_is_stopped_and_told_why(parts: Parts, client: httpx.Client) -> None:
    holder = Holder(parts, client, 400)
    parts.query("insert into filing_days values (%s, current_date - 8, false, 60, 5000)", holder.account)
    assert holder.brake()["state"] == "none"
    got = [holder.claim(40).get("brake") for _ in range(5)]
    assert got == [None, None, None, "rate", "rate"], "120 a day: twice its best day"
    (terms,) = parts.query("select terms from claims where complainant = %s order by id desc limit 1", holder.account)
    assert '"brake":"rate"' in terms[0], "verification is told"
    told = holder.brake()
    assert (told["state"], told["decided_by_rules_today"], told["held_back_today"], told["most_today"]) == (
        "rate",
        120,
        80,
        0,
    )
    assert TERMS is not None
    assert told["why"] == TERMS.says["rate"]
    assert told["until"] in told["ends"]
    assert told["since"] is not None
    german = holder.brake("de")
    assert german["why"] != told["why"]
    assert german["until"] in german["ends"]
    assert german["ends"] != told["ends"]
    assert holder.claim(1)["brake"] == "rate", "until it ends"


def test_what_was_filed_twice_counts_once(parts: Parts, client: httpx.Client) -> None:
    holder = Holder(parts, client, 0)
    holder.claim(30, key="same")
    holder.filed = 0
    holder.claim(30, key="same")
    assert (holder.brake()["decided_by_rules_today"], holder.brake()["held_back_today"]) == (30, 0)
    assert holder.brake()["state"] == "probation"
    assert holder.claim(30)["brake"] == "probation"
    assert holder.claim(20).get("brake") is None


def test_other_profiles_have_no_brake(parts: Parts, client: httpx.Client) -> None:
    holder = Holder(parts, client, 0)
    assert "brake" not in holder.claim(200, profile="bpp")
    assert holder.brake()["decided_by_rules_today"] == 0


@pytest.mark.parametrize("settled", [0, 400])
@pytest.mark.parametrize("decision", ["release", "confirm"])
def test_a_person_decides_a_complaint(parts: Parts, client: httpx.Client, settled: int, decision: str) -> None:
    holder = Holder(parts, client, settled)
    holder.claim(150)
    held = holder.brake()
    complained = client.post("/v1/brake/complaint", headers=holder.headers)
    assert (complained.status_code, complained.json()["complaint"]) == (201, "open")
    assert client.post("/v1/brake/complaint", headers=holder.headers).json()["type"].endswith(":complaint_known")
    listed = client.get("/v1/brake/complaints", headers=holder.operator).json()["items"]
    assert holder.account in {one["account"] for one in listed}
    _, headers = People(client, parts.operator).open("reviewer")
    path = f"/v1/accounts/{holder.account}/brake/decision"
    assert client.post(path, json={"decision": decision, "code": "x"}, headers=headers).json()["field"] == "code"
    decided = client.post(path, json={"decision": decision, "code": "new_evidence"}, headers=headers)
    assert decided.status_code == 200, decided.text
    after = holder.brake()
    if decision == "release":
        assert (after["state"], after["complaint"]) == ("none", "released")
        assert holder.claim(200).get("brake") is None
    else:
        assert (after["state"], after["complaint"]) == (held["state"], "confirmed")
        assert holder.claim(200)["brake"] == held["state"]
    assert client.post(path, json={"decision": decision, "code": "new_evidence"}, headers=headers).status_code == 404


def test_who_is_not_held_back_has_nothing_to_complain_of(parts: Parts, client: httpx.Client) -> None:
    holder = Holder(parts, client, 400)
    holder.claim(10)
    assert client.post("/v1/brake/complaint", headers=holder.headers).json()["type"].endswith(":no_brake")
