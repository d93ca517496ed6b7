"""The marketplace's message centre, with the marketplace stand-in, on the real broker and database."""

from __future__ import annotations

import base64
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploy.local.stack import Stack
from deploy.marketplace.worker import Marketplace
from services.notification import centre
from services.notification.metrics import CENTRE
from shared import events, migrate, sealing, topics
from shared.events import CentreReceipt, DeliveryChanged, MessageSent, NoticeSent, NoticeUnreached, State
from shared.runtime import Worker
from tests.integration.test_notification import PARTITIONS, World, wait
from tests.integration.test_notification import world as world
from tests.patience import PATIENCE_S
from tests.unit.notification.making import HOLDER, NOW

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
KEY = sealing.private_key("key", base64.b64encode(bytes(range(32))).decode())
PUBLIC = sealing.public_text(KEY)
TOPIC = topics.CENTRE_RECEIPTS.name


@pytest.fixture
def site(world: World, stack: Stack) -> World:
    """With a marketplace that knows a few sellers."""
    migrate.migrate(stack.admin_url, stack.role_passwords("marketplace"))
    tables = world.sql(
        "select tablename from pg_tables where schemaname = 'marketplace' and tablename not like 'alem%'"
    )
    world.sql("truncate " + ", ".join(f"marketplace.{name}" for (name,) in tables))
    for seller in ("erased-lost-1", "erased-lost-2", "s-mail"):
        world.sql("insert into marketplace.sellers (seller, partition, measures, seq) values (%s, 0, '', 0)", seller)
    return world


