"""Evidence by HTTP on the real database: with a folder, and with an S3 server (test_evidence_s3 has what differs)."""

from __future__ import annotations

import base64
import concurrent.futures
import datetime as dt
import hashlib
import json
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.evidence import domain as evidence
from services.intake.evidence import sealing
from services.intake.evidence import store as evidence_store
from services.intake.evidence.blobs import Blobs
from services.intake.kernel import requests
from services.intake.kernel.security import Contacts
from shared import clock, db, right_refusals
from tests import evidence_files as files
from tests.integration.intake_parts import Parts, People, sell
from tests.integration.test_intake_http import body, problem

pytestmark = pytest.mark.stack

LIMIT = 3_000_000
Someone = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("evidence"),
        max_body_bytes=100_000,
        evidence_max_bytes=LIMIT,
        evidence_account_bytes=2 * LIMIT,
        evidence_upload_s=40.0,
    )
    yield parts
    parts.close()


@pytest.fixture
def holder(people: People) -> Someone:
    return people.open()


def send(people: People, who: dict[str, str], content: Any, kind: str = "ownership", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return people.client.post(f"/v1/evidence?kind={kind}", content=content, headers={**who, **named})


def kept(people: People, who: dict[str, str], content: bytes, kind: str = "ownership") -> str:
    made = send(people, who, content, kind)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def fetched(people: People, who: dict[str, str], document: str) -> httpx.Response:
    link = people.client.post(f"/v1/evidence/{document}/link", headers=who)
    assert link.status_code == 200, link.text
    return people.client.get(link.json()["url"])


def objects(parts: Parts) -> list[Path]:
    """Files in the folder, whatever they are called."""
    assert parts.settings.evidence_url
    return sorted(path for path in Path(urlsplit(parts.settings.evidence_url).path).rglob("*") if path.is_file())


def stored(parts: Parts, document: str) -> list[Path]:
    """The document's objects, and what a writer has left next to them."""
    return [path for path in objects(parts) if path.name.partition("#")[0] == document]


# ---- upload


def test_a_file_is_kept_and_comes_back_as_it_was(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    content = files.picture("PNG", (600, 400))
    assert len(content) > parts.settings.max_body_bytes
    made = send(people, who, content, Content_Disposition="attachment; filename*=UTF-8''%E8%AF%81%E4%B9%A6.exe")
    assert made.status_code == 201, made.text
    answer = made.json()
    assert (answer["owner"], answer["kinds"], answer["media_type"], answer["size"], answer["name"]) == (
        account,
        ["ownership"],
        "image/png",
        len(content),
        "证书.exe",
    )
    assert answer["sha256"] == hashlib.sha256(content).hexdigest()
    (path,) = stored(parts, answer["id"])
    # what lies in the store says nothing of the file, and its name nothing of its digest
    assert content[:64] not in path.read_bytes()
    assert answer["sha256"] not in str(path)
    got = fetched(people, who, answer["id"])
    assert got.status_code == 200
    assert got.content == content
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-disposition"].startswith("attachment;")
    assert got.headers["content-disposition"].endswith("filename*=UTF-8''%E8%AF%81%E4%B9%A6.exe.png")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert got.headers["cache-control"] == "private, no-store"
    read = people.client.get(f"/v1/evidence/{answer['id']}", headers=who).json()
    assert read == answer
    listed = people.client.get("/v1/evidence", headers=who).json()
    assert listed == {"items": [answer], "next": None}


def test_the_same_file_is_the_same_document(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    content = files.pdf()
    first = send(people, who, content)
    again = send(people, who, content)
    other_kind = send(people, who, content, "statement")
    assert (first.status_code, again.status_code, other_kind.status_code) == (201, 200, 200)
    assert again.json() == first.json()
    assert other_kind.json() == {**first.json(), "kinds": ["ownership", "statement"]}
    # another account's is another document, so that one can be deleted without the other
    _, others = people.open()
    assert kept(people, others, content) != first.json()["id"]


def test_many_at_once_send_the_same(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    content = files.picture("JPEG", (900, 900), quality=95)

    def once(_: int) -> httpx.Response:
        while True:
            answer = send(people, who, content)
            if answer.status_code not in (429, 503):
                return answer
            time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(16)))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert parts.query("select count(*) from evidence where account = %s and state = 'kept'", account) == [(1,)]
    # what the losers had stored already goes with the next clean-up
    sweep(parts)
    documents = [id for (id,) in parts.query("select id from evidence where account = %s", account)]
    assert [path.name for id in documents for path in stored(parts, id)] == [answers[0].json()["id"]]
    assert fetched(people, who, answers[0].json()["id"]).content == content


def test_a_digest_is_held_against_the_file(people: People, holder: Someone) -> None:
    content = b"This is my statement.\n"
    right, wrong = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (content, b"other"))
    problem(send(people, holder[1], content, Repr_Digest=f"sha-256=:{wrong}:"), 422, field="Repr-Digest")
    problem(send(people, holder[1], content, Digest="SHA-256=x"), 422, field="Digest")
    assert send(people, holder[1], content, Repr_Digest=f"sha-256=:{right}:").status_code == 201
    assert send(people, holder[1], content, Digest=f"SHA-256={right}").status_code == 200


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "empty"),
        (lambda: files.picture("PNG")[:-40], "truncated"),
        (files.zip_bomb, "archive"),
        (files.pixel_bomb, "too_complex"),
        (files.stream_bomb, None),
        (lambda: b"<svg onload='x()'/>", "svg"),
        (lambda: b"<html><body>x", "html"),
        (lambda: files.pdf(lambda d: d.Root.__setitem__("/OpenAction", files.script())), "active_content"),
        (lambda: files.picture("PNG") + files.archive(x=b"y"), "polyglot"),
        (lambda: b"MZ" + bytes(100), "program"),
    ],
)
def test_forged_files_are_refused_and_leave_nothing(
    parts: Parts, people: People, holder: Someone, make: Any, reason: str | None
) -> None:
    before = objects(parts)
    answer = problem(send(people, holder[1], make()), 422, field="body")
    assert reason is None or answer["type"] == f"urn:goodfaith:problem:{reason}"
    assert objects(parts) == before
    assert parts.query("select count(*) from evidence where account = %s", holder[0]) == [(0,)]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"kind": "owenrship"}, 422, "kind"),
        ({"kind": ""}, 400, "kind"),
        ({"Content_Disposition": 'attachment; filename="../../etc/passwd"'}, 422, "Content-Disposition"),
        ({"Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415, "Content-Type"),
    ],
)
def test_wrong_requests_are_told_where(
    people: People, holder: Someone, change: dict[str, str], status: int, field: str
) -> None:
    problem(send(people, holder[1], b"text", **change), status, field=field)  # type: ignore[arg-type]


