"""Intake's HTTP API as a process on a real database: durable, idempotent, closed to others, clear in refusing."""

from __future__ import annotations

import base64
import concurrent.futures
import datetime as dt
import json
import re
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from litestar.handlers import HTTPRouteHandler

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.accounts.domain import code_digest
from services.intake.app import ROUTES
from services.intake.kernel import security
from services.intake.kernel.web import INTERNAL, PUBLIC
from services.ops.privacy import rewrap
from shared import db, declarations, policy
from shared.events import ItemChanged, State
from tests.integration.intake_parts import CONTACT, PUBLISHED, Parts, People, sell

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    taken: set[int] = set()
    first, second, third = (f"http://127.0.0.1:{free_port(taken)}" for _ in range(3))
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("intake"),
        max_body_bytes=100_000,
        enforcement_url=first,
        notification_url=second,
        verification_url=third,
    )
    parts.verification(stack)
    parts.enforcement(stack)
    parts.notification(stack)
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def holder(people: People) -> tuple[str, dict[str, str], str]:
    """(account, headers, right)."""
    account, headers = people.open()
    return account, headers, people.right(headers)


def problem(response: httpx.Response, status: int, *, field: str | None = None) -> dict[str, Any]:
    """The answer is a problem of RFC 9457 with this status and field."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["type"].startswith("urn:goodfaith:problem:")
    assert body.get("cure")
    assert "Traceback" not in response.text
    if field is not None:
        assert body["field"] == field
    return dict(body)


def body(right: str, *listings: str, **values: Any) -> dict[str, Any]:
    links = [f"https://market.example/items/{name}" for name in listings or ("one",)]
    return {"right": right, "reason": "counterfeit", "listings": links, **values}


# ---- claims


def test_an_accepted_claim_can_be_read_at_once(
    parts: Parts, people: People, holder: tuple[str, dict[str, str], str]
) -> None:
    account, headers, right = holder
    for number in range(20):
        made = people.claim(headers, right, f"at-once-{number}", "elsewhere")
        read = people.client.get(f"/v1/claims/{made['claim']}", headers=headers)
        assert read.status_code == 200
        assert read.json()["states"] == {"RECEIVED": 2}
        item = people.client.get(f"/v1/items/{made['items'][0]['item']}", headers=headers).json()
        assert (item["state"], item["complainant"], item["listing"]) == ("RECEIVED", account, f"at-once-{number}")
        assert parts.query(
            "select count(*) from admission_queue where claim = %s and kind = 'submit'", made["claim"]
        ) == [(2,)]


def test_an_answered_claim_survives_kill_9(
    parts: Parts, people: People, holder: tuple[str, dict[str, str], str]
) -> None:
    _, headers, right = holder
    with parts.api() as client:
        child = parts._processes[-1]
        accepted: list[str] = []

        def file() -> None:
            for _ in range(1000):
                try:
                    made = client.post("/v1/claims", json=body(right, uuid.uuid4().hex), headers=headers)
                except httpx.TransportError:
                    return
                if made.status_code == 202:
                    accepted.append(made.json()["claim"])

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = [pool.submit(file) for _ in range(8)]
            while len(accepted) < 100:
                pass
            child.send_signal(signal.SIGKILL)
            for future in running:
                future.result()
        stored = {row[0] for row in parts.query("select id from claims where id = any(%s)", accepted)}
        assert stored == set(accepted)


def test_the_same_key_again_gets_the_same_answer(people: People, holder: tuple[str, dict[str, str], str]) -> None:
    _, headers, right = holder
    keyed = {**headers, "Idempotency-Key": uuid.uuid4().hex}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: people.client.post("/v1/claims", json=body(right, "same"), headers=keyed), range(32))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count(None) == 1
    changed = people.client.post("/v1/claims", json=body(right, "other"), headers=keyed)
    problem(changed, 409, field="Idempotency-Key")
    item = answers[0].json()["items"][0]["item"]
    problem(people.client.post(f"/v1/items/{item}/withdraw", json={"ground": "error"}, headers=keyed), 409)
    # another account's key is another key
    _, others = people.open()
    elsewhere = people.client.post(
        "/v1/claims",
        json=body(people.right(others), "same"),
        headers={**others, "Idempotency-Key": keyed["Idempotency-Key"]},
    )
    assert elsewhere.status_code == 202
    assert elsewhere.json()["claim"] != answers[0].json()["claim"]


def test_a_refused_request_does_not_use_up_its_key(people: People, holder: tuple[str, dict[str, str], str]) -> None:
    _, headers, right = holder
    keyed = {**headers, "Idempotency-Key": uuid.uuid4().hex}
    problem(people.client.post("/v1/claims", json=body("r-none"), headers=keyed), 422, field="right")
    assert people.client.post("/v1/claims", json=body(right), headers=keyed).status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"profile": "nope"}, "profile"),
        ({"reason": "nope"}, "reason"),
        ({"reason": "design"}, "reason"),
        ({"right": "r-none"}, "right"),
        ({"principal": "a-none"}, "right"),
        ({"extra": 1}, "extra"),
        ({"listings": []}, "listings"),
        ({"listings": ["https://market.example/items/1"] * 301}, "listings"),
        ({"listings": ["javascript:x"]}, "listings[0]"),
        ({"listings": ["https://market.example/items/1", "https://market.example/\u0000"]}, "listings[1]"),
        ({"listings": "x"}, "listings"),
        ({"right": None}, "right"),
        ({"right": "a\u0000"}, "right"),
        ({"materials": ["x" * 121]}, "materials[0]"),
    ],
)
def test_a_claim_that_is_wrong_is_told_where(
    people: People, holder: tuple[str, dict[str, str], str], change: dict[str, Any], field: str
) -> None:
    _, headers, right = holder
    problem(people.client.post("/v1/claims", json={**body(right), **change}, headers=headers), 422, field=field)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"nope", 400),
        (b"\xff\xfe", 400),
        (b'{"right": "\xff"}', 400),
        (b'{"right": "\\ud800"}', 400),
        (b"[]", 422),
        (b"null", 422),
        (b"[" * 50_000, 422),
        (b'{"x":' * 20_000, 422),
        (b'{"right": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
def test_bad_bodies(people: People, holder: tuple[str, dict[str, str], str], content: bytes, status: int) -> None:
    response = people.client.post(
        "/v1/claims", content=content, headers={**holder[1], "Content-Type": "application/json"}
    )
    assert response.status_code in {status, 400}
    problem(response, response.status_code)


def test_a_body_of_unknown_length_is_limited_too(people: People, holder: tuple[str, dict[str, str], str]) -> None:
    chunks = iter([b"x" * 10_000] * 20)
    problem(people.client.post("/v1/claims", content=chunks, headers=holder[1]), 413)


def test_an_unverified_account_names_ten_listings_and_waits_in_bulk(client: httpx.Client, people: People) -> None:
    made = client.post("/v1/accounts", json={}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    people.contact(made["account"], headers)
    right = people.right(headers)
    problem(client.post("/v1/claims", json=body(right, *map(str, range(11))), headers=headers), 422, field="listings")
    assert people.claim(headers, right, *map(str, range(10)))["lane"] == "bulk"
    people.verify(people.operator, made["account"])
    assert people.claim(headers, right, *map(str, range(11)))["lane"] == "standard"
    client.post(f"/v1/accounts/{made['account']}/verify", json={"good_faith": True}, headers=people.operator)
    assert people.claim(headers, right, "1")["lane"] == "express"


def test_an_agent_files_with_the_authority_that_it_has(
    parts: Parts, people: People, holder: tuple[str, dict[str, str], str]
) -> None:
    owner, owners, right = holder
    agent, agents = people.open()

    def filed() -> str:
        made = people.claim(agents, right, uuid.uuid4().hex, principal=owner)
        ((terms,),) = parts.query("select terms from claims where id = %s", made["claim"])
        return str(json.loads(terms).get("authority", "missing"))

    def refused() -> None:
        asked = people.client.post("/v1/claims", json=body(right, "x", principal=owner), headers=agents)
        refusal = problem(asked, 422, field="principal")
        assert refusal["type"].endswith(":not_authorised")
        assert "/v1/authorisations" in refusal["cure"]

    refused()
    grant = people.authorise(owners, agents, rights=[right])
    assert filed() == "authorised"
    ended = people.client.delete(f"/v1/authorisations/{grant['id']}", headers=owners)
    assert ended.json() == {"changed": True}

    def told() -> list[str]:
        parts.tell_rights()
        rows = parts.query(
            "select payload::json->>'status' from admission_queue where type like '%%change_right%%' and complainant = %s order by id",
            agent,
        )
        return [status for (status,) in rows]

    assert told() == ["unauthorised"]
    refused()
    # a new one releases what is on hold, once: a further one that covers nothing new tells nobody
    people.authorise(owners, agents, territory=["FR"])
    assert told() == ["unauthorised", "active"]
    people.authorise(owners, agents, territory=["FR"])
    assert told() == ["unauthorised", "active"]
    assert filed() == "authorised"


def test_a_claim_needs_somebody_whom_the_seller_can_reach(people: People) -> None:
    """Of both: the complainant, and the principal whose name the notice gives."""
    owner, owners = people.open(contact=False)
    agent, agents = people.open(contact=False)
    right = people.right(owners)
    people.authorise(owners, agents)
    code = {"Idempotency-Key": uuid.uuid4().hex}

    def refused(headers: dict[str, str], **values: Any) -> tuple[str, str | None]:
        answer = people.client.post("/v1/claims", json=body(right, "l", **values), headers={**headers, **code})
        found = problem(answer, 422)
        assert "/v1/contact" in found["cure"]
        return found["type"].rpartition(":")[2], found.get("field")

    assert refused(owners) == ("no_contact", None)
    people.client.put("/v1/contact", json=CONTACT, headers=owners)
    assert refused(owners) == ("contact_unconfirmed", None)
    assert refused(agents, principal=owner) == ("no_contact", None)
    people.contact(agent, agents)
    assert refused(agents, principal=owner) == ("contact_unconfirmed", "principal")
    people.client.delete("/v1/contact", headers=owners)
    assert refused(agents, principal=owner) == ("no_contact", "principal")
    people.contact(owner, owners)
    people.claim(agents, right, "l", principal=owner)
    people.claim(owners, right, "m")
    # another address is nobody's until it is confirmed; the same one stays confirmed
    people.contact(owner, owners, name="Renamed")
    people.claim(owners, right, "n")
    people.client.put("/v1/contact", json={**CONTACT, "email": "moved@example.org"}, headers=owners)
    assert refused(owners) == ("contact_unconfirmed", None)


def test_a_number_is_held_against_its_register(people: People) -> None:
    _, headers = people.open()
    body = {"right_type": "trademark", "register": "us", "proof": "doc-1"}

    def register(**values: str) -> httpx.Response:
        return people.client.post("/v1/rights", json={**body, **values}, headers=headers)

    pending = problem(register(number="88/123,456"), 422, field="number")
    assert pending["type"].endswith(":number_is_pending")
    assert "registration number" in pending["cure"]
    problem(register(number="1234567", register="ep"), 422, field="register")
    problem(register(number="1234567", register="moon"), 422, field="register")
    problem(register(number="12€34"), 422, field="number")
    made = register(number="Reg. No. ５，１２３，４５６")
    assert made.status_code == 201, made.text
    assert (made.json()["register"], made.json()["number"]) == ("us", "5123456")


def test_a_lost_right_is_told_to_its_items(parts: Parts, people: People) -> None:
    _, headers = people.open()
    right = people.right(headers)
    made = people.claim(headers, right, "a", "b", "c")
    assert people.client.patch(f"/v1/rights/{right}", json={"status": "lost"}, headers=headers).json() == {
        "changed": True
    }
    parts.tell_rights()
    told = parts.query(
        "select item, payload::json->>'status' from admission_queue where claim = %s and kind = 'command' order by item",
        made["claim"],
    )
    assert told == [(item["item"], "lost") for item in made["items"]]
    problem(people.client.patch(f"/v1/rights/{right}", json={"status": "active"}, headers=headers), 403, field="status")
    assert (
        people.client.patch(f"/v1/rights/{right}", json={"status": "active"}, headers=people.operator).status_code
        == 200
    )


def test_lists_are_paged(people: People) -> None:
    _, headers = people.open()
    right = people.right(headers)
    made = [people.claim(headers, right, "a", "b", "c")["claim"] for _ in range(5)]

    def walk(path: str, limit: int) -> list[str]:
        found: list[str] = []
        cursor = ""
        while cursor is not None:
            page = people.client.get(
                f"{path}limit={limit}" + (f"&cursor={cursor}" if cursor else ""), headers=headers
            ).json()
            assert len(page["items"]) <= limit
            found += [entry["id"] for entry in page["items"]]
            cursor = page["next"]
        return found

    assert walk("/v1/claims?", 2) == made[::-1]
    assert walk("/v1/claims?state=RECEIVED&", 2) == made[::-1]
    assert walk("/v1/claims?state=UPHELD&", 2) == []
    assert len(walk(f"/v1/claims/{made[0]}/items?", 2)) == 3
    for cursor in ("x", "%00", "bnVsbA", "WyJcdTAwMDAiXQ", "W10"):
        problem(people.client.get(f"/v1/claims?cursor={cursor}", headers=headers), 400, field="cursor")
    problem(people.client.get("/v1/claims?limit=0", headers=headers), 400, field="limit")
    problem(people.client.get("/v1/claims?state=NOPE", headers=headers), 400, field="state")


def test_commands_for_a_whole_claim(people: People, holder: tuple[str, dict[str, str], str]) -> None:
    _, headers, right = holder
    made = people.claim(headers, right, "a", "b")
    answer = people.client.post(f"/v1/claims/{made['claim']}/withdraw", json={"ground": "settled"}, headers=headers)
    assert answer.status_code == 202
    assert [command["item"] for command in answer.json()["commands"]] == [item["item"] for item in made["items"]]
    command = people.client.get(f"/v1/commands/{answer.json()['commands'][0]['command']}", headers=headers).json()
    assert (command["kind"], command["status"], command["role"]) == ("withdraw", "accepted", "holder")


# ---- contacts


def test_contacts_are_kept_encrypted_and_can_be_erased(parts: Parts, people: People) -> None:
    account, headers = people.open()
    contact = {**CONTACT, "name": "Secretly Named"}
    assert people.client.put("/v1/contact", json=contact, headers=headers).status_code == 204
    assert people.client.get("/v1/contact", headers=headers).json() == {
        "account": account,
        **contact,
        "language": "en",
        "confirmed": False,
    }
    ((sealed,),) = parts.query("select sealed from contacts where account = %s", account)
    assert b"Secretly" not in bytes(sealed)
    internal = {"Authorization": f"Bearer {parts.internal}"}
    asked = people.client.post("/internal/contacts", json={"ids": [account, "a-none"]}, headers=internal)
    assert asked.json() == {
        "contacts": {account: {"account": account, **contact, "language": "en", "confirmed": False}},
        "unowned": ["a-none"],
    }
    known = {"email_confirmed": True}
    said = people.client.post(f"/v1/accounts/{account}/verify", json=known, headers=people.operator)
    assert said.json()["email_confirmed"]
    asked = people.client.post("/internal/contacts", json={"ids": [account]}, headers=internal)
    assert asked.json()["contacts"][account]["confirmed"]
    moved = {**contact, "email": "elsewhere@example.org"}
    assert people.client.put("/v1/contact", json=moved, headers=headers).status_code == 204
    asked = people.client.post("/internal/contacts", json={"ids": [account]}, headers=internal)
    assert not asked.json()["contacts"][account]["confirmed"]
    other = people.open(contact=False)[0]
    problem(
        people.client.post(f"/v1/accounts/{other}/verify", json=known, headers=people.operator),
        422,
        field="email_confirmed",
    )
    assert people.client.delete("/v1/contact", headers=headers).status_code == 204
    assert people.client.post("/internal/contacts", json={"ids": [account]}, headers=internal).json() == {
        "contacts": {},
        "unowned": [account],
    }
    assert parts.query("select count(*) from subject_keys where account = %s", account) == [(0,)]


def test_whose_inbox_somebody_owns(parts: Parts, people: People) -> None:
    """An account that nobody has ever used is nobody's: an operator opened it, and its token lies somewhere."""
    sides = [people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}") for _ in range(4)]
    ids = [account for account, _ in sides]
    idle, reads, called, closed = ids

    def unowned() -> set[str]:
        asked = people.client.post(
            "/internal/contacts", json={"ids": ids}, headers={"Authorization": f"Bearer {parts.internal}"}
        )
        return set(asked.json()["unowned"])

    assert unowned() == set(ids)
    for account in (reads, closed):
        parts.query(
            """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at, read_at)
            values (%s, %s, 'c-1', 'seller_notice', '{i-1}', 'inbox', 't', 1, 'd', now(), now())""",
            f"m-{account}",
            account,
        )
    parts.query("update accounts set status = 'closed' where id = %s", closed)
    assert unowned() == {idle, called, closed}
    parts.query("update accounts set canary = true where id = %s", idle)
    assert unowned() == {called, closed}
    people.client.post(f"/v1/accounts/{called}/verify", json={"identity_verified": True}, headers=people.operator)
    assert called in unowned(), "what staff do with an account shows nobody behind it"
    people.webhook(parts, sides[2][1])
    assert unowned() == {closed}
    fed, headers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    ids.append(fed)
    assert people.client.put("/v1/contact", json=CONTACT, headers=headers).status_code == 204
    assert unowned() == {closed}
    parts.query("update contacts set fed = true where account = %s", fed)
    assert unowned() == {closed, fed}, "the marketplace gave its address, and nobody answers for it"
    parts.query("update accounts set email_confirmed_at = now() where id = %s", fed)
    assert unowned() == {closed}