@contextmanager
def marketplace(world: World) -> Iterator[None]:
    settings = world.settings(database=world.stack.role_url("marketplace"), instance="m")
    worker = Worker(Marketplace(KEY), settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def notice(world: World, seller: str, claim: str = "c", **more: Any) -> None:
    """A notice to a seller."""
    world.say(State.NOTIFIED, item=f"{claim}.1", claim=claim, listing=f"l-{claim}", seller=seller, **more)


def state(world: World, seller: str) -> tuple[Any, ...] | None:
    rows = world.sql(
        "select state, channel, result, tried, begun_by, begun_at from notification.messages where party = %s", seller
    )
    return rows[0] if rows else None


def waits(world: World, seller: str) -> bool:
    found = state(world, seller)
    return found is not None and found[0] == "sending" and found[2] == "centre"


def answer(world: World, party: str, result: Any, *, key: str | None = None, **more: Any) -> str:
    """Publish a receipt about the seller's message; returns its event's id."""
    ((message,),) = world.sql("select id from notification.messages where party = %s and kind = 'seller_notice'", party)
    id_ = uuid.uuid4().hex
    raw = events.encode(
        CentreReceipt(**{"message": message, "seller": party, "result": result, **more}),
        id=id_,
        source="/marketplace",
        type="goodfaith.marketplace.message_receipt.v1",
        subject=message,
        time=NOW,
        key=party,
    )
    under = key or party
    place = topics.partition_of(under, PARTITIONS)
    world.producer.send(world.prefix + TOPIC, value=raw, key=under.encode(), partition=place).get(10)
    return id_


def said(world: World, kind: type) -> list[Any]:
    return [data for _, _, data in world.published() if isinstance(data, kind)]


def test_a_window_begins_with_the_receipt(site: World) -> None:
    """A seller that nobody else could reach reads it in the message centre."""
    with site.running(centre_key=PUBLIC):
        notice(site, "erased-lost-1")
        wait(lambda: waits(site, "erased-lost-1"))
        wait(lambda: site.sql("select 1 from notification.event_log where type like '%%marketplace.message.v1'"))
        time.sleep(0.5)
        assert not said(site, NoticeSent)
        assert not said(site, MessageSent)
        with marketplace(site):
            wait(lambda: (state(site, "erased-lost-1") or ("",))[0] == "delivered" and site.idle())
        found = state(site, "erased-lost-1")
        assert found is not None
        assert found[1:5] == ("centre", "sent", [], "sent")
        ((handed, answered, result),) = site.sql("select handed_at, answered_at, result from notification.centre")
        assert (result, found[5]) == ("delivered", answered)
        assert handed < answered
        # duplicates and contradictions change nothing; a reading does not begin it again
        for one in ("delivered", "refused", "read", "read", "delivered"):
            answer(site, "erased-lost-1", one)
        wait(lambda: site.sql("select 1 from notification.centre where read_at is not null"))
        time.sleep(0.5)
        assert state(site, "erased-lost-1") == found
        wait(site.idle)
    ((kept, body),) = site.sql("select subject, body from marketplace.centre")
    assert kept
    assert f"Name of {HOLDER}" in body
    assert len(said(site, NoticeSent)) == len([one for one in said(site, MessageSent) if one.channel == "centre"]) == 1
    assert not said(site, NoticeUnreached)
    assert [(one.channel, one.state) for one in said(site, DeliveryChanged) if one.party == "erased-lost-1"] == [
        ("centre", "delivered")
    ]
    # nothing personal is in clear in the log
    assert not site.sql("select 1 from notification.event_log where payload like %s", f"%Name of {HOLDER}%")
    assert not [one for one in site.post.mails if "erased-lost-1" in one["To"]]


def test_refused_or_unanswered_it_goes_by_the_next_channel(site: World) -> None:
    site.sql("insert into marketplace.centre_habits values ('s-mail', 'refuses'), ('erased-lost-2', 'silent')")
    with site.running(centre_key=PUBLIC), marketplace(site):
        for claim, seller in (("a", "s-mail"), ("b", "erased-lost-2"), ("c", "erased-lost-unknown")):
            # a policy under which no window begins on an inbox that nobody owns
            notice(site, seller, claim, policy="ipp-2026-12")
        wait(lambda: site.post.to("s-mail@x.example"))
        wait(lambda: (state(site, "erased-lost-unknown") or ("",))[0] == "sent")
        wait(lambda: waits(site, "erased-lost-2"))
        site.leases_end()
        wait(site.idle)
        late = state(site, "erased-lost-2")
        assert late is not None
        assert late[:5] == ("sent", "inbox", "unreachable", ["centre"], None)
        # out of time, a delivery changes nothing; a reading is a reading
        answer(site, "erased-lost-2", "delivered")
        time.sleep(1)
        assert state(site, "erased-lost-2") == late
        answer(site, "erased-lost-2", "read")
        wait(lambda: (state(site, "erased-lost-2") or [None] * 5)[4] == "read")
        wait(site.idle)
    assert (state(site, "s-mail") or ())[:4] == ("sent", "email", "sent", ["centre"])
    assert (state(site, "erased-lost-unknown") or ())[:4] == ("sent", "inbox", "unreachable", ["centre"])
    told = {(one.party, one.channel, one.state, one.reason) for one in said(site, DeliveryChanged)}
    assert {
        ("s-mail", "centre", "refused", "unavailable"),
        ("erased-lost-2", "centre", "gave_up", "no_receipt"),
        ("erased-lost-unknown", "centre", "refused", "unknown_seller"),
    } <= told


def test_too_long_for_a_record_it_goes_by_the_next_channel(site: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centre, "LONGEST", 100)
    counted = {result: CENTRE.labels(result)._value.get() for result in ("refused", "gave_up", "handed")}
    with site.running(centre_key=PUBLIC):
        notice(site, "s-mail")
        wait(lambda: site.post.to("s-mail@x.example"))
        wait(site.idle)
    assert (state(site, "s-mail") or ())[:4] == ("sent", "email", "sent", ["centre"])
    told = {(one.party, one.channel, one.state, one.reason) for one in said(site, DeliveryChanged)}
    assert ("s-mail", "centre", "refused", "too_long") in told
    now = {result: CENTRE.labels(result)._value.get() for result in counted}
    assert now == {**counted, "refused": counted["refused"] + 1}


def test_receipts_that_are_not_about_it_are_refused(site: World) -> None:
    with site.running(centre_key=PUBLIC):
        notice(site, "erased-lost-1")
        wait(lambda: waits(site, "erased-lost-1"))
        bad = [
            (answer(site, "erased-lost-1", "delivered", message="m-none"), "message: none of this id"),
            (answer(site, "erased-lost-1", "delivered", key="s-other"), "seller: not the record's key"),
            (answer(site, "erased-lost-1", "delivered", seller="s-other", key="s-other"), "another seller's"),
        ]
        for id_, says in bad:
            error = wait(
                lambda id_=id_: site.sql(
                    "select error from notification.dead_letters where event_id = %s and state = 'done'", id_
                )
            )
            assert says in error[0][0]
        assert waits(site, "erased-lost-1")
        answer(site, "erased-lost-1", "read")
        wait(site.idle)
    assert (state(site, "erased-lost-1") or ())[:2] == ("delivered", "centre")
    assert len(said(site, NoticeSent)) == 1


@pytest.mark.parametrize("crash", ["sender:before_commit", "sender:after_commit", "worker:"])
def test_killed_it_is_handed_over_once(site: World, crash: str) -> None:
    role, _, step = crash.partition(":")
    with marketplace(site):
        if role == "sender":
            with site.process("worker", centre_key=PUBLIC):
                notice(site, "erased-lost-1")
                wait(lambda: site.sql("select 1 from notification.message_items"))
                name = f"notification-sender:{step}:1"
                with site.process("sender", crash=name, centre_key=PUBLIC) as first:
                    assert first.wait(PATIENCE_S) == -signal.SIGKILL
                site.sql("update notification.messages set due_wall = now() where holder is distinct from 'centre'")
                with site.process("sender", centre_key=PUBLIC):
                    wait(site.idle)
                    wait(lambda: said(site, NoticeSent))
        else:
            with site.process("sender", centre_key=PUBLIC):
                # killed as soon as the command is in the log, whether it was published or not
                with site.process("worker", centre_key=PUBLIC):
                    notice(site, "erased-lost-1")
                    wait(lambda: site.sql("select 1 from notification.event_log where type like '%%.message.v1'"))
                with site.process("worker", centre_key=PUBLIC):
                    wait(site.idle)
                    wait(lambda: said(site, NoticeSent))
    assert site.sql("select count(*) from notification.event_log where type like '%%marketplace.message.v1'") == [(1,)]
    assert site.sql("select count(*) from marketplace.centre") == [(1,)]
    assert (state(site, "erased-lost-1") or ())[:2] == ("delivered", "centre")
    assert len(said(site, NoticeSent)) == 1
