"""Nobody becomes an agent, or the owner of a right, by somebody else's call: consent and powers of attorney over HTTP."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from tests.integration.intake_parts import Parts, People
from tests.integration.test_intake_http import problem

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("consent"))
    yield parts
    parts.close()


Headers = dict[str, str]


def claim(people: People, headers: Headers, right: str, principal: str) -> httpx.Response:
    """A claim of an agent."""
    listings = [f"https://market.example/items/{uuid.uuid4().hex}"]
    asked = {"right": right, "reason": "counterfeit", "listings": listings, "principal": principal}
    return people.client.post("/v1/claims", json=asked, headers=headers)


def document(people: People, headers: Headers, kind: str = "authority") -> str:
    """A document of the account."""
    answer = people.client.post(
        f"/v1/evidence?kind={kind}", content=f"Power {uuid.uuid4().hex}".encode(), headers=headers
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ask(people: People, headers: Headers, **values: Any) -> httpx.Response:
    """A request for an authorisation."""
    return people.client.post("/v1/authorisations", json=values, headers=headers)


def consent(people: People, headers: Headers, grant: str, accept: bool = True) -> httpx.Response:
    """An answer to it."""
    return people.client.post(f"/v1/authorisations/{grant}/consent", json={"accept": accept}, headers=headers)


def decide(people: People, headers: Headers, grant: str, **values: Any) -> httpx.Response:
    """A reviewer's decision on its power of attorney."""
    return people.client.post(f"/v1/authorisations/{grant}/decision", json=values, headers=headers)