def test_messages_are_wanted_in_a_language(parts: Parts, people: People) -> None:
    account, headers = people.open()
    internal = {"Authorization": f"Bearer {parts.internal}"}
    for accepted, named, language in (
        ("de-AT", None, "de"),
        ("de", "zh", "zh"),
        ("fr", None, "en"),
        ("zh", "en", "en"),
    ):
        contact = CONTACT if named is None else {**CONTACT, "language": named}
        put = people.client.put("/v1/contact", json=contact, headers={**headers, "Accept-Language": accepted})
        assert put.status_code == 204
        assert people.client.get("/v1/contact", headers=headers).json()["language"] == language
        asked = people.client.post("/internal/contacts", json={"ids": [account]}, headers=internal).json()
        assert asked["contacts"][account]["language"] == language
    assert people.client.put("/v1/contact", json={**CONTACT, "language": "fr"}, headers=headers).status_code in (
        400,
        422,
    )
    # what was sealed before there were languages is read as English
    old = parts.settings.contact_key
    assert old is not None
    sealing = security.Contacts(old.get_secret_value())
    ((wrapped,),) = parts.query("select wrapped from subject_keys where account = %s", account)
    sealed = sealing.seal_text(account, bytes(wrapped), msgspec.json.encode(CONTACT), "contact")
    parts.query("update contacts set sealed = %s where account = %s", sealed, account)
    assert people.client.get("/v1/contact", headers=headers).json()["language"] == "en"


