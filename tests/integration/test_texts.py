"""What parties say in their own words: stored sealed with the claim or command, shown when released, erased for good."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack
from services.intake.accounts import erasure_store
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.listings import named_by
from services.intake.kernel.security import Contacts
from shared import site_links
from shared.refusals import Refused
from tests.integration.intake_parts import CONTACT, PARTITIONS, Parts, People, sell

pytestmark = pytest.mark.stack

Headers = dict[str, str]
WORDS = "Überall Fälschungen, 假货"
LINK = "https://market.example/items/"


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("texts"))
    yield parts
    parts.close()


class Dispute:
    """A claim of an agent for an owner against two sellers' listings, with explanations."""

    def __init__(self, people: People, parts: Parts) -> None:
        self.people, self.parts = people, parts
        end = uuid.uuid4().hex[:8]
        self.owner, self.owners = people.open()
        self.agent, self.agents = people.open()
        self.seller, self.sellers = people.open("seller", id=f"s-anna-{end}")
        self.other, self.others = people.open("seller", id=f"s-ben-{end}")
        self.reviewers = people.open("reviewer")[1]
        people.authorise(self.owners, self.agents)
        made = people.claim(
            self.agents,
            people.right(self.owners),
            f"a-{end}",
            f"b-{end}",
            principal=self.owner,
            explanation=WORDS,
            explanations=[{"listing": f"{LINK}b-{end}", "text": "The seam is wrong."}],
        )
        self.claim = made["claim"]
        self.first, self.second = (item["item"] for item in made["items"])

    def told(self, item: str, seller: str, told: int) -> None:
        sell(self.parts.engine, item, seller, told=told)

    def command(self, headers: Headers, path: str, **body: Any) -> str:
        """Give a command about the first item, or all of the claim. Returns the first command's id."""
        answer = self.people.client.post(f"/v1/{path}", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["commands"][0]["command"])

    def apply(self, command: str, *states: str) -> None:
        """As if verification had applied a command to the first item; the states since."""
        self.parts.query(
            """update commands set status = 'applied',
                revision = (select coalesce(max(revision), 0) + 1 from timeline where item = %s) where id = %s""",
            self.first,
            command,
        )
        self.go(*states)

    def go(self, *states: str) -> None:
        """As if the first item had gone through these states."""
        ((last,),) = self.parts.query("select coalesce(max(revision), 0) from timeline where item = %s", self.first)
        for revision, state in enumerate(states, last + 1):
            self.parts.query(
                "insert into timeline (item, revision, type, state, by, at) values (%s, %s, 't', %s, 'system', now())",
                self.first,
                revision,
                state,
            )

    def read(self, headers: Headers, limit: int = 50) -> list[tuple[str, str | None, list[str]]]:
        """(kind, text, items) of all that is shown to them, page by page."""
        found: list[tuple[str, str | None, list[str]]] = []
        cursor = ""
        while cursor is not None:
            path = f"/v1/claims/{self.claim}/texts?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            answer = self.people.client.get(path, headers=headers)
            assert answer.status_code == 200, answer.text
            found += [(one["kind"], one["text"], one["items"]) for one in answer.json()["items"]]
            cursor = answer.json()["next"]
        return found

    def texts(self, headers: Headers) -> set[str | None]:
        return {text for _, text, _ in self.read(headers)}


def test_each_side_is_shown_what_is_released(people: People, parts: Parts) -> None:
    case = Dispute(people, parts)
    both = [("explanation", WORDS, []), ("explanation", "The seam is wrong.", [case.second])]
    for headers in (case.agents, case.owners, case.reviewers, people.operator):
        assert case.read(headers) == both
    for item, seller in ((case.first, case.seller), (case.second, case.other)):
        case.told(item, seller, 0)
    assert (case.read(case.sellers), case.read(case.others)) == ([], []), "not before the notice"
    case.told(case.first, case.seller, 1)
    assert (case.read(case.sellers), case.read(case.others)) == (both[:1], [])
    case.told(case.second, case.other, 1)
    assert (case.read(case.sellers), case.read(case.others)) == (both[:1], both)

    command = case.command(case.sellers, f"items/{case.first}/counter", text="Unfinished")
    assert "Unfinished" in case.texts(case.sellers) & case.texts(case.reviewers)
    case.apply(command, "COUNTERED")
    assert "Unfinished" not in case.texts(case.agents)
    case.go("NOTIFIED")  # sent back
    command = case.command(case.sellers, f"claims/{case.claim}/counter", text="I bought it from you.")
    case.apply(command, "COUNTERED", "HOLDER_RESPONSE")
    for headers in (case.agents, case.owners):
        assert case.texts(headers) == {WORDS, "The seam is wrong.", "I bought it from you."}
    assert case.texts(case.others) == {WORDS, "The seam is wrong."}

    response = case.command(case.owners, f"items/{case.first}/response", accept=False, text="You did not.")
    case.apply(response, "PLATFORM_REVIEW")
    assert "You did not." not in case.texts(case.sellers)
    assert "You did not." in case.texts(case.agents), "its side reads it"
    case.go("UPHELD_AFTER_COUNTER")
    assert "You did not." in case.texts(case.sellers)
    case.apply(case.command(case.sellers, f"items/{case.first}/complaint", text="Look again."), "APPEALED")
    assert "Look again." in case.texts(case.sellers) & case.texts(case.reviewers)
    assert "Look again." not in case.texts(case.agents)

    # whatever the page, the same
    for headers in (case.agents, case.sellers, case.others, case.reviewers):
        assert case.read(headers, 1) == case.read(headers)
    _, strangers = people.open()
    assert people.client.get(f"/v1/claims/{case.claim}/texts", headers=strangers).status_code == 404


