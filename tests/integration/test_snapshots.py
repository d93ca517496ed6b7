"""What items are judged on is kept, on the real database: a seller who edits the listing cannot take it back."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from deploy.local.stack import Stack
from services.verification import api, store
from services.verification.item import Item
from services.verification.worker import Verification
from shared import db, events, topics
from shared.content import Content, Revision, Seen, content_of, digest
from shared.events import ItemChanged, ItemSubmitted, Listing, Picture, Price
from shared.policy import current
from shared.runtime import Incoming, Outgoing, Tx
from tests.integration.databases import execute
from tests.integration.intake_parts import _with_database

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
T = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
MUG = Content(
    title="A mug with an owl",
    brand="Owl",
    category="Kitchen > Mugs",
    price=Price(amount="12.50", currency="EUR"),
    condition="new",
    description="Just like the real ones, a perfect replica.",
    images=(Picture(id="front", sha256="ab" * 32, url="https://cdn.example/1.jpg"),),
)
INNOCENT = msgspec.structs.replace(MUG, description="A mug.", images=())


class Town:
    """Verification on a database of its own, batch by batch."""

    def __init__(self, stack: Stack, migrated: str) -> None:
        name = f"snapshots_{uuid.uuid4().hex[:8]}"
        execute(stack, f"create database {name} template {migrated}")
        self.engine = db.connect(
            _with_database(stack.role_url("verification"), name), schema="verification", name="test", pool_size=2
        )
        self.judge = Verification()
        self.ids = itertools.count()
        self.now = T
        self.out: list[Outgoing] = []

    def incoming(self, data: events.Data, type_: str, key: str) -> Incoming:
        id_ = f"test.{next(self.ids)}"
        raw = events.encode(data, id=id_, source="/test", type=type_, subject=key, time=self.now, key=key)
        place = topics.partition_of(key, 4)
        return Incoming("t", place, 0, key, id_, type_, data, events.decode_envelope(raw))

    def batch(self, *told: events.Data) -> None:
        """One batch, in one transaction."""
        self.now += dt.timedelta(minutes=1)
        records = []
        for data in told:
            assert isinstance(data, Listing | ItemSubmitted)
            kind = "goodfaith.marketplace.listing.v1" if isinstance(data, Listing) else "goodfaith.item.submitted.v1"
            records.append(self.incoming(data, kind, data.listing))
        with self.engine.begin() as connection:
            batch = self.judge.open(Tx(connection, self.now, self.now, [0, 1, 2, 3], {}, frozenset()), records)
            self.out += [one for record in records for one in batch.apply(record)]
            batch.save()

    def seen(self, *items: str) -> list[Seen]:
        with self.engine.begin() as connection:
            return api.seen(connection, items)

    def revisions(self, item: str) -> list[Revision]:
        with self.engine.begin() as connection:
            return api.revisions(connection, item)

    def query(self, statement: str, *values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def item(self, name: str) -> Item:
        with self.engine.begin() as connection:
            (found,) = store.items(connection, [name])
        return found


@pytest.fixture
def town(stack: Stack, migrated: str) -> Iterator[Town]:
    made = Town(stack, migrated)
    yield made
    made.engine.dispose()


def listing(content: Content | None = MUG, name: str = "mug", **more: Any) -> Listing:
    shown = {} if content is None else {field: getattr(content, field) for field in Content.__struct_fields__}
    return Listing(**{"listing": name, "seller": "s-1", "state": "visible", **shown, **more})


def filed(name: str = "i-1", on: str = "mug", reason: str = "counterfeit", **more: Any) -> ItemSubmitted:
    return ItemSubmitted(
        **{
            "item": name,
            "claim": "c-1",
            "claim_size": 1,
            "listing": on,
            "complainant": "h-1",
            "principal": "h-1",
            "right": "r-1",
            "right_type": "trademark",
            "reason": reason,
            "profile": "ipp",
            "policy": current("ipp").version,
            "identity_verified": True,
            "authority": "owner",
            "materials": ("ownership", "statement", "comparison"),
            "accepted_at": T,
            **more,
        }
    )


def test_an_item_on_a_known_listing_keeps_what_it_showed(town: Town) -> None:
    town.batch(listing())
    town.batch(filed())
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now, seen.edited, seen.differing, seen.state) == (MUG, MUG, False, (), "visible")
    assert seen.filed_at == T + dt.timedelta(minutes=1)
    town.batch(listing(INNOCENT))
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now, seen.edited) == (MUG, INNOCENT, True)
    assert seen.differing == ("description", "images")
    # the log says what was judged, once
    told = [one.data.content for one in town.out if isinstance(one.data, ItemChanged)]
    assert [one for one in told if one is not None] == [digest(MUG)]
    assert town.item("i-1").content == digest(MUG)


def test_the_look_ups_answer_is_what_the_item_is_judged_on(town: Town) -> None:
    town.batch(filed())
    (seen,) = town.seen("i-1")
    assert (seen.state, seen.filed, seen.now, seen.edited) == (None, None, None, None)
    town.batch(listing())
    town.batch(listing(INNOCENT))
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now, seen.edited) == (MUG, INNOCENT, True)


def test_nothing_is_kept_of_a_listing_that_nobody_claimed(town: Town) -> None:
    for content in (MUG, INNOCENT, MUG):
        town.batch(listing(content))
    assert town.query("select count(*) from snapshots") == [(0,)]
    town.batch(filed())
    assert town.query("select count(*) from snapshots") == [(0,)], "the listing's row has it"
    town.batch(listing(INNOCENT), listing(MUG), listing(INNOCENT))
    assert town.query("select filed, digest from snapshots") == [(True, digest(MUG))]


def test_items_of_one_listing_share_what_they_are_judged_on(town: Town) -> None:
    town.batch(listing())
    town.batch(filed("i-1"), filed("i-2", reason="improper_use"))
    town.batch(listing(INNOCENT))
    town.batch(filed("i-3", right="r-2"))
    town.batch(listing(None, state="ended"))
    assert town.query("select digest, filed from snapshots order by until") == [
        (digest(MUG), True),
        (digest(INNOCENT), True),
    ]
    first, second, third = town.seen("i-1", "i-2", "i-3")
    assert first.filed == second.filed == MUG
    assert third.filed == INNOCENT
    assert {one.state for one in (first, second, third)} == {"ended"}
    assert {one.now for one in (first, second, third)} == {None}
    assert first.edited


def test_all_within_one_batch(town: Town) -> None:
    town.batch(listing(), filed(), listing(INNOCENT), filed("i-2", right="r-2"), listing(None, state="ended"))
    first, second = town.seen("i-1", "i-2")
    assert (first.filed, second.filed, first.now) == (MUG, INNOCENT, None)
    assert [(one.content, one.filed) for one in town.revisions("i-1")] == [(MUG, True), (INNOCENT, True)]


def test_an_item_and_the_edit_after_it_in_one_batch(town: Town) -> None:
    town.batch(listing())
    town.batch(filed(), listing(INNOCENT), listing(MUG), listing(INNOCENT))
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now) == (MUG, INNOCENT)


def test_later_revisions_stay_next_to_it_and_are_bounded(town: Town) -> None:
    town.batch(listing())
    town.batch(filed())
    prices = [Price(amount=str(amount), currency="EUR") for amount in range(20, 20 + 2 * store.REVISIONS)]
    for price in prices:
        town.batch(listing(msgspec.structs.replace(MUG, price=price)))
    found = town.revisions("i-1")
    assert (found[0].content, found[0].filed, found[0].since) == (MUG, True, T + dt.timedelta(minutes=1))
    assert [one.content.price for one in found[1:]] == [*prices[: store.REVISIONS], prices[-1]]
    assert [one.until is None for one in found] == [False] * (store.REVISIONS + 1) + [True]
    assert [one.filed for one in found[1:]] == [False] * (store.REVISIONS + 1)
    # a further item keeps what it is judged on all the same
    town.batch(filed("i-2", right="r-2"))
    town.batch(listing(INNOCENT))
    (seen,) = town.seen("i-2")
    assert seen.filed is not None
    assert (seen.filed.price, seen.edited) == (prices[-1], True)


def test_nobody_fills_the_table_by_changing_to_and_fro(town: Town) -> None:
    town.batch(listing())
    town.batch(filed())
    for turn in range(3):
        edits = [msgspec.structs.replace(MUG, title=f"{turn} {number}") for number in range(2 * store.REVISIONS)]
        town.batch(*(listing(content) for edit in edits for content in (edit, MUG)))
    ((count,),) = town.query("select count(*) from snapshots where not filed")
    assert count == store.REVISIONS
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.edited) == (MUG, False)


def test_a_listing_that_shows_again_what_it_showed(town: Town) -> None:
    town.batch(listing())
    town.batch(filed())
    town.batch(listing(INNOCENT))
    town.batch(listing(MUG))
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now, seen.edited) == (MUG, MUG, False)
    assert [(one.content, one.until is None) for one in town.revisions("i-1")] == [(INNOCENT, False), (MUG, True)]


def test_where_a_picture_is_fetched_from_is_kept_up_to_date(town: Town) -> None:
    town.batch(listing())
    town.batch(filed())
    moved = msgspec.structs.replace(
        MUG, images=(Picture(id="front", sha256="ab" * 32, url="https://cdn2.example/1.jpg"),)
    )
    town.batch(listing(moved))
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.edited) == (moved, False)
    assert town.query("select count(*) from snapshots") == [(0,)]


def test_listings_that_version_0_2_0_kept(town: Town) -> None:
    """Its rows have a title and no digest; and it may still write while this version does."""
    old = Listing(listing="mug", seller="s-1", state="visible", title="A mug with an owl")
    body = msgspec.json.encode(old).decode()
    town.query("insert into listings (listing, body) values ('mug', %s)", body)
    town.batch(filed())
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.filed_at, seen.edited) == (content_of(old), None, False)
    town.batch(listing())
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now, seen.differing[0]) == (content_of(old), MUG, "brand")
    # it changes the title, and knows of nothing else: what the row says no longer has its digest
    other = msgspec.structs.replace(old, title="Another mug")
    town.query("update listings set body = %s", msgspec.json.encode(other).decode())
    (seen,) = town.seen("i-1")
    assert (seen.filed, seen.now) == (content_of(old), None)


def test_rules_do_not_decode_the_bulk(town: Town) -> None:
    town.batch(listing())
    ((body, bulk),) = town.query("select body, bulk from listings")
    assert "perfect replica" in bulk
    assert "perfect replica" not in body
    town.batch(filed())
    ((stored,),) = town.query("select body from items")
    assert "mug with an owl" not in stored
