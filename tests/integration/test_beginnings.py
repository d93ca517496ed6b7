"""A window begins once, whichever process learns first that it does: in any order, twice, or at the same time."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.notification import store, windows
from services.notification.types import Item, Message, Sent
from shared import clock, db, events, migrate, policy, topics
from shared.events import DeliveryChanged, MessageRead, NoticeSent, NoticeUnreached, State
from tests.integration.test_notification import PARTITIONS, World, wait
from tests.integration.test_notification import world as world
from tests.unit.notification.making import NOW, facts
from tests.unit.notification.test_beginnings import notice

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
HOLDER_OF_LEASE = "the test"
HOUR = dt.timedelta(hours=1)
ITEMS = 3


class Desk:
    """Messages that a sender has in hand, on the real tables."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.name = uuid.uuid4().hex[:8]
        self.made: dict[str, Message] = {}

    def message(self, rules: str) -> str:
        """One to a seller about three items under a policy."""
        number = len(self.made)
        id_, claim, party = f"m-{self.name}-{number}", f"c-{self.name}-{number}", f"s-{self.name}"
        message = Message(id_, claim, party, "seller_notice", False, 0, NOW, ITEMS)
        message.items = [
            Item(f"i-{self.name}-{number}-{n}", 1, n % PARTITIONS, facts(f"l-{number}-{n}", policy=rules))
            for n in range(ITEMS)
        ]
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                "insert into message_items (item, revision, kind, party, claim, claim_size, partition, listing, opened_wall, message, facts)"
                " values (%s, 1, 'seller_notice', %s, %s, 3, %s, %s, now(), %s, %s)",
                [
                    (
                        one.item,
                        party,
                        claim,
                        one.partition,
                        one.facts.listing,
                        id_,
                        msgspec.json.encode(one.facts).decode(),
                    )
                    for one in message.items
                ],
            )
            connection.exec_driver_sql(
                "insert into messages (id, claim, party, kind, items, revisions, state, opened_wall, holder, due_wall)"
                " values (%s, %s, %s, 'seller_notice', %s, %s, 'sending', now(), %s, 'infinity')",
                (id_, claim, party, [one.item for one in message.items], [1] * ITEMS, HOLDER_OF_LEASE),
            )
        self.made[id_] = message
        return id_

    def sent(self, ids: list[str], now: dt.datetime) -> None:
        with self.engine.begin() as connection:
            sent = [Sent(self.made[id_], "email", "sent", "t", 1, "d") for id_ in ids]
            store.finish(connection, HOLDER_OF_LEASE, sent, now, now)

    def noted(self, moment: str, ids: list[str], at: dt.datetime, now: dt.datetime) -> list[str]:
        with self.engine.begin() as connection:
            return windows.begin_windows(connection, ids, moment, at, now=now)  # type: ignore[arg-type]

    def deemed(self, now: dt.datetime) -> int:
        with self.engine.begin() as connection:
            return windows.deem(connection, now, limit=1000)

    def announced(self) -> dict[str, list[NoticeSent]]:
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "select message, payload from announcements where type = 'goodfaith.notice.sent.v1' and message like %s",
                (f"m-{self.name}-%",),
            )
            found: dict[str, list[NoticeSent]] = {}
            for message, payload in rows:
                found.setdefault(message, []).append(msgspec.json.decode(payload, type=NoticeSent))
        return found


