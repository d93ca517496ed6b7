"""The marketplace's feed of sellers' contacts: what a record does to an account."""

from __future__ import annotations

import argparse
import base64
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from examples import contact_producer
from services.intake.accounts import feed
from services.intake.accounts.feed import FedContact, Known, Step
from services.intake.kernel.requests import Contact
from services.intake.kernel.security import KeyMissing
from shared import sealing
from shared.events import SellerContact
from shared.runtime.types import Unacceptable

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = sealing.public_text(KEY)
ANNA = {"name": "Anna Example", "address": "Road 1\nTown", "email": "anna@example.org"}
FED = FedContact(**ANNA)
VOUCHED = FedContact(**ANNA, vouched=True)


def record(revision: int = 5, **values: Any) -> SellerContact:
    return SellerContact(seller="s-1", revision=revision, **values)


def sealed(plain: bytes, seller: str = "s-1") -> str:
    return sealing.seal(PUBLIC, sealing.about_contact(seller), plain)


def contact(language: str = "en", **values: Any) -> Contact:
    return Contact(**{**ANNA, "language": language, **values})


# ---- what is sealed


def test_contact_data_are_opened() -> None:
    raw = msgspec.json.encode({**ANNA, "vouched": True, "phone": "of a later version"})
    assert feed.opened(record(sealed=sealed(raw)), [KEY]) == VOUCHED
    assert feed.opened(record(sealed=sealed(msgspec.json.encode(ANNA))), [KEY]) == FED
    assert feed.opened(record(), []) is None
    assert feed.opened(record(gone=True, sealed=sealed(raw)), []) is None


def test_what_the_example_seals_is_opened() -> None:
    words = ["s-1", "--revision", "7", "--language", "de-AT", "--vouched", "--key", PUBLIC, "--name", ANNA["name"]]
    given: argparse.Namespace = contact_producer.arguments(
        [*words, "--address", ANNA["address"], "--email", ANNA["email"]]
    )
    event = contact_producer.event_of(given)
    assert event["type"] == "goodfaith.marketplace.contact.v1"
    assert not [value for value in ANNA.values() if value in msgspec.json.encode(event).decode()]
    read = msgspec.json.decode(msgspec.json.encode(event["data"]), type=SellerContact)
    assert (read.revision, read.language, feed.opened(read, [KEY])) == (7, "de-AT", VOUCHED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (sealed(msgspec.json.encode(ANNA), "s-2"), "for another seller; seal it"),
        (base64.b64encode(bytes(100)).decode(), "not sealed for this installation"),
        (sealed(b"Anna"), "not JSON"),
        (sealed('{"name": "M\u00fcller"}'.encode("latin-1")), "not JSON"),
        (sealed(b'{"x": ' + b"[" * 8000), "not JSON"),
        (sealed(b"[]"), "Expected `object`"),
        (sealed(msgspec.json.encode({**ANNA, "email": "nobody"})), r"\$\.email"),
        (sealed(msgspec.json.encode({**ANNA, "name": "x" * 201})), r"\$\.name"),
        (sealed(msgspec.json.encode({**ANNA, "address": "a\0b"})), r"\$\.address"),
        (sealed(msgspec.json.encode({"name": "Anna", "email": "a@b"})), "`address`"),
    ],
    # what is sealed differs in every process
    ids=["other", "unsealed", "words", "latin", "deep", "list", "email", "long", "null", "lacking"],
)
def test_a_refusal_names_the_field_and_the_cure_and_nothing_personal(text: str, says: str) -> None:
    with pytest.raises(Unacceptable, match=says) as refused:
        feed.opened(record(sealed=text), [KEY])
    assert str(refused.value).startswith("sealed: ")
    assert "higher revision" in str(refused.value)
    assert not [word for word in ("Anna", "nobody", "Road", "example.org") if word in str(refused.value)]


def test_without_a_key_it_waits_for_one() -> None:
    with pytest.raises(KeyMissing, match="GOODFAITH_FEED_KEY"):
        feed.opened(record(sealed=sealed(b"{}")), [])


@pytest.mark.parametrize(
    "bad",
    [
        {"revision": -1},
        {"revision": 2**53},
        {"revision": None},
        {"language": "de_DE"},
        {"language": "x" * 40},
        {"sealed": "Anna Example"},
        {"sealed": "A" * 16_385},
        {"sealed": ""},
        {"seller": "s 1"},
        {"gone": "yes"},
    ],
)
def test_a_record_is_bounded(bad: dict[str, Any]) -> None:
    raw = msgspec.json.encode({"seller": "s-1", "revision": 1, **bad})
    with pytest.raises(msgspec.ValidationError, match=next(iter(bad))):
        msgspec.json.decode(raw, type=SellerContact)


# ---- what it does


def test_a_seller_has_an_account_and_its_contact() -> None:
    assert feed.step(Known(), record(language="de-AT"), VOUCHED) == Step("opened", contact("de"), confirmed=True)
    assert feed.step(Known(), record(language="fr"), FED) == Step("opened", contact("en"))
    assert feed.step(Known(), record(), None) == Step("opened")


def test_a_higher_revision_replaces_what_came_before() -> None:
    known = Known("seller", revision=5, own=False, email="old@example.org", confirmed=True)
    assert feed.step(known, record(6), FED) == Step("changed", contact(), confirmed=False)
    # a code on its way to the old address does not confirm the new one
    assert feed.step(known._replace(confirmed=False), record(6), FED).confirmed is False
    # confirmed already, whoever said so
    assert feed.step(known, record(6), VOUCHED) == Step("changed", contact())
    assert feed.step(known._replace(email="ANNA@example.org"), record(6), FED) == Step("changed", contact())
    assert feed.step(known, record(6), None) == Step("withdrawn", withdraw=True, confirmed=False)
    for revision in (0, 4, 5):
        assert feed.step(known, record(revision), VOUCHED) == Step("stale")
        assert feed.step(known, record(revision, gone=True), None) == Step("stale")


def test_what_a_seller_set_itself_stands() -> None:
    known = Known("seller", revision=5, own=True, email="Anna@Example.org")
    assert feed.step(known, record(6), FED) == Step("own")
    assert feed.step(known, record(6), None) == Step("changed")
    # the marketplace vouches for the same address
    assert feed.step(known, record(6), VOUCHED) == Step("own", confirmed=True)
    assert feed.step(known._replace(confirmed=True), record(6), VOUCHED) == Step("own")
    assert feed.step(known._replace(email="other@example.org"), record(6), VOUCHED) == Step("own")


def test_a_seller_that_is_gone_is_erased_and_never_comes_back() -> None:
    assert feed.step(Known(), record(gone=True), None) == Step("gone")
    assert feed.step(Known("seller", revision=1, own=True), record(gone=True), None) == Step("gone")
    assert feed.step(Known("seller", closed=True), record(gone=True), None) == Step("gone")
    assert feed.step(Known("seller", closed=True, revision=5), record(6), VOUCHED) == Step("closed")


@pytest.mark.parametrize("role", ["holder", "reviewer", "operator", "upstream"])
def test_only_sellers_are_fed(role: str) -> None:
    for given, gone in ((VOUCHED, False), (None, True)):
        with pytest.raises(Unacceptable, match=rf"^seller: the account of this id is a {role}'s; publish"):
            feed.step(Known(role), record(gone=gone), given)


def test_of_several_records_the_highest_counts() -> None:
    first, again, later, other = record(5), record(5, language="de"), record(6), SellerContact(seller="s-2", revision=1)
    assert feed.latest([first, later, again, other]) == {"s-1": later, "s-2": other}
    assert feed.latest([first, again])["s-1"] is first
