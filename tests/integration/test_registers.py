"""Registers are asked for rights that wait: the stand-in by HTTP, the queue on a real database, and the process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deploy.local.stack import Stack
from deploy.registers import server
from services.intake.registry.asking import Registers
from tests.integration.intake_parts import Parts, People, wait
from tests.integration.test_intake_http import problem
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
CLIENT, KEY = "client-1:secret-of-the-client", "key-of-the-office"
_numbers = itertools.count(4_200_001)


@pytest.fixture(scope="module")
def standing() -> Iterator[server.Registers]:
    standing = server.Registers(CLIENT, KEY)
    standing.start()
    yield standing
    standing.stop()


@pytest.fixture(scope="module")
def parts(stack: Stack, standing: server.Registers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("registers"),
        registers=("eu", "us"),
        euipo_url=f"{standing.url}/trademark-search",
        euipo_token_url=f"{standing.url}/oidc/accessToken",
        euipo_client=CLIENT,
        uspto_url=standing.url,
        uspto_key=KEY,
        registers_timeout_s=0.5,
    )
    yield parts
    parts.close()


@pytest.fixture
def asking(parts: Parts, standing: server.Registers) -> Iterator[Registers]:
    parts.query("update register_queries set state = 'silent' where state = 'waiting'")
    standing.faults.clear()
    asking = Registers(parts.settings)
    yield asking
    asking.close()


def owner(parts: Parts, people: People, name: str) -> tuple[str, dict[str, str]]:
    """An account whose identity a person verified by this name."""
    account, headers = people.open(identity_verified=False)
    people.contact(account, headers, name=name)
    parts.query("update contacts set named_wall = now() - interval '2 hours' where account = %s", account)
    assert people.verify(people.operator, account).status_code == 200
    return account, headers


def register(people: People, headers: dict[str, str], register: str = "us", **values: Any) -> dict[str, Any]:
    """A right that waits, and of which its owner says little."""
    body = {"right_type": "trademark", "register": register, "number": str(next(_numbers)), "mark": "Owl", **values}
    made = people.client.post("/v1/rights", json=body, headers=headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def read(people: People, right: str) -> dict[str, Any]:
    return dict(people.client.get(f"/v1/rights/{right}", headers=people.operator).json())


def due(parts: Parts) -> None:
    """As if the pause were over."""
    parts.query("update register_queries set due_wall = now() where state = 'waiting'")


def state(parts: Parts, right: str) -> tuple[Any, ...]:
    ((*row,),) = parts.query("select state, tries, result from register_queries where right_id = %s", right)
    return tuple(row)


@pytest.mark.parametrize("office", ["eu", "us"])
def test_a_register_that_answers_accepts_in_place_of_a_person(
    parts: Parts, people: People, standing: server.Registers, asking: Registers, office: Any
) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    made = register(people, headers, office)
    assert (made["status"], made["pending_reason"]) == ("pending", "proof_missing")
    standing.add(office, made["number"], "OWL", "OWL & MOON G.M.B.H.", ends="2031-05-01" if office == "eu" else None)
    claim = people.claim(headers, made["id"], f"listing-{office}")["claim"]
    assert asking.once() == 1
    right = read(people, made["id"])
    assert (right["status"], right["accepted"]) == ("active", "register")
    assert right["expires_at"] == ("2031-05-01T00:00:00Z" if office == "eu" else None)
    last = right["history"][0]
    assert (last["kind"], last["by"], last["code"]) == ("accepted", "a-system", "register")
    assert last["seen"] == f"register:{office}:{made['number']}"
    parts.tell_rights()
    told = parts.query(
        "select payload::json->>'status' from admission_queue where type like '%%change_right%%' and claim = %s", claim
    )
    assert told == [("active",)]
    assert state(parts, made["id"]) == ("answered", 1, "accepted")
    assert asking.once() == 0


def test_what_the_register_does_not_confirm_is_left_to_a_person(
    parts: Parts, people: People, standing: server.Registers, asking: Registers
) -> None:
    account, headers = owner(parts, people, "Owl and Moon GmbH")
    rights = {
        "another_owner": ("Owl", "Globex Inc.", "REGISTERED"),
        "another_mark": ("Owlet", "Owl and Moon GmbH", "REGISTERED"),
        "not_in_force": ("Owl", "Owl and Moon GmbH", "CANCELLED"),
        "not_found": None,
    }
    made = {}
    for result, entry in rights.items():
        made[result] = register(people, headers)
        if entry is not None:
            mark, name, status = entry
            standing.add("us", made[result]["number"], mark, name, status)
    assert asking.once() == 4
    _, reviewers = people.open("reviewer")
    for result, right in made.items():
        shown = read(people, right["id"])
        assert (shown["status"], shown["accepted"]) == ("pending", None)
        assert (shown["history"][0]["kind"], shown["history"][0]["code"]) == ("register_answered", result)
        assert people.decide(reviewers, right["id"], seen="register").json() == {"changed": True}

    # a name that was changed after it was verified is nobody's proof
    people.contact(account, headers, name="Globex Inc.")
    renamed = register(people, headers)
    standing.add("us", renamed["number"], "Owl", "Globex Inc.")
    # nor does a register take a right from the account that has it, or one that a reviewer refused
    _, others = owner(parts, people, "Umbrella AG")
    taken = people.registered(others, register="us", number=str(next(_numbers)), mark="Owl")
    mine = owner(parts, people, "Owl and Moon GmbH")[1]
    refused = register(people, mine)
    standing.add("us", refused["number"], "Owl", "Owl and Moon GmbH")
    people.decide(reviewers, refused["id"], accept=False)
    later = register(people, mine)
    standing.add("us", later["number"], "Owl", "Owl and Moon GmbH")
    parts.query("update rights set number = %s where id = %s", later["number"], taken["id"])
    assert asking.once() == 3
    results = {right: state(parts, right)[2] for right in (renamed["id"], refused["id"], later["id"])}
    assert list(results.values()) == ["name_unverified", "not_waiting", "right_registered_elsewhere"]
    assert {read(people, right)["status"] for right in results} == {"pending"}
    assert read(people, taken["id"])["status"] == "active"


@pytest.mark.parametrize(
    "fault", ["500", "503", "429", "slow", "drop", "html", "huge", "redirect", b"[" * 100_000, b'{"trademarks": [1]}']
)
def test_a_register_that_does_not_answer_is_asked_again(
    parts: Parts, people: People, standing: server.Registers, asking: Registers, fault: Any
) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    made = register(people, headers)
    standing.add("us", made["number"], "Owl", "Owl and Moon GmbH")
    standing.faults.append(fault)
    assert asking.once() == 0
    assert asking.troubled
    assert read(people, made["id"])["status"] == "pending"
    # not at once
    assert asking.once() == 0
    assert state(parts, made["id"])[:2] == ("waiting", 1)
    due(parts)
    assert asking.once() == 1
    assert state(parts, made["id"]) == ("answered", 2, "accepted")


def test_after_too_long_a_right_is_left_to_a_person(
    parts: Parts, people: People, standing: server.Registers, asking: Registers
) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    made = register(people, headers, "eu")
    standing.add("eu", made["number"], "Owl", "Owl and Moon GmbH")
    parts.query("update register_queries set since_wall = now() - interval '2 days' where right_id = %s", made["id"])
    standing.faults.append("503")
    assert asking.once() == 0
    assert state(parts, made["id"])[0] == "silent"
    assert read(people, made["id"])["history"][0]["kind"] == "register_silent"
    due(parts)
    assert asking.once() == 0
    _, reviewers = people.open("reviewer")
    assert people.decide(reviewers, made["id"], seen="register").json() == {"changed": True}


def test_a_token_that_was_revoked_is_asked_for_again(
    parts: Parts, people: People, standing: server.Registers, asking: Registers
) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    rights = [register(people, headers, "eu") for _ in range(2)]
    for right in rights:
        standing.add("eu", right["number"], "Owl", "Owl and Moon GmbH")
    parts.query("update register_queries set due_wall = now() + interval '1 h' where right_id = %s", rights[1]["id"])
    assert asking.once() == 1
    standing.tokens.clear()
    due(parts)
    assert asking.once() == 0
    due(parts)
    assert asking.once() == 1
    assert read(people, rights[1]["id"])["status"] == "active"


def test_many_processes_and_a_reviewer_at_once_accept_a_right_once(
    parts: Parts, people: People, standing: server.Registers, asking: Registers
) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    _, reviewers = people.open("reviewer")
    for _ in range(3):
        made = register(people, headers)
        standing.add("us", made["number"], "Owl", "Owl and Moon GmbH")
        with ThreadPoolExecutor(4) as pool:
            others = [pool.submit(asking.once) for _ in range(3)]
            decided = pool.submit(people.decide, reviewers, made["id"], seen="register").result()
            for other in others:
                other.result()
        assert decided.status_code in (200, 409)
        kinds = [one["kind"] for one in read(people, made["id"])["history"]]
        assert kinds == ["accepted", "registered"]
        assert read(people, made["id"])["accepted"] == ("person" if decided.status_code == 200 else "register")


def test_only_trade_marks_of_these_registers_are_asked_for(parts: Parts, people: People) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    ids = [
        register(people, headers, "wipo", territory=["DE"])["id"],
        register(people, headers, "us", right_type="invention", mark=None, number="11000001")["id"],
        people.registered(headers, register="us", number=str(next(_numbers)))["id"],
    ]
    assert parts.query("select right_id from register_queries where right_id = any(%s)", ids) == []
    problem(people.client.get("/v1/rights/r-none", headers=headers), 404)


def test_the_process_asks(parts: Parts, people: People, standing: server.Registers) -> None:
    _, headers = owner(parts, people, "Owl and Moon GmbH")
    made = register(people, headers)
    standing.add("us", made["number"], "Owl", "Owl and Moon GmbH")
    child = parts.start("registers")
    wait(lambda: read(people, made["id"])["status"] == "active" or child.poll() is not None)
    assert child.poll() is None, parts.log("registers")
    child.terminate()
    assert child.wait(PATIENCE_S) == 0
    assert KEY not in parts.log("registers")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"registers": ()}, "no register"),
        ({"uspto_url": "http://tsdr.example"}, "https"),
        ({"euipo_token_url": "http://auth.example"}, "https"),
        ({"uspto_key": None}, "uspto_key"),
        ({"euipo_client": None}, "euipo_client"),
    ],
)
def test_no_credential_goes_out_in_the_clear(parts: Parts, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Registers(parts.settings.model_copy(update=changed))