def raw(people: People, who: dict[str, str], head: str, content: bytes) -> tuple[socket.socket, bytes]:
    """A request by hand: (socket, first bytes of the answer)."""
    url = urlsplit(str(people.client.base_url))
    connection = socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=20)
    connection.sendall(
        f"POST /v1/evidence?kind=ownership HTTP/1.1\r\nHost: x\r\nAuthorization: {who['Authorization']}\r\n{head}\r\n".encode()
        + content
    )
    return connection, b""


def test_ten_gigabytes_are_refused_before_they_are_sent(people: People, holder: Someone) -> None:
    connection, _ = raw(people, holder[1], f"Content-Length: {10 * 1024**3}\r\n", b"%PDF-1.7")
    with connection:
        answer = b""
        while piece := connection.recv(65536):  # until the server hangs up
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert b"urn:goodfaith:problem:too_large" in answer


def test_a_body_of_unknown_length_is_cut_off(parts: Parts, people: People, holder: Someone) -> None:
    connection, _ = raw(people, holder[1], "Transfer-Encoding: chunked\r\n", b"")
    sent = 0
    with connection:
        try:
            for _ in range(10_000):  # 10 GB, if it were let
                connection.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
                sent += 0x100000
        except OSError:
            pass
        assert sent < 100 * LIMIT
    assert parts.query("select count(*) from evidence where account = %s", holder[0]) == [(0,)]


