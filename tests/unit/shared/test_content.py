"""What a listing shows: what the contract accepts, what counts as an edit, and what old publishers say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.marketplace import domain
from deploy.marketplace.domain import Page
from deploy.marketplace.worker import Seed
from examples import listing_producer
from shared.content import EDITABLE, Content, content_of, differing, digest, without_bulk
from shared.events import Listing, Picture, Price

SHA = "ab" * 32
LISTING: dict[str, Any] = {
    "listing": "mug-1",
    "seller": "s-anna",
    "state": "visible",
    "title": "A mug with an owl",
    "revision": 3,
    "brand": "Owl",
    "category": "Kitchen > Mugs",
    "price": {"amount": "12.50", "currency": "EUR"},
    "condition": "new",
    "description": "Holds 300 ml.\nDishwasher-safe.",
    "images": [{"id": "front", "sha256": SHA, "url": "https://cdn.example/1.jpg", "pdq": "0f" * 32, "quality": 100}],
}


def read(**changed: Any) -> Listing:
    return msgspec.json.decode(json.dumps({**LISTING, **changed}), type=Listing)


def test_a_listing_is_read_with_what_it_shows_and_written_as_it_was() -> None:
    assert msgspec.json.decode(msgspec.json.encode(read())) == LISTING


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("revision", -1),
        ("revision", 2**53),
        ("brand", "x" * 201),
        ("category", "x" * 301),
        ("condition", "as new"),
        ("description", "x" * 4001),
        ("images", [{"id": str(number), "sha256": SHA} for number in range(13)]),
        ("images", [{"id": "front"}]),
        ("images", [{"id": "front", "sha256": SHA.upper()}]),
        ("images", [{"id": "front", "sha256": SHA, "url": "ftp://cdn.example/1.jpg"}]),
        ("images", [{"id": "front", "sha256": SHA, "url": "https://cdn.example/" + "x" * 2000}]),
        ("images", [{"id": "front", "sha256": SHA, "url": "https://cdn.example/a b"}]),
        ("images", [{"id": "front", "sha256": SHA, "pdq": "0f" * 8}]),
        ("images", [{"id": "front", "sha256": SHA, "quality": 101}]),
        *(("price", {"amount": amount, "currency": "EUR"}) for amount in ("", "-1", "01", "1.", "1e3", "1.00000", 1.5)),
        ("price", {"amount": "1" * 14, "currency": "EUR"}),
        ("price", {"amount": "1", "currency": "eur"}),
        ("price", {"amount": "1"}),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"`\$\.{field}"):
        read(**{field: value})


def test_the_largest_record_fits_on_a_topic() -> None:
    picture = {"id": "i" * 120, "sha256": SHA, "url": "https://" + "x" * 1992, "pdq": SHA, "quality": 100}
    largest = read(title="\x01" * 300, description="\x01" * 4000, images=[picture] * 12, brand="é" * 200)
    assert len(msgspec.json.encode(largest)) < 100_000


def test_a_publisher_of_before_shows_a_title_and_no_more() -> None:
    old = msgspec.json.decode(b'{"listing":"l","seller":"s","state":"visible","title":"A mug"}', type=Listing)
    assert content_of(old) == Content(title="A mug")
    assert digest(content_of(old)) is not None
    assert digest(content_of(Listing(listing="l", state="unknown"))) is None
    assert msgspec.json.encode(old) == b'{"listing":"l","seller":"s","state":"visible","title":"A mug"}'


def test_what_rules_read_stays_without_the_bulk() -> None:
    lean = without_bulk(read())
    assert (lean.title, lean.brand, lean.category) == ("A mug with an owl", "Owl", "Kitchen > Mugs")
    assert len(msgspec.json.encode(lean)) < 200


EDITS: dict[str, Any] = {
    "title": "Another mug",
    "brand": None,
    "category": "Kitchen",
    "price": {"amount": "12.51", "currency": "EUR"},
    "condition": "used",
    "description": "Holds 400 ml.",
    "images": [{"id": "front", "sha256": "cd" * 32}],
}


@pytest.mark.parametrize("field", EDITABLE)
def test_every_edit_that_a_buyer_sees_changes_the_digest_and_is_named(field: str) -> None:
    before, after = content_of(read()), content_of(read(**{field: EDITS[field]}))
    assert digest(before) != digest(after)
    assert differing(before, after) == (field,)


def test_what_a_buyer_does_not_see_changes_nothing() -> None:
    before = content_of(read())
    moved = {"id": "other", "sha256": SHA, "url": "https://cdn2.example/1.jpg?signed=1"}
    for same in ({"revision": 4}, {"price": {"amount": "12.5000", "currency": "EUR"}}, {"images": [moved]}):
        after = content_of(read(**same))
        assert digest(before) == digest(after)
        assert differing(before, after) == ()


TEXT = st.text(max_size=5) | st.none()
CONTENT = st.builds(
    Content,
    title=TEXT,
    brand=TEXT,
    description=TEXT,
    price=st.builds(Price, amount=st.sampled_from(["1", "1.0", "2"]), currency=st.sampled_from(["EUR", "USD"]))
    | st.none(),
    images=st.lists(st.builds(Picture, id=st.just("p"), sha256=st.sampled_from([SHA, "cd" * 32])), max_size=2).map(
        tuple
    ),
)


@given(CONTENT, CONTENT)
def test_digests_differ_exactly_where_something_differs(one: Content, other: Content) -> None:
    assert (digest(one) != digest(other)) == bool(differing(one, other))


def test_the_stand_in_publishes_what_was_seeded_and_numbers_its_edits() -> None:
    seed = msgspec.json.decode(
        json.dumps({name: LISTING[name] for name in LISTING if name not in ("state", "revision")}), type=Seed
    )
    page = Page("mug-1", 0, "s-anna", title=seed.title)
    for title, number in (("A mug", 1), ("A mug", 1), ("Another", 2), ("A mug", 3)):
        page.title = title
        page.content = domain.edited(page.content, Content(title=title, brand=seed.brand, images=seed.images))
        told = domain.published("mug-1", page)
        assert (told.revision, told.title, told.brand) == (number, title, "Owl")
        assert told.images == read().images


def test_the_example_publishes_what_the_contract_reads(tmp_path: Path) -> None:
    picture = tmp_path / "owl.jpg"
    picture.write_bytes(b"an owl")
    url = "https://cdn.example/owl.jpg?a=b"
    words = ["mug-1", "--seller", "s-anna", "--title", "A mug", "--price", "12.50", "EUR", "--revision", "7"]
    event = listing_producer.event_of(
        listing_producer.arguments([*words, "--picture", f"front={picture}={url}", "--picture", f"back={picture}"])
    )
    assert event["type"] == "goodfaith.marketplace.listing.v1"
    sha = hashlib.sha256(b"an owl").hexdigest()
    assert msgspec.convert(event["data"], Listing) == Listing(
        listing="mug-1",
        seller="s-anna",
        state="visible",
        title="A mug",
        revision=7,
        price=Price(amount="12.50", currency="EUR"),
        images=(Picture(id="front", sha256=sha, url=url), Picture(id="back", sha256=sha)),
    )
