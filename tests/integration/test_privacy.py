"""What each side of a claim is shown of the others, and what it says it has read: on the real database, over HTTP."""

from __future__ import annotations

import json
import re
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.intake.evidence.blobs import Blobs
from services.intake.kernel.security import Contacts
from services.ops.privacy import erase as command_line
from services.ops.privacy import export
from shared import db, migrate
from shared.failures import CommandError
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
        id_,
        party,
        claim,
        kind,
        list(items),
    )
    return id_


# ------------------------------------------------------------------------------------------------------- read receipts


def receipts(parts: Parts, message: str) -> list[dict[str, Any]]:
    rows = parts.query(
        "select payload::json, listing from admission_queue where type = 'goodfaith.message.read.v1' and payload::json ->> 'message' = %s",
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
    for name, (account, headers) in sides.items():
        people.contact(account, headers, name=f"Private {name}", email=f"{name}@private.example")
    owner, agent = sides["owner"], sides["agent"]
    people.authorise(owner[1], agent[1])
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
        "/v1/inbox",
        "/v1/me",
        "/v1/claims",
        f"/v1/claims/{made['claim']}",
        f"/v1/claims/{made['claim']}/items",
        f"/v1/claims/{made['claim']}/timeline",
        *(f"/v1/items/{item}" for item in items.values()),
        "/v1/rights",
        f"/v1/rights/{right}",
        "/v1/authorisations",
        f"/v1/evidence?about={made['claim']}",
        f"/v1/evidence/{document}",
        "/v1/accounts",
        f"/v1/accounts/{owner[0]}",
        "/v1/review/cases",
        f"/v1/review/cases/{items['anna']}",
        *everything,
    ]
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
    assert erase(people, case.sides["anna"][0], force=True, reason="court_order").status_code == 200
    assert case.sees(people.client, "agent") == {"ben"}


# -------------------------------------------------------------------------------------------------------------- erasure


def erase(people: People, account: str, **body: Any) -> httpx.Response:
    return people.client.post(f"/v1/accounts/{account}/erasure", json=body, headers=people.operator)


SEALED = {"name": "Ada Sealed", "capacity": "director"}


@pytest.fixture
def subject(people: People) -> tuple[str, Headers]:
    """A holder with everything that is sealed or kept of one."""
    account, headers = people.open()
    text = people.client.get("/v1/good-faith/declaration", headers=headers).json()
    signed = {"version": text["version"], "sha256": text["sha256"], **SEALED}
    assert people.client.post("/v1/good-faith/declaration", json=signed, headers=headers).status_code < 300
    for kind, content in (("identity", b"passport"), ("ownership", b"certificate"), ("other", b"named in nothing")):
        made = people.client.post(
            f"/v1/evidence?kind={kind}",
            content=content,
            headers={**headers, "Content-Disposition": f'attachment; filename="{kind}-of-ada.txt"'},
        )
        assert made.status_code == 201, made.text
        if kind == "identity":
            people.client.post("/v1/me/evidence", json={"evidence": [made.json()["id"]]}, headers=headers)
        if kind == "ownership":
            right = people.right(headers)
            named = {"evidence": [made.json()["id"]]}
            answer = people.client.post(f"/v1/rights/{right}/evidence", json=named, headers=headers)
            assert answer.status_code < 300, answer.text
    return account, headers