def test_a_strangers_gigabytes_are_not_read_either(people: People) -> None:
    connection, _ = raw(people, {"Authorization": "Bearer x"}, f"Content-Length: {10 * 1024**3}\r\n", b"%PDF-1.7")
    with connection:
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_an_upload_that_breaks_off_leaves_nothing(parts: Parts, people: People, holder: Someone) -> None:
    before = objects(parts)
    connection, _ = raw(people, holder[1], "Content-Length: 2000000\r\n", b"%PDF-1.7" + bytes(1_000_000))
    time.sleep(0.3)
    connection.close()
    time.sleep(0.5)
    assert objects(parts) == before
    assert parts.query("select count(*) from evidence where account = %s", holder[0]) == [(0,)]
    assert '"level": "error"' not in parts.log("api")
    # its place is free again
    assert all(send(people, holder[1], f"text {number}".encode()).status_code == 201 for number in range(6))


def test_one_that_stands_still_is_given_up(people: People, holder: Someone) -> None:
    connection, _ = raw(people, holder[1], "Content-Length: 2000000\r\n", b"%PDF-1.7")
    with connection:
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_account_has_so_much_on_file_and_no_more(people: People, holder: Someone) -> None:
    _, who = holder
    big = [files.picture("PNG", (900, 900)) for _ in range(3)]
    assert LIMIT > len(big[0]) > 2 * LIMIT / 3
    assert [send(people, who, content).status_code for content in big] == [201, 201, 422]
    document = send(people, who, big[0]).json()["id"]
    assert people.client.delete(f"/v1/evidence/{document}", headers=who).status_code == 204
    problem(people.client.get(f"/v1/evidence/{document}", headers=who), 404)
    assert send(people, who, big[2]).status_code == 201


# ---- naming


def terms(parts: Parts, claim: str) -> list[str]:
    import json

    ((text,),) = parts.query("select terms from claims where id = %s", claim)
    return list(json.loads(text).get("materials", []))


