"""Copyrights that are in no register, and names that accounts had before, over HTTP on a real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack
from tests.integration.intake_parts import CONTACT, PUBLISHED, Parts, People
from tests.integration.test_consent import document
from tests.integration.test_intake_http import problem

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("unregistered"))
    yield parts
    parts.close()


def test_a_work_in_no_register_needs_a_sworn_statement_and_a_specimen(parts: Parts, people: People) -> None:
    _, headers = people.open()
    _, reviewers = people.open("reviewer")

    def register(**values: Any) -> Any:
        return people.client.post("/v1/rights", json={"right_type": "copyright", **values}, headers=headers)

    problem(register(), 422, field="published")
    problem(register(published={**PUBLISHED, "on": "2999-01-01"}), 422, field="published.on")
    problem(register(published={**PUBLISHED, "on": "yesterday"}), 422, field="published.on")
    problem(register(published={**PUBLISHED, "where": "a\u202eb\nc"}), 422, field="published.where")
    problem(register(published=PUBLISHED, number="VA-1"), 422, field="published")
    sworn, work, deed = (document(people, headers, kind) for kind in ("sworn_statement", "specimen", "ownership"))
    made = register(published=PUBLISHED, evidence=[sworn, deed]).json()
    assert (made["status"], made["pending_reason"]) == ("pending", "proof_missing")
    assert (made["published_on"], made["published_where"]) == (PUBLISHED["on"], PUBLISHED["where"])
    refused = people.decide(reviewers, made["id"], documents=[sworn, deed])
    assert problem(refused, 422, field="documents")["type"].endswith(":kinds_missing")
    named = people.client.post(f"/v1/rights/{made['id']}/evidence", json={"evidence": [work]}, headers=headers)
    assert named.json() == {"changed": True}
    right = people.client.get(f"/v1/rights/{made['id']}", headers=headers).json()
    assert right["pending_reason"] == "proof_unseen"
    assert people.decide(reviewers, made["id"], documents=[sworn, work]).json() == {"changed": True}
    filed = people.claim(headers, made["id"], uuid.uuid4().hex, reason="pirated_product")
    registered = people.right(headers, right_type="copyright", number="VA-2")
    other = people.claim(headers, registered, uuid.uuid4().hex, reason="pirated_product")
    told = "select coalesce((terms::json->>'right_registered')::boolean, true) from claims where id = %s"
    assert [parts.query(told, one["claim"]) for one in (filed, other)] == [[(False,)], [(True,)]]


def test_names_that_an_account_had_are_compared_too(parts: Parts, people: People) -> None:
    account, headers = people.open()
    _, reviewers = people.open("reviewer")

    def call(name: str) -> None:
        people.contact(account, headers, name=name)

    def seen(right: str) -> tuple[int, bool]:
        shown = people.client.get(f"/v1/rights/{right}", headers=reviewers).json()
        return shown["registrant_match"], shown["registrant_match_former"]

    call("Acme Works Ltd")
    right = people.right(headers, registrant="ACME Works GmbH", number="4100001")
    assert seen(right) == (100, False)
    call("Globex")
    assert seen(right) == (100, True)
    call("Globex")  # the same again is no change
    assert parts.query("select count(*) from former_names where account = %s", account) == [(2,)]
    stored = parts.query("select sealed from former_names where account = %s", account)
    assert not any(b"Acme" in bytes(sealed) or b"Ada" in bytes(sealed) for (sealed,) in stored)
    owner = people.client.get(f"/v1/rights/{right}", headers=headers).json()
    assert (owner["registrant_match"], owner["registrant_match_former"]) == (None, False)
    for number in range(12):
        call(f"{CONTACT['name']} {number}")
    assert parts.query("select count(*) from former_names where account = %s", account) == [(10,)]
    # the key that opened them is gone with the account
    gone = people.client.post(
        f"/v1/accounts/{account}/erasure", json={"force": True, "reason": "test"}, headers=people.operator
    )
    assert gone.status_code == 200, gone.text
    assert parts.query("select count(*) from former_names where account = %s", account) == [(0,)]
    assert seen(right)[0] is None