def test_erasing_destroys_the_key_and_closes_intake(parts: Parts, people: People, subject: tuple[str, Headers]) -> None:
    account, headers = subject
    done = erase(people, account).json()
    assert (done["already"], done["contact"], done["tokens"]) == (False, True, 1)
    assert (done["documents_going"], done["documents_kept"]) == (2, 1), "the right is in force: its certificate stays"
    assert set(done["stays"]) == {"items", "ledgers", "rights", "documents", "logs"}
    for table in ("subject_keys", "contacts", "tokens", "webhooks", "email_codes"):
        assert parts.query(f"select count(*) from {table} where account = %s", account) == [(0,)]
    assert parts.query("select array_agg(name) from evidence where account = %s and state = 'kept'", account) == [
        ([None],)
    ]
    assert parts.query("select count(*) from evidence_links where about = %s", account) == [(0,)]
    assert people.client.get("/v1/me", headers=headers).status_code == 401
    declarations = people.client.get(f"/v1/accounts/{account}/good-faith/declarations", headers=people.operator)
    assert (declarations.json()["items"][0]["name"], "Sealed" in declarations.text) == (None, False)
    seen = people.client.get(f"/v1/accounts/{account}", headers=people.operator).json()
    assert (seen["state"], seen["has_contact"], seen["history"][0]["kind"]) == ("closed", False, "erased")
    ((event,),) = parts.query(
        "select payload::json from admission_queue where type = 'goodfaith.account.erased.v1' and listing = %s", account
    )
    assert set(event) <= {"account", "by", "at"}, "ids and times only"

    again = erase(people, account).json()
    assert (again["already"], again["tokens"], again["documents_kept"]) == (True, 0, 1)
    count = "select count(*) from admission_queue where type = 'goodfaith.account.erased.v1' and listing = %s"
    assert parts.query(count, account) == [(1,)]


def test_who_is_erased_leaves_nothing_behind_by_an_old_token(people: People, parts: Parts) -> None:
    """A process that still trusts a token for a moment cannot bring back what was erased."""
    account, headers = people.open(contact=False)
    parts.query("update accounts set erased_at = now() where id = %s", account)
    assert people.client.put("/v1/contact", json=CONTACT, headers=headers).status_code == 401
    assert people.client.post("/v1/tokens", headers=headers).status_code == 401
    assert parts.query("select count(*) from tokens where account = %s", account) == [(1,)]
    assert parts.query("select count(*) from subject_keys where account = %s", account) == [(0,)]


