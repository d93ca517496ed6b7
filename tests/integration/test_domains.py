"""Domains of accounts: named by HTTP, looked up at a DNS server of the test, shown to reviewers, lapsed and erased."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from labs.zone import Zone, hostile
from services.intake.accounts.looking_up import LookUps
from services.intake.kernel.metrics import DOMAIN_LOOKUPS
from shared.outbound import Dns
from tests.integration.intake_parts import Parts, People
from tests.integration.test_intake_http import problem

pytestmark = pytest.mark.stack
Headers = dict[str, str]
BEFORE = "_goodfaith-challenge."


@pytest.fixture(scope="module")
def zone() -> Iterator[Zone]:
    with Zone() as zone:
        yield zone


@pytest.fixture(scope="module")
def parts(stack: Stack, zone: Zone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("domains")
    parts = Parts(stack, folder, domains=True, domains_resolvers=(zone.address,))
    yield parts
    parts.close()


@pytest.fixture
def lookups(parts: Parts, zone: Zone) -> Iterator[LookUps]:
    parts.query("delete from account_domains")
    zone.texts.clear()
    zone.hostile.clear()
    zone.asked.clear()
    return LookUps(parts.engine, parts.settings)


def name(people: People, headers: Headers, domain: str) -> dict[str, Any]:
    made = people.client.post("/v1/domains", json={"domain": domain}, headers=headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def check(people: People, headers: Headers, id: str) -> httpx.Response:
    return people.client.post(f"/v1/domains/{id}/check", headers=headers)


def mine(people: People, headers: Headers) -> dict[str, Any]:
    return {one["domain"]: one for one in people.client.get("/v1/domains", headers=headers).json()}


def later(parts: Parts, hours: int) -> None:
    """As if everything that was noted about domains had been that long ago, and the next look-up were due."""
    parts.query(
        """update account_domains set asked_wall = asked_wall - %s::interval, seen_wall = seen_wall - %s::interval,
            since_wall = since_wall - %s::interval,
            due_wall = case when due_wall is not null then now() end""",
        *[f"{hours} hours"] * 3,
    )


def test_a_reviewer_sees_a_domain_and_the_account_is_verified_by_nothing(
    parts: Parts, people: People, zone: Zone, lookups: LookUps
) -> None:
    account, headers = people.open(identity_verified=False)
    people.contact(account, headers, email="ada@brand.example")
    made = name(people, headers, "Brand.Example")
    assert (made["name"], made["state"], made["due_at"]) == (f"{BEFORE}brand.example", "pending", None)
    assert made["record"].startswith("goodfaith-verification=")
    assert name(people, headers, "brand.example")["record"] == made["record"], "naming it again changes nothing"
    name(people, headers, "other.example")
    assert lookups.once() == 0, "nothing is looked up unasked"

    assert check(people, headers, made["id"]).json()["due_at"] is not None
    assert lookups.once() == 1
    assert mine(people, headers)["brand.example"]["reason"] == "no_record"
    assert lookups.once() == 0, "not again at once"
    zone.texts[f"{BEFORE}brand.example"] = ["v=spf1 -all", made["record"]]
    later(parts, 1)
    assert lookups.once() == 1

    _, reviewers = people.open("reviewer")
    seen = people.client.get(f"/v1/accounts/{account}", headers=reviewers).json()
    ours, other = seen["domains"]
    assert (ours["domain"], ours["state"], ours["reason"]) == ("brand.example", "verified", None)
    assert ours["since"] is not None
    assert ours["mail_since"] is not None, "the confirmed address is there"
    assert (other["domain"], other["state"], other["mail_since"]) == ("other.example", "pending", None)
    assert "record" not in ours
    assert (seen["history"][0]["kind"], seen["history"][0]["code"]) == ("domain_verified", made["id"])
    assert (seen["identity_verified"], seen["state"]) == (False, "email_confirmed")
    assert set(zone.asked) == {f"{BEFORE}brand.example"}

    # another address, and the mail says nothing of the domain any more
    people.contact(account, headers, email="ada@elsewhere.example")
    assert mine(people, headers)["brand.example"]["mail_since"] is None
    assert mine(people, headers)["brand.example"]["state"] == "verified"


def test_a_domain_whose_record_is_gone_lapses(parts: Parts, people: People, zone: Zone, lookups: LookUps) -> None:
    account, headers = people.open()
    made = name(people, headers, "brand.example")
    zone.texts[made["name"]] = [made["record"]]
    check(people, headers, made["id"])
    lookups.once()
    zone.texts.clear()
    later(parts, 30)
    assert lookups.once() == 1
    assert (one := mine(people, headers)["brand.example"])["state"] == "verified", "for three days"
    assert one["reason"] == "no_record"
    # while nothing looks it up, it is not shown as verified for longer
    later(parts, 43)
    assert (mine(people, headers)["brand.example"]["state"], one["reason"]) == ("failed", "no_record")
    assert lookups.once() == 1
    kinds = [
        one["kind"]
        for one in people.client.get(f"/v1/accounts/{account}", headers=people.operator).json()["history"]
        if one["kind"].startswith("domain")
    ]
    assert kinds == ["domain_lapsed", "domain_verified"]
    later(parts, 1)
    assert lookups.once() == 0, "it is looked up again only when the account asks"
    check(people, headers, made["id"])
    assert mine(people, headers)["brand.example"]["state"] == "pending"


def test_hostile_answers_verify_nothing_and_hold_up_nobody(
    parts: Parts, people: People, zone: Zone, lookups: LookUps
) -> None:
    _, headers = people.open()
    _, honest = people.open()
    for number in range(len(hostile(""))):
        named = name(people, headers, f"h{number}.example")
        zone.hostile[named["name"]] = hostile(named["record"])[number][1]
        check(people, headers, named["id"])
    named = name(people, honest, "honest.example")
    zone.texts[named["name"]] = [named["record"]]
    check(people, honest, named["id"])
    assert [lookups.once(), lookups.once()] == [8, 3]
    found = {one["domain"]: (one["state"], one["reason"]) for one in mine(people, headers).values()}
    expected = {f"h{number}.example": ("pending", counts) for number, (counts, _) in enumerate(hostile(""))}
    assert found == expected
    assert mine(people, honest)["honest.example"]["state"] == "verified"
    assert not [asked for asked in zone.asked if not asked.startswith(BEFORE)], "no answer sends us elsewhere"


def test_anothers_token_is_no_proof(parts: Parts, people: People, zone: Zone, lookups: LookUps) -> None:
    _, owners = people.open()
    _, thieves = people.open()
    own, stolen = (name(people, headers, "brand.example") for headers in (owners, thieves))
    assert own["record"] != stolen["record"]
    zone.texts[own["name"]] = [own["record"]]
    for headers, id in ((owners, own["id"]), (thieves, stolen["id"])):
        problem(check(people, headers, own["id"] if id == stolen["id"] else stolen["id"]), 404)
        assert check(people, headers, id).status_code == 202
    assert lookups.once() == 2
    assert mine(people, owners)["brand.example"]["state"] == "verified"
    assert mine(people, thieves)["brand.example"]["reason"] == "other_record"


def test_what_an_account_may_name_is_bounded(parts: Parts, people: People, lookups: LookUps) -> None:
    _, headers = people.open()
    refused = people.client.post("/v1/domains", json={"domain": "co.uk"}, headers=headers)
    assert problem(refused, 422, field="domain")["type"].endswith(":public_suffix")

    def post(number: int) -> int:
        return people.client.post("/v1/domains", json={"domain": f"d{number}.example"}, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(post, range(14))) == [201] * 10 + [422] * 4
    first = next(iter(mine(people, headers).values()))
    assert check(people, headers, first["id"]).status_code == 202
    assert problem(check(people, headers, first["id"]), 422)["type"].endswith(":check_too_soon")
    # removing and naming it again is no way around the pause, nor are other names around the total
    assert people.client.delete(f"/v1/domains/{first['id']}", headers=headers).status_code == 204
    assert lookups.once() == 0
    again = name(people, headers, first["domain"])
    assert (again["id"], again["record"] != first["record"]) == (first["id"], True)
    assert problem(check(people, headers, first["id"]), 422)["type"].endswith(":check_too_soon")
    for number in range(100, 200):
        people.client.delete(f"/v1/domains/{next(iter(mine(people, headers).values()))['id']}", headers=headers)
        if post(number) == 422:
            break
    assert parts.query("select count(*) from account_domains") == [(50,)]


def test_many_processes_look_a_domain_up_once(parts: Parts, people: People, zone: Zone, lookups: LookUps) -> None:
    _, headers = people.open()
    for number in range(10):
        named = name(people, headers, f"d{number}.example")
        zone.texts[named["name"]] = [named["record"]]
        check(people, headers, named["id"])
    before = DOMAIN_LOOKUPS.labels("found")._value.get()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: LookUps(parts.engine, parts.settings).once(), range(8)))
    assert DOMAIN_LOOKUPS.labels("found")._value.get() - before == 10
    assert {one["state"] for one in mine(people, headers).values()} == {"verified"}
    assert len(zone.asked) == 10


@pytest.mark.parametrize("way", ["erasure", "contact", "closed"])
def test_who_is_erased_has_no_domain(parts: Parts, people: People, zone: Zone, lookups: LookUps, way: str) -> None:
    account, headers = people.open()
    named = name(people, headers, "brand.example")
    zone.texts[named["name"]] = [named["record"]]
    check(people, headers, named["id"])
    lookups.once()
    later(parts, 30)
    if way == "contact":
        assert people.client.delete("/v1/contact", headers=headers).status_code == 204
    else:
        path, body = ("erasure", {}) if way == "erasure" else ("status", {"status": "closed"})
        assert people.client.post(f"/v1/accounts/{account}/{path}", json=body, headers=people.operator).is_success
    assert lookups.once() == 0
    assert parts.query("select count(*) from account_domains") == [(1 if way == "closed" else 0,)]
    assert "brand.example" not in str(parts.query("select * from account_changes where account = %s", account))
    assert parts.query("select count(*) from admission_queue where payload::text like '%%brand.example%%'") == [(0,)]


def test_nothing_is_looked_up_unless_it_is_wanted(parts: Parts, people: People, lookups: LookUps) -> None:
    from services.intake.housekeeping import Housekeeping

    _, headers = people.open()
    with parts.api(GOODFAITH_DOMAINS="false") as client:
        refused = client.post("/v1/domains", json={"domain": "brand.example"}, headers=headers)
        assert problem(refused, 422)["type"].endswith(":domains_not_checked")
    for wanted in (True, False):
        settings = parts.settings.model_copy(update={"domains": wanted})
        jobs = Housekeeping(parts.engine, settings, lambda: None).jobs()
        assert ("domains" in [job for job, _, _ in jobs]) == wanted


def test_a_resolver_is_an_address_and_a_port(zone: Zone) -> None:
    for text in ("dns.example:53", "192.0.2.1", "192.0.2.1:x", ""):
        with pytest.raises(ValueError, match="address and port"):
            Dns(1.0, [text])
    Dns(1.0, ["[2001:db8::53]:53"])
    # a resolver that is not there
    with pytest.raises(OSError, match=r"a\.example"):
        asyncio.run(Dns(0.5, ["127.0.0.1:9"]).texts("a.example"))