def test_the_contact_key_is_changed_under_all_that_is_sealed(parts: Parts, people: People) -> None:
    account, headers = people.open()
    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    assert parts.settings.contact_key is not None
    old = parts.settings.contact_key.get_secret_value()
    new = base64.b64encode(b"n" * 32).decode()
    document = people.client.post("/v1/evidence?kind=ownership", content=b"proof", headers=headers).json()["id"]
    ((count,),) = parts.query(
        "select (select count(*) from subject_keys) + (select count(*) from evidence where key is not null)"
    )

    def read(contacts: security.Contacts) -> str:
        rows = parts.query(
            "select wrapped, sealed from contacts join subject_keys using (account) where account = %s", account
        )
        ((wrapped, sealed),) = rows
        return contacts.open(account, bytes(wrapped), bytes(sealed)).email

    engine = db.administer(parts.admin_url, pooled=False)
    assert rewrap.rewrap_all(engine, security.Contacts(new)) == {"rewrapped": 0, "kept": 0, "unreadable": count}
    assert rewrap.rewrap_all(engine, security.Contacts(new, old)) == {"rewrapped": count, "kept": 0, "unreadable": 0}
    assert rewrap.rewrap_all(engine, security.Contacts(new, old)) == {"rewrapped": 0, "kept": count, "unreadable": 0}
    assert read(security.Contacts(new)) == CONTACT["email"]
    ((key,),) = parts.query("select key from evidence where id = %s", document)
    assert len(security.Contacts(new).unwrap(document, bytes(key))) == 32
    with pytest.raises(InvalidTag):
        read(security.Contacts(old))
    assert rewrap.rewrap_all(engine, security.Contacts(old, new))["rewrapped"] == count
    engine.dispose()
    assert people.client.get("/v1/contact", headers=headers).json()["email"] == CONTACT["email"]