@pytest.fixture
def desk(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
    real = policy.load
    texts = {"sent": None, "delivered": policy.Span("10 h"), "read": policy.Span("10 h")}

    def load(version: str) -> policy.Policy:
        if version not in texts:
            return real(version)
        rules = policy.Notice(begins=version, deemed=texts[version])  # type: ignore[arg-type]
        return msgspec.structs.replace(real("ipp-2026-11"), notice=rules)

    monkeypatch.setattr(policy, "load", load)
    engine = db.connect(stack.role_url("notification"), schema="notification", name="test")
    yield Desk(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from announcements")
    engine.dispose()


def test_in_any_order_a_window_begins_once(desk: Desk) -> None:
    """All orders of sending, delivery, reading and the deemed receipt, each told twice: one beginning, by the first that counts."""
    steps = ("sent", "delivered", "read", "deemed")
    orders = list(itertools.permutations(steps))
    plan = {desk.message(by): (by, order) for by in ("sent", "delivered", "read") for order in orders}
    counts = {"sent": {"sent"}, "delivered": {"delivered", "read", "deemed"}, "read": {"read", "deemed"}}
    expected: dict[str, str] = {}
    known: dict[str, set[str]] = {id_: set() for id_ in plan}
    for place in range(len(steps)):
        now = NOW + place * HOUR
        for step in steps:
            ids = [id_ for id_, (_, order) in plan.items() if order[place] == step]
            if step == "sent":
                desk.sent(ids, now)
            elif step != "deemed":
                desk.noted(step, ids, now, now)
                assert desk.noted(step, ids, now + HOUR, now) == [], "told again"
            for id_ in ids:
                known[id_].add(step)
        # the deemed receipt is 10 hours after the sending: as if they had passed for those whose turn it is
        late = [id_ for id_, (_, order) in plan.items() if order[place] == "deemed"]
        with desk.engine.begin() as connection:
            connection.exec_driver_sql(
                "update messages set deemed_at = %s where id = any(%s) and begins <> 'sent' and begun_at is null",
                (now, late),
            )
        desk.deemed(now)
        for id_, (by, order) in plan.items():
            if "sent" in known[id_] and id_ not in expected:
                # what was to be deemed before it was sent is so 10 hours after the sending
                told = [
                    s for s in order if s in known[id_] & counts[by] and (s != "deemed" or order[place] == "deemed")
                ]
                if told:
                    expected[id_] = min(told, key=order.index)
    desk.deemed(NOW + 100 * HOUR)
    announced = desk.announced()
    assert set(announced) == set(plan)
    for id_, notices in announced.items():
        by, order = plan[id_]
        assert sorted(one.item for one in notices) == sorted(one.item for one in desk.made[id_].items), (by, order)
        assert {one.begun_by for one in notices} == {expected.get(id_, "deemed")}, (by, order)
        assert all(one.begins >= one.sent_at for one in notices)


def test_at_once_a_window_begins_once(desk: Desk) -> None:
    ids = [desk.message(by) for by in ("delivered", "read") for _ in range(15)]
    desk.sent(ids, NOW)
    late = NOW + 20 * HOUR
    works: list[Callable[[], object]] = []
    for number in range(4):
        shuffled = random.Random(number).sample(ids, len(ids))
        works += [
            lambda some=shuffled: desk.noted("read", some, late, late),  # type: ignore[misc]
            lambda some=shuffled: desk.noted("delivered", some, late, late),  # type: ignore[misc]
        ]
    works += [lambda: desk.deemed(late)] * 2
    gate = threading.Barrier(len(works))
    failed: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        gate.wait()
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failed
    announced = desk.announced()
    assert set(announced) == set(ids)
    assert {len({one.item for one in notices}) for notices in announced.values()} == {ITEMS}
    assert {len(notices) for notices in announced.values()} == {ITEMS}


def test_sent_again_by_another_way_the_window_does_not_begin_again(desk: Desk) -> None:
    """A message that comes back and goes by another channel: what has begun has begun; what has not is deemed from then."""
    begun, waiting = desk.message("sent"), desk.message("read")
    desk.sent([begun, waiting], NOW)

    def again(now: dt.datetime) -> None:
        with desk.engine.begin() as connection:
            connection.exec_driver_sql(
                "update messages set state = 'sending', holder = %s where id = any(%s)",
                (HOLDER_OF_LEASE, [begun, waiting]),
            )
        for message in desk.made.values():
            message.first = False
        assert desk.deemed(NOW + 20 * HOUR) == 0, "what is under way again was not received"
        desk.sent([begun, waiting], now)

    again(NOW)
    again(NOW + 2 * HOUR)
    assert desk.deemed(NOW + 11 * HOUR) == 0
    assert desk.deemed(NOW + 12 * HOUR) == 1
    announced = desk.announced()
    assert {one.begins for one in announced[begun]} == {NOW}
    assert {(one.begins, one.begun_by) for one in announced[waiting]} == {(NOW + 12 * HOUR, "deemed")}
    assert Counter(map(len, announced.values())) == {ITEMS: 2}


def read(world: World, message: str, account: str, at: dt.datetime) -> None:
    """The party confirms that it has read a message."""
    data = MessageRead(message=message, account=account, read_at=at)
    raw = events.encode(
        data,
        id=uuid.uuid4().hex,
        source="/goodfaith/intake",
        type="goodfaith.message.read.v1",
        subject=account,
        time=at,
        key=account,
    )
    place = topics.partition_of(account, PARTITIONS)
    world.producer.send(f"{world.prefix}intake.accounts", value=raw, key=account.encode(), partition=place).get(10)


def test_read_in_the_inbox_by_the_party_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(monkeypatch, begins="read", deemed=policy.Span("300 d"))

    with world.running():
        world.claim(2)
        wait(world.idle)
        assert not any(isinstance(data, NoticeSent) for _, _, data in world.published())
        ((message, sent_at),) = world.messages("id, sent_at", "kind = 'seller_notice'")
        at = sent_at + HOUR
        read(world, message, "somebody-else", at)
        read(world, "m-none", "seller-0", at)
        read(world, message, "seller-0", at)
        read(world, message, "seller-0", at + HOUR)
        wait(lambda: world.messages("1", "begun_by = 'read'") and world.idle())

    notices = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
    assert {(one.item, one.begins, one.begun_by) for one in notices} == {("c.1", at, "read"), ("c.2", at, "read")}
    assert len(notices) == 2
    assert world.messages("state, delivered_at", "kind = 'seller_notice'") == [("delivered", at)]
    (came,) = [data for _, _, data in world.published() if isinstance(data, DeliveryChanged)]
    assert (came.message, came.channel, came.state, came.reason, came.at) == (message, "inbox", "delivered", "read", at)


def test_an_inbox_that_nobody_owns_begins_no_window_until_it_is_read(world: World) -> None:
    """A seller without an address that works and without anybody who ever used its account, by what the policy says."""
    sides = {
        "e": ("ipp", "erased-lost-1"),
        "f": ("dmca", "erased-lost-2"),
        "g": ("bpp", "erased-owned"),
        "h": ("dsa", "fed-lost-1"),
    }
    world.post.answers = {"fed-lost-1@x.example": ["550 no such user"] * 2}
    with world.running():
        for claim, (profile, seller) in sides.items():
            version = policy.current(profile).version
            for n in (1, 2):
                item = {"item": f"{claim}.{n}", "claim": claim, "claim_size": 2, "listing": f"{claim}-{n}"}
                world.say(State.NOTIFIED, **item, seller=seller, policy=version, revision=1)
        wait(world.idle)
        kept = world.messages("party, channel, result, begins, begun_at is not null", "kind = 'seller_notice'")
        assert kept == [
            ("erased-lost-1", "inbox", "unreachable", "read", False),
            ("erased-lost-2", "inbox", "unreachable", "sent", True),
            ("erased-owned", "inbox", "no_contact", "sent", True),
            ("fed-lost-1", "inbox", "unreachable", "read", False),
        ]
        lost = [data for _, _, data in world.published() if isinstance(data, NoticeUnreached)]
        assert {(one.item, one.revision, one.listing) for one in lost} == {
            (f"{claim}.{n}", 1, f"{claim}-{n}") for claim in "eh" for n in (1, 2)
        }
        told = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
        assert {one.item for one in told} == {"f.1", "f.2", "g.1", "g.2"}
        ((message, sent_at),) = world.messages("id, sent_at", "party = 'erased-lost-1' and kind = 'seller_notice'")
        read(world, message, "erased-lost-1", sent_at + HOUR)
        wait(lambda: world.messages("1", "begun_by = 'read'") and world.idle())
    told = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
    assert {(one.item, one.begins) for one in told if one.begun_by == "read"} == {
        ("e.1", sent_at + HOUR),
        ("e.2", sent_at + HOUR),
    }
    assert len(told) == 6


def test_a_sender_deems_in_business_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the clock stands nothing is deemed, however long that is."""
    notice(monkeypatch, begins="delivered", deemed=policy.Span("1 h"))
    engine = db.administer(world.stack.admin_url)
    try:
        with engine.begin() as connection:
            clock.set_anchor(connection, business=None, rate=0)
        with world.running():
            world.say(State.NOTIFIED, item="c.1", claim="c", revision=1)
            wait(world.idle)
            ((deemed_at,),) = world.messages("deemed_at", "kind = 'seller_notice'")
            assert world.messages("begun_at", "kind = 'seller_notice'") == [(None,)]
            with engine.begin() as connection:
                clock.set_anchor(connection, business=deemed_at - dt.timedelta(microseconds=1), rate=0)
            assert world.messages("begun_at", "kind = 'seller_notice'") == [(None,)]
            with engine.begin() as connection:
                clock.set_anchor(connection, business=deemed_at + HOUR, rate=0)
            wait(lambda: world.messages("1", "begun_by = 'deemed'") and world.idle())
    finally:
        with engine.begin() as connection:
            clock.set_anchor(connection, business=None, rate=1)
        engine.dispose()
    (told,) = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
    assert (told.begins, told.begun_by) == (deemed_at, "deemed")