def test_a_command_for_several_items_keeps_its_text_once(people: People, parts: Parts) -> None:
    case = Dispute(people, parts)
    for item in (case.first, case.second):
        case.told(item, case.seller, 1)
    command = case.command(case.sellers, f"claims/{case.claim}/counter", text="All genuine.")
    assert ("counter", "All genuine.", [case.first, case.second]) in case.read(case.sellers)
    assert parts.query("select count(*) from texts where claim = %s and kind = 'counter'", case.claim) == [(1,)]
    assert parts.query("select count(*) from commands where text = %s", command) == [(2,)]
    # forwarded for the first item only
    case.apply(command, "COUNTERED", "HOLDER_RESPONSE")
    assert ("counter", "All genuine.", [case.first]) in case.read(case.agents)


def test_it_is_kept_sealed_and_nowhere_else(people: People, parts: Parts) -> None:
    case = Dispute(people, parts)
    case.told(case.first, case.seller, 1)
    case.command(case.sellers, f"items/{case.first}/counter", text="Private matters")
    rows = parts.query("select id, account, kind, sealed from texts where claim = %s order by id", case.claim)
    assert [(id, account, kind) for id, account, kind, _ in rows[:2]] == [
        (case.claim, case.agent, "explanation"),
        (case.second, case.agent, "explanation"),
    ]
    assert rows[2][1:3] == (case.seller, "counter")
    said = (WORDS, "seam is wrong", "Private matters")
    assert not any(word.encode() in bytes(sealed) for *_, sealed in rows for word in said)
    for (table,) in parts.query("select tablename from pg_tables where schemaname = 'intake'"):
        text = str(parts.query(f"select coalesce(string_agg(t::text, ' '), '') from {table} t"))
        assert not [word for word in said if word in text], table


def test_the_same_key_with_another_text_is_refused(people: People, parts: Parts) -> None:
    _, headers = people.open()
    keyed = {**headers, "Idempotency-Key": uuid.uuid4().hex}
    body = {"right": people.right(headers), "reason": "counterfeit", "listings": [f"{LINK}{uuid.uuid4().hex}"]}
    first = people.client.post("/v1/claims", json={**body, "explanation": "One."}, headers=keyed)
    again = people.client.post("/v1/claims", json={**body, "explanation": "One."}, headers=keyed)
    assert (first.status_code, again.text) == (202, first.text)
    assert again.headers["Idempotency-Replayed"] == "true"
    for other in ({**body, "explanation": "Two."}, body):
        refused = people.client.post("/v1/claims", json=other, headers=keyed)
        assert (refused.status_code, refused.json()["field"]) == (409, "Idempotency-Key")
    claim = first.json()["claim"]
    assert parts.query("select count(*) from texts where claim = %s", claim) == [(1,)]
    ((text,),) = [
        (one["text"],) for one in people.client.get(f"/v1/claims/{claim}/texts", headers=headers).json()["items"]
    ]
    assert text == "One."


