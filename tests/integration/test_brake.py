"""The brake on a real database: what is held back, what the API says of it, and complaints about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.kernel import store
from services.intake.kernel.filings import Filed, Filing, digest
from services.intake.kernel.listings import named_by
from services.intake.kernel.requests import SubmitClaim
from shared import policy, site_links
from shared.refusals import Refused
from tests.integration.intake_parts import PATIENCE_S, Parts, People

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


def test_no_profile_is_a_way_around_it(parts: Parts, client: httpx.Client) -> None:
    holder = Holder(parts, client, 0)
    assert "brake" not in holder.claim(40, profile="bpp")
    assert holder.claim(40, profile="cn-ecl")["brake"] == "probation", "what was filed under others counts"
    assert (holder.brake()["decided_by_rules_today"], holder.brake()["held_back_today"]) == (40, 40)


def test_only_profiles_that_are_offered_are_taken(parts: Parts) -> None:
    with parts.api(GOODFAITH_PROFILES='["ipp", "bpp"]') as client:
        people = People(client, parts.operator)
        holder = Holder(parts, client, 0)
        _, agent = people.open()
        body = {"right": holder.right, "reason": "counterfeit", "listings": [f"{SITE}of-the-law"]}
        people.authorise(holder.headers, agent, rights=[holder.right])
        for headers, whose in ((holder.headers, {}), (agent, {"principal": holder.account})):
            refused = client.post("/v1/claims", json={**body, **whose, "profile": "cn-ecl"}, headers=headers)
            assert refused.status_code == 422, refused.text
            told = refused.json()
            assert (told["type"].rpartition(":")[2], told["field"]) == ("profile_not_offered", "profile")
            assert told["cure"] == "Use one of: bpp, ipp."
            taken = client.post("/v1/claims", json={**body, **whose, "profile": "bpp"}, headers=headers)
            assert taken.status_code == 202, taken.text
        assert client.get("/v1/forms").json()["profiles"] == ["bpp", "ipp"]
        assert client.get("/v1/forms", params={"profile": "cn-ecl"}).json()["field"] == "profile"
    child = parts.start("api", GOODFAITH_PROFILES='["imp"]', GOODFAITH_HTTP_PORT="0")
    assert child.wait(PATIENCE_S) != 0
    assert "GOODFAITH_PROFILES: no profile 'imp'" in parts.log("api")


def test_copies_in_one_commit_count_once(parts: Parts, client: httpx.Client) -> None:
    """A copy that is sent while the first one still waits for its commit uses up nothing, and puts no brake on."""
    holder = Holder(parts, client, 400)

    def filing(key: str, items: int) -> Filing:
        links = [f"{SITE}{holder.account}-{key}-{n}" for n in range(items)]
        body = SubmitClaim(right=holder.right, reason="counterfeit", listings=links)
        with parts.engine.begin() as connection:
            account = store.existing(connection, holder.account)
        site = site_links.of(parts.settings.site_links)
        return Filing(
            account,
            key,
            account.id,
            digest("submit_claim", key, b""),
            "submit_claim",
            body,
            "form",
            listings=named_by(links, site).listings,
            rules=policy.current("ipp"),
        )

    with parts.engine.begin() as connection:
        now, wall = store.enter_admission(connection)
        first, copy, second, other, third = filing_store.file(
            connection,
            [
                filing("a", 60),
                filing("a", 60),
                filing("b", 30),
                dataclasses.replace(filing("a", 9), digest=b"other"),
                filing("c", 10),
            ],
            now,
            wall,
            parts.settings.partitions,
        )
    assert isinstance(first, Filed)
    assert isinstance(copy, Filed)
    assert (first.replayed, copy.replayed, copy.answer) == (False, True, first.answer)
    assert isinstance(other, Refused)
    assert other.reason == "key_reused"
    for made in (second, third):
        assert isinstance(made, Filed)
        assert "brake" not in made.answer.decode()
    told = holder.brake()
    assert (told["state"], told["decided_by_rules_today"], told["held_back_today"]) == ("none", 100, 0)


def test_a_copy_in_another_process_counts_once(parts: Parts, client: httpx.Client) -> None:
    """A process that waits for another's commit of the same request has not counted it too."""
    holder = Holder(parts, client, 400)
    holder.claim(1)
    links = [f"{SITE}{holder.account}-{n}" for n in range(60)]
    body = {"right": holder.right, "reason": "counterfeit", "listings": links}
    headers = {**holder.headers, "Idempotency-Key": "same"}
    with ThreadPoolExecutor(4) as threads, parts.api() as second:
        sent = [threads.submit(to.post, "/v1/claims", json=body, headers=headers) for to in (client, second) * 2]
        answers = [one.result() for one in sent]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.text for answer in answers}) == 1
    told = holder.brake()
    assert (told["state"], told["decided_by_rules_today"], told["held_back_today"]) == ("none", 61, 0)


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
