"""The gate: floods, wrong tokens and new accounts are limited by address and account, and security events are logged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.kernel.security import new_token
from shared import security_events
from tests.integration.intake_parts import Parts, People

pytestmark = pytest.mark.stack
LIMITS = {
    "GOODFAITH_HTTP_ADDRESS_RATE": "0.001",
    "GOODFAITH_HTTP_ACCOUNT_RATE": "0.001",
    "GOODFAITH_HTTP_FAILURES_A_MINUTE": "5",
    "GOODFAITH_HTTP_OPENINGS_AN_HOUR": "3",
    "GOODFAITH_HTTP_ALL_OPENINGS_AN_HOUR": "5",
}


@pytest.fixture
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


@contextlib.contextmanager
def at(client: httpx.Client, address: str) -> Iterator[httpx.Client]:
    """A client with another address."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=client.base_url, transport=transport, timeout=30, trust_env=False) as other:
        yield other


def told(parts: Parts) -> list[dict[str, Any]]:
    """The security events that the API logged."""
    lines = [json.loads(line) for line in parts.log("api").splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "security"]


def limit(*names: str) -> dict[str, str]:
    return {name: value for name, value in LIMITS.items() if any(part in name for part in names)}


def test_wrong_tokens_are_looked_up_so_often_and_no_more(parts: Parts) -> None:
    with parts.api(GOODFAITH_TOKEN_CACHE_S="0", **limit("FAILURES")) as client:
        _, good = People(client, parts.operator).open()
        _, unseen = People(client, parts.operator).open()
        assert client.get("/v1/me", headers=good).status_code == 200
        bogus = [new_token() for _ in range(20)]

        def answers(by: httpx.Client) -> list[int]:
            return [by.get("/v1/me", headers={"Authorization": f"Bearer {one}"}).status_code for one in bogus]

        # the check that the API is up may have used some
        codes = answers(client)
        assert codes == sorted(codes)
        assert 0 < codes.count(401) <= 5
        refused = client.get("/v1/me", headers={"Authorization": f"Bearer {bogus[0]}"})
        assert refused.json()["type"].endswith("locked_out")
        assert int(refused.headers["retry-after"]) > 0
        # who is known goes on; others of the address wait; other addresses are not concerned
        assert client.get("/v1/me", headers=good).status_code == 200
        assert client.get("/v1/me", headers=unseen).status_code == 429
        with at(client, "127.0.3.1") as other:
            assert other.get("/v1/me", headers=unseen).status_code == 200
            assert answers(other)[:6] == [401] * 5 + [429]
    events = told(parts)
    assert {"unauthenticated", "locked_out"} <= {event["kind"] for event in events}
    assert {event["network"] for event in events if "network" in event} == {"127.0.0.0/24", "127.0.3.0/24"}
    log = parts.log("api")
    assert "127.0.3.1" not in log
    for token in (*bogus, parts.operator, good["Authorization"].removeprefix("Bearer ")):
        assert token not in log


def test_an_address_that_floods_is_held_back_alone(parts: Parts) -> None:
    with parts.api(GOODFAITH_HTTP_ADDRESS_RATE="0") as client:
        _, headers = People(client, parts.operator).open()
    # 0.4 a second, and so 4 at once
    with (
        parts.api(GOODFAITH_HTTP_ADDRESS_RATE="0.4") as client,
        at(client, "127.0.4.1") as flood,
        at(client, "127.0.4.2") as other,
    ):
        codes = [flood.get("/v1/claims", headers=headers).status_code for _ in range(30)]
        assert codes[:4] == [200] * 4
        assert codes.count(429) > 20
        answer = flood.get("/v1/forms")
        if answer.status_code == 429:
            assert answer.headers["retry-after"].isdigit()
        assert other.get("/v1/claims", headers=headers).status_code == 200
        # nobody speaks for another address unless it is a proxy of ours
        forged = [flood.get("/v1/forms", headers={"X-Forwarded-For": f"10.9.9.{n}"}).status_code for n in range(10)]
        assert 429 in forged
    assert {event["kind"] for event in told(parts)} >= {"rate_limited"}


def test_an_account_that_floods_is_held_back_from_any_address(parts: Parts) -> None:
    with parts.api(GOODFAITH_HTTP_ACCOUNT_RATE="0.3") as client:
        people = People(client, parts.operator)
        # the operator opens one by one, and so has some left
        account, headers = people.open(contact=False)
        _, other = people.open(contact=False)
        with at(client, "127.0.5.1") as elsewhere:
            codes = [by.get("/v1/me", headers=headers).status_code for _ in range(10) for by in (client, elsewhere)]
        assert codes[:3] == [200] * 3
        assert codes.count(429) > 10
        assert client.get("/v1/me", headers=other).status_code == 200
    assert [event for event in told(parts) if event["kind"] == "rate_limited" and event["account"] == account]


def test_a_proxy_of_ours_says_who_asks(parts: Parts) -> None:
    with parts.api(GOODFAITH_HTTP_ADDRESS_RATE="2", GOODFAITH_HTTP_PROXIES='["127.0.0.0/8"]') as client:

        def asks(said: str) -> int:
            return client.get("/v1/forms", headers={"X-Forwarded-For": said}).status_code

        first = [asks("198.51.100.7") for _ in range(200)]
        assert first[:2] == [200, 200]
        assert 429 in first
        assert asks("198.51.100.8") == 200
        # what the caller itself put before the proxy's entry counts for nothing
        assert 429 in [asks(f"192.0.2.{number}, 198.51.100.7") for number in range(40)]


