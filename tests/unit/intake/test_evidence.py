"""Evidence: names, digests, links, who may read. Pure."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import unicodedata
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.evidence import detection
from services.intake.evidence import domain as evidence
from services.intake.evidence.domain import Document, FileLinks, Ties
from services.intake.kernel import requests
from services.intake.kernel.domain import Account
from shared.refusals import Refused

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
KEY = "k" * 44

# ---- names


@pytest.mark.parametrize(
    "name", ["certificate.pdf", "Grüße (2).png", "商标注册证.pdf", "a", "no ending", "..hidden.pdf", "ｆｕｌｌ.pdf"]
)
def test_names_are_kept(name: str) -> None:
    assert evidence.name_of(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\boot.ini",
        "C:\\x.pdf",
        "a/b",
        "..",
        ".",
        " ",
        "",
        "x" * 151,
        "a\0.pdf",
        "a\n.pdf",
        "a\r\nX: y",
        "．．／．．／etc／passwd",
        "a＼b",
        "a⁄b",
        "a∕b",
        "‥",
        "．．",
        "gpj.\u202eexe",
        "a\u200bb",
        "a\ufeffb",
        "a\u2028b",
        "a\x7f",
        "a\ud800",
        "a\ue000",
        "a\U000e0041",
    ],
)
def test_path_tricks_and_hidden_characters_are_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        evidence.name_of(name)
    assert (caught.value.status, caught.value.reason) == (422, "bad_name")


@given(st.text(max_size=200))
def test_a_kept_name_leads_nowhere(text: str) -> None:
    try:
        name = evidence.name_of(text)
    except Refused:
        return
    plain = unicodedata.normalize("NFKC", name)
    assert not set(plain) & set("/\\\r\n\0")
    assert plain.strip(" .")
    header = evidence.attachment(name, "d-1", "application/pdf")
    assert header.isascii()
    assert header.isprintable()
    # and comes back as it was, but for the ending
    back = evidence.disposition_name(header)
    assert back is not None
    assert back.removesuffix(".pdf") == name.removesuffix(".pdf") or back == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, None),
        ("attachment", None),
        ('attachment; filename="a b.pdf"', "a b.pdf"),
        ("attachment; filename=a.pdf", "a.pdf"),
        ('form-data; name="x"; filename="a\\"b.pdf"', 'a"b.pdf'),
        ("attachment; filename*=UTF-8''%e2%82%ac.pdf", "€.pdf"),
        ("attachment; filename=\"x.pdf\"; filename*=utf-8'en'%C3%BC.pdf", "ü.pdf"),
    ],
)
def test_names_in_headers(header: str | None, name: str | None) -> None:
    assert evidence.disposition_name(header) == name


@pytest.mark.parametrize(
    "header",
    [
        'attachment; filename="../../etc/passwd"',
        "attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
        "attachment; filename*=UTF-8''%ff",
        "attachment; filename*=UTF-8''a%0d%0ab",
        "attachment; filename",
        "attachment; filename*=latin-1''x",
        "x" * 3000,
        "attachment; filename*=UTF-8''%EF%BC%8E%EF%BC%8E%EF%BC%8Fpasswd",
    ],
)
def test_tricks_in_headers(header: str) -> None:
    with pytest.raises(Refused, match="name"):
        evidence.disposition_name(header)


@pytest.mark.parametrize(
    ("name", "media", "ending"),
    [
        ("run.exe", "application/pdf", "run.exe.pdf"),
        (None, "image/png", "d-1.png"),
        ("a.JPEG", "image/jpeg", "a.JPEG"),
        ("a.html", "text/plain", "a.html.txt"),
    ],
)
def test_a_file_goes_out_with_the_ending_of_its_true_type(name: str | None, media: str, ending: str) -> None:
    header = evidence.attachment(name, "d-1", media)
    assert header.startswith("attachment; ")
    assert header.endswith(f"filename*=UTF-8''{ending}")


# ---- digests

DIGEST = hashlib.sha256(b"x").digest()
B64 = base64.b64encode(DIGEST).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"repr-digest": f"sha-256=:{B64}:"},
        {"content-digest": f"sha-512=:AAAA:, sha-256=:{B64}:"},
        {"digest": f"SHA-256={B64}"},
        {"repr-digest": f"sha-256=:{B64}:", "digest": f"sha-256={B64}"},
    ],
)
def test_digests_that_are_announced(headers: dict[str, str]) -> None:
    assert evidence.announced_digest(headers) == DIGEST
    evidence.check_digest(DIGEST, DIGEST)
    with pytest.raises(Refused, match="another SHA-256"):
        evidence.check_digest(DIGEST, hashlib.sha256(b"y").digest())


@pytest.mark.parametrize("headers", [{}, {"repr-digest": "md5=:AAAA:"}, {"digest": ""}])
def test_other_digests_are_passed_over(headers: dict[str, str]) -> None:
    assert evidence.announced_digest(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"repr-digest": f"sha-256={B64}"},
        {"repr-digest": "sha-256=:AAAA:"},
        {"repr-digest": "sha-256"},
        {"digest": "sha-256=!"},
        {"repr-digest": f"sha-256=:{B64}:", "content-digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
    ],
)
def test_digests_that_cannot_be_read(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        evidence.announced_digest(headers)
    assert caught.value.reason == "bad_digest"


# ---- naming


def test_documents_are_named_by_their_owner_alone() -> None:
    known = {"d-1": Document("d-1", "a-1", ("ownership",)), "d-2": Document("d-2", "a-2", ("statement",))}
    assert evidence.named(["d-1", "d-1"], "a-1", known) == [known["d-1"]]
    for ids in (["d-1", "d-2"], ["d-1", "d-3"]):
        with pytest.raises(Refused) as caught:
            evidence.named(ids, "a-1", known)
        # another's answers as one that does not exist
        assert (caught.value.reason, caught.value.field) == ("unknown_document", "evidence[1]")
    assert evidence.kinds_of([known["d-1"]]) == {"ownership"}


def test_kinds_are_those_that_policies_ask_for() -> None:
    assert {"ownership", "identity", "statement"} <= set(evidence.kinds())
    assert "right" not in evidence.kinds()
    assert evidence.check_kind("ownership") == "ownership"
    with pytest.raises(Refused, match="no such kind"):
        evidence.check_kind("owenrship")


def test_the_most_that_a_request_names() -> None:
    with pytest.raises(Exception, match="evidence"):
        requests.decode(b'{"evidence": [%s]}' % b",".join([b'"d-1"'] * 21), requests.AddInformation)


def test_who_may_read() -> None:
    def may(
        reader: Account,
        *,
        as_seller: int = 0,
        as_holder: int = 0,
        view: int = 0,
        kinds: tuple[str, ...] = ("ownership",),
    ) -> bool:
        return evidence.may_read(reader, "a-1", kinds, Ties(as_seller, as_holder, view), ["identity"])

    assert may(Account("a-1", "holder"))
    assert may(Account("v-1", "reviewer"))
    assert may(Account("o-1", "operator"))
    assert not may(Account("a-2", "holder"))
    assert not may(Account("s-1", "seller"))
    assert may(Account("s-1", "seller"), as_seller=1)
    assert not may(Account("a-2", "holder"), as_holder=1)
    assert may(Account("a-2", "holder"), as_holder=2)
    # a design's views, once the seller is told of a claim on it
    assert not may(Account("s-1", "seller"), view=0, kinds=("design_view",))
    assert may(Account("s-1", "seller"), view=1, kinds=("design_view",))
    assert not may(Account("s-1", "seller"), view=1, kinds=("design_view", "identity"))
    # what is private stays with its owner and staff
    assert not may(Account("s-1", "seller"), as_seller=2, kinds=("identity", "ownership"))
    assert may(Account("v-1", "reviewer"), kinds=("identity",))


# ---- links


def parts(url: str) -> tuple[str, str, int, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return split.path.removeprefix("/evidence/"), query["reader"][0], int(query["expires"][0]), query["signature"][0]


def test_a_link_is_good_until_its_moment() -> None:
    links = FileLinks(KEY)
    document, reader, expires, signature = parts(links.make("d-1", "s-1", NOW + dt.timedelta(minutes=10)))
    assert (document, reader) == ("d-1", "s-1")
    links.check(document, reader, expires, signature, NOW)
    links.check(document, reader, expires, signature, NOW + dt.timedelta(minutes=9, seconds=59))
    with pytest.raises(Refused) as caught:
        links.check(document, reader, expires, signature, NOW + dt.timedelta(minutes=10))
    assert caught.value.status == 403


@pytest.mark.parametrize("place", range(4))
def test_an_altered_link_is_refused(place: int) -> None:
    links = FileLinks(KEY)
    values: list[str | int] = list(parts(links.make("d-1", "s-1", NOW + dt.timedelta(minutes=10))))
    for other in ("d-2", "a-1", 2**33, "A" * 43) if place != 3 else ("", "A" * 43, "ü", str(values[3])[:-1]):
        changed = list(values)
        if isinstance(other, type(changed[place])):
            changed[place] = other
            with pytest.raises(Refused) as caught:
                links.check(*changed, NOW)  # type: ignore[arg-type]
            assert caught.value.reason == "bad_link"


def test_keys_of_links() -> None:
    document, reader, expires, signature = parts(FileLinks(KEY).make("d-1", "s-1", NOW + dt.timedelta(minutes=1)))
    with pytest.raises(Refused, match="not one of ours"):
        FileLinks("l" * 44).check(document, reader, expires, signature, NOW)
    with pytest.raises(Refused, match="issues no links"):
        FileLinks(None).make("d-1", "s-1", NOW)
    with pytest.raises(ValueError, match="shorter"):
        FileLinks("short")


def test_where_a_document_lies_tells_its_digest_only_if_it_is_not_sealed() -> None:
    assert evidence.object_path("d-1XY") == "sealed/XY/d-1XY"
    assert evidence.object_path("d-1", DIGEST) == f"sha256/{DIGEST.hex()[:2]}/{DIGEST.hex()}/d-1"


def test_refusals_say_what_and_how() -> None:
    for reason in detection.REASONS:
        refused = evidence.refusal(reason, "")
        assert refused.status == 422
        assert refused.cure
    assert evidence.refusal("damaged", "no page").detail == "The file is damaged (no page)."


def test_policies_say_how_long() -> None:
    assert evidence.keeping()["ipp"] == dt.timedelta(days=1095)
    assert evidence.unused()["ipp"] == dt.timedelta(days=1)
    assert "identity" in evidence.private_kinds()
