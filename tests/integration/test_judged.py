"""What an item is judged on, read over HTTP: by reviewers, the right holder, the seller, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.kernel.domain import Account
from shared import policy
from shared.content import Content
from shared.events import Listing, Picture, Price, Triage
from tests.integration.intake_parts import Parts, People
from tests.integration.test_intake_http import problem
from tests.integration.test_recurrence import Town

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
MUG = Content(
    title="A mug with an owl",
    brand="Owl",
    price=Price(amount="12.50", currency="EUR"),
    description="Just like the real ones.",
    images=(Picture(id="front", sha256="ab" * 32, url="https://cdn.example/1.jpg"),),
)


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    url = f"http://127.0.0.1:{free_port()}"
    parts = Parts(stack, tmp_path_factory.mktemp("intake"), verification_url=url)
    parts.verification(stack)
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def town(parts: Parts, stack: Stack) -> Iterator[Town]:
    town = Town(parts, stack)
    yield town
    town.close()


@pytest.fixture(scope="module")
def people(parts: Parts) -> Iterator[People]:
    with parts.api() as client:
        yield People(client, parts.operator)


def shown(content: Content, listing: str, seller: str) -> Listing:
    fields = {name: getattr(content, name) for name in Content.__struct_fields__}
    return Listing(listing=listing, seller=seller, state="visible", **fields)


def get(people: People, headers: dict[str, str], path: str, status: int = 200) -> Any:
    answer = people.client.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_reviewer_holder_and_seller_see_what_an_item_is_judged_on(town: Town, people: People) -> None:
    holder, holders = people.open()
    seller, sellers = people.open("seller", id="s-judged")
    _, others = people.open()
    _, reviewers = people.open("reviewer")
    right = people.right(
        holders, number="018000001", register="eu", mark="Owl", classes=["21", "25"], territory=["DE", "FR"]
    )
    town.listed(shown(MUG, "judged-1", seller))
    account = Account(holder, "holder", True, False, True)
    (item,) = town.file(account, "judged-1", right=right, materials=["comparison", "statement"])
    town.listed(shown(msgspec.structs.replace(MUG, description="A mug."), "judged-1", seller))

    details = {
        "register": "eu",
        "number": "018000001",
        "mark": "Owl",
        "classes": ["21", "25"],
        "territory": ["DE", "FR"],
        "views": [],
    }
    for headers in (holders, sellers, reviewers):
        one = get(people, headers, f"/v1/items/{item}")
        assert one["right_details"] == details
        content = one["listing_content"]
        assert (content["status"], content["state"], content["edited"]) == ("known", "visible", True)
        assert msgspec.convert(content["filed"], Content) == MUG
        assert content["now"]["description"] == "A mug."
        assert content["differing"] == ["description"]
        revisions = get(people, headers, f"/v1/items/{item}/revisions")["revisions"]
        assert [kept["content"]["description"] for kept in revisions] == ["Just like the real ones.", "A mug."]
        assert [kept["filed"] for kept in revisions] == [True, False]
        (listed,) = get(people, headers, f"/v1/claims/{one['claim']}/items")["items"]
        assert (listed["right_details"], listed["listing_content"]) == (details, None)
    for path in ("", "/revisions"):
        get(people, others, f"/v1/items/{item}{path}", 404)


def test_a_case_has_all_that_a_reviewer_needs(parts: Parts, town: Town, people: People) -> None:
    holder, holders = people.open()
    _, reviewers = people.open("reviewer")
    right = people.right(holders, number="018000002", register="eu", mark="Owl", classes=["21"])
    town.listed(shown(MUG, "judged-2", "s-2"))
    (item,) = town.file(Account(holder, "holder", True, False, True), "judged-2", right=right, materials=["statement"])
    rules = policy.current("ipp").triage
    assert rules is not None
    (heavy, *_), *_ = sorted(rules.rules.items(), key=lambda rule: -abs(rule[1].weight))
    fired = {heavy: rules.rules[heavy].weight}
    triage = Triage(score=rules.base + fired[heavy], band="review", rules=fired)
    # put before a reviewer, whatever the policy of the day would have done with it
    parts.query("update items set triage = %s where id = %s", msgspec.json.encode(triage).decode(), item)
    parts.query(
        """insert into cases (item, claim, listing, complainant, principal, seller, right_type, reason, severity, profile, policy,
            lane, state, revision, entered, rank, due, since)
        select i.id, c.id, i.listing, c.complainant, c.principal, i.seller, c.right_type, c.reason, 'serious', c.profile, %s,
            c.lane, 'UNDER_REVIEW', i.revision, i.revision, 2, now(), now()
        from items i join claims c on c.id = i.claim where i.id = %s on conflict do nothing""",
        policy.current("ipp").version,
        item,
    )
    case = get(people, reviewers, f"/v1/review/cases/{item}")
    assert case["right"] == right
    assert (case["right_details"]["mark"], case["right_details"]["classes"]) == ("Owl", ["21"])
    assert case["right_details"]["territory"] == ["EU"]
    assert msgspec.convert(case["listing_content"]["filed"], Content) == MUG
    assert case["listing_content"]["edited"] is False
    assert (case["triage"]["score"], case["triage"]["base"], case["triage"]["band"]) == (
        triage.score,
        rules.base,
        "review",
    )
    (reason,) = case["triage"]["reasons"]
    assert (reason["rule"], reason["weight"], reason["signal"]) == (heavy, fired[heavy], rules.rules[heavy].signal)
    listed = get(people, reviewers, "/v1/review/cases")["items"]
    assert [one["listing_content"] for one in listed if one["item"] == item] == [None]
    leased = people.client.post("/v1/review/lease", json={"claim": case["claim"]}, headers=reviewers).json()
    assert msgspec.convert(leased["cases"][0]["listing_content"]["filed"], Content) == MUG
    token = {"Lease-Token": leased["token"]}
    kept = people.client.post("/v1/review/lease/heartbeat", headers={**reviewers, **token}).json()
    assert (kept["cases"][0]["listing_content"], kept["cases"][0]["right"]) == (None, right)


def test_the_seller_sees_the_design_and_no_other_document_of_the_right(
    parts: Parts, town: Town, people: People
) -> None:
    holder, holders = people.open()
    seller, sellers = people.open("seller", id="s-design")
    _, others = people.open("seller", id="s-elsewhere")

    def document(kind: str) -> str:
        made = people.client.post(f"/v1/evidence?kind={kind}", content=f"a {kind}".encode(), headers=holders)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    front, proof = document("design_view"), document("ownership")
    right = people.right(
        holders,
        right_type="design",
        register="us",
        number="D654399",
        classes=["07-01"],
        evidence=[front, proof],
    )
    town.listed(shown(MUG, "judged-4", seller))
    (item,) = town.file(Account(holder, "holder", True, False, True), "judged-4", right=right, reason="design")
    for headers in (holders, sellers):
        assert get(people, headers, f"/v1/items/{item}")["right_details"]["views"] == [front]
    parts.query("update items set told = 0 where id = %s", item)
    for path in (f"/v1/evidence/{front}", f"/v1/evidence/{proof}"):
        get(people, sellers, path, 404)
    parts.query("update items set told = 1 where id = %s", item)
    assert get(people, sellers, f"/v1/evidence/{front}")["kinds"] == ["design_view"]
    get(people, sellers, f"/v1/evidence/{proof}", 404)
    assert [one["id"] for one in get(people, sellers, f"/v1/evidence?about={right}")["items"]] == [front]
    get(people, others, f"/v1/evidence/{front}", 404)
    assert get(people, others, f"/v1/evidence?about={right}")["items"] == []


def test_while_verification_does_not_answer_the_rest_is_shown_and_said_to_lack_it(
    parts: Parts, town: Town, people: People
) -> None:
    holder, holders = people.open()
    right = people.right(holders)
    town.listed(shown(MUG, "judged-3", "s-3"))
    (item,) = town.file(Account(holder, "holder", True, False, True), "judged-3", right=right)
    with parts.api(GOODFAITH_VERIFICATION_URL=f"http://127.0.0.1:{free_port()}") as client:
        answer = client.get(f"/v1/items/{item}", headers=holders)
        assert answer.status_code == 200
        content = answer.json()["listing_content"]
        assert (content["status"], content["filed"], content["edited"]) == ("unavailable", None, None)
        assert answer.json()["right_details"]["number"] == "1234567"
        problem(client.get(f"/v1/items/{item}/revisions", headers=holders), 503)


def test_nobody_but_intake_is_answered(parts: Parts) -> None:
    url = parts.settings.verification_url
    for headers in ({}, {"Authorization": "Bearer no"}):
        assert httpx.get(f"{url}/internal/revisions?item=i", headers=headers, trust_env=False).status_code == 401
        body = {"items": ["i-1"]}
        assert httpx.post(f"{url}/internal/seen", json=body, headers=headers, trust_env=False).status_code == 401
    own = {"Authorization": f"Bearer {parts.internal}"}
    for wrong in ({}, {"items": []}, {"items": ["i"] * 51}, {"items": ["\n"]}, {"items": ["i"], "more": 1}):
        assert httpx.post(f"{url}/internal/seen", json=wrong, headers=own, trust_env=False).status_code == 422
    found = httpx.post(f"{url}/internal/seen", json={"items": ["i-none"]}, headers=own, trust_env=False)
    assert (found.status_code, found.json()) == (200, {"items": {}})
