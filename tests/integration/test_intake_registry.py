"""Accounts, rights and authorisations over HTTP on a real database, and the job that ends and warns."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.stack import Stack
from services.intake.accounts import store as accounts_store
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.kernel import filings, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.listings import named_by
from services.intake.registry import authority_store
from services.intake.registry import store as registry_store
from shared import policy, site_links
from shared.refusals import Refused
from tests.integration.intake_parts import CONTACT, PARTITIONS, Parts, People, on_file
from tests.integration.test_intake_http import body, problem

pytestmark = pytest.mark.stack
RULES = policy.current("ipp").accounts
_numbers = itertools.count(1_000_000)


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


def right(people: People, headers: dict[str, str], **values: Any) -> dict[str, Any]:
    """A US trade mark as registered."""
    return people.registered(headers, **{"register": "us", "number": str(next(_numbers)), **values})


def notices(parts: Parts, account: str) -> list[dict[str, Any]]:
    """What the account is told, in order."""
    rows = parts.query(
        "select payload::json from admission_queue where type = 'goodfaith.account.notice.v1' and listing = %s order by id",
        account,
    )
    return [row[0] for row in rows]


def told(parts: Parts, claim: str) -> list[str]:
    """What the items of a claim were told of the right, in order, once all are told."""
    parts.tell_rights()
    rows = parts.query(
        "select payload::json->>'status' from admission_queue where type like '%%change_right%%' and claim = %s order by id",
        claim,
    )
    return [status for (status,) in rows]


def in_(**span: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(**span)).isoformat()


# ---- accounts


def test_an_address_is_confirmed_by_a_code(parts: Parts, people: People) -> None:
    made = people.client.post("/v1/accounts", json={}).json()
    account, headers = made["account"], {"Authorization": f"Bearer {made['token']}"}

    def state() -> str:
        return str(people.client.get("/v1/me", headers=headers).json()["state"])

    def confirm(code: str) -> httpx.Response:
        return people.client.post("/v1/contact/confirmation", json={"code": code}, headers=headers)

    def mailed(notice: str) -> str | None:
        asked = people.client.post(
            "/internal/codes", json={"ids": [notice]}, headers={"Authorization": f"Bearer {parts.internal}"}
        ).json()["codes"]
        return asked[notice]["code"] if notice in asked else None

    assert state() == "applied"
    problem(people.client.post("/v1/contact/code", headers=headers), 422)
    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    assert people.client.post("/v1/contact/code", headers=headers).status_code == 202
    soon = problem(people.client.post("/v1/contact/code", headers=headers), 422)
    assert soon["type"].endswith(":code_too_soon")
    (said,) = notices(parts, account)
    assert (said["kind"], said["figures"]) == ("email_code", {"minutes": 60})
    problem(confirm("ABCD-EFGH-JKMN"), 422, field="code")  # none was mailed yet

    code = mailed(said["notice"])
    assert code is not None
    kept = " ".join(str(row) for row in parts.query("select * from email_codes"))
    assert code not in kept
    assert code not in parts.log("api")
    again = mailed(said["notice"])
    assert again != code
    assert again is not None
    problem(confirm(code), 422, field="code")  # void since there is a later one
    assert mailed("n-nothing") is None
    # another address is not confirmed by the code for this one
    people.client.put("/v1/contact", json={**CONTACT, "email": "eve@example.org"}, headers=headers)
    problem(confirm(again), 422, field="code")
    parts.query("update email_codes set requested_at = requested_at - interval '1 hour' where account = %s", account)
    assert people.client.post("/v1/contact/code", headers=headers).status_code == 202
    code = mailed(notices(parts, account)[-1]["notice"])
    assert code is not None
    assert confirm(code.lower()).json()["state"] == "email_confirmed"
    assert state() == "email_confirmed"
    problem(confirm(code), 422, field="code")
    problem(people.client.post("/v1/contact/code", headers=headers), 422)
    people.client.put("/v1/contact", json={**CONTACT, "email": "eve@example.org", "name": "Eve"}, headers=headers)
    assert state() == "email_confirmed"
    people.client.delete("/v1/contact", headers=headers)
    assert state() == "applied"
    people.verify(people.operator, account)
    assert state() == "verified"
    assert notices(parts, account)[-1]["kind"] == "account_verified"


def test_a_code_is_good_for_ten_tries(parts: Parts, people: People) -> None:
    account, headers = people.open()
    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    people.client.post("/v1/contact/code", headers=headers)
    with parts.engine.begin() as connection:
        notice = notices(parts, account)[-1]["notice"]
        code = accounts_store.codes(connection, [notice], RULES)[notice]

    def tried(text: str) -> str:
        answer = people.client.post("/v1/contact/confirmation", json={"code": text}, headers=headers)
        return str(problem(answer, 422, field="code")["type"]).rpartition(":")[2]

    # at once: each is counted
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(tried, ["WRONG"] * 10)) == {"wrong_code"}
    assert tried(code) == "tries_used"


def test_a_rule_may_verify(parts: Parts, people: People) -> None:
    made = people.client.post("/v1/accounts", json={}).json()
    account, headers = made["account"], {"Authorization": f"Bearer {made['token']}"}
    rules = policy.Accounts(verify_when=("contact", "company", "right_registered"))

    def ruled(rules: policy.Accounts) -> bool:
        with parts.engine.begin() as connection:
            return accounts_store.verify_by_rule(connection, account, rules, PARTITIONS)

    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    assert not ruled(rules)
    right(people, headers)
    assert not ruled(RULES)
    assert ruled(rules)
    assert not ruled(rules)  # once
    assert people.client.get("/v1/me", headers=headers).json()["state"] == "verified"
    assert parts.query("select kind, by from account_changes where account = %s", account) == [("verified", "rule")]


def test_a_suspended_account_begins_nothing_new_and_a_closed_one_is_refused(parts: Parts, people: People) -> None:
    account, headers = people.open()
    agent, _ = people.open()
    made = right(people, headers)
    claim = people.claim(headers, made["id"], "kept")
    url = f"/v1/accounts/{account}/status"

    def status(wanted: str) -> httpx.Response:
        return people.client.post(url, json={"status": wanted, "code": "abuse"}, headers=people.operator)

    assert status("suspended").json()["state"] == "suspended"
    for path, content in (
        ("/v1/claims", body(made["id"], "x")),
        ("/v1/rights", {"right_type": "copyright", "number": "VA-1"}),
        ("/v1/authorisations", {"agent": agent}),
    ):
        assert problem(people.client.post(path, json=content, headers=headers), 403)["type"].endswith(
            "account_suspended"
        )
    withdrawn = people.client.post(f"/v1/claims/{claim['claim']}/withdraw", json={"ground": "error"}, headers=headers)
    assert withdrawn.status_code == 202
    assert status("open").json()["state"] == "verified"
    claim = people.claim(headers, made["id"], "kept")
    assert status("closed").json()["state"] == "closed"
    refused = problem(people.client.get("/v1/me", headers=headers), 401)
    assert refused["type"].endswith(":account_closed")
    assert told(parts, claim["claim"]) == []  # open claims stay
    assert problem(status("open"), 422, field="status")["type"].endswith(":closed_for_good")
    problem(
        people.client.post("/v1/accounts/a-operator/status", json={"status": "closed"}, headers=people.operator), 422
    )
    problem(people.client.post("/v1/accounts/a-none/status", json={"status": "closed"}, headers=people.operator), 404)
    read = people.client.get(f"/v1/accounts/{account}", headers=people.operator).json()
    assert [(entry["kind"], entry["code"]) for entry in read["history"]] == [
        ("closed", "abuse"),
        ("open", "abuse"),
        ("suspended", "abuse"),
        ("email_confirmed", None),
        ("verified", None),
    ]
    assert [said["kind"] for said in notices(parts, account)] == [
        "account_suspended",
        "account_resumed",
        "account_closed",
    ]


def test_reviewers_find_accounts_by_their_state(parts: Parts, people: People) -> None:
    _, reviewers = people.open("reviewer")
    states = ("applied", "email_confirmed", "verified", "suspended", "closed")
    for facts in itertools.product(("open", "suspended", "closed"), (False, True), (None, dt.datetime.now(dt.UTC))):
        account, _ = people.open()
        parts.query(
            "update accounts set status = %s, identity_verified = %s, email_confirmed_at = %s where id = %s",
            *facts,
            account,
        )
    found: dict[str, set[str]] = {}
    for state in states:
        cursor: str | None = ""
        while cursor is not None:
            more = f"&cursor={cursor}" if cursor else ""
            page = people.client.get(f"/v1/accounts?state={state}&limit=3{more}", headers=reviewers).json()
            assert {one["state"] for one in page["items"]} <= {state}
            found.setdefault(state, set()).update(one["id"] for one in page["items"])
            cursor = page["next"]
    ((count,),) = parts.query("select count(*) from accounts")
    assert sum(map(len, found.values())) == count
    assert all(len(found[state]) >= 1 for state in states)
    problem(people.client.get("/v1/accounts?state=nope", headers=reviewers), 400, field="state")


# ---- rights


def test_a_right_is_kept_as_the_register_has_it(people: People) -> None:
    _, headers = people.open()
    made = right(
        people,
        headers,
        number="５，１２３，４５６",
        mark="ＡＣＭＥ  Works",
        classes=["25", "9"],
        registrant="Acme Works Ltd",
    )
    assert (made["number"], made["mark"], made["classes"], made["territory"]) == (
        "5123456",
        "ACME Works",
        ["9", "25"],
        ["US"],
    )
    assert (made["status"], made["pending_reason"], made["normalised"]) == ("active", None, ["number", "mark"])
    plain = right(people, headers, number="5123457", mark="ACME")
    assert plain["normalised"] == []

    def refused(field: str, **values: Any) -> str:
        asked = {"right_type": "trademark", "register": "us", "number": "5123458", "proof": "d", **values}
        return str(problem(people.client.post("/v1/rights", json=asked, headers=headers), 422, field=field)["type"])

    assert refused("classes[0]", classes=["46"]).endswith("bad_class")
    assert refused("territory", register="wipo").endswith("designations_missing")
    assert refused("territory[1]", register="wipo", territory=["CN", "XX"]).endswith("unknown_country")
    assert refused("mark", mark="\u200b").endswith("bad_mark")
    assert refused("mark", mark="A", right_type="design", number="D654321").endswith("no_mark")
    assert refused("expires_at", expires_at="2100-01-01T00:00:00Z").endswith("term_too_long")
    exists = people.client.post(
        "/v1/rights", json={"right_type": "trademark", "register": "us", "number": "5,123,456"}, headers=headers
    )
    assert made["id"] in problem(exists, 409, field="number")["cure"]


def test_a_design_is_registered_with_its_class_and_its_views(parts: Parts, people: People) -> None:
    owner, owners = people.open()

    def document(kind: str) -> str:
        made = people.client.post(
            f"/v1/evidence?kind={kind}", content=f"drawing {uuid.uuid4().hex}".encode(), headers=owners
        )
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    views = [document("design_view") for _ in range(11)]
    proof = document("ownership")
    asked = {"right_type": "design", "register": "us", "number": "D654321", "classes": ["02-02"]}

    def register(status: int, **values: Any) -> dict[str, Any]:
        answer = people.client.post("/v1/rights", json={**asked, **values}, headers=owners)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def refused(field: str, **values: Any) -> str:
        body = register(422, **values)
        assert (body["field"], bool(body["cure"])) == (field, True)
        return str(body["type"]).rpartition(":")[2]

    for classes in (None, []):
        assert refused("classes", classes=classes, evidence=views[:1]) == "class_missing"
    assert refused("evidence", evidence=[proof]) == "views_missing"
    assert refused("evidence", evidence=views) == "too_many_views"
    trademark = {"right_type": "trademark", "number": "5123499", "classes": None}
    assert refused("evidence", evidence=views[:1], **trademark) == "no_views"
    # nothing of what was refused is left
    assert parts.query("select count(*) from rights where owner = %s", owner) == [(0,)]
    assert parts.query("select count(*) from evidence_links where owner = %s", owner) == [(0,)]
    made = register(201, evidence=[*views[:10], proof])
    assert (made["status"], made["classes"]) == ("pending", ["02-02"])
    url = f"/v1/rights/{made['id']}/evidence"
    assert problem(people.client.post(url, json={"evidence": [views[10]]}, headers=owners), 422, field="evidence")[
        "type"
    ].endswith("too_many_views")
    # a design of version 0.2.0 has neither, and gets its views later
    parts.query(
        """insert into rights (id, owner, right_type, number, status, registered_at)
        values ('r-old-design', %s, 'design', 'D1', 'active', now())""",
        owner,
    )
    url = "/v1/rights/r-old-design/evidence"
    for named in (proof, views[10]):
        assert people.client.post(url, json={"evidence": [named]}, headers=owners).status_code == 200


def test_words_with_letters_of_another_script_wait_for_a_reviewer(people: People) -> None:
    _, headers = people.open()
    made = right(people, headers, mark="\u0410CME")
    assert (made["status"], made["pending_reason"]) == ("pending", "mark_mixed_script")
    # neither by its owner, nor by way of another status
    for status in ("active", "expired"):
        problem(people.client.patch(f"/v1/rights/{made['id']}", json={"status": status}, headers=headers), 403)
    waiting = people.client.get("/v1/rights?status=pending&limit=200", headers=people.operator).json()["items"]
    assert made["id"] in [one["id"] for one in waiting]
    _, reviewers = people.open("reviewer")
    for status in ("active", "expired"):
        brought = people.client.patch(f"/v1/rights/{made['id']}", json={"status": status}, headers=people.operator)
        assert problem(brought, 422, field="status")["type"].endswith(":not_accepted")
    decided = people.decide(reviewers, made["id"])
    assert decided.json() == {"changed": True}
    read = people.client.get(f"/v1/rights/{made['id']}", headers=headers).json()
    assert (read["status"], read["pending_reason"]) == ("active", None)
    assert [entry["kind"] for entry in read["history"]] == ["accepted", "registered"]
    problem(people.decide(reviewers, made["id"]), 409)


def test_one_right_under_two_accounts_waits_for_a_reviewer(parts: Parts, people: People) -> None:
    first, firsts = people.open()
    second, seconds = people.open()
    number = str(next(_numbers))
    one = right(people, firsts, number=number)
    claim = people.claim(firsts, one["id"], "first")
    two = right(people, seconds, number=number)
    assert (one["status"], two["status"], two["pending_reason"]) == ("active", "pending", "right_registered_elsewhere")
    assert [said["kind"] for said in notices(parts, second)] == ["right_registered_elsewhere"]
    _, reviewers = people.open("reviewer")
    refuse = people.decide(reviewers, two["id"], accept=False)
    assert refuse.json() == {"changed": True}
    assert people.client.get(f"/v1/rights/{two['id']}", headers=seconds).json()["pending_reason"] == "refused"
    claimed = people.client.post("/v1/claims", json=body(two["id"], "x"), headers=seconds)
    assert problem(claimed, 422, field="right")["type"].endswith(":right_refused")
    three = right(people, seconds, number=number)
    accept = people.decide(reviewers, three["id"])
    assert accept.json() == {"changed": True}
    states = [
        people.client.get(f"/v1/rights/{id}", headers=reviewers).json()["status"] for id in (one["id"], three["id"])
    ]
    assert states == ["lost", "active"]
    assert told(parts, claim["claim"]) == ["lost"]
    assert [said["kind"] for said in notices(parts, first)] == ["right_lost"]
    assert [said["kind"] for said in notices(parts, second)][1:] == [
        "right_refused",
        "right_registered_elsewhere",
        "right_accepted",
    ]
    # the loser cannot take it back, an operator can
    problem(people.client.patch(f"/v1/rights/{one['id']}", json={"status": "active"}, headers=firsts), 403)
    problem(people.client.patch(f"/v1/rights/{one['id']}", json={"status": "expired"}, headers=firsts), 403)
    back = people.client.patch(f"/v1/rights/{one['id']}", json={"status": "active"}, headers=people.operator)
    assert back.json() == {"changed": True}
    assert told(parts, claim["claim"]) == ["lost", "active"]
    assert people.client.get(f"/v1/rights/{three['id']}", headers=seconds).json()["status"] == "lost"


def test_a_reference_keeps_nobody_out_and_brings_nothing_into_force(parts: Parts, people: People) -> None:
    """Anybody who knows a number may name it; only what is proven counts."""
    _, squatters = people.open()
    owner, owners = people.open()
    number = str(next(_numbers))

    def document(headers: dict[str, str]) -> str:
        content = f"certificate {uuid.uuid4().hex}".encode()
        made = people.client.post("/v1/evidence?kind=ownership", content=content, headers=headers)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def registered(headers: dict[str, str], **values: Any) -> tuple[str, str | None]:
        made = right(people, headers, number=number, **values)
        return made["status"], made["pending_reason"]

    squatted = right(people, squatters, number=number, proof="certificate-1")
    assert (squatted["status"], squatted["pending_reason"]) == ("pending", "proof_missing")
    again = {"right_type": "trademark", "register": "us", "number": number, "proof": "another"}
    exists = problem(people.client.post("/v1/rights", json=again, headers=squatters), 409, field="number")
    assert squatted["id"] in exists["cure"]
    for status in ("active", "expired"):
        url = f"/v1/rights/{squatted['id']}"
        problem(people.client.patch(url, json={"status": status}, headers=squatters), 403)
    renewal = {"expires_at": in_(days=100), "proof": "another"}
    people.client.post(f"/v1/rights/{squatted['id']}/renewal", json=renewal, headers=squatters)
    assert people.client.get(f"/v1/rights/{squatted['id']}", headers=squatters).json()["status"] == "pending"
    # the owner is not kept out, and told of nobody
    certificate = document(owners)
    made = right(people, owners, number=number, evidence=[certificate], proof="certificate")
    assert (made["status"], made["pending_reason"], made["proof"]) == ("pending", "proof_unseen", certificate)
    assert notices(parts, owner) == []
    _, reviewers = people.open("reviewer")
    assert people.decide(reviewers, made["id"], documents=[certificate]).json() == {"changed": True}
    assert people.client.get(f"/v1/rights/{made['id']}", headers=owners).json()["status"] == "active"
    # too late for a document of the squatter's: a reviewer decides
    url = f"/v1/rights/{squatted['id']}/evidence"
    assert people.client.post(url, json={"evidence": [document(squatters)]}, headers=squatters).status_code == 200
    read = people.client.get(f"/v1/rights/{squatted['id']}", headers=squatters).json()
    assert (read["status"], read["pending_reason"]) == ("pending", "right_registered_elsewhere")
    # nor does an operator's, until it says where it has seen the proof; and never of a right of its own
    third, thirds = people.open()
    number = str(next(_numbers))
    asked = {"right_type": "trademark", "register": "us", "number": number, "owner": third}
    for more, wanted in (
        ({"proof": "certificate"}, "pending"),
        ({"number": str(next(_numbers)), "seen": "c"}, "active"),
    ):
        made = people.client.post("/v1/rights", json={**asked, **more}, headers=people.operator).json()
        assert (made["status"], made["accepted"]) == (wanted, "person" if wanted == "active" else None)
    number = str(next(_numbers))
    assert registered(thirds) == ("active", None)
    operator, operators = people.open("operator")
    own = {**asked, "number": str(next(_numbers)), "seen": "c", "owner": operator}
    refused = problem(people.client.post("/v1/rights", json=own, headers=operators), 403)
    assert refused["type"].endswith(":conflict_of_interest")
    own["owner"] = third
    problem(people.client.post("/v1/rights", json=own, headers=thirds), 403, field="seen")


def test_a_right_that_nobody_accepted_does_not_come_into_force_when_it_was_lost(people: People) -> None:
    _, headers = people.open()
    made = right(people, headers, proof="certificate")
    url = f"/v1/rights/{made['id']}"
    assert people.client.patch(url, json={"status": "lost"}, headers=headers).json() == {"changed": True}
    for status in ("active", "expired"):
        back = people.client.patch(url, json={"status": status}, headers=people.operator)
        assert problem(back, 422, field="status")["type"].endswith(":not_accepted")


def test_reviewers_see_how_alike_the_registrant_and_the_account_are(people: People) -> None:
    _, headers = people.open(contact=False)
    _, reviewers = people.open("reviewer")

    def match(registrant: str | None) -> Any:
        made = right(people, headers, **({} if registrant is None else {"registrant": registrant}))
        assert made["status"] == "active"  # whatever it is, a person decides
        owner = people.client.get(f"/v1/rights/{made['id']}", headers=headers).json()
        assert owner["registrant_match"] is None
        return people.client.get(f"/v1/rights/{made['id']}", headers=reviewers).json()["registrant_match"]

    assert match("Acme Works Ltd") is None  # no name is on file
    contact = {**CONTACT, "name": "ACME WORKS, Limited"}
    assert people.client.put("/v1/contact", json=contact, headers=headers).status_code == 204
    assert match("Acme Works Ltd") == 100
    assert match("Globex GmbH") < 50
    assert match(None) is None


def test_rights_of_0_2_0_stay_as_they_are(parts: Parts, people: People) -> None:
    """As processes of that version write them, which do not know of acceptance."""
    account, headers = people.open()
    ids = {status: f"r-old-{status}" for status in ("active", "pending", "lost")}
    for status, id in ids.items():
        reason = "proof_missing" if status == "pending" else None
        parts.query(
            """insert into rights (id, owner, right_type, status, pending_reason, registered_at)
            values (%s, %s, 'copyright', %s, %s, now())""",
            id,
            account,
            status,
            reason,
        )
    seen = {status: people.client.get(f"/v1/rights/{id}", headers=headers).json() for status, id in ids.items()}
    assert {status: (one["status"], one["accepted"]) for status, one in seen.items()} == {
        "active": ("active", "rules_0_2_0"),
        "pending": ("pending", None),
        "lost": ("lost", None),
    }
    _, reviewers = people.open("reviewer")
    assert people.decide(reviewers, ids["pending"]).json() == {"changed": True}
    assert people.client.get(f"/v1/rights/{ids['pending']}", headers=headers).json()["accepted"] == "person"


def test_many_at_once_register_one_right(people: People) -> None:
    owners = [people.open()[1] for _ in range(8)]
    number = str(next(_numbers))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda headers: right(people, headers, number=number), owners))
    assert sorted(one["status"] for one in made) == ["active"] + ["pending"] * 7


def test_a_renewal_releases_and_a_right_that_passes_on_is_lost_to_its_old_owner(parts: Parts, people: People) -> None:
    old, olds = people.open()
    _, news = people.open()
    made = right(people, olds, expires_at=in_(days=400))
    claim = people.claim(olds, made["id"], "passes-on")
    url = f"/v1/rights/{made['id']}"
    people.client.patch(url, json={"status": "expired"}, headers=olds)
    parts.tell_rights()
    problem(
        people.client.post(f"{url}/renewal", json={"expires_at": in_(days=300)}, headers=olds), 422, field="expires_at"
    )
    assert people.client.post(f"{url}/renewal", json={"expires_at": in_(days=800)}, headers=olds).json() == {
        "changed": True
    }
    assert told(parts, claim["claim"]) == ["expired", "active"]

    problem(people.client.post(f"{url}/assignment", json={"to": "a-none"}, headers=olds), 422, field="to")
    problem(people.client.post(f"{url}/assignment", json={"to": old}, headers=olds), 422, field="to")
    people.assign(olds, made["id"], news)
    assert told(parts, claim["claim"])[2:] == ["lost"]
    problem(people.client.post("/v1/claims", json=body(made["id"], "x"), headers=olds), 422, field="right")
    theirs = people.claim(news, made["id"], "passes-on")
    assert told(parts, theirs["claim"]) == []
    # what becomes of the right is told to each claim as it stands to it
    people.client.patch(url, json={"status": "expired"}, headers=news)
    assert (told(parts, claim["claim"])[3:], told(parts, theirs["claim"])) == (["lost"], ["expired"])
    assert people.client.post(f"{url}/name", json={"registrant": "New Ltd"}, headers=news).json() == {"changed": True}
    read = people.client.get(url, headers=news).json()
    assert read["registrant"] == "New Ltd"
    assert [entry["kind"] for entry in read["history"]] == [
        "renamed",
        "expired",
        "assigned",
        "offered",
        "renewed",
        "expired",
        "registered",
    ]
    assert "New Ltd" not in str(read["history"])


def test_right_and_authorisation_are_looked_at_together(parts: Parts, people: People) -> None:
    """A right that comes back does not release items whose agent may not act any more, nor the other way round."""
    owner, owners = people.open()
    _, agents = people.open()
    made = right(people, owners)
    url = f"/v1/rights/{made['id']}"
    grant = people.authorise(owners, agents, rights=[made["id"]], territory=["US", "CN"])
    assert grant["territory"] == ["CN", "US"]
    claim = people.claim(agents, made["id"], "both", principal=owner)["claim"]
    people.client.patch(url, json={"status": "expired"}, headers=owners)
    parts.tell_rights()
    people.client.delete(f"/v1/authorisations/{grant['id']}", headers=owners)
    parts.tell_rights()
    people.client.patch(url, json={"status": "active"}, headers=owners)
    assert told(parts, claim) == ["expired", "expired", "unauthorised"]
    # elsewhere: does not cover it; here: it does
    for territory, count in ((["CN"], 3), (["US"], 4)):
        people.authorise(owners, agents, territory=territory)
        assert len(told(parts, claim)) == count
    assert told(parts, claim)[-1] == "active"


def test_authorisations_that_go_round_are_facts_and_nothing_more(people: People) -> None:
    a, as_ = people.open()
    b, bs = people.open()
    _, cs = people.open()
    made = right(people, as_)
    for headers, agents in ((as_, bs), (bs, as_), (bs, cs)):
        people.authorise(headers, agents)
    people.claim(bs, made["id"], uuid.uuid4().hex, principal=a)
    # b may file for a, and c for b; c may not file for a
    refused = people.client.post("/v1/claims", json=body(made["id"], "x", principal=a), headers=cs)
    assert problem(refused, 422, field="principal")["type"].endswith(":not_authorised")
    problem(people.client.post("/v1/authorisations", json={"agent": a}, headers=as_), 422, field="agent")
    for values, field in (({"territory": ["XX"]}, "territory[0]"), ({"expires_at": in_(days=-1)}, "expires_at")):
        asked = people.client.post("/v1/authorisations", json={"agent": b, **values}, headers=as_)
        problem(asked, 422, field=field)
    # who has closed its account authorises nobody any more
    people.client.post(f"/v1/accounts/{a}/status", json={"status": "closed"}, headers=people.operator)
    problem(
        people.client.post("/v1/claims", json=body(made["id"], "x", principal=a), headers=bs), 422, field="principal"
    )


ACTS = st.one_of(
    st.tuples(st.just("status"), st.sampled_from(["active", "expired", "lost"])),
    st.tuples(st.just("renew"), st.just("")),
    st.tuples(st.just("assign"), st.sampled_from(["owner", "other"])),
    st.tuples(st.just("authorise"), st.sampled_from(["all", "right", "US", "CN", "EU US", "other right"])),
    st.tuples(st.just("revoke"), st.sampled_from(["first", "last"])),
)


@given(st.lists(ACTS, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_items_were_told_last_is_what_holds(parts: Parts, acts: list[tuple[str, str]]) -> None:
    """Whatever happens to a right and its authorisations, and in whatever order: told of the tables again, by another way."""
    owner, other, agent = (f"h-{uuid.uuid4().hex[:12]}" for _ in range(3))
    people = {name: Account(name, "holder", True, False, True) for name in (owner, other, agent)}
    operator = Account("a-operator", "operator", True, False, True)
    far = dt.datetime.now(dt.UTC) + dt.timedelta(days=300)
    yes = requests.Consent(accept=True)

    def authorise(connection: Any, grant: requests.Authorise) -> None:
        asked = authority_store.ask(connection, owner, grant, PARTITIONS)
        authority_store.answer(connection, asked["id"], yes, people[agent], PARTITIONS)

    with parts.engine.begin() as connection:
        for account in people.values():
            store.open_account(connection, account, "company", by=None)
        on_file(connection, *people)
        made = []
        for _ in range(2):
            form = requests.RegisterRight(
                right_type="trademark",
                register="us",
                number=str(next(_numbers)),
                proof="d",
                territory=["US"],
                expires_at=far,
            )
            name = f"r-{uuid.uuid4().hex}"
            made.append(
                registry_store.add_right(connection, name, owner, form, owner, PARTITIONS, accepted="person")["id"]
            )
        authorise(connection, requests.Authorise(agent=agent))
    mark, second = made
    claims = {}
    for who in (owner, agent):
        with parts.engine.begin() as connection:
            asked = requests.SubmitClaim(
                right=mark, reason="counterfeit", listings=["https://market.example/items/1"], principal=owner
            )
            filing = filings.Filing(
                people[who],
                None,
                who,
                b"",
                "submit_claim",
                asked,
                "http",
                listings=named_by(asked.listings, site_links.of(("market.example/items/{id}",))).listings,
                rules=check_claim(asked, people[who]),
            )
            now, wall = store.enter_admission(connection)
            (filed,) = filing_store.file(connection, [filing], now, wall, PARTITIONS)
            assert isinstance(filed, filings.Filed)
            claims[who] = msgspec.json.decode(filed.answer)["claim"]

    def act(connection: Any, what: str, how: str) -> None:
        if what == "status":
            change = requests.ChangeRight(status=how, expires_at=far)  # type: ignore[arg-type]
            registry_store.change_right(connection, mark, change, operator, PARTITIONS)
        elif what == "renew":
            nonlocal_far[0] += dt.timedelta(days=1)
            registry_store.renew_right(
                connection, mark, requests.RenewRight(expires_at=nonlocal_far[0]), operator, PARTITIONS
            )
        elif what == "assign":
            to = {"owner": owner, "other": other}[how]
            registry_store.assign_right(connection, mark, requests.AssignRight(to=to), operator, PARTITIONS)
            registry_store.answer_offer(connection, mark, yes, people[to], PARTITIONS)
        elif what == "authorise":
            named = {"right": [mark], "other right": [second]}.get(how)
            territory = how.split() if how.isupper() else None
            grant = requests.Authorise(agent=agent, rights=named, territory=territory)
            authorise(connection, grant)
        else:
            active = [
                row["id"]
                for row in authority_store.list_authorisations(connection, people[owner], "", 100)
                if row["status"] == "active"
            ]
            if active:
                id = active[0 if how == "first" else -1]
                authority_store.end(connection, id, people[owner], "ended", PARTITIONS)

    nonlocal_far = [far]
    for what, how in acts:
        with contextlib.suppress(Refused), parts.engine.begin() as connection:
            act(connection, what, how)
        ((owns, status),) = parts.query("select owner = %s, status from rights where id = %s", owner, mark)
        granted = parts.query(
            """select count(*) from authorisations where agent = %s and principal = %s and status = 'active'
            and (rights is null or %s = any(rights)) and (territory is null or 'US' = any(territory))""",
            agent,
            owner,
            mark,
        )
        for who, claim in claims.items():
            wanted = "lost" if not owns else status
            if wanted == "active" and who == agent and granted == [(0,)]:
                wanted = "unauthorised"
            assert (told(parts, claim) or ["active"])[-1] == wanted, (what, how, who)


# ---- the job


def test_owners_are_warned_once_and_rights_end(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    near = right(people, owners, expires_at=in_(days=29))
    far = right(people, owners, expires_at=in_(days=31))
    ends = right(people, owners, expires_at=in_(seconds=30))
    claim = people.claim(owners, ends["id"], "ends")["claim"]
    people.authorise(owners, agents, expires_at=in_(seconds=30))
    theirs = people.claim(agents, far["id"], "agents", principal=owner)["claim"]

    def run() -> None:
        with parts.engine.begin() as connection:
            registry_store.expire(connection, PARTITIONS, dt.timedelta(days=30))
        with parts.engine.begin() as connection:
            authority_store.expire(connection, PARTITIONS)

    def job() -> None:
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(run) for _ in range(6)]:
                done.result()

    job()
    said = [(one["kind"], one["about"]) for one in notices(parts, owner)]
    assert sorted(said) == sorted([("right_expiring", near["id"]), ("right_expiring", ends["id"])])
    job()
    assert len(notices(parts, owner)) == 2
    # another date is another warning
    url = f"/v1/rights/{far['id']}/renewal"
    assert people.client.post(url, json={"expires_at": in_(days=31, hours=1)}, headers=owners).status_code == 200
    parts.query("update rights set expires_at = now() + interval '20 days' where id = %s", near["id"])
    # its time comes: as if the clock had gone on
    parts.query("update rights set expires_at = now() - interval '1 s' where id = %s", ends["id"])
    parts.query("update authorisations set expires_at = now() - interval '1 s' where agent = %s", agent)
    job()
    said = [(one["kind"], one["about"]) for one in notices(parts, owner)]
    # several workers at once, so that the order of two notices is open
    assert sorted(said[2:]) == [("right_expired", ends["id"]), ("right_expiring", near["id"])]
    assert (told(parts, claim), told(parts, theirs)) == (["expired"], ["unauthorised"])
    assert [one["kind"] for one in notices(parts, agent)] == [
        "authorisation_offered",
        "authorisation_given",
        "authorisation_expired",
    ]
    assert people.client.get(f"/v1/rights/{ends['id']}", headers=owners).json()["status"] == "expired"


def test_a_right_in_force_elsewhere_is_found_in_the_database_too(parts: Parts, people: People) -> None:
    """The unique index is the last word, whatever the code does."""
    _, headers = people.open()
    made = right(people, headers)
    with pytest.raises(Exception, match="rights_in_force"), parts.engine.begin() as connection:
        connection.exec_driver_sql(
            """insert into rights (id, owner, right_type, register, number, status, registered_at)
            values ('r-x', 'a-operator', 'trademark', 'us', %s, 'active', now())""",
            (made["number"],),
        )
    with parts.engine.begin() as connection:
        assert store.rights(connection, [made["id"]])[made["id"]].territory == ["US"]