def read(people: People, headers: Headers, grant: str) -> dict[str, Any]:
    """The authorisation with its history."""
    answer = people.client.get(f"/v1/authorisations/{grant}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def told(parts: Parts, account: str) -> list[str]:
    """Kinds of the notices to an account about authorisations and assignments, oldest first."""
    rows = parts.query(
        """select payload::json->>'kind' from admission_queue where type = 'goodfaith.account.notice.v1'
        and payload::json->>'account' = %s and payload::json->>'kind' ~ '^(authorisation|right_(offer|assi|rece))'
        order by id""",
        account,
    )
    return [kind for (kind,) in rows]


def test_an_agent_files_once_it_has_consented(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    right = people.right(owners)
    grant = ask(people, owners, agent=agent, rights=[right]).json()
    assert (grant["status"], grant["pending_reason"], grant["basis"]) == ("pending", "agent_consent", None)
    assert problem(claim(people, agents, right, owner), 422)["type"].endswith(":not_authorised")
    # the principal does not consent in the agent's place, nor a stranger, and no power of attorney is wanting
    assert problem(consent(people, owners, grant["id"]), 403)["type"].endswith(":others_consent")
    problem(consent(people, people.open()[1], grant["id"]), 404)
    proof = {"evidence": [document(people, agents)]}
    named = people.client.post(f"/v1/authorisations/{grant['id']}/evidence", json=proof, headers=agents)
    assert problem(named, 409)["type"].endswith(":not_pending")
    reviewers = people.open("reviewer")[1]
    problem(decide(people, reviewers, grant["id"], accept=True, seen="office"), 409)
    assert consent(people, agents, grant["id"]).json() == {"changed": True}
    problem(consent(people, agents, grant["id"]), 409)
    shown = read(people, owners, grant["id"])
    assert (shown["status"], shown["basis"]) == ("active", "principal")
    assert [(one["kind"], one["by"]) for one in shown["history"]] == [("accepted", agent), ("asked", owner)]
    assert claim(people, agents, right, owner).status_code == 202
    # an agent need not act for anybody
    assert people.client.delete(f"/v1/authorisations/{grant['id']}", headers=agents).json() == {"changed": True}
    problem(claim(people, agents, right, owner), 422)
    assert told(parts, agent) == ["authorisation_offered", "authorisation_given"]
    assert told(parts, owner) == ["authorisation_ended"]


def test_a_principal_confirms_what_an_agent_asks(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    right = people.right(owners)
    grant = ask(people, agents, principal=owner).json()
    assert (grant["agent"], grant["principal"], grant["pending_reason"]) == (agent, owner, "proof_missing")
    assert problem(consent(people, agents, grant["id"]), 403)["type"].endswith(":others_consent")
    assert consent(people, owners, grant["id"]).json() == {"changed": True}
    assert claim(people, agents, right, owner).status_code == 202
    assert told(parts, owner) == ["authorisation_asked"]
    # what is declined is at an end, and no power of attorney brings it back
    second = ask(people, agents, principal=owner, evidence=[document(people, agents)]).json()["id"]
    assert consent(people, owners, second, accept=False).json() == {"changed": True}
    problem(decide(people, people.operator, second, accept=True, seen="office"), 409)
    assert read(people, agents, second)["status"] == "ended"
    for values, field in (
        ({}, "agent"),
        ({"agent": owner, "principal": owner}, "principal"),
        ({"principal": agent}, "principal"),
        ({"principal": "a-none"}, "principal"),
        ({"agent": owner, "evidence": ["d-none"]}, "evidence"),
        ({"principal": owner, "evidence": ["d-none"]}, "evidence[0]"),
        ({"principal": owner, "rights": [people.right(agents)]}, "rights[0]"),
        # only a holder files
        ({"agent": people.open("seller", id=f"s-{uuid.uuid4().hex[:8]}")[0]}, "agent"),
    ):
        problem(ask(people, agents, **values), 422, field=field)


def test_an_agent_files_on_a_power_of_attorney_that_a_reviewer_accepted(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    reviewer, reviewers = people.open("reviewer")
    right = people.right(owners)
    power, other, strange = document(people, agents), document(people, agents, "other"), document(people, owners)
    grant = ask(people, agents, principal=owner, rights=[right], evidence=[power]).json()
    assert grant["pending_reason"] == "proof_unseen"
    id = grant["id"]
    waiting = people.client.get("/v1/authorisations?status=pending&limit=200", headers=reviewers).json()["items"]
    assert id in [one["id"] for one in waiting]
    problem(claim(people, agents, right, owner), 422)

    # not on nothing, nor on what is not named in it or is no power of attorney; nobody decides its own affair
    problem(decide(people, reviewers, id, accept=True), 422, field="documents")
    problem(decide(people, reviewers, id, accept=True, documents=[other]), 422, field="documents[0]")
    problem(decide(people, reviewers, id, accept=False, code="another_right"), 422, field="code")
    for party in (agent, owner):
        people.client.put("/v1/review/conflicts", json={"accounts": [party]}, headers=reviewers)
        refused = problem(decide(people, reviewers, id, accept=True, documents=[power]), 403)
        assert refused["type"].endswith(":conflict_of_interest")
    people.client.put("/v1/review/conflicts", json={"accounts": []}, headers=reviewers)

    # refused, with a cure; further documents of the agent, and of nobody else, bring it back
    assert decide(people, reviewers, id, accept=False, code="not_signed", documents=[power]).is_success
    shown = read(people, agents, id)
    assert shown["pending_reason"] == "refused"
    assert shown["history"][0] | {"at": None} == {
        "kind": "refused",
        "by": "reviewer",
        "at": None,
        "code": "not_signed",
        "documents": [power],
        "seen": None,
        "cure": shown["history"][0]["cure"],
    }
    assert "signed" in shown["history"][0]["cure"]
    url = f"/v1/authorisations/{id}/evidence"
    problem(people.client.post(url, json={"evidence": [strange]}, headers=owners), 403)
    problem(people.client.post(url, json={"evidence": [strange]}, headers=agents), 422, field="evidence[0]")
    better = document(people, agents)
    assert people.client.post(url, json={"evidence": [better, other]}, headers=agents).json() == {"changed": True}
    assert read(people, agents, id)["pending_reason"] == "proof_unseen"
    problem(decide(people, reviewers, id, accept=True, documents=[other]), 422, field="documents")

    assert decide(people, reviewers, id, accept=True, documents=[better]).json() == {"changed": True}
    shown = read(people, reviewers, id)
    assert (shown["status"], shown["basis"], shown["history"][0]["by"]) == ("active", "power_of_attorney", reviewer)
    assert shown["history"][0]["documents"] == [better]
    assert claim(people, agents, right, owner).status_code == 202
    assert told(parts, agent) == ["authorisation_refused", "authorisation_given"]
    assert told(parts, owner) == ["authorisation_asked", "authorisation_by_power"]

    # the documents are kept while it is in force
    def needed() -> set[str]:
        with parts.engine.begin() as connection:
            now = dt.datetime.now(dt.UTC)
            return evidence_store._needed(connection, [power, better], now, evidence.keeping())

    assert needed() == {power, better}
    problem(people.client.delete(f"/v1/evidence/{better}", headers=agents), 409)
    # the principal has not signed anything
    assert people.client.delete(f"/v1/authorisations/{id}", headers=owners).json() == {"changed": True}
    problem(claim(people, agents, right, owner), 422)


def test_one_request_has_one_answer(parts: Parts, people: People) -> None:
    """Consent, refusal, withdrawal and decision at once: one of them counts, and who files agrees with it."""
    owner, owners = people.open()
    _, agents = people.open()
    reviewers = people.open("reviewer")[1]
    for _ in range(5):
        power = document(people, agents)
        id = ask(people, agents, principal=owner, evidence=[power]).json()["id"]
        calls: list[Callable[[], httpx.Response]] = [
            partial(consent, people, owners, id),
            partial(consent, people, owners, id, accept=False),
            partial(consent, people, agents, id, accept=False),
            partial(decide, people, reviewers, id, accept=True, documents=[power]),
        ] * 2
        with ThreadPoolExecutor(8) as pool:
            answers = [future.result() for future in [pool.submit(call) for call in calls]]
        assert [answer.status_code for answer in answers].count(200) == 1
        assert {answer.status_code for answer in answers} == {200, 409}
        kinds = [one["kind"] for one in read(people, agents, id)["history"]]
        assert kinds[1:] == ["documents", "asked"]
        assert read(people, agents, id)["status"] == {"accepted": "active", "declined": "ended"}[kinds[0]]


def test_requests_that_wait_are_bounded(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    parts.query(
        """insert into authorisations (id, agent, principal, status, granted_at, basis, asked_by, pending_reason)
        select 'u-' || md5(%s || n), %s, %s, 'ended', now(), null, %s, 'proof_missing' from generate_series(1, 99) n""",
        agent,
        agent,
        owner,
        agent,
    )
    last = ask(people, agents, principal=owner).json()["id"]
    assert problem(ask(people, agents, principal=owner), 422)["type"].endswith(":too_many_waiting")
    assert people.client.delete(f"/v1/authorisations/{last}", headers=agents).json() == {"changed": True}
    assert ask(people, agents, principal=owner).status_code == 201
    # the other side's own are not counted
    assert ask(people, owners, agent=agent).status_code == 201


def test_authorisations_of_0_2_0_stay_as_they_are(parts: Parts, people: People) -> None:
    """As a process of 0.2.0 writes one, which knows none of the columns."""
    owner, owners = people.open()
    agent, agents = people.open()
    right = people.right(owners)
    parts.query(
        "insert into authorisations (id, agent, principal, granted_at) values (%s, %s, %s, now())",
        f"u-{agent}",
        agent,
        owner,
    )
    shown = read(people, owners, f"u-{agent}")
    assert (shown["status"], shown["basis"], shown["history"]) == ("active", "rules_0_2_0", [])
    assert claim(people, agents, right, owner).status_code == 202
    # and it does not take for granted what waits: it looks for this status alone
    waiting = ask(people, owners, agent=people.open()[0]).json()["id"]
    assert parts.query("select status from authorisations where id = %s", waiting) == [("ended",)]


def test_a_right_passes_once_its_new_owner_consents(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    heir, heirs = people.open()
    other, others = people.open()
    right = people.right(owners)
    url = f"/v1/rights/{right}/assignment"
    shown = f"/v1/rights/{right}"

    def answer(headers: Headers, accept: bool = True) -> httpx.Response:
        return people.client.post(f"{url}/consent", json={"accept": accept}, headers=headers)

    def offer(to: str, headers: Headers = owners) -> httpx.Response:
        return people.client.post(url, json={"to": to}, headers=headers)

    problem(answer(owners), 409)
    assert offer(other).json() == {"changed": True}
    assert offer(other).json() == {"changed": False}
    assert offer(heir).json() == {"changed": True}
    # it has passed to nobody: the owner claims under it, and the account that it is offered to only reads it
    read_by_heir = people.client.get(shown, headers=heirs).json()
    assert (read_by_heir["owner"], read_by_heir["offered_to"]) == (owner, heir)
    listed = people.client.get("/v1/rights", headers=heirs).json()["items"]
    assert [one["id"] for one in listed] == [right]
    problem(people.client.get(shown, headers=others), 404)
    problem(answer(others), 404)
    problem(offer(heir, heirs), 404)
    problem(people.client.patch(shown, json={"status": "lost"}, headers=heirs), 404)
    for headers in (owners, people.operator):
        assert problem(answer(headers), 403)["type"].endswith(":others_consent")
    people.claim(owners, right, uuid.uuid4().hex)
    problem(claim(people, heirs, right, heir), 422)
    assert answer(heirs, accept=False).json() == {"changed": True}
    problem(people.client.get(shown, headers=heirs), 404)
    assert offer(heir).json() == {"changed": True}
    assert answer(owners, accept=False).json() == {"changed": True}
    problem(answer(heirs), 404)
    assert offer(heir).json() == {"changed": True}
    assert answer(heirs).json() == {"changed": True}
    read_by_heir = people.client.get(shown, headers=heirs).json()
    assert (read_by_heir["owner"], read_by_heir["offered_to"]) == (heir, None)
    problem(people.client.get(shown, headers=owners), 404)
    assert [one["kind"] for one in reversed(read_by_heir["history"])] == [
        "registered",
        *("offered", "offered", "declined", "offered", "declined", "offered", "assigned"),
    ]
    assert told(parts, other) == ["right_offered", "right_offer_ended"]
    assert told(parts, heir) == [
        *("right_offered", "right_offered", "right_offer_ended", "right_offered", "right_received"),
    ]
    assert told(parts, owner) == ["right_offer_ended", "right_assigned"]