def test_a_claim_that_is_refused_leaves_nothing(people: People, parts: Parts) -> None:
    account, headers = people.open()
    body = {"right": "r-none", "reason": "counterfeit", "listings": [f"{LINK}1"], "explanation": "Gone."}
    assert people.client.post("/v1/claims", json=body, headers=headers).status_code == 422
    for extra in ({"explanation": "a\u202eb"}, {"explanations": [{"listing": f"{LINK}2", "text": "Elsewhere."}]}):
        refused = people.client.post("/v1/claims", json={**body, **extra}, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["field"] in ("explanation", "explanations[0].listing")
    assert parts.query("select count(*) from texts where account = %s", account) == [(0,)]


def test_what_an_erased_party_said_can_never_be_read_again(people: People, parts: Parts) -> None:
    case = Dispute(people, parts)
    case.told(case.first, case.seller, 1)
    case.told(case.second, case.other, 1)
    case.command(case.sellers, f"items/{case.first}/counter", text="Only mine.")
    erased = {"force": True, "reason": "court_order"}
    assert people.client.post(f"/v1/accounts/{case.agent}/erasure", json=erased, headers=people.operator).is_success
    for headers in (case.owners, case.others, case.reviewers):
        assert WORDS not in case.texts(headers)
        assert ("explanation", None, []) in case.read(headers), "that something was said is no secret"
    assert "Only mine." in case.texts(case.reviewers), "the other side's is its own"


def test_what_was_said_before_the_data_was_removed_stays_gone(people: People, parts: Parts) -> None:
    _, headers = people.open()
    made = people.claim(headers, people.right(headers), uuid.uuid4().hex, explanation=WORDS)
    parts.query("update items set state = 'WITHDRAWN' where claim = %s", made["claim"])
    assert people.client.delete("/v1/contact", headers=headers).status_code == 204
    # a new key opens nothing old
    assert people.client.put("/v1/contact", json=CONTACT, headers=headers).status_code == 204
    texts = people.client.get(f"/v1/claims/{made['claim']}/texts", headers=headers).json()["items"]
    assert [one["text"] for one in texts] == [None]


def filing(account: str, right: str, **values: Any) -> Filing:
    body = requests.ExplainedClaim(right=right, reason="counterfeit", listings=[LINK + uuid.uuid4().hex], **values)
    caller = Account(account, "holder", True, False, True)
    listings = named_by(body.listings, site_links.of(("market.example/items/{id}",))).listings
    return Filing(
        caller, None, account, b"", "submit_claim", body, "http", listings=listings, rules=check_claim(body, caller)
    )


def filed(parts: Parts, connection: Any, *filings: Filing) -> list[Filed | Refused]:
    now, wall = store.enter_admission(connection)
    contacts = Contacts.of(parts.settings)
    return filing_store.file(connection, filings, now, wall, PARTITIONS, contacts=contacts)


def test_an_erased_account_says_nothing_more(people: People, parts: Parts) -> None:
    """A process that still trusts its token for a moment keeps nothing of it."""
    account, headers = people.open()
    right = people.right(headers)
    parts.query("delete from subject_keys where account = %s", account)
    parts.query("update accounts set erased_at = now() where id = %s", account)
    with parts.engine.begin() as connection:
        said, unsaid = filed(parts, connection, filing(account, right, explanation="a"), filing(account, right))
    assert isinstance(said, Refused)
    assert (said.status, said.reason) == (401, "account_closed")
    assert isinstance(unsaid, Filed)
    for table in ("texts", "subject_keys"):
        assert parts.query(f"select count(*) from {table} where account = %s", account) == [(0,)]


def test_an_erasure_waits_for_what_is_being_said(people: People, parts: Parts) -> None:
    account, headers = people.open()
    right = people.right(headers)
    ended = threading.Event()

    def erase() -> None:
        with parts.engine.begin() as connection:
            erasure_store.erase(
                connection, account, by="operator", partitions=PARTITIONS, force=True, reason="court_order"
            )
        ended.set()

    with parts.engine.begin() as connection:
        assert isinstance(filed(parts, connection, filing(account, right, explanation="a"))[0], Filed)
        thread = threading.Thread(target=erase)
        thread.start()
        time.sleep(0.5)
        assert not ended.is_set()
    thread.join(30)
    assert ended.is_set()
    assert parts.query("select count(*) from texts where account = %s", account) == [(1,)]
    assert parts.query("select count(*) from subject_keys where account = %s", account) == [(0,)]


def test_what_says_nothing_costs_no_statement_more(people: People, parts: Parts) -> None:
    import sqlalchemy as sa

    account, headers = people.open()
    right = people.right(headers)
    asked: list[str] = []
    with parts.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
        counts = []
        for values in ({}, {"explanation": "a"}):
            asked.clear()
            with connection.begin():
                filed(parts, connection, filing(account, right, **values))
            counts.append(len(asked))
            said = [statement for statement in asked if "texts" in statement or "subject_keys" in statement]
            assert bool(said) == bool(values)
    assert counts[1] > counts[0]