def test_erasing_waits_for_what_is_not_over(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    made = people.claim(owners, people.right(owners), "listing")
    item = made["items"][0]["item"]
    sell(parts.engine, item, seller)
    for headers in (owners, sellers):
        # nor does the account itself destroy the contact that the others and the law need
        people.client.put("/v1/contact", json=CONTACT, headers=headers)
        refused = people.client.delete("/v1/contact", headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:goodfaith:problem:matters_open")
        assert people.client.get("/v1/contact", headers=headers).status_code == 200
    for account in (owner, seller):
        refused = erase(people, account)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:goodfaith:problem:matters_open")
        assert erase(people, account, force=True).json()["field"] == "reason"
        assert parts.query("select status from accounts where id = %s", account) == [("open",)]
    done = erase(people, seller, force=True, reason="court_order").json()
    assert (done["forced"], done["matters"]) == (True, {"open_items": 1})
    ((event,),) = parts.query(
        "select payload::json from admission_queue where type = 'goodfaith.account.erased.v1' and listing = %s", seller
    )
    assert (event["forced"], event["reason"], event["open_items"]) == (True, "court_order", 1)
    sell(parts.engine, item, seller, state="UPHELD_BY_DEFAULT")
    assert people.client.delete("/v1/contact", headers=owners).status_code == 204
    late = erase(people, owner).json()
    assert (late["forced"], late["matters"]) == (False, {"appealable_items": 1}), "that alone is no obstacle"
    assert erase(people, "a-none").status_code == 404
    assert erase(people, "a-operator").status_code == 422, "not oneself"


def test_an_erasure_that_breaks_off_is_done_again(parts: Parts, people: People, subject: tuple[str, Headers]) -> None:
    """Whatever statement it dies at, nothing of it is done, or all."""
    from services.intake.accounts import erasure_store

    account, _ = subject
    tables = ("subject_keys", "contacts", "tokens", "email_codes", "evidence_links")

    def there() -> list[Any]:
        return [
            parts.query(
                f"select count(*) from {table} where %s in ({'account' if table != 'evidence_links' else 'about'})",
                account,
            )
            for table in tables
        ]

    before = there()
    for fatal in range(1, 40):
        calls = 0

        def dying(*_: Any, fatal: int = fatal) -> None:
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise KeyboardInterrupt

        with parts.engine.connect() as connection:
            sa.event.listen(connection, "before_cursor_execute", dying)
            try:
                with connection.begin():
                    erasure_store.erase(connection, account, by="operator", partitions=4)
            except KeyboardInterrupt:
                assert there() == before
                continue
        break
    else:
        raise AssertionError("it never came to its end")
    assert fatal > 10
    assert there() == [[(0,)]] * len(tables)


# --------------------------------------------------------------------------------------------------------------- access


HELD_ELSEWHERE = {
    # derived from what is exported, or only on its way through
    "intake": {
        "evidence_links",
        "good_faith_days",
        "good_faith_due",
        "good_faith_run",
        "cases",
        "review_skips",
        "admission_queue",
        "held_items",
        "inbound_progress",
        "misuse_usage",
        "right_jobs",
        "subject_keys",
        # of listings, by ids of items, pictures and documents
        "picture_checks",
        # among the staff
        "review_notes",
    },
    "notification": {"message_items", "announcements", "channels", "digests"},
    # of listings and items, by ids; the item itself is exported as intake reads it
    "verification": {"items", "listings", "snapshots", "upheld", "recurrences"},
    "enforcement": {
        "listings",
        "holds",
        "deliveries",
        "receipts",
        "violation_items",
        "statements",
        "seller_deliveries",
        "seller_receipts",
        "entity_work",
        "common_keys",
        "entities",
        "entity_rules",
        "relinked",
    },
}
RUNTIME = re.compile(
    r"(^|_)(event_log|inbox|reads|reads_log|tails|gaps|admission_time|cursors|topic_ids|partitions|dead_letters|refused|alembic_version)$"
)


@pytest.fixture(scope="module")
def whole(parts: Parts, stack: Stack) -> Iterator[sa.Engine]:
    """The database with all services' tables, as an administrator."""
    migrate.migrate(parts.admin_url, stack.role_passwords())
    engine = db.administer(parts.admin_url, pooled=False)
    yield engine
    engine.dispose()


def test_every_table_is_exported_or_known_to_hold_nothing_of_a_subject(whole: sa.Engine) -> None:
    exported = {part.table for part in export.PARTS}
    with whole.connect() as connection:
        tables = connection.exec_driver_sql(
            "select schemaname, tablename from pg_tables where schemaname = any(%s)", (list(HELD_ELSEWHERE),)
        ).all()
    missing = [
        f"{schema}.{table}"
        for schema, table in tables
        if f"{schema}.{table}" not in exported and table not in HELD_ELSEWHERE[schema] and not RUNTIME.search(table)
    ]
    assert not missing, "say in services/ops/privacy/export.py what a subject is shown of it, or here why nothing"


def exported(
    engine: sa.Engine, parts: Parts, subject: str, path: Path, *, files: bool = False
) -> tuple[dict[str, int], dict[str, Any], str]:
    key = parts.settings.contact_key
    assert key is not None
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        contacts = Contacts(key.get_secret_value())
        blobs = Blobs.of(parts.settings) if files else None
        counts = export.collect(connection, contacts, subject, path, blobs=blobs)
    text = path.read_text() if not files else zipfile.ZipFile(path).read("export.json").decode()
    return counts, json.loads(text)["held"], text


def test_an_export_has_all_of_ones_own_and_nothing_of_others(
    parts: Parts, people: People, whole: sa.Engine, subject: tuple[str, Headers], tmp_path: Path
) -> None:
    account, headers = subject
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    people.client.put("/v1/contact", json={**CONTACT, "name": "Private Counterpart"}, headers=sellers)
    reviewer, _ = people.open("reviewer", id=f"r-secret-{uuid.uuid4().hex[:6]}")
    right = people.right(headers)
    document = people.client.get("/v1/evidence", headers=headers).json()["items"][0]["id"]
    made = people.claim(headers, right, "of-the-seller", evidence=[document], explanation="Ada explains")
    item = made["items"][0]["item"]
    sell(parts.engine, item, seller, state="HOLDER_RESPONSE", told=2)
    assert people.client.post(f"/v1/items/{item}/counter", json={"text": "123"}, headers=sellers).status_code == 202
    tell(parts, account, made["claim"], "counter_forwarded", item)
    parts.query("insert into timeline values (%s, 1, 't', 'NOTIFIED', 'system', null, now())", item)
    parts.query(
        "insert into account_changes (account, kind, by, at) values (%s, 'verified', %s, now())", account, reviewer
    )
    parts.query("insert into evidence_reads (document, reader, what) values (%s, %s, 'file')", document, reviewer)
    parts.query("insert into evidence_reads (document, reader, what) values (%s, %s, 'file')", document, seller)

    counts, held, text = exported(whole, parts, account, tmp_path / "it.json")
    assert held["contact"][0]["contact"]["name"] == CONTACT["name"]
    assert held["declarations"][0]["signed_by"]["name"] == SEALED["name"]
    assert {one["name"] for one in held["documents"]} >= {"identity-of-ada.txt", "ownership-of-ada.txt"}
    assert held["texts"] == [
        {"id": made["claim"], "claim": made["claim"], "kind": "explanation", "text": "Ada explains"}
    ]
    assert [one["id"] for one in held["items"]] == [item]
    assert (held["claims"][0]["id"], held["inbox"][0]["claim"]) == (made["claim"], made["claim"])
    assert [(one["kind"], one["by"]) for one in held["account_history"]] == [
        ("verified", "staff"),
        ("email_confirmed", "staff"),
        ("verified", "staff"),
    ]
    assert {one["reader"] for one in held["documents_read_by"]} == {"staff", seller}
    assert len(held["tokens"]) == 1
    assert set(held["tokens"][0]) == {"created_wall", "expires_wall", "name"}
    for never in ("Private Counterpart", reviewer, "gf_", headers["Authorization"].removeprefix("Bearer ")):
        assert never not in text
    assert counts["items"] == 1
    assert (tmp_path / "it.json").stat().st_mode & 0o777 == 0o600

    # the other side sees the item, and nothing of who is behind the claim
    _, theirs, text = exported(whole, parts, seller, tmp_path / "theirs.json")
    assert ([one["id"] for one in theirs["items"]], theirs["claims"], theirs["documents"]) == ([item], [], [])
    assert [one["document"] for one in theirs["documents_read"]] == [document]
    assert [one["text"] for one in theirs["texts"]] == ["123"]
    assert "Ada explains" not in text
    assert not {"Ada Sealed", "identity-of-ada.txt"} & set(re.findall(r"Ada Sealed|identity-of-ada\.txt", text))
    assert theirs["contact"][0]["contact"]["name"] == "Private Counterpart"

    counts, _, _ = exported(whole, parts, account, tmp_path / "it.zip", files=True)
    with zipfile.ZipFile(tmp_path / "it.zip") as archive:
        bytes_of = {archive.read(name) for name in archive.namelist() if name.startswith("files/")}
    assert bytes_of == {b"passport", b"certificate", b"named in nothing"}
    assert counts["files"] == 3
    with pytest.raises(FileExistsError):
        exported(whole, parts, account, tmp_path / "it.zip", files=True)


def test_what_is_left_after_an_erasure_names_nobody(
    parts: Parts, people: People, whole: sa.Engine, subject: tuple[str, Headers], tmp_path: Path
) -> None:
    account, _ = subject
    # by the command line's own way, which is an administrator's
    done = command_line.erased(whole, account, partitions=4, force=False, reason=None, dry_run=True)
    assert (done.done, done.already) == (False, False)
    done = command_line.erased(whole, account, partitions=4, force=False, reason=None, dry_run=False)
    assert done.contact
    with pytest.raises(CommandError, match="no such"):
        command_line.erased(whole, "a-none", partitions=4, force=False, reason=None, dry_run=False)
    _, held, text = exported(whole, parts, account, tmp_path / "left.json")
    assert not re.search(r"Ada|ada@|Road 1|of-ada", text)
    assert (held["contact"], held["tokens"], held["declarations"][0].get("signed_by")) == ([], [], None)
    assert held["account"][0]["erased_at"]
