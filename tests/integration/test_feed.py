"""The marketplace's feed of sellers' contacts, through the real worker, broker and database."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from kafka import KafkaProducer
from pydantic import SecretStr

from deploy.local.stack import Stack
from services.intake.accounts import erasure_store, feed_store
from services.intake.housekeeping import Housekeeping
from services.intake.kernel import store
from services.intake.kernel.domain import Account
from services.intake.worker import Intake
from services.ops.privacy import export
from services.ops.privacy.rewrap import contacts_of
from shared import db, events, migrate, sealing, topics
from shared.runtime import Worker
from tests.integration.intake_parts import CONTACT, PARTITIONS, Parts, wait

pytestmark = pytest.mark.stack
KEY = base64.b64encode(bytes(range(32))).decode()
OLD = base64.b64encode(bytes(range(1, 33))).decode()
ANNA = {"name": "Anna Example", "address": "Road 1\nTown", "email": "anna@example.org"}


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("feed"), feed_key=SecretStr(KEY), feed_key_other=SecretStr(OLD))
    topics.create(parts.settings)
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def client(parts: Parts) -> Iterator[httpx.Client]:
    with parts.api() as client:
        yield client


@contextlib.contextmanager
def working(parts: Parts, **changed: Any) -> Iterator[None]:
    """Intake's worker, in a thread."""
    settings = parts.settings.model_copy(update=changed)
    service = Intake(settings, background=False)
    worker = Worker(service, settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(30)
        service.close()
        assert not thread.is_alive()


class Marketplace:
    """Publishes contacts."""

    def __init__(self, parts: Parts) -> None:
        self._topic = parts.settings.topic_prefix + topics.MARKETPLACE_CONTACTS.name
        self._producer: Any = KafkaProducer(bootstrap_servers=parts.settings.kafka, acks="all")

    def tell(
        self, seller: str, revision: int, contact: Any = None, *, key: str = KEY, under: str | None = None, **more: Any
    ) -> str:
        """Publish one record; returns its event's id."""
        if contact is not None:
            public = sealing.public_text(sealing.private_key("key", key))
            more["sealed"] = sealing.seal(public, sealing.about_contact(seller), msgspec.json.encode(contact))
        id = f"contact-{uuid.uuid4().hex}"
        record = events.SellerContact(seller=seller, revision=revision, **more)
        raw = events.encode(
            record,
            id=id,
            source="/marketplace",
            type="goodfaith.marketplace.contact.v1",
            subject=seller,
            time=dt.datetime.now(dt.UTC),
            key=seller,
        )
        name = under or seller
        partition = topics.partition_of(name, PARTITIONS)
        self._producer.send(self._topic, key=name.encode(), value=raw, partition=partition).get(30)
        return id

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(scope="module")
def marketplace(parts: Parts) -> Iterator[Marketplace]:
    made = Marketplace(parts)
    yield made
    made.close()


def taken(parts: Parts, seller: str, revision: int) -> None:
    """Wait until a revision was taken in."""
    wait(lambda: parts.query("select 1 from fed_sellers where seller = %s and revision = %s", seller, revision))


def contact_of(parts: Parts, client: httpx.Client, seller: str) -> dict[str, Any] | None:
    """The contact as notification gets it."""
    internal = {"Authorization": f"Bearer {parts.internal}"}
    answer = client.post("/internal/contacts", json={"ids": [seller]}, headers=internal)
    found: dict[str, Any] | None = answer.json()["contacts"].get(seller)
    return found


def token_for(parts: Parts, account: str) -> dict[str, str]:
    from services.intake.kernel import security

    token = security.new_token()
    with parts.engine.begin() as connection:
        store.add_token(connection, account, security.digest(token), 30, "test")
    return {"Authorization": f"Bearer {token}"}


def refused(parts: Parts, id: str) -> str | None:
    """Why a record was refused; None: it was not (yet)."""
    found = parts.query(
        "select error from dead_letters where event_id = %s and state = 'done' and topic = 'marketplace.contacts'", id
    )
    return found[0][0] if found else None


def test_a_seller_comes_from_the_marketplace(parts: Parts, client: httpx.Client, marketplace: Marketplace) -> None:
    marketplace.tell("s-fed", 3, {**ANNA, "vouched": True}, language="de-AT")
    marketplace.tell("s-bare", 1, {**ANNA, "email": "ben@example.org"}, key=OLD)
    marketplace.tell("s-none", 1, language="zh")
    # out of order, and once more: nothing changes
    marketplace.tell("s-fed", 2, {**ANNA, "email": "older@example.org"})
    marketplace.tell("s-fed", 3, {**ANNA, "email": "again@example.org"})
    with working(parts):
        for seller, revision in (("s-fed", 3), ("s-bare", 1), ("s-none", 1)):
            taken(parts, seller, revision)
        found = contact_of(parts, client, "s-fed")
        assert found == {"account": "s-fed", **ANNA, "language": "de", "confirmed": True}
        bare = contact_of(parts, client, "s-bare")
        assert bare is not None
        assert (bare["email"], bare["language"], bare["confirmed"]) == ("ben@example.org", "en", False)
        assert contact_of(parts, client, "s-none") is None
        rows = parts.query("select id, role, opened_by, status from accounts where id like 's-%%' order by id")
        assert rows == [(name, "seller", "marketplace", "open") for name in ("s-bare", "s-fed", "s-none")]
        assert parts.query("select kind, by from account_changes where account = 's-fed'") == [
            ("email_confirmed", "marketplace")
        ]
        # a changed address counts only if it is vouched for again
        marketplace.tell("s-fed", 4, {**ANNA, "email": "new@example.org"}, language="de")
        taken(parts, "s-fed", 4)
        found = contact_of(parts, client, "s-fed")
        assert found is not None
        assert (found["email"], found["confirmed"]) == ("new@example.org", False)
        marketplace.tell("s-fed", 5)
        taken(parts, "s-fed", 5)
        assert contact_of(parts, client, "s-fed") is None
    assert parts.query("select count(*) from dead_letters") == [(0,)]
    # nothing personal is in clear anywhere
    for table in ("contacts", "fed_sellers", "event_log", "account_changes"):
        assert not [row for row in parts.query(f"select * from {table}") if "example.org" in str(row)]


def test_what_the_seller_sets_itself_stands(parts: Parts, client: httpx.Client, marketplace: Marketplace) -> None:
    with working(parts):
        marketplace.tell("s-own", 1, {**ANNA, "vouched": True})
        taken(parts, "s-own", 1)
        mine = token_for(parts, "s-own")
        own = {**CONTACT, "email": "own@example.org"}
        assert client.put("/v1/contact", json=own, headers=mine).status_code == 204
        marketplace.tell("s-own", 2, {**ANNA, "vouched": True})
        taken(parts, "s-own", 2)
        found = contact_of(parts, client, "s-own")
        assert found is not None
        assert (found["email"], found["confirmed"]) == ("own@example.org", False)
        # vouched for, it counts as confirmed
        marketplace.tell("s-own", 3, {**ANNA, "email": "OWN@example.org", "vouched": True})
        taken(parts, "s-own", 3)
        found = contact_of(parts, client, "s-own")
        assert found is not None
        assert (found["email"], found["name"], found["confirmed"]) == ("own@example.org", CONTACT["name"], True)
        # taken back by the seller, the marketplace's counts again
        assert client.delete("/v1/contact", headers=mine).status_code == 204
        marketplace.tell("s-own", 4, ANNA)
        taken(parts, "s-own", 4)
        found = contact_of(parts, client, "s-own")
        assert found is not None
        assert found["email"] == ANNA["email"]


def test_refused_records_block_nothing(parts: Parts, client: httpx.Client, marketplace: Marketplace) -> None:
    with parts.engine.begin() as connection:
        store.open_account(connection, Account("h-fed", "holder"), "company", by=None)
    foreign = base64.b64encode(bytes(range(2, 34))).decode()
    moved = sealing.seal(
        sealing.public_text(sealing.private_key("key", KEY)),
        sealing.about_contact("s-other"),
        msgspec.json.encode(ANNA),
    )
    bad = [
        (marketplace.tell("s-odd", 1, ANNA, key=foreign), "sealed: it was not sealed for this installation"),
        (marketplace.tell("s-odd", 2, sealed=moved), "or for another seller"),
        (marketplace.tell("s-odd", 3, {**ANNA, "email": "x"}), "$.email"),
        (marketplace.tell("h-fed", 1, ANNA), "a holder's; publish contacts of sellers only"),
        (marketplace.tell("h-fed", 2, gone=True), "a holder's; publish contacts of sellers only"),
        (marketplace.tell("s-odd", 9, ANNA, under="s-else"), "seller: not the record's key"),
    ]
    marketplace.tell("s-odd", 4, ANNA)
    with working(parts):
        taken(parts, "s-odd", 4)
        for id, says in bad:
            error = wait(lambda id=id: refused(parts, id))
            assert says in error
            assert "Anna" not in error
        assert contact_of(parts, client, "s-odd") is not None
        assert contact_of(parts, client, "h-fed") is None
        assert not parts.query("select 1 from fed_sellers where seller in ('h-fed', 's-else')")
        assert parts.query("select count(*) from dead_letters where state <> 'done'") == [(0,)]


def test_without_a_key_records_wait_for_one(parts: Parts, client: httpx.Client, marketplace: Marketplace) -> None:
    first = marketplace.tell("s-late", 1, ANNA)
    marketplace.tell("s-late", 2, {**ANNA, "email": "x"})  # no replay would make it acceptable: it holds nothing up
    last = marketplace.tell("s-late", 3, {**ANNA, "email": "third@example.org"})
    with working(parts, feed_key=None, feed_key_other=None):
        rows = wait(lambda: parts.query("select error from dead_letters where event_id = %s", first))
        assert "GOODFAITH_FEED_KEY" in rows[0][0]
        wait(lambda: parts.query("select 1 from dead_letters where event_id = %s", last))
    parts.query("update dead_letters set state = 'replay' where state <> 'done'")
    with working(parts):
        taken(parts, "s-late", 3)
    found = contact_of(parts, client, "s-late")
    assert found is not None
    assert found["email"] == "third@example.org"
    assert parts.query("select count(*) from dead_letters where state <> 'done'") == [(0,)]


def test_a_seller_that_is_gone_is_erased_once_nothing_stands_against_it(
    parts: Parts, client: httpx.Client, marketplace: Marketplace
) -> None:
    def sweep() -> None:
        parts.query("update fed_sellers set tried_wall = null")
        Housekeeping(parts.engine, parts.settings, lambda: None).erase_gone()

    def erased(seller: str) -> bool:
        return bool(parts.query("select 1 from accounts where id = %s and erased_at is not null", seller))

    with working(parts):
        for seller in ("s-gone", "s-back", "s-busy"):
            marketplace.tell(seller, 1, ANNA)
            taken(parts, seller, 1)
        now = dt.datetime.now(dt.UTC)
        parts.query(
            """insert into items (id, claim, listing, on_site, link, state, seller, changed_at)
            values ('i-busy', 'c-busy', 'l-busy', true, 'x', 'NOTIFIED', 's-busy', %s)""",
            now,
        )
        for seller in ("s-gone", "s-back", "s-busy", "s-never"):
            marketplace.tell(seller, 2, gone=True)
            taken(parts, seller, 2)
        # an earlier record that comes late does not bring it back, and a later one does
        marketplace.tell("s-never", 1, ANNA)
        marketplace.tell("s-back", 3, ANNA)
        taken(parts, "s-back", 3)
        sweep()
        assert [seller for seller in ("s-gone", "s-back", "s-busy") if erased(seller)] == ["s-gone"]
        assert contact_of(parts, client, "s-gone") is None
        assert contact_of(parts, client, "s-back") is not None
        # it is still to be reached about what is open
        assert contact_of(parts, client, "s-busy") is not None
        parts.query("update items set state = 'WITHDRAWN' where id = 'i-busy'")
        assert feed_store.erase_gone(parts.engine, PARTITIONS) == 0  # not before an hour has passed
        sweep()
        assert erased("s-busy")
        # erased is erased
        marketplace.tell("s-gone", 9, ANNA)
        taken(parts, "s-gone", 9)
        assert contact_of(parts, client, "s-gone") is None
        assert not parts.query("select 1 from accounts where id = 's-never'")
        told = parts.query("select 1 from admission_queue where type = 'goodfaith.account.erased.v1'") or wait(
            lambda: parts.query("select 1 from event_log where type = 'goodfaith.account.erased.v1'")
        )
        assert told
    with parts.engine.begin() as connection:
        assert erasure_store.erase(connection, "s-gone", by="operator", partitions=PARTITIONS).already


def test_an_export_says_what_came_from_the_marketplace(
    parts: Parts, stack: Stack, marketplace: Marketplace, tmp_path: Any
) -> None:
    with working(parts):
        marketplace.tell("s-asks", 7, {**ANNA, "vouched": True})
        taken(parts, "s-asks", 7)
    migrate.migrate(parts.admin_url, stack.role_passwords())
    engine = db.administer(parts.admin_url, pooled=False)
    out = tmp_path / "export.json"
    with engine.connect() as connection:
        export.collect(connection, contacts_of(parts.settings), "s-asks", out)
    engine.dispose()
    held = msgspec.json.decode(out.read_bytes())["held"]
    assert held["contact"][0]["contact"]["email"] == ANNA["email"]
    assert held["contact"][0]["fed"]
    assert held["marketplace_feed"][0]["revision"] == 7
