"""Who sees and does what through intake's API, however it is asked: filters, forged cursors, suspended and closed accounts, changes at the same moment."""

from __future__ import annotations

import concurrent.futures
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from labs.attacks.cursors import FORGED
from shared.paging import cursor_of
from tests.integration.intake_parts import CONTACT, Parts, People, sell
from tests.integration.test_intake_http import EXPECTED

pytestmark = pytest.mark.stack

PARTY = ("holder", "seller", "upstream")
CURSORS = (*(cursor_of(*key) if isinstance(key, tuple) else str(key) for key in FORGED), "", "=", "AAAA", "x" * 399)
Headers = dict[str, str]


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


@dataclass
class Tenant:
    """An account and everything that it has."""

    account: str
    headers: Headers
    ids: dict[str, str] = field(default_factory=dict)


def tenant(parts: Parts, people: People) -> Tenant:
    """A holder with a right, a claim, a document, a message, a webhook, a domain and an agent."""
    account, headers = people.open()
    right = people.right(headers)
    document = people.client.post(
        "/v1/evidence?kind=ownership", content=f"Proof {uuid.uuid4().hex}".encode(), headers=headers
    ).json()["id"]
    grant = people.authorise(headers, people.open()[1])["id"]
    hook = people.webhook(parts, headers)["id"]
    made = people.claim(headers, right, f"listing-{uuid.uuid4().hex[:8]}", evidence=[document])
    item = made["items"][0]["item"]
    token = people.client.post("/v1/tokens", headers=headers).json()["id"]
    command = people.client.post(f"/v1/items/{item}/action", json={}, headers=headers).json()["commands"][0]["command"]
    message = f"m-{uuid.uuid4().hex}"
    parts.query(
        """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at)
        values (%s, %s, %s, 'claim_receipt', %s, 'email', 't', 1, 'd', now())""",
        message,
        account,
        made["claim"],
        [item],
    )
    parts.query("insert into timeline values (%s, 1, 't', 'RECEIVED', 'system', null, now())", item)
    domain = f"dn-{uuid.uuid4().hex}"
    parts.query(
        "insert into account_domains (id, account, domain, token, named_wall) values (%s, %s, 'brand.example', 't', now())",
        domain,
        account,
    )
    ids = {
        "account_id": account,
        "right_id": right,
        "document_id": document,
        "authorisation_id": grant,
        "webhook_id": hook,
        "domain_id": domain,
        "claim_id": made["claim"],
        "item_id": item,
        "command_id": command,
        "message_id": message,
        "seller_id": "s-none",
        "token_id": token,
        "sanction_id": "none.s1",
        "finding_id": "f-none",
        "measure_id": "x-none",
    }
    return Tenant(account, headers, ids)