def test_documents_count_as_materials(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    ownership, statement = kept(people, who, b"certificate"), kept(people, who, b"I declare", "statement")
    pending = people.client.post("/v1/rights", json={"right_type": "copyright", "number": "VA-1"}, headers=who).json()
    assert pending["status"] == "pending"
    made = people.client.post(
        "/v1/rights", json={"right_type": "trademark", "number": "1234567", "evidence": [ownership]}, headers=who
    )
    assert made.status_code == 201, made.text
    waits = {"status": "pending", "pending_reason": "proof_unseen", "proof": ownership, "accepted": None}
    assert {name: made.json()[name] for name in waits} == waits
    right = made.json()["id"]
    # what is merely said proves nothing, and neither does a right that nobody has accepted
    asked = {"evidence": [statement], "materials": ["comparison", "ownership", "signature"]}
    assert terms(parts, people.claim(who, right, "early", **asked)["claim"]) == ["signature", "statement"]
    _, reviewers = people.open("reviewer")
    assert people.decide(reviewers, right, documents=[ownership]).json() == {"changed": True}
    claim = people.claim(who, right, "listing", **asked)["claim"]
    assert terms(parts, claim) == ["ownership", "signature", "statement"]
    assert claim in people.client.get(f"/v1/evidence/{statement}", headers=who).json()["named_in"]
    # what is added later, and then again with nothing: what was named once stays on file
    purchase = kept(people, who, b"receipt", "purchase")
    for given in ([purchase], []):
        body = {"evidence": given, "materials": ["comparison"]}
        answer = people.client.post(f"/v1/claims/{claim}/information", json=body, headers=who)
        assert answer.status_code == 202, answer.text
        command = answer.json()["commands"][0]["command"]
        ((payload,),) = parts.query("select payload from admission_queue where payload like %s", f"%{command}%")
        assert '"materials":["ownership","purchase","signature","statement"]' in payload
        assert "evidence" not in payload
    assert people.client.post("/v1/me/evidence", json={"evidence": [statement]}, headers=who).json() == {
        "about": account,
        "documents": [statement],
    }
    named = people.client.get(f"/v1/evidence/{statement}", headers=who).json()["named_in"]
    assert {account, claim} < set(named)


def test_documents_in_other_commands(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    writ, more = kept(people, who, b"writ", "court"), kept(people, who, b"more", "other")
    made = people.claim(who, people.right(who), "listing")
    item = made["items"][0]["item"]
    for path, content, wanted in (
        ("action", {"evidence": [writ, more]}, f'"proof":"{writ}"'),
        ("action", {"evidence": [writ], "proof": "file-7"}, '"proof":"file-7"'),
        ("result", {"outcome": "ended", "evidence": [more]}, f'"proof":"{more}"'),
        ("complaint", {"evidence": [more, writ]}, '"materials":["court","other","ownership"]'),
    ):
        answer = people.client.post(f"/v1/items/{item}/{path}", json=content, headers=who)
        assert answer.status_code == 202, answer.text
        command = answer.json()["commands"][0]["command"]
        ((payload,),) = parts.query("select payload from admission_queue where payload like %s", f"%{command}%")
        assert wanted in payload
    assert people.client.get(f"/v1/evidence/{writ}", headers=who).json()["named_in"] == [made["claim"]]


def test_every_request_that_names_documents_is_understood() -> None:
    """Each struct with ``evidence`` has a place where its kinds or its first document go."""
    named = {
        kind
        for kind in vars(requests).values()
        if isinstance(kind, type)
        and issubclass(kind, requests.In)
        and "evidence" in kind.__struct_fields__
        and kind.__name__.find("ByTopic") < 0
    }
    assert named == {
        requests.SubmitClaim,
        requests.ExplainedClaim,
        requests.WordedCounter,
        requests.WordedComplaint,
        requests.AddInformation,
        requests.Counter,
        requests.Complain,
        requests.ReportAction,
        requests.ReportResult,
        requests.RegisterRight,
        requests.NameDocuments,
        requests.ComplainOfMeasure,
        requests.Authorise,
    }


def test_a_document_of_another_is_unknown(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    _, others = people.open()
    theirs = kept(people, others, b"their certificate")
    mine = kept(people, who, b"my certificate")
    right = people.right(who)
    for ids, field in (([theirs], "evidence[0]"), ([mine, "d-none"], "evidence[1]")):
        answer = problem(
            people.client.post("/v1/claims", json=body(right, "x", evidence=ids), headers=who), 422, field=field
        )
        assert answer["type"].endswith(":unknown_document")
        problem(
            people.client.post(
                "/v1/rights", json={"right_type": "copyright", "number": "VA-1", "evidence": ids}, headers=who
            ),
            422,
            field=field,
        )
        problem(people.client.post("/v1/me/evidence", json={"evidence": ids}, headers=who), 422, field=field)
    problem(
        people.client.post("/v1/claims", json=body(right, "x", evidence=[mine] * 21), headers=who),
        422,
        field="evidence",
    )
    assert parts.query("select count(*) from evidence_links where document = any(%s)", [mine, theirs]) == [(0,)]
    assert parts.query("select count(*) from claims where right_id = %s", right) == [(0,)]


# ---- reading


def test_the_counterpart_reads_as_the_life_cycle_lets_it(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    _, strangers = people.open()
    reviewer, reviewers = people.open("reviewer")
    certificate, passport = kept(people, who, b"certificate"), kept(people, who, b"passport", "identity")
    made = people.claim(who, people.right(who), "listing", evidence=[certificate, passport])
    item = made["items"][0]["item"]
    licence = kept(people, sellers, b"licence", "statement")

    def sees(headers: dict[str, str], document: str) -> bool:
        status = {
            people.client.request(method, f"/v1/evidence/{document}{path}", headers=headers).status_code
            for method, path in (("GET", ""), ("POST", "/link"))
        }
        assert status in ({200}, {404})
        return status == {200}

    def listed(headers: dict[str, str]) -> list[str]:
        page = people.client.get(f"/v1/evidence?about={made['claim']}", headers=headers).json()
        return [document["id"] for document in page["items"]]

    sell(parts.engine, item, seller, state="UNDER_REVIEW", told=0)
    assert not sees(sellers, certificate)
    sell(parts.engine, item, seller, state="NOTIFIED", told=1)
    assert sees(sellers, certificate)
    assert not sees(sellers, passport)
    assert listed(sellers) == [certificate]
    answer = people.client.post(f"/v1/items/{item}/counter", json={"evidence": [licence]}, headers=sellers)
    assert answer.status_code == 202, answer.text
    assert not sees(who, licence)
    assert listed(who) == sorted([certificate, passport])
    sell(parts.engine, item, seller, state="HOLDER_RESPONSE", told=2)
    assert sees(who, licence)
    assert listed(who) == listed(reviewers) == sorted([certificate, passport, licence])
    for document in (certificate, passport, licence):
        assert sees(reviewers, document)
        assert not sees(strangers, document)
    assert listed(strangers) == []
    # only its owner and staff see what else a document was named in
    assert people.client.get(f"/v1/evidence/{certificate}", headers=sellers).json()["named_in"] == []
    assert people.client.get(f"/v1/evidence/{certificate}", headers=reviewers).json()["named_in"] == [made["claim"]]
    assert fetched(people, sellers, certificate).content == b"certificate"
    fetched(people, reviewers, certificate)
    page = people.client.get(f"/v1/evidence/{certificate}/reads?limit=3", headers=who).json()
    # the owner learns that a reviewer has read it, not which one
    assert [(read["reader"], read["what"]) for read in page["items"]] == [
        ("reviewer", "file"),
        ("reviewer", "link"),
        (seller, "file"),
    ]
    seen = people.client.get(f"/v1/evidence/{certificate}/reads?limit=1", headers=reviewers).json()["items"]
    assert [read["reader"] for read in seen] == [reviewer]
    more = people.client.get(f"/v1/evidence/{certificate}/reads?cursor={page['next']}", headers=reviewers).json()
    assert {read["what"] for read in more["items"]} == {"link"}
    problem(people.client.get(f"/v1/evidence/{certificate}/reads", headers=sellers), 404)


def test_pages_tell_of_no_document_that_the_reader_may_not_read(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
    _, strangers = people.open()
    _, reviewers = people.open("reviewer")
    right = people.right(who)
    kinds = ["identity", "ownership", "identity", "identity", "statement", "identity"]
    documents = [kept(people, who, f"document {n}".encode(), kind) for n, kind in enumerate(kinds)]
    claim = people.claim(who, right, "paged", evidence=documents)
    item = claim["items"][0]["item"]
    public = [id for id, kind in zip(documents, kinds, strict=True) if kind != "identity"]

    def walk(headers: dict[str, str], limit: int) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"/v1/evidence?about={claim['claim']}&limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            page = people.client.get(path, headers=headers).json()
            ids = [document["id"] for document in page["items"]]
            found += ids
            cursor = page["next"]
            if cursor is not None:
                assert len(ids) == limit
                named = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
                assert named == [ids[-1]], "a cursor names what the reader was shown"
        return found

    for limit in (1, 2, 3):
        assert walk(sellers, limit) == walk(strangers, limit) == []
        assert walk(who, limit) == walk(reviewers, limit) == sorted(documents)
    sell(parts.engine, item, seller, told=1)
    for limit in (1, 2, 3):
        assert walk(strangers, limit) == []
        assert walk(sellers, limit) == sorted(public)


def test_links_expire_and_cannot_be_altered(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    document, other = kept(people, who, b"one"), kept(people, who, b"two")
    link = people.client.post(f"/v1/evidence/{document}/link", headers=who).json()
    url = link["url"]
    assert people.client.get(url).content == b"one"
    expires = dt.datetime.fromisoformat(link["expires"])
    assert dt.timedelta(minutes=9) < expires - dt.datetime.now(dt.UTC) < dt.timedelta(minutes=11)
    later = str(int(expires.timestamp()) + 3600)
    for changed in (
        url.replace(document, other),
        url.replace(account, "a-operator"),
        url.replace(str(int(expires.timestamp())), later),
        url[:-1],
        url.replace("signature=", "signature=A"),
    ):
        assert changed != url
        answer = people.client.get(changed)
        assert problem(answer, 403)["type"].endswith(":bad_link")
    assert parts.settings.evidence_key is not None
    stale = evidence.FileLinks(parts.settings.evidence_key.get_secret_value()).make(
        document, account, dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    )
    problem(people.client.get(stale), 403)
    problem(people.client.get(f"/evidence/{document}"), 400)
    problem(people.client.get(url + "&expires=x"), 400)
    # whose reader may not read it any more
    assert people.client.delete(f"/v1/evidence/{document}", headers=who).status_code == 204
    problem(people.client.get(url), 404)


def test_what_was_stored_before_files_were_sealed_is_read_and_goes(
    parts: Parts, people: People, holder: Someone
) -> None:
    content = files.picture("PNG", (700, 700))
    assert len(content) > 1 << 20
    document = kept(people, holder[1], content)
    (path,) = stored(parts, document)
    path.unlink()
    digest = hashlib.sha256(content).digest()
    plain = Path(urlsplit(str(parts.settings.evidence_url)).path) / evidence.object_path(document, digest)
    plain.parent.mkdir(parents=True)
    plain.write_bytes(content)
    parts.query("update evidence set sealed = false, key = null where id = %s", document)
    assert fetched(people, holder[1], document).content == content
    assert people.client.delete(f"/v1/evidence/{document}", headers=holder[1]).status_code == 204
    sweep(parts)
    assert (state(parts, document), stored(parts, document)) == ("gone", [])


def test_the_key_of_a_file_is_destroyed_before_the_file(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    content = files.picture("PNG", (200, 200))
    document = kept(people, who, content)
    needed = kept(people, who, b"needed by a claim")
    people.claim(who, people.right(who), "listing", evidence=[needed])
    (path,) = stored(parts, document)
    sealed = path.read_bytes()
    ((wrapped,),) = parts.query("select key from evidence where id = %s", document)
    assert parts.settings.contact_key is not None
    contacts = Contacts(parts.settings.contact_key.get_secret_value())
    assert sealing.open_piece(contacts.unwrap(document, bytes(wrapped)), 0, len(content), sealed) == content
    erased = people.client.post(
        f"/v1/accounts/{account}/erasure", json={"force": True, "reason": "asked"}, headers=people.operator
    )
    assert erased.status_code == 200, erased.text
    assert (erased.json()["documents_going"], erased.json()["documents_kept"]) == (1, 1)
    # the bytes lie there until the next clean-up, and nothing opens them any more
    assert path.read_bytes() == sealed
    assert parts.query("select key is null from evidence where account = %s order by id", account) == [
        (True,),
        (False,),
    ]
    # what a claim still needs is read by those who decide on it
    reviewers = people.open("reviewer")[1]
    assert fetched(people, reviewers, needed).content == b"needed by a claim"


def test_an_altered_file_is_not_handed_out_whole(parts: Parts, people: People, holder: Someone) -> None:
    document = kept(people, holder[1], files.picture("PNG", (700, 700)))
    (path,) = stored(parts, document)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(httpx.RemoteProtocolError):
        fetched(people, holder[1], document)
    path.unlink()
    assert fetched(people, holder[1], document).status_code == 500


# ---- deleting


def sweep(parts: Parts) -> int:
    return evidence_store.sweep(parts.engine, Blobs.of(parts.settings), evidence.keeping())


def due(parts: Parts, document: str) -> None:
    parts.query("update evidence set looked_wall = now() - interval '1 second' where id = %s", document)


def state(parts: Parts, document: str) -> str:
    ((found,),) = parts.query("select state from evidence where id = %s", document)
    return str(found)


def as_administrator(parts: Parts, statement: str, *values: Any) -> None:
    """Change what the service itself may only add to."""
    engine = db.administer(parts.admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement, values)
    engine.dispose()


def test_what_is_named_in_nothing_goes_after_a_day(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    document = kept(people, who, content := b"never named")
    ((left,),) = parts.query("select looked_wall - now() from evidence where id = %s", document)
    assert dt.timedelta(hours=23) < left < dt.timedelta(hours=25)
    sweep(parts)
    assert state(parts, document) == "kept"
    due(parts, document)
    sweep(parts)
    assert state(parts, document) == "gone"
    assert stored(parts, document) == []
    problem(people.client.get(f"/v1/evidence/{document}", headers=who), 404)
    # the same file may come again, as a new document
    assert kept(people, who, content) != document


def test_what_is_needed_stays_until_it_is_not(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    document = kept(people, who, b"needed")
    made = people.claim(who, people.right(who), "listing", evidence=[document])
    item = made["items"][0]["item"]
    problem(people.client.delete(f"/v1/evidence/{document}", headers=who), 409)
    with parts.engine.begin() as connection:
        now, _ = clock.read(connection)
    long_ago = now - dt.timedelta(days=1096)
    for where, changed, wanted in (
        ("PLATFORM_REVIEW", long_ago, "kept"),
        ("RESTORED", now - dt.timedelta(days=1094), "kept"),
        ("RESTORED", long_ago, "gone"),
    ):
        parts.query("update items set state = %s, changed_at = %s where id = %s", where, changed, item)
        due(parts, document)
        sweep(parts)
        assert state(parts, document) == wanted, (where, changed)
    # a tombstone without the name; what it was named in is still known
    assert parts.query("select name from evidence where id = %s", document) == [(None,)]
    assert parts.query("select about from evidence_links where document = %s", document) == [(made["claim"],)]
    assert sweep(parts) == 0


def test_a_document_of_a_right_stays_with_the_right(parts: Parts, people: People, holder: Someone) -> None:
    _, who = holder
    document = kept(people, who, b"of a right")
    right = people.right(who, evidence=[document])
    due(parts, document)
    sweep(parts)
    assert state(parts, document) == "kept"
    parts.query("update evidence_links set linked_at = linked_at - interval '1096 days' where document = %s", document)
    assert people.client.patch(f"/v1/rights/{right}", json={"status": "lost"}, headers=who).status_code == 200
    due(parts, document)
    sweep(parts)
    assert state(parts, document) == "kept"
    as_administrator(parts, "update intake.right_changes set at = at - interval '1096 days' where right_id = %s", right)
    due(parts, document)
    sweep(parts)
    assert state(parts, document) == "gone"


def test_a_document_of_an_account_stays_with_the_account(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    document = kept(people, who, b"passport", "identity")
    link = people.client.post(f"/v1/evidence/{document}/link", headers=who).json()["url"]
    assert people.client.post("/v1/me/evidence", json={"evidence": [document]}, headers=who).status_code == 200
    parts.query("update evidence_links set linked_at = linked_at - interval '1096 days' where document = %s", document)
    due(parts, document)
    sweep(parts)
    assert state(parts, document) == "kept"
    assert people.client.get(link).status_code == 200
    parts.query("update accounts set status = 'closed' where id = %s", account)
    # a link that the account had goes with it
    problem(people.client.get(link), 403)
    for age, wanted in ((1094, "kept"), (1096, "gone")):
        as_administrator(parts, "delete from intake.account_changes where account = %s", account)
        parts.query(
            "insert into account_changes (account, kind, by, at) values (%s, 'closed', 'a-operator', now() - %s)",
            account,
            dt.timedelta(days=age),
        )
        due(parts, document)
        sweep(parts)
        assert state(parts, document) == wanted


def test_a_document_proves_a_right_once_a_person_accepted_it(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    made = people.client.post("/v1/rights", json={"right_type": "copyright", "number": "VA-1"}, headers=who).json()
    assert (made["status"], made["pending_reason"]) == ("pending", "proof_missing")
    claim = people.claim(who, made["id"], "listing", reason="pirated_product")
    other, ownership = kept(people, who, b"other", "other"), kept(people, who, b"deposit copy")

    def prove(*documents: str) -> None:
        answer = people.client.post(f"/v1/rights/{made['id']}/evidence", json={"evidence": documents}, headers=who)
        assert answer.status_code == 200, answer.text
        parts.tell_rights()

    prove(other)
    assert people.client.get(f"/v1/rights/{made['id']}", headers=who).json()["status"] == "pending"
    prove(ownership)
    right = people.client.get(f"/v1/rights/{made['id']}", headers=who).json()
    assert (right["status"], right["proof"], right["pending_reason"]) == ("pending", ownership, "proof_unseen")

    def told() -> list[tuple[str, list[str]]]:
        parts.tell_rights()
        rows = parts.query(
            "select payload::json from admission_queue where claim = %s and kind = 'command' order by id",
            claim["claim"],
        )
        return [(command["status"], command["materials"]) for (command,) in rows]

    assert told() == []
    reviewer, reviewers = people.open("reviewer")

    def refused(**values: Any) -> tuple[str, str]:
        said = problem(people.decide(reviewers, made["id"], **values), 422)
        return said["field"], said["type"].rpartition(":")[2]

    # a person accepts what it has seen: documents of this right, or the proof elsewhere
    foreign = kept(people, people.open()[1], b"of another")
    assert refused(documents=[]) == ("documents", "nothing_accepted")
    assert refused(documents=[ownership, foreign]) == ("documents[1]", "unknown_document")
    assert refused(accept=False, code=None) == ("code", "unknown_code")
    assert refused(accept=False, code="because") == ("code", "unknown_code")
    assert told() == []

    # it is declined, with a reason and a cure, and cured
    decline = {"accept": False, "code": "unreadable", "documents": [ownership]}
    assert people.decide(reviewers, made["id"], **decline).json() == {"changed": True}
    right = people.client.get(f"/v1/rights/{made['id']}", headers=who).json()
    assert (right["status"], right["pending_reason"]) == ("pending", "refused")
    better = kept(people, who, b"better copy")
    prove(better)
    waits = people.client.get(f"/v1/rights/{made['id']}", headers=who).json()
    assert (waits["status"], waits["pending_reason"], waits["proof"]) == ("pending", "proof_unseen", better)
    accept = {"documents": [better, ownership], "seen": "file-7"}
    assert people.decide(reviewers, made["id"], **accept).json() == {"changed": True}
    right = people.client.get(f"/v1/rights/{made['id']}", headers=who).json()
    assert (right["status"], right["pending_reason"], right["accepted"]) == ("active", None, "person")
    assert told() == [("active", ["ownership"])]
    history = people.client.get(f"/v1/rights/{made['id']}", headers=reviewers).json()["history"]
    assert [(one["kind"], one["by"], one["code"], one["documents"], one["seen"]) for one in history] == [
        ("accepted", reviewer, None, [better, ownership], "file-7"),
        ("documents", account, "proof_unseen", [better], None),
        ("refused", reviewer, "unreadable", [ownership], None),
        ("documents", account, "proof_unseen", [ownership], None),
        ("registered", account, "proof_missing", None, None),
    ]
    assert [one["cure"] for one in history if one["cure"]] == [right_refusals.TEXTS["unreadable"]]
    prove(ownership)
    assert told() == [("active", ["ownership"])]


def test_a_forged_document_is_accepted_by_nobody(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    document = kept(people, who, b"forged")
    made = people.registered(who, right_type="copyright", number="VA-1", evidence=[document])["id"]
    _, reviewers = people.open("reviewer")
    parts.query(
        """insert into misuse_findings (id, account, kind, state, document, code, by, day, at)
        values ('f-forged', %s, 'forged_document', 'in_force', %s, 'altered', 'a-operator', current_date, now())""",
        account,
        document,
    )
    parts.query("update evidence set forged = 'f-forged' where id = %s", document)
    said = problem(people.decide(reviewers, made, documents=[document]), 422, field="documents[0]")
    assert said["type"].endswith(":unknown_document")


def test_what_a_killed_writer_left_in_the_folder_goes_with_it(parts: Parts, people: People, holder: Someone) -> None:
    document = kept(people, holder[1], b"next to it")
    (path,) = stored(parts, document)
    path.rename(path.with_name(f"{document}#1"))
    parts.query(
        "update evidence set state = 'arriving', changed_wall = now() - interval '2 hours' where id = %s", document
    )
    sweep(parts)
    assert state(parts, document) == "gone"
    assert stored(parts, document) == []


def test_an_upload_that_died_is_cleaned_up(parts: Parts, people: People, holder: Someone) -> None:
    account, who = holder
    for how, aged in (("stored", True), ("not stored", True), ("young", False)):
        content = how.encode()
        document = kept(people, who, content)
        parts.query(
            "update evidence set state = 'arriving', changed_wall = now() - %s where id = %s",
            dt.timedelta(minutes=61 if aged else 59),
            document,
        )
        path = Blobs.of(parts.settings)
        if how == "not stored":
            path.delete(evidence.object_path(document))
        problem(people.client.get(f"/v1/evidence/{document}", headers=who), 404)
        sweep(parts)
        assert state(parts, document) == ("gone" if aged else "arriving")
    # settled too late
    with parts.engine.begin() as connection, pytest.raises(evidence_store.Refused):
        evidence_store.settle(connection, {"id": "d-none", "owner": account, "digest": bytes(32)}, "other")


def test_none_is_named_while_it_goes(parts: Parts, people: People, holder: Someone) -> None:
    """Claims that name a document race with the clean-up that would delete it: either it is named and stays, or it is unknown."""
    _, who = holder
    right = people.right(who)
    outcomes = set()
    for number in range(12):
        document = kept(people, who, f"race {number}".encode())
        due(parts, document)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            claim = pool.submit(
                people.client.post, "/v1/claims", json=body(right, uuid.uuid4().hex, evidence=[document]), headers=who
            )
            if number % 3:
                time.sleep(0.003 * (number % 5))
            pool.submit(sweep, parts).result()
        named = claim.result().status_code
        assert named in (202, 422), claim.result().text
        assert state(parts, document) == ("kept" if named == 202 else "gone")
        outcomes.add(named)
    assert outcomes