def test_accounts_are_opened_so_often_and_no_more(parts: Parts) -> None:
    with parts.api(**limit("OPENINGS")) as client, at(client, "127.0.6.1") as second, at(client, "127.0.6.2") as third:
        assert [client.post("/v1/accounts", json={}).status_code for _ in range(5)] == [201] * 3 + [429] * 2
        assert [second.post("/v1/accounts", json={}).status_code for _ in range(3)] == [201] * 2 + [429]
        assert third.post("/v1/accounts", json={}).status_code == 429, "so many of all addresses"
        People(client, parts.operator).open()


def test_what_is_done_to_accounts_and_tokens_is_logged(parts: Parts) -> None:
    with parts.api() as client:
        people = People(client, parts.operator)
        reviewer, theirs = people.open("reviewer")
        assert client.get(f"/v1/accounts/{reviewer}/tokens", headers=theirs).status_code == 403
        made = client.post("/v1/tokens", json={"name": "of Ada Example"}, headers=theirs).json()
        client.delete(f"/v1/accounts/{reviewer}/tokens/{made['id']}", headers=people.operator)
        client.post(f"/v1/accounts/{reviewer}/status", json={"status": "suspended"}, headers=people.operator)
        client.post("/internal/contacts", json={"ids": []}, headers={"Authorization": "Bearer x"})
    events = [
        {k: v for k, v in event.items() if k not in ("timestamp", "level", "process", "event")} for event in told(parts)
    ]
    by = "a-operator"
    for wanted in (
        {"kind": "account_opened", "account": reviewer, "role": "reviewer", "by": by},
        {"kind": "token_made", "account": reviewer, "credential": made["id"], "by": reviewer},
        {"kind": "token_revoked", "account": reviewer, "credential": made["id"], "by": by},
        {"kind": "account_status", "account": reviewer, "status": "suspended", "by": by},
        {
            "kind": "forbidden",
            "account": reviewer,
            "reason": "not_your_role",
            "method": "GET",
            "route": "/v1/accounts/{account_id}/tokens",
            "network": "127.0.0.0/24",
        },
        {
            "kind": "internal_refused",
            "reason": "no_account",
            "route": "/internal/contacts",
            "method": "POST",
            "network": "127.0.0.0/24",
        },
    ):
        assert wanted in events, (wanted, events)
    assert "of Ada Example" not in parts.log("api")
    assert {event["kind"] for event in told(parts)} <= set(security_events.KINDS)


# ---- tokens


def test_tokens_are_listed_and_revoked_by_their_owner(parts: Parts) -> None:
    with parts.api(GOODFAITH_TOKEN_CACHE_S="60") as client:
        people = People(client, parts.operator)
        account, first = people.open()
        made = {}
        for name in ("ci", "laptop"):
            answer = client.post("/v1/tokens", json={"name": name, "days": 3}, headers=first).json()
            made[name] = answer["id"], {"Authorization": f"Bearer {answer['token']}"}
        listed = client.get("/v1/tokens", headers=first).json()
        assert {one["name"]: one["current"] for one in listed} == {"first": True, "ci": False, "laptop": False}
        assert all(set(one) == {"id", "name", "created", "expires", "current"} for one in listed)
        assert client.delete(f"/v1/tokens/{made['ci'][0]}", headers=first).status_code == 204
        assert client.get("/v1/me", headers=made["ci"][1]).status_code == 401
        assert client.delete(f"/v1/tokens/{made['ci'][0]}", headers=first).status_code == 404
        _, stranger = people.open()
        assert client.delete(f"/v1/tokens/{made['laptop'][0]}", headers=stranger).status_code == 404
        assert client.delete("/v1/tokens", headers=first).json() == {"revoked": [made["laptop"][0]]}
        assert client.get("/v1/me", headers=made["laptop"][1]).status_code == 401
        assert client.get("/v1/me", headers=first).json()["id"] == account
        assert len(client.delete("/v1/tokens?current=true", headers=first).json()["revoked"]) == 1
        assert client.get("/v1/me", headers=first).status_code == 401
        assert client.get("/v1/me", headers=stranger).status_code == 200


def test_an_operator_lists_and_revokes_the_tokens_of_an_account(parts: Parts) -> None:
    with parts.api(GOODFAITH_TOKEN_CACHE_S="60") as client:
        people = People(client, parts.operator)
        account, first = people.open()
        second = client.post("/v1/tokens", headers=first).json()
        path = f"/v1/accounts/{account}/tokens"
        assert {one["id"] for one in client.get(path, headers=people.operator).json()} > {second["id"]}
        assert client.delete(f"{path}/{second['id']}", headers=people.operator).status_code == 204
        assert client.delete(f"{path}/{second['id']}", headers=people.operator).status_code == 404
        assert len(client.delete(path, headers=people.operator).json()["revoked"]) == 1
        assert client.get("/v1/me", headers=first).status_code == 401
        assert client.get("/v1/accounts/a-none/tokens", headers=people.operator).status_code == 404


def test_a_revoked_first_token_does_not_return(parts: Parts) -> None:
    with parts.api() as client:
        me = {"Authorization": f"Bearer {parts.operator}"}
        other = {"Authorization": f"Bearer {client.post('/v1/tokens', headers=me).json()['token']}"}
        assert client.delete("/v1/tokens/current", headers=me).status_code == 204
    parts.operator = other["Authorization"].removeprefix("Bearer ")  # by which `api` sees that it is ready
    with parts.api() as client:
        assert client.get("/v1/me", headers=me).status_code == 401
        assert client.get("/v1/me", headers=other).json()["id"] == "a-operator"


def test_an_account_has_so_many_tokens_and_no_more(parts: Parts) -> None:
    with parts.api() as client:
        _, headers = People(client, parts.operator).open()
        codes = [client.post("/v1/tokens", headers=headers).status_code for _ in range(55)]
        assert codes == [201] * 49 + [409] * 6