def lists(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Routes that read, with the parameters of their queries by name."""
    for path, methods in document["paths"].items():
        if "get" in methods and path.startswith("/v1/"):
            given = methods["get"].get("parameters", ())
            yield path, {one["name"]: one["schema"] for one in given if one["in"] == "query"}


def allowed(schema: dict[str, Any]) -> list[str]:
    """The values that a parameter names, if it does."""
    if "enum" in schema:
        return [str(value) for value in schema["enum"] if value is not None]
    return [value for part in schema.get("oneOf", schema.get("anyOf", ())) for value in allowed(part)]


def queries(parameters: dict[str, dict[str, Any]], neighbour: Tenant) -> Iterator[list[tuple[str, str]]]:
    """Every filter with every value that it takes, with another's ids, and with what it does not take; forged cursors."""
    yield []
    for name, schema in parameters.items():
        if name == "cursor":
            yield from ([("cursor", cursor)] for cursor in CURSORS)
            yield [("limit", "200"), ("cursor", cursor_of("")), ("cursor", cursor_of("zzz"))]
        elif name == "limit":
            yield from ([("limit", value)] for value in ("0", "-1", "1", "200", "201", "x", "1e9", "9" * 40))
        else:
            values = [*allowed(schema), *neighbour.ids.values(), "'", "%", "*", "", "\u202e", "x" * 200]
            yield from ([(name, value)] for value in values)
            yield [(name, values[0]), (name, values[-1])]


ELSEWHERE = (
    "/v1/sellers",
    "/v1/standing",
    "/v1/offenders",
    "/v1/deliveries",
    "/v1/accounts",
    "/v1/webhooks",
    "/v1/items/{item_id}/revisions",
)
"""What enforcement, notification and verification answer, which do not run here."""


def test_filters_and_forged_cursors_show_nothing_of_others(parts: Parts, people: People) -> None:
    neighbour = tenant(parts, people)
    mine = tenant(parts, people)
    sell(parts.engine, mine.ids["item_id"], seller := f"s-{uuid.uuid4().hex[:10]}")
    readers: dict[str, Headers] = {
        "holder": mine.headers,
        "seller": people.open("seller", id=seller)[1],
        "upstream": people.open("upstream")[1],
        "reviewer": people.open("reviewer")[1],
        "operator": people.open("operator")[1],
    }
    # a refusal may repeat what was asked
    secret = {name: id for name, id in neighbour.ids.items() if "none" not in id}
    tried = 0
    for path, parameters in lists(people.client.get("/openapi.json").json()):
        url = path.format(**mine.ids)
        for role, headers in readers.items():
            for query in queries(parameters, neighbour):
                answer = people.client.get(url, params=httpx.QueryParams(query), headers=headers)
                tried += 1
                assert answer.status_code < 500 or answer.status_code == 503, (role, url, query, answer.text)
                assert answer.status_code != 503 or path.startswith(ELSEWHERE), (role, url, query, answer.text)
                if role in PARTY:
                    asked = {value for _, value in query}
                    told = [name for name, id in secret.items() if id in answer.text and id not in asked]
                    assert not told, (role, url, query, told)
    assert tried > 1000


def test_a_claims_pages_stay_in_the_claim(parts: Parts, people: People) -> None:
    mine = tenant(parts, people)
    claims = [people.claim(mine.headers, mine.ids["right_id"], f"{number}-{uuid.uuid4().hex}") for number in range(3)]
    for made in claims:
        parts.query(
            "insert into timeline values (%s, 1, 't', 'RECEIVED', 'system', null, now())", made["items"][0]["item"]
        )
    for part, key in (("items", "id"), ("timeline", "item")):
        for cursor in ("0", claims[0]["items"][0]["item"], "i-", "i-zzz", mine.ids["item_id"]):
            forged = cursor_of(cursor) if part == "items" else cursor_of(cursor, 0)
            answer = people.client.get(
                f"/v1/claims/{claims[1]['claim']}/{part}", params={"cursor": forged}, headers=mine.headers
            )
            assert answer.status_code in (200, 400)
            if answer.status_code == 200:
                seen = {entry[key] for entry in answer.json()["items"]}
                assert seen <= {claims[1]["items"][0]["item"]}


BEGINS = {
    ("POST", "/v1/rights"),
    ("POST", "/v1/rights/{right_id}/assignment"),
    ("POST", "/v1/authorisations"),
    ("POST", "/v1/authorisations/{authorisation_id}/consent"),
    ("POST", "/v1/claims"),
    ("POST", "/v1/good-faith/declaration"),
}
"""What begins something new, or hands it over: a suspended account may not."""
LAST = [
    ("DELETE", "/v1/authorisations/{authorisation_id}"),
    ("DELETE", "/v1/webhooks/{webhook_id}"),
    ("DELETE", "/v1/tokens/current"),
    ("DELETE", "/v1/tokens"),
]


def ask(people: People, me: Tenant, method: str, path: str, headers: Headers) -> httpx.Response:
    """A request of the table of all routes, about what the account has."""
    content = EXPECTED[method, path][0]
    if path == "/v1/claims" and content is not None:
        content = {**content, "right": me.ids["right_id"]}
    if path.endswith("/assignment"):
        content = {"to": people.open()[0]}
    if path.endswith("/consent"):
        content = {"accept": True}
    if path in ("/v1/me/evidence", "/v1/rights/{right_id}/evidence"):
        content = {"evidence": [me.ids["document_id"]]}
    if (method, path) == ("POST", "/v1/evidence"):
        path += "?kind=statement"
    return people.client.request(method, path.format(**me.ids), json=content, headers=headers)


def test_a_suspended_account_ends_what_is_open_and_begins_nothing(parts: Parts, people: People) -> None:
    me = tenant(parts, people)
    people.client.put("/v1/contact", json=CONTACT, headers=me.headers)
    me.ids["account_id"] = people.open()[0]
    done = people.client.post(
        f"/v1/accounts/{me.account}/status", json={"status": "suspended"}, headers=people.operator
    )
    assert done.status_code == 200
    refused = set()
    mine = [
        route
        for route, (_, expected) in EXPECTED.items()
        if expected["holder a"] < 500 and not route[1].startswith("/internal")
    ]
    for method, path in sorted(set(mine) - set(LAST)) + LAST:
        answer = ask(people, me, method, path, me.headers)
        assert answer.status_code < 500 or answer.status_code == 503, (method, path, answer.text)
        if answer.status_code == 403 and answer.json()["type"].endswith(":account_suspended"):
            refused.add((method, path))
    assert refused == BEGINS
    owner = people.client.get(f"/v1/rights/{me.ids['right_id']}", headers=people.operator).json()["owner"]
    assert owner == me.account


def test_a_closed_account_is_refused_everywhere(parts: Parts, people: People) -> None:
    me = tenant(parts, people)
    done = people.client.post(f"/v1/accounts/{me.account}/status", json={"status": "closed"}, headers=people.operator)
    assert done.status_code == 200
    before = parts.query("select count(*) from commands")
    for method, path in sorted(EXPECTED):
        assert ask(people, me, method, path, me.headers).status_code == 401, (method, path)
    assert parts.query("select count(*) from commands") == before


def during(change: Any, work: Any, *, threads: int = 4) -> list[httpx.Response]:
    """Answers to requests that were begun after a change was answered, while others were under way."""
    changed, end, late = threading.Event(), threading.Event(), []

    def go_on() -> None:
        while not end.is_set():
            after = changed.is_set()
            answer = work()
            if after:
                late.append(answer)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(go_on) for _ in range(threads)]
        time.sleep(0.2)
        answer = change()
        changed.set()
        assert answer.is_success, answer.text
        while len(late) < 5 * threads and not any(future.done() for future in running):
            time.sleep(0.01)
        end.set()
        for future in running:
            future.result()
    return late