def test_the_inbox_shows_contacts_as_the_life_cycle_releases_them(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    agent, agents = people.open()
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    for account, headers, name in ((owner, owners, "Owner"), (agent, agents, "Agent"), (seller, sellers, "Seller")):
        people.contact(account, headers, name=name)
    people.authorise(owners, agents)
    made = people.claim(agents, people.right(owners), "listing", principal=owner)
    item = made["items"][0]["item"]
    for party, kind in ((seller, "seller_notice"), (agent, "counter_forwarded")):
        parts.query(
            """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at)
            values (%s, %s, %s, %s, %s, 'email', 't', 1, 'd', now())""",
            f"m-{party}",
            party,
            made["claim"],
            kind,
            [item],
        )

    def names(headers: dict[str, str]) -> list[tuple[str, str]]:
        (message,) = people.client.get("/v1/inbox", headers=headers).json()["items"]
        return [(contact["part"], contact["name"]) for contact in message["contacts"]]

    sell(parts.engine, item, seller, state="UNDER_REVIEW", told=0)
    assert (names(sellers), names(agents)) == ([], [])
    sell(parts.engine, item, seller, state="NOTIFIED", told=1)
    assert (names(sellers), names(agents)) == ([("complainant", "Agent"), ("principal", "Owner")], [])
    sell(parts.engine, item, seller, state="HOLDER_RESPONSE", told=2)
    assert names(agents) == [("seller", "Seller")]
    assert people.client.get("/v1/inbox", headers=owners).json() == {"items": [], "next": None, "unread": 0}


# ---- accounts and tokens


@pytest.mark.parametrize(
    "change",
    [
        {"role": "operator"},
        {"role": "seller"},
        {"id": "a-operator"},
        {"identity_verified": True},
        {"seen": "x"},
        {"good_faith": True},
    ],
)
def test_nobody_makes_itself_more_than_a_holder(
    client: httpx.Client, holder: tuple[str, dict[str, str], str], change: dict[str, Any]
) -> None:
    for headers in ({}, holder[1]):
        problem(client.post("/v1/accounts", json=change, headers=headers), 403, field=next(iter(change)))
    problem(client.post("/v1/accounts", json={"registered": True}), 422, field="registered")


def test_tokens_are_rotated_and_revoked(parts: Parts, people: People) -> None:
    account, first = people.open()
    second = {"Authorization": f"Bearer {people.client.post('/v1/tokens', headers=first).json()['token']}"}
    assert people.client.delete("/v1/tokens/current", headers=first).status_code == 204
    answer = people.client.get("/v1/me", headers=first)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert people.client.get("/v1/me", headers=second).json()["id"] == account
    parts.query("update tokens set expires_wall = now() where account = %s", account)
    problem(people.client.get("/v1/me", headers=second), 401)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer x", "Bearer gf_" + "a" * 100, "Basic eDp5", "Bearer \xff"])
def test_bad_tokens(client: httpx.Client, value: str) -> None:
    problem(client.get("/v1/me", headers={"Authorization": value.encode("latin-1")}), 401)  # type: ignore[dict-item]


def test_an_account_id_is_given_once(people: People) -> None:
    name = f"s-{uuid.uuid4().hex[:10]}"
    people.open("seller", id=name)
    problem(
        people.client.post("/v1/accounts", json={"role": "seller", "id": name}, headers=people.operator),
        409,
        field="id",
    )


# ---- routes


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    problem(client.get("/nope"), 404)
    answer = client.put("/v1/claims")
    problem(answer, 405)
    assert "POST" in answer.headers["allow"]
    problem(client.post("/v1/claims/x/y/z"), 404)


WHO = ("anonymous", "holder a", "holder b", "seller", "other seller", "reviewer", "operator", "upstream")
OK, NO, HIDDEN, WHO_ARE_YOU, NO_LEASE = 200, 403, 404, 401, 409


def _row(a: int, b: int, seller: int, other: int, reviewer: int, operator: int, upstream: int) -> dict[str, int]:
    return dict(zip(WHO[1:], (a, b, seller, other, reviewer, operator, upstream), strict=True))


ALL = _row(OK, OK, OK, OK, OK, OK, OK)
PARTY_READS = _row(OK, HIDDEN, OK, HIDDEN, OK, OK, HIDDEN)
ITS_OWN = _row(OK, *[HIDDEN] * 6)
HOLDER_ACTS = _row(OK, HIDDEN, NO, NO, NO, NO, NO)
SELLER_ACTS = _row(NO, NO, OK, HIDDEN, NO, NO, NO)
EITHER_ACTS = _row(OK, HIDDEN, OK, HIDDEN, NO, NO, NO)
OWNER_ACTS = _row(OK, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN)
STAFF_ACTS = _row(NO, NO, NO, NO, OK, OK, NO)
OPERATOR_ACTS = _row(NO, NO, NO, NO, NO, OK, NO)
LEASE_ACTS = _row(NO, NO, NO, NO, NO_LEASE, NO_LEASE, NO)
_TEXT = declarations.load(policy.current("ipp").good_faith.declaration)
DECLARATION = {"version": _TEXT.version, "sha256": _TEXT.sha256, "name": "Ada Example", "capacity": "director"}
# what holder a owns: path, body and answer by who asks (401 for anonymous unless told otherwise)
EXPECTED: dict[tuple[str, str], tuple[dict[str, Any] | None, dict[str, int]]] = {
    ("POST", "/v1/tokens"): (None, ALL),
    ("GET", "/v1/tokens"): (None, ALL),
    ("DELETE", "/v1/tokens"): (None, ALL),
    ("DELETE", "/v1/tokens/current"): (None, ALL),
    ("DELETE", "/v1/tokens/{token_id}"): (None, OWNER_ACTS),
    ("GET", "/v1/accounts/{account_id}/tokens"): (None, OPERATOR_ACTS),
    ("DELETE", "/v1/accounts/{account_id}/tokens"): (None, OPERATOR_ACTS),
    ("DELETE", "/v1/accounts/{account_id}/tokens/{token_id}"): (None, OPERATOR_ACTS),
    ("GET", "/v1/me"): (None, ALL),
    ("PUT", "/v1/contact"): (CONTACT, ALL),
    ("GET", "/v1/contact"): (None, ALL),
    ("DELETE", "/v1/contact"): (None, _row(409, OK, 409, OK, OK, OK, OK)),
    ("POST", "/v1/contact/code"): (None, ALL),
    ("POST", "/v1/contact/confirmation"): ({"code": "ABCD-EFGH-JKMN"}, ALL),
    ("GET", "/v1/accounts"): (None, STAFF_ACTS),
    ("GET", "/v1/accounts/{account_id}"): (None, STAFF_ACTS),
    ("POST", "/v1/accounts/{account_id}/verify"): ({}, STAFF_ACTS),
    ("POST", "/v1/accounts/{account_id}/status"): ({"status": "suspended"}, _row(NO, NO, NO, NO, NO, OK, NO)),
    ("POST", "/v1/accounts/{account_id}/erasure"): (
        {"force": True, "reason": "test"},
        _row(NO, NO, NO, NO, NO, OK, NO),
    ),
    ("POST", "/v1/rights"): ({"right_type": "copyright", "number": "VA0001234567"}, _row(OK, OK, NO, NO, NO, OK, NO)),
    ("GET", "/v1/rights"): (None, ALL),
    ("GET", "/v1/rights/{right_id}"): (None, _row(OK, HIDDEN, HIDDEN, HIDDEN, OK, OK, HIDDEN)),
    ("POST", "/v1/rights/{right_id}/renewal"): (
        {"expires_at": "2030-01-01T00:00:00Z"},
        _row(OK, HIDDEN, NO, NO, NO, OK, NO),
    ),
    ("POST", "/v1/rights/{right_id}/assignment"): ({"to": "{holder_b}"}, _row(OK, HIDDEN, NO, NO, NO, OK, NO)),
    # when it is offered to a stranger
    ("POST", "/v1/rights/{right_id}/assignment/consent"): (
        {"accept": False},
        _row(OK, HIDDEN, NO, NO, NO, OK, NO),
    ),
    ("POST", "/v1/rights/{right_id}/name"): ({"registrant": "New Name Ltd"}, _row(OK, HIDDEN, NO, NO, NO, OK, NO)),
    ("POST", "/v1/rights/{right_id}/evidence"): (None, _row(422, HIDDEN, NO, NO, NO, 422, NO)),
    ("POST", "/v1/rights/{right_id}/decision"): (
        {"accept": False, "code": "unreadable"},
        _row(NO, NO, NO, NO, OK, OK, NO),
    ),
    ("PATCH", "/v1/rights/{right_id}"): ({"status": "active"}, _row(OK, HIDDEN, NO, NO, NO, OK, NO)),
    ("POST", "/v1/authorisations"): ({"agent": "h-other"}, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/authorisations"): (None, ALL),
    ("GET", "/v1/authorisations/{authorisation_id}"): (None, _row(OK, HIDDEN, HIDDEN, HIDDEN, OK, OK, HIDDEN)),
    ("POST", "/v1/authorisations/{authorisation_id}/consent"): ({"accept": False}, HOLDER_ACTS),
    # holder a is the principal
    ("POST", "/v1/authorisations/{authorisation_id}/evidence"): (
        {"evidence": ["d-none"]},
        {**HOLDER_ACTS, "holder a": NO},
    ),
    ("POST", "/v1/authorisations/{authorisation_id}/decision"): (
        {"accept": False, "code": "unreadable"},
        STAFF_ACTS,
    ),
    ("DELETE", "/v1/authorisations/{authorisation_id}"): (None, _row(OK, HIDDEN, NO, NO, NO, OK, NO)),
    ("POST", "/v1/claims"): (
        {"reason": "counterfeit", "listings": ["https://market.example/items/1"]},
        _row(OK, 422, NO, NO, NO, NO, NO),
    ),
    ("GET", "/v1/claims"): (None, ALL),
    ("GET", "/v1/claims/{claim_id}"): (None, PARTY_READS),
    ("GET", "/v1/claims/{claim_id}/items"): (None, PARTY_READS),
    ("GET", "/v1/claims/{claim_id}/timeline"): (None, PARTY_READS),
    ("GET", "/v1/claims/{claim_id}/texts"): (None, PARTY_READS),
    ("GET", "/v1/items/{item_id}"): (None, PARTY_READS),
    ("GET", "/v1/items/{item_id}/revisions"): (None, PARTY_READS),
    ("GET", "/v1/commands/{command_id}"): (None, PARTY_READS),
    ("GET", "/v1/inbox"): (None, ALL),
    ("GET", "/v1/inbox/{message_id}"): (None, ITS_OWN),
    ("POST", "/v1/inbox/{message_id}/read"): (None, ITS_OWN),
    ("GET", "/v1/good-faith"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/good-faith/history"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/good-faith/declaration"): (None, ALL),
    ("POST", "/v1/good-faith/declaration"): (DECLARATION, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("DELETE", "/v1/good-faith"): (None, _row(OK, 409, NO, NO, NO, NO, NO)),
    ("GET", "/v1/brake"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("POST", "/v1/brake/complaint"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/accounts/{account_id}/brake"): (None, STAFF_ACTS),
    ("GET", "/v1/brake/complaints"): (None, STAFF_ACTS),
    ("POST", "/v1/accounts/{account_id}/brake/decision"): (
        {"decision": "confirm", "code": "decision_stands"},
        _row(NO, NO, NO, NO, HIDDEN, HIDDEN, NO),  # nobody has complained
    ),
    ("GET", "/v1/misuse"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/misuse/history"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("GET", "/v1/accounts/{account_id}/misuse"): (None, STAFF_ACTS),
    ("GET", "/v1/accounts/{account_id}/misuse/history"): (None, STAFF_ACTS),
    ("GET", "/v1/accounts/{account_id}/misuse/findings"): (None, STAFF_ACTS),
    ("POST", "/v1/accounts/{account_id}/misuse/findings"): ({"kind": "none", "code": "seen"}, STAFF_ACTS),
    ("POST", "/v1/misuse/findings/{finding_id}/second"): ({"agree": False}, _row(NO, NO, NO, NO, OK, NO, NO)),
    ("GET", "/v1/misuse/complaints"): (None, STAFF_ACTS),
    ("POST", "/v1/misuse/{measure_id}/complaint"): ({}, _row(OK, HIDDEN, NO, NO, NO, NO, NO)),
    ("POST", "/v1/misuse/{measure_id}/decision"): (
        {"decision": "confirm", "code": "decision_stands"},
        _row(NO, NO, NO, NO, OK, NO, NO),
    ),
    ("GET", "/v1/accounts/{account_id}/good-faith"): (None, STAFF_ACTS),
    ("GET", "/v1/accounts/{account_id}/good-faith/history"): (None, STAFF_ACTS),
    ("GET", "/v1/accounts/{account_id}/good-faith/declarations"): (None, STAFF_ACTS),
    ("POST", "/v1/items/{item_id}/information"): ({}, HOLDER_ACTS),
    ("POST", "/v1/claims/{claim_id}/information"): ({}, HOLDER_ACTS),
    ("POST", "/v1/items/{item_id}/withdraw"): ({"ground": "error"}, HOLDER_ACTS),
    ("POST", "/v1/claims/{claim_id}/withdraw"): ({"ground": "error"}, HOLDER_ACTS),
    ("POST", "/v1/items/{item_id}/response"): ({"accept": True}, HOLDER_ACTS),
    ("POST", "/v1/claims/{claim_id}/response"): ({"accept": True}, HOLDER_ACTS),
    ("POST", "/v1/items/{item_id}/accept"): ({}, SELLER_ACTS),
    ("POST", "/v1/claims/{claim_id}/accept"): ({}, SELLER_ACTS),
    ("POST", "/v1/items/{item_id}/counter"): ({}, SELLER_ACTS),
    ("POST", "/v1/claims/{claim_id}/counter"): ({}, SELLER_ACTS),
    ("POST", "/v1/items/{item_id}/action"): ({}, EITHER_ACTS),
    ("POST", "/v1/claims/{claim_id}/action"): ({}, EITHER_ACTS),
    ("POST", "/v1/items/{item_id}/result"): ({"outcome": "ended"}, EITHER_ACTS),
    ("POST", "/v1/claims/{claim_id}/result"): ({"outcome": "ended"}, EITHER_ACTS),
    ("POST", "/v1/items/{item_id}/decision"): ({"decision": "uphold"}, _row(NO, NO, NO, NO, NO_LEASE, OK, NO)),
    ("POST", "/v1/claims/{claim_id}/decision"): ({"decision": "uphold"}, LEASE_ACTS),
    ("POST", "/v1/review/lease"): ({}, STAFF_ACTS),
    ("DELETE", "/v1/review/lease"): (None, LEASE_ACTS),
    ("POST", "/v1/review/lease/heartbeat"): (None, LEASE_ACTS),
    ("POST", "/v1/review/lease/skip"): ({}, LEASE_ACTS),
    ("POST", "/v1/review/lease/hand-over"): ({"to": "a-operator"}, LEASE_ACTS),
    ("GET", "/v1/review/cases"): (None, STAFF_ACTS),
    ("GET", "/v1/review/cases/{item_id}"): (None, _row(NO, NO, NO, NO, HIDDEN, HIDDEN, NO)),
    ("GET", "/v1/review/cases/{item_id}/notes"): (None, STAFF_ACTS),
    ("POST", "/v1/review/cases/{item_id}/notes"): ({"text": "seen"}, STAFF_ACTS),
    ("GET", "/v1/review/conflicts"): (None, STAFF_ACTS),
    ("PUT", "/v1/review/conflicts"): ({"accounts": []}, STAFF_ACTS),
    ("GET", "/v1/review/figures"): (None, STAFF_ACTS),
    ("GET", "/v1/sellers"): (None, STAFF_ACTS),
    ("GET", "/v1/sellers/{seller_id}/standing"): (None, STAFF_ACTS),
    ("GET", "/v1/sellers/{seller_id}/ledger"): (None, STAFF_ACTS),
    ("GET", "/v1/sellers/{seller_id}/violations"): (None, STAFF_ACTS),
    ("GET", "/v1/sellers/{seller_id}/sanctions"): (None, STAFF_ACTS),
    ("POST", "/v1/sellers/{seller_id}/sanctions/{sanction_id}/lift"): (
        {"reason": "mistake"},
        _row(NO, NO, NO, NO, NO, HIDDEN, NO),
    ),
    ("GET", "/v1/sellers/{seller_id}/why"): (None, STAFF_ACTS),
    ("GET", "/v1/offenders/figures"): (None, STAFF_ACTS),
    ("GET", "/v1/deliveries"): (None, _row(OK, OK, OK, OK, OK, OK, OK)),
    ("GET", "/v1/accounts/{account_id}/deliveries"): (None, _row(NO, NO, NO, NO, OK, OK, NO)),
    ("GET", "/v1/standing"): (None, _row(NO, NO, OK, OK, NO, NO, NO)),
    ("GET", "/v1/standing/ledger"): (None, _row(NO, NO, OK, OK, NO, NO, NO)),
    ("GET", "/v1/standing/violations"): (None, _row(NO, NO, OK, OK, NO, NO, NO)),
    ("GET", "/v1/standing/sanctions"): (None, _row(NO, NO, OK, OK, NO, NO, NO)),
    ("POST", "/v1/items/{item_id}/complaint"): ({}, EITHER_ACTS),
    ("POST", "/v1/claims/{claim_id}/complaint"): ({}, EITHER_ACTS),
    ("POST", "/v1/evidence"): ({}, _row(OK, OK, OK, OK, NO, OK, NO)),
    ("GET", "/v1/evidence"): (None, ALL),
    ("GET", "/v1/evidence/{document_id}"): (None, PARTY_READS),
    ("GET", "/v1/evidence/{document_id}/reads"): (None, _row(OK, HIDDEN, HIDDEN, HIDDEN, OK, OK, HIDDEN)),
    ("DELETE", "/v1/evidence/{document_id}"): (None, _row(409, HIDDEN, HIDDEN, HIDDEN, NO, HIDDEN, NO)),
    ("POST", "/v1/evidence/{document_id}/link"): (None, PARTY_READS),
    ("POST", "/v1/me/evidence"): (None, _row(422, 422, 422, 422, NO, 422, NO)),
    ("PUT", "/v1/channels"): ({"order": ["webhook", "email"]}, ALL),
    ("GET", "/v1/channels"): (None, ALL),
    # which this installation does not look up
    ("POST", "/v1/domains"): ({"domain": "brand.example"}, _row(422, 422, NO, NO, NO, NO, NO)),
    ("GET", "/v1/domains"): (None, _row(OK, OK, NO, NO, NO, NO, NO)),
    ("POST", "/v1/domains/{domain_id}/check"): (None, HOLDER_ACTS),
    ("DELETE", "/v1/domains/{domain_id}"): (None, HOLDER_ACTS),
    ("POST", "/v1/webhooks"): ({"url": "https://192.0.2.1/hook"}, _row(422, 422, 422, 422, 422, 422, 422)),
    ("GET", "/v1/webhooks"): (None, ALL),
    ("GET", "/v1/webhooks/{webhook_id}"): (None, OWNER_ACTS),
    ("DELETE", "/v1/webhooks/{webhook_id}"): (None, OWNER_ACTS),
    ("POST", "/v1/webhooks/{webhook_id}/secret"): (None, OWNER_ACTS),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): (None, OWNER_ACTS),
    ("GET", "/v1/webhooks/{webhook_id}/health"): (None, OWNER_ACTS),
    ("POST", "/v1/webhooks/{webhook_id}/replay"): ({"message": "m-1"}, {**OWNER_ACTS, "holder a": 409}),
    ("PUT", "/v1/webhooks/{webhook_id}/status"): ({"status": "disabled"}, OWNER_ACTS),
    # there is nothing left to confirm
    ("POST", "/v1/webhooks/{webhook_id}/challenge"): (None, {**OWNER_ACTS, "holder a": 422}),
    ("POST", "/v1/webhooks/{webhook_id}/confirmation"): ({"code": "ABCD-EFGH-JKMN"}, {**OWNER_ACTS, "holder a": 422}),
    ("POST", "/internal/contacts"): ({"ids": []}, dict.fromkeys(WHO[1:], WHO_ARE_YOU)),
    ("POST", "/internal/codes"): ({"ids": []}, dict.fromkeys(WHO[1:], WHO_ARE_YOU)),
    ("POST", "/internal/webhooks"): ({"ids": []}, dict.fromkeys(WHO[1:], WHO_ARE_YOU)),
    ("POST", "/internal/challenges"): ({"most": 0}, dict.fromkeys(WHO[1:], WHO_ARE_YOU)),
    ("POST", "/internal/claims"): ({"ids": []}, dict.fromkeys(WHO[1:], WHO_ARE_YOU)),
}


def _paths() -> set[tuple[str, str]]:
    found = set()
    for handler in ROUTES:
        assert isinstance(handler, HTTPRouteHandler)
        if handler.opt["roles"] is PUBLIC:
            continue
        for path in handler.paths:
            found |= {(method, re.sub(r":str}", "}", path)) for method in handler.http_methods}
    return found


def test_the_table_has_every_route() -> None:
    assert set(EXPECTED) == {(str(method), path) for method, path in _paths()}


@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
def test_every_route_by_every_role(parts: Parts, people: People, method: str, path: str) -> None:
    content, expected = EXPECTED[method, path]
    seller = f"s-{uuid.uuid4().hex[:10]}"
    accounts = {
        "holder a": people.open(),
        "holder b": people.open(),
        "seller": people.open("seller", id=seller),
        "other seller": people.open("seller", id=f"{seller}x"),
        "reviewer": people.open("reviewer"),
        "operator": people.open("operator"),
        "upstream": people.open("upstream"),
    }
    account, owners = accounts["holder a"]
    right = people.right(owners, **({"proof": None} if path.endswith("{right_id}/decision") else {}))
    other, others = people.open()
    if path.endswith("{authorisation_id}/decision"):
        asked, by = {"principal": account}, others
    else:
        asked, by = {"agent": other}, owners
    grant = people.client.post("/v1/authorisations", json=asked, headers=by).json()["id"]
    document = people.client.post("/v1/evidence?kind=ownership", content=b"proof", headers=owners).json()["id"]
    hook = people.webhook(parts, owners)["id"]
    made = people.claim(owners, right, "listing", evidence=[document])
    item = made["items"][0]["item"]
    sell(parts.engine, item, seller)
    command = people.client.post(f"/v1/items/{item}/action", json={}, headers=owners).json()["commands"][0]["command"]
    finding = measure = ""
    if path.startswith("/v1/misuse/"):
        # made by the operator, who may neither second it nor decide on a complaint against what stands on it
        body = {"kind": "forged_document", "document": document, "code": "altered"}
        found = people.client.post(
            f"/v1/accounts/{account}/misuse/findings", json=body, headers=accounts["operator"][1]
        )
        finding = found.json()["id"]
        if not path.endswith("/second"):
            agreed = people.client.post(
                f"/v1/misuse/findings/{finding}/second", json={"agree": True}, headers=people.open("reviewer")[1]
            )
            measure = agreed.json()["measure"]
        if path.endswith("/decision"):
            assert people.client.post(f"/v1/misuse/{measure}/complaint", json={}, headers=owners).status_code == 201
    url = path.format(
        finding_id=finding,
        measure_id=measure,
        account_id=account,
        right_id=right,
        authorisation_id=grant,
        claim_id=made["claim"],
        item_id=item,
        command_id=command,
        document_id=document,
        message_id=f"m-{item}",
        webhook_id=hook,
        domain_id=f"dn-{account}",
        seller_id=seller,
        sanction_id="none.s1",
        token_id=people.client.post("/v1/tokens", headers=owners).json()["id"],
    )
    parts.query(
        """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at)
        values (%s, %s, %s, 'claim_receipt', %s, 'email', 't', 1, 'd', now())""",
        f"m-{item}",
        account,
        made["claim"],
        [item],
    )
    parts.query(
        "insert into account_domains (id, account, domain, token, named_wall) values (%s, %s, 'brand.example', 't', now())",
        f"dn-{account}",
        account,
    )
    if (method, path) == ("POST", "/v1/evidence"):
        url += "?kind=statement"
    if path in ("/v1/me/evidence", "/v1/rights/{right_id}/evidence"):
        content = {"evidence": ["d-none"]}
    if path.endswith("/misuse/findings") and content is not None:
        content = {**content, "claim": made["claim"]}
    if path == "/v1/claims" and content is not None:
        content = {**content, "right": right}
    if (path, method) in (("/v1/contact", "GET"), ("/v1/contact/code", "POST"), ("/v1/contact/confirmation", "POST")):
        for name, headers in accounts.values():
            people.client.put("/v1/contact", json=CONTACT, headers=headers)
            if path.endswith("confirmation"):
                waiting_code(parts, name, "ABCD-EFGH-JKMN")
    if path.endswith("/assignment"):
        content = {"to": accounts["holder b"][0]}
    if path.endswith("/assignment/consent"):
        people.client.post(f"/v1/rights/{right}/assignment", json={"to": other}, headers=owners)
    if (method, path) == ("POST", "/v1/authorisations"):
        content = {"agent": other}
    if (method, path) == ("DELETE", "/v1/good-faith"):
        people.client.post("/v1/good-faith/declaration", json=DECLARATION, headers=owners)
    if path.startswith("/internal"):
        internal = people.client.post(url, json=content, headers={"Authorization": f"Bearer {parts.internal}"})
        assert internal.status_code == 200
    before = parts.query("select count(*) from commands")
    problem(people.client.request(method, url, json=content), 401)
    refused = [who for who in WHO[1:] if expected[who] != OK]
    for who in refused:
        problem(people.client.request(method, url, json=content, headers=accounts[who][1]), expected[who])
        if expected[who] == HIDDEN:
            # what is another's answers exactly as what does not exist
            nowhere = people.client.request(
                method,
                re.sub(
                    r"/(claims|items|commands|rights|authorisations|evidence|inbox|webhooks|domains|tokens)/[^/]+",
                    r"/\1/x-none",
                    url,
                ),
                json=content,
                headers=accounts[who][1],
            )
            there = people.client.request(method, url, json=content, headers=accounts[who][1])
            assert (nowhere.status_code, nowhere.json()) == (there.status_code, there.json())
    assert parts.query("select count(*) from commands") == before
    for who in WHO[1:]:
        if expected[who] == OK:
            if who == "operator" and path.endswith("/assignment"):
                content = {"to": other}
            if who == "operator" and path.endswith("/assignment/consent"):
                people.client.post(f"/v1/rights/{right}/assignment", json={"to": other}, headers=owners)
            if who == "operator" and path.endswith("/misuse/findings") and content is not None:
                content = {**content, "document": document}
            if who == "operator" and path.endswith("/renewal"):
                content = {"expires_at": "2031-01-01T00:00:00Z"}
            answer = people.client.request(method, url, json=content, headers=accounts[who][1])
            assert answer.status_code < 300, (who, answer.text)


def waiting_code(parts: Parts, account: str, code: str) -> None:
    """As if a code had been mailed to the account."""
    parts.query(
        """insert into email_codes (account, notice, digest, expires_at, tries, requested_at, requests, since)
        values (%s, %s, %s, now() + interval '1 hour', 0, now(), 1, now())""",
        account,
        f"n-{account}",
        code_digest(f"n-{account}", code),
    )


def test_a_seller_sees_its_own_items_of_a_claim_only(parts: Parts, people: People) -> None:
    _, owners = people.open()
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    made = people.claim(owners, people.right(owners), "mine", "others")
    mine, other = (item["item"] for item in made["items"])
    sell(parts.engine, mine, seller)
    sell(parts.engine, other, "s-other")
    for item in (mine, other):
        parts.query("insert into timeline values (%s, 1, 't', 'NOTIFIED', 'system', null, now())", item)
    read = people.client.get(f"/v1/claims/{made['claim']}", headers=sellers).json()
    assert read["states"] == {"NOTIFIED": 1}
    assert [
        item["id"] for item in people.client.get(f"/v1/claims/{made['claim']}/items", headers=sellers).json()["items"]
    ] == [mine]
    assert [
        entry["item"]
        for entry in people.client.get(f"/v1/claims/{made['claim']}/timeline", headers=sellers).json()["items"]
    ] == [mine]
    assert [claim["id"] for claim in people.client.get("/v1/claims", headers=sellers).json()["items"]] == [
        made["claim"]
    ]
    problem(people.client.get(f"/v1/items/{other}", headers=sellers), 404)
    answer = people.client.post(f"/v1/claims/{made['claim']}/counter", json={}, headers=sellers).json()
    assert [command["item"] for command in answer["commands"]] == [mine]


def test_internal_routes_are_no_part_of_the_document(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert not [path for path in document["paths"] if path.startswith("/internal")]
    internal = {path for handler in ROUTES for path in handler.paths if handler.opt["roles"] is INTERNAL}
    assert internal == {
        "/internal/contacts",
        "/internal/claims",
        "/internal/codes",
        "/internal/webhooks",
        "/internal/challenges",
    }


# ---- languages


def test_no_answer_is_stored_or_read_as_another_type(parts: Parts, people: People, client: httpx.Client) -> None:
    _, headers = people.open()
    internal = {"Authorization": f"Bearer {parts.internal}"}
    answers = [
        client.post("/v1/accounts", json={}),
        client.post("/v1/tokens", headers=headers),
        client.get("/v1/me", headers=headers),
        client.put("/v1/contact", json=CONTACT, headers=headers),
        client.get("/v1/contact", headers=headers),
        client.get("/v1/me"),
        client.get("/nowhere"),
        client.post("/v1/claims", content=b"{", headers=headers),
        client.post("/internal/contacts", json={"ids": []}, headers=internal),
        *(
            httpx.get(f"{url}/internal/nothing", headers=internal, trust_env=False)
            for url in (
                parts.settings.verification_url,
                parts.settings.enforcement_url,
                parts.settings.notification_url,
            )
        ),
    ]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url


def test_no_party_learns_which_reviewer_acted(people: People) -> None:
    owner, headers = people.open()
    reviewer, reviewers = people.open("reviewer")
    right = people.right(headers, proof=None)
    decided = people.decide(reviewers, right)
    assert decided.status_code == 200, decided.text
    verified = people.client.post(f"/v1/accounts/{owner}/verify", json={"good_faith": True}, headers=reviewers)
    assert verified.status_code == 200, verified.text
    for path, entries in ((f"/v1/rights/{right}", "history"), ("/v1/good-faith/history", "items")):
        seen = people.client.get(path, headers=headers)
        assert reviewer not in seen.text
        assert seen.json()[entries][0]["by"] == "reviewer"
    seen = people.client.get(f"/v1/rights/{right}", headers=reviewers)
    assert seen.json()["history"][0]["by"] == reviewer


def test_forms_are_open_to_anyone_in_the_readers_language(client: httpx.Client) -> None:
    seen = {}
    for header, language in (("", "en"), ("zh-CN,zh;q=0.9", "zh"), ("fr;q=0.9, de;q=0.5", "de")):
        answer = client.get("/v1/forms", params={"profile": "ipp"}, headers={"Accept-Language": header})
        assert answer.status_code == 200, answer.text
        assert (answer.headers["content-language"], answer.headers["vary"]) == (language, "Accept-Language")
        assert answer.headers["cache-control"].startswith("public")
        form = answer.json()
        assert (form["language"], form["profile"], form["limits"]["listings"]) == (language, "ipp", 300)
        seen[language] = {right["code"]: right for right in form["rights"]}
    assert {language: rights["trademark"]["label"] for language, rights in seen.items()} == {
        "en": "Trade mark",
        "zh": "商标",
        "de": "Marke",
    }
    assert seen["en"].keys() == seen["zh"].keys() == seen["de"].keys()
    named = client.get("/v1/forms?language=de", headers={"Accept-Language": "zh"})
    assert named.json()["language"] == "de"
    problem(client.get("/v1/forms?language=xx"), 422, field="language")
    problem(client.get("/v1/forms?profile=nope"), 422, field="profile")
    problem(client.get("/v1/forms", params={"profile": "x" * 500}), 400)
    assert client.get("/openapi.json").json()["paths"]["/v1/forms"]["get"]["security"] == [{}]


def test_what_a_form_offers_intake_takes(people: People, client: httpx.Client) -> None:
    _, headers = people.open()
    form = client.get("/v1/forms").json()
    made: dict[str, dict[str, Any]] = {"trademark": {"number": "1234567"}, "copyright": {"published": PUBLISHED}}
    for right in form["rights"]:
        if right["code"] not in made:
            continue
        assert right["number_required"] == ("number" in made[right["code"]])
        assert bool(right["without_number"]) == ("published" in made[right["code"]])
        asked = {"right_type": right["code"], "proof": "doc-1", **made[right["code"]]}
        held = client.post("/v1/rights", json=asked, headers=headers).json()["id"]
        for reason in right["reasons"]:
            assert people.claim(headers, held, f"form-{reason['code']}", reason=reason["code"])["claim"]


def test_refusals_are_told_in_the_readers_language(
    parts: Parts, people: People, holder: tuple[str, dict[str, str], str]
) -> None:
    _, headers, right = holder
    wrong = {"right": right, "reason": "no_such", "listings": ["https://market.example/items/1"]}
    english = problem(people.client.post("/v1/claims", json=wrong, headers=headers), 422, field="reason")
    asked = people.client.post("/v1/claims", json=wrong, headers={**headers, "Accept-Language": "de"})
    german = problem(asked, 422, field="reason")
    assert asked.headers["content-language"] == "de"
    assert german["type"] == english["type"]
    assert (german["title"], german["detail"]) == ("Inhalt nicht annehmbar", "Einen solchen Grund gibt es nicht.")
    assert german["cure"] == english["cure"].replace("Use one of:", "Verwenden Sie eines von:")
    lost = people.client.get("/v1/claims/c-nope?language=zh", headers=headers)
    assert problem(lost, 404)["detail"] == "没有该资源。"
    # an item that was refused says how to cure it
    made = people.claim(headers, right, "cure-me")
    refused = made["items"][0]["item"]
    last = ItemChanged(
        item=refused,
        claim=made["claim"],
        claim_size=1,
        listing="cure-me",
        complainant="h",
        principal="h",
        right=right,
        right_type="trademark",
        reason="counterfeit",
        profile="ipp",
        policy="ipp-2026-11",
        revision=2,
        state=State.REJECTED,
        rule="6-refused",
        code="not_infringing",
        received_at=dt.datetime(2026, 11, 24, tzinfo=dt.UTC),
    )
    parts.query(
        "update items set state = 'REJECTED', last = %s where id = %s", msgspec.json.encode(last).decode(), refused
    )
    shown = people.client.get(f"/v1/items/{refused}", headers={**headers, "Accept-Language": "de"}).json()
    assert shown["code"] == "not_infringing"
    assert shown["cure"].startswith("Das Angebot zeigt die behauptete Verletzung nicht.")
    (listed,) = people.client.get(f"/v1/claims/{made['claim']}/items", headers=headers).json()["items"]
    assert listed["cure"].startswith("The listing does not show")
    # a command's refusal comes by topic, in English, and is told in the reader's language
    item = people.claim(headers, right, "told-in-german")["items"][0]["item"]
    command = people.client.post(f"/v1/items/{item}/withdraw", json={"ground": "error"}, headers=headers)
    id_ = command.json()["commands"][0]["command"]
    text = "An item in RECEIVED takes no such command. It takes: withdraw."
    parts.query("update commands set status = 'refused', code = 'not_now', detail = %s where id = %s", text, id_)
    told = people.client.get(f"/v1/commands/{id_}", headers={**headers, "Accept-Language": "de-CH"}).json()
    assert told["detail"].startswith("Ein Vorgang im Zustand RECEIVED nimmt diese Erklärung nicht an.")
    assert people.client.get(f"/v1/commands/{id_}", headers=headers).json()["detail"] == text


def test_the_logs_hold_no_secret(parts: Parts, people: People, holder: tuple[str, dict[str, str], str]) -> None:
    log = parts.log("api")
    assert "started" in log
    for secret in (
        parts.operator,
        parts.internal,
        holder[1]["Authorization"].removeprefix("Bearer "),
        "Secretly Named",
        "ada@example.org",
        urlpassword(parts.settings.database.get_secret_value()),
        str(parts.settings.contact_key and parts.settings.contact_key.get_secret_value()),
    ):
        assert secret not in log


def urlpassword(url: str) -> str:
    """The password in a database URL."""
    return url.split(":", 2)[2].split("@")[0]


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00+16:08", "9999-12-31T23:59:59-20:00", "1899-01-01T00:00:00Z", "2026-01-01T00:00:00"]
)
def test_times_that_no_database_holds_are_refused(
    people: People, holder: tuple[str, dict[str, str], str], when: str
) -> None:
    body = {"right_type": "copyright", "published": PUBLISHED, "expires_at": when}
    problem(people.client.post("/v1/rights", json=body, headers=holder[1]), 422, field="expires_at")


def test_without_a_database_nothing_is_accepted(parts: Parts) -> None:
    with parts.api(GOODFAITH_DATABASE="postgresql://goodfaith_intake@127.0.0.1:1/none") as client:
        answer = client.post("/v1/claims", json=body("r-1"), headers={"Authorization": f"Bearer {parts.operator}"})
        problem(answer, 503)
        assert answer.headers["retry-after"]
