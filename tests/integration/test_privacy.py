"""What each side of a claim is shown of the others, and what it says it has read: on the real database, over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from tests.integration.intake_parts import CONTACT, Parts, People, sell

pytestmark = pytest.mark.stack

Headers = dict[str, str]


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("privacy"))
    yield parts
    parts.close()


def tell(parts: Parts, party: str, claim: str | None, kind: str, *items: str) -> str:
    """A message that was sent."""
    id_ = f"m-{uuid.uuid4().hex}"
    parts.query(
        """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at)
        values (%s, %s, %s, %s, %s, 'email', 't', 1, 'd', now())""",
        id_, party, claim, kind, list(items),
    )  # fmt: skip
    return id_


# ------------------------------------------------------------------------------------------------------- read receipts


def receipts(parts: Parts, message: str) -> list[dict[str, Any]]:
    rows = parts.query(
        "select payload::json, listing from door where type = 'goodfaith.message.read.v1' and payload::json ->> 'message' = %s",
        message,
    )
    assert all(payload["account"] == listing for payload, listing in rows)
    return [payload for payload, _ in rows]


def test_a_message_is_read_once_by_its_party_alone(parts: Parts, people: People) -> None:
    account, headers = people.open()
    _, others = people.open()
    first, second = (tell(parts, account, None, "right_expiring") for _ in range(2))
    inbox = people.client.get("/v1/inbox", headers=headers).json()
    assert (inbox["unread"], [message["read_at"] for message in inbox["items"]]) == (2, [None, None])
    for stranger in (others, people.open("reviewer")[1], people.operator):
        for method, path in (("GET", ""), ("POST", "/read")):
            answer = people.client.request(method, f"/v1/inbox/{first}{path}", headers=stranger)
            nowhere = people.client.request(method, f"/v1/inbox/m-none{path}", headers=stranger)
            assert (answer.status_code, answer.json()) == (404, nowhere.json()), "not even that there is one"
    assert people.client.get(f"/v1/inbox/{first}", headers=headers).json()["read_at"] is None, "looking is no receipt"
    assert receipts(parts, first) == []

    with ThreadPoolExecutor(6) as pool:  # all at once
        answers = list(
            pool.map(lambda _: people.client.post(f"/v1/inbox/{first}/read", headers=headers).json(), range(12))
        )
    assert len({answer["read_at"] for answer in answers}) == 1
    (receipt,) = receipts(parts, first)
    assert receipt["read_at"] == people.client.get(f"/v1/inbox/{first}", headers=headers).json()["read_at"]
    inbox = people.client.get("/v1/inbox?unread=true", headers=headers).json()
    assert (inbox["unread"], [message["id"] for message in inbox["items"]]) == (1, [second])
    assert people.client.get("/v1/inbox", headers=others).json()["unread"] == 0


# ----------------------------------------------------------------------------------- contact data, by state, side and route


@dataclass
class Case:
    """A claim of an agent for an owner, about a listing of each of two sellers."""

    sides: dict[str, tuple[str, Headers]]
    claim: str
    items: dict[str, str]
    routes: dict[str, list[str]]

    def sees(self, client: httpx.Client, side: str) -> set[str]:
        """Whose contact data a side finds on any route that it may ask."""
        found = set()
        for route in self.routes[side]:
            answer = client.get(route, headers=self.sides[side][1])
            assert answer.status_code in (200, 403, 404), route
            found |= {
                name for name in self.sides if f"Private {name}" in answer.text or f"{name}@private" in answer.text
            }
        return found


@pytest.fixture(scope="module")
def case(parts: Parts, people: People) -> Case:
    end = uuid.uuid4().hex[:8]
    sides = {name: people.open() for name in ("owner", "agent", "stranger")}
    sides |= {name: people.open("seller", id=f"s-{name}-{end}") for name in ("anna", "ben", "elsewhere")}
    sides |= {"reviewer": people.open("reviewer"), "operator": people.open("operator")}
    for name, (_, headers) in sides.items():
        contact = {**CONTACT, "name": f"Private {name}", "email": f"{name}@private.example"}
        assert people.client.put("/v1/contact", json=contact, headers=headers).status_code == 204
    owner, agent = sides["owner"], sides["agent"]
    people.client.post("/v1/authorisations", json={"agent": agent[0]}, headers=owner[1])
    right = people.right(owner[1])
    document = people.client.post("/v1/evidence?kind=comparison", content=b"proof", headers=agent[1]).json()["id"]
    made = people.claim(agent[1], right, f"a-{end}", f"b-{end}", principal=owner[0], evidence=[document])
    items = {name: item["item"] for name, item in zip(("anna", "ben"), made["items"], strict=True)}
    messages: dict[str, list[str]] = {name: [] for name in sides}
    for name in ("owner", "agent"):
        # one message about both sellers' items, and one about each
        for about in (tuple(items.values()), (items["anna"],), (items["ben"],)):
            messages[name] += [tell(parts, sides[name][0], made["claim"], "outcome", *about)]
    for name, item in items.items():
        messages[name] += [tell(parts, sides[name][0], made["claim"], "seller_notice", item)]
        # one that went to somebody who never sold it is nobody's key to anything
        messages["elsewhere"] += [tell(parts, sides["elsewhere"][0], made["claim"], "seller_notice", item)]
    everything = [f"/v1/inbox/{message}" for some in messages.values() for message in some]
    common = [
        "/v1/inbox", "/v1/me", "/v1/claims", f"/v1/claims/{made['claim']}", f"/v1/claims/{made['claim']}/items",
        f"/v1/claims/{made['claim']}/timeline", *(f"/v1/items/{item}" for item in items.values()), "/v1/rights",
        f"/v1/rights/{right}", "/v1/authorisations", f"/v1/evidence?about={made['claim']}", f"/v1/evidence/{document}",
        "/v1/accounts", f"/v1/accounts/{owner[0]}", "/v1/review/cases", f"/v1/review/cases/{items['anna']}",
        *everything,
    ]  # fmt: skip
    return Case(sides, made["claim"], items, dict.fromkeys(sides, common))


LEVELS = {0: "UNDER_REVIEW", 1: "NOTIFIED", 2: "HOLDER_RESPONSE"}


@pytest.mark.parametrize("anna", LEVELS)
@pytest.mark.parametrize("ben", LEVELS)
def test_who_finds_whose_contact_data(parts: Parts, people: People, case: Case, anna: int, ben: int) -> None:
    """Whatever is asked: a seller finds the holder's from its own notice on, a holder a seller's once that very seller countered."""
    for name, level in (("anna", anna), ("ben", ben)):
        sell(parts.engine, case.items[name], case.sides[name][0], state=LEVELS[level], told=level)
    sellers = {name for name, level in (("anna", anna), ("ben", ben)) if level == 2}
    expected: dict[str, set[str]] = {
        "owner": sellers,
        "agent": sellers,
        "anna": {"owner", "agent"} if anna else set(),
        "ben": {"owner", "agent"} if ben else set(),
    }
    for side in case.sides:
        assert case.sees(people.client, side) == expected.get(side, set()), side


def test_what_was_erased_is_found_by_nobody(parts: Parts, people: People, case: Case) -> None:
    for name in case.items:
        sell(parts.engine, case.items[name], case.sides[name][0], state="HOLDER_RESPONSE", told=2)
    assert case.sees(people.client, "agent") == {"anna", "ben"}
    assert people.client.delete("/v1/contact", headers=case.sides["anna"][1]).status_code == 204
    assert case.sees(people.client, "agent") == {"ben"}