@pytest.mark.parametrize(("status", "expected"), [("suspended", 403), ("closed", 401)])
def test_after_a_status_is_answered_nothing_is_filed(parts: Parts, people: People, status: str, expected: int) -> None:
    account, headers = people.open()
    right = people.right(headers)

    def file() -> httpx.Response:
        body = {
            "right": right,
            "reason": "counterfeit",
            "listings": [f"https://market.example/items/{uuid.uuid4().hex}"],
        }
        return people.client.post("/v1/claims", json=body, headers=headers)

    late = during(
        lambda: people.client.post(f"/v1/accounts/{account}/status", json={"status": status}, headers=people.operator),
        file,
    )
    assert {answer.status_code for answer in late} == {expected}


def test_after_an_authorisation_has_ended_the_agent_files_nothing(parts: Parts, people: People) -> None:
    _, owners = people.open()
    _, agents = people.open()
    right = people.right(owners)
    grant = people.authorise(owners, agents)["id"]
    principal = people.client.get("/v1/me", headers=owners).json()["id"]

    def file() -> httpx.Response:
        body = {
            "right": right,
            "reason": "counterfeit",
            "principal": principal,
            "listings": [f"https://market.example/items/{uuid.uuid4().hex}"],
        }
        return people.client.post("/v1/claims", json=body, headers=agents)

    assert file().status_code == 202
    late = during(lambda: people.client.delete(f"/v1/authorisations/{grant}", headers=owners), file)
    assert {answer.status_code for answer in late} == {422}


def test_after_a_right_has_passed_on_its_old_owner_does_nothing_with_it(parts: Parts, people: People) -> None:
    _, owners = people.open()
    heir, heirs = people.open()
    right = people.right(owners)
    assignment = f"/v1/rights/{right}/assignment"
    people.client.post(assignment, json={"to": heir}, headers=owners)
    late = during(
        lambda: people.client.post(f"{assignment}/consent", json={"accept": True}, headers=heirs),
        lambda: people.client.patch(f"/v1/rights/{right}", json={"status": "active"}, headers=owners),
    )
    assert {answer.status_code for answer in late} == {404}
    assert people.client.get(f"/v1/rights/{right}", headers=heirs).status_code == 200


def contents(parts: Parts) -> dict[str, str]:
    """What each table of intake holds, as a digest. Reads of documents are written down, on purpose."""
    names = [
        row[0]
        for row in parts.query("select tablename from pg_tables where schemaname = 'intake' order by tablename")
        if row[0] != "evidence_reads"
    ]
    return {
        name: str(
            parts.query(f"select md5(coalesce(string_agg(t::text, chr(10) order by t::text), '')) from \"{name}\" t")[
                0
            ][0]
        )
        for name in names
    }


def test_safe_methods_change_nothing(parts: Parts, people: People) -> None:
    me = tenant(parts, people)
    staff = people.open("operator")[1]
    document = people.client.get("/openapi.json").json()
    before = contents(parts)
    assert len(before) > 20
    for path in [*document["paths"], "/openapi.json", "/healthz"]:
        for headers in (me.headers, staff):
            for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
                url = re.sub(r"/evidence/\{document_id\}$", "/evidence/d-none", path).format(**me.ids)
                people.client.request(method, url, headers=headers)
    assert contents(parts) == before


def test_no_browser_may_call_from_another_site(people: People) -> None:
    _, headers = people.open()
    for method in ("GET", "OPTIONS", "POST"):
        answer = people.client.request(
            method,
            "/v1/claims",
            headers={**headers, "Origin": "https://lure.example", "Access-Control-Request-Method": "POST"},
        )
        assert not [name for name in answer.headers if name.startswith("access-control-")]
