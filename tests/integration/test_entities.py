"""Entities on the real database: the ledger's own batches and the process that counts, in every order."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from deploy.local.stack import Stack
from deploy.marketplace import api
from deploy.marketplace.worker import Marketplace
from labs import recount_ledger
from services.enforcement import entities_store, entities_worker
from services.enforcement.entities_worker import Counting
from services.enforcement.ledger import EnforcementLedger
from services.ops import recompute
from shared import callers, db, events, marketplace, migrate, topics
from shared.events import (
    Data,
    LiftSanction,
    MarketplaceSeller,
    SanctionChanged,
    SellerKey,
    StandingChanged,
    ViolationChanged,
)
from shared.runtime import Incoming, Outgoing, Tx
from shared.settings import Settings

pytestmark = pytest.mark.stack
PARTITIONS = 4
INNER = "inner" * 8
BEGIN = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TYPES: dict[type[Data], tuple[str, str]] = {
    MarketplaceSeller: ("marketplace.sellers", "goodfaith.marketplace.seller.v1"),
    ViolationChanged: ("enforcement.violations", "goodfaith.violation.changed.v1"),
    LiftSanction: (topics.ACCOUNTS.name, "goodfaith.sanction.lift.v1"),
}


def key(name: str, kind: Any = "registration") -> SellerKey:
    return marketplace.seller_key("ours", kind, name)


class Desk:
    """The ledger's worker, batch by batch, and the process that counts, round by round, at a time of our own."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(database=stack.role_url("enforcement"), partitions=PARTITIONS)
        self.engine = db.connect(stack.role_url("enforcement"), schema="enforcement", name="test", pool_size=3)
        self.admin = db.administer(stack.admin_url, pooled=False)
        self.ledger = EnforcementLedger(self.settings)
        self.rules = self.ledger.policy.penalties
        self.now = BEGIN
        self.ids = itertools.count(1)
        self.said: list[ViolationChanged] = []
        self.keys: dict[str, set[SellerKey]] = {}
        self.told: list[Data] = []
        monkeypatch.setattr(entities_worker.clock, "read", lambda _connection: (self.now, self.now))
        self.counting = Counting(self.settings, batch=7)

    def close(self) -> None:
        self.counting.close()
        self.engine.dispose()
        self.admin.dispose()

    def empty(self) -> None:
        """Empty enforcement's tables."""
        tables = self.sql("select tablename from pg_tables where schemaname = 'enforcement'")
        names = ", ".join(name for (name,) in tables if name != "alembic_version")
        self.sql("alter table ledger_entries disable trigger user")
        self.sql(f"truncate {names}")
        self.sql("alter table ledger_entries enable trigger user")

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.admin.begin() as connection:
            rows = connection.exec_driver_sql(f"set local search_path = enforcement; {query}", values or None)
            return [tuple(row) for row in rows] if rows.returns_rows else []

    def incoming(self, data: Any) -> Incoming:
        topic, kind = TYPES[type(data)]
        id_ = f"test.{next(self.ids)}"
        name = data.account if isinstance(data, LiftSanction) else data.seller
        raw = events.encode(data, id=id_, source="/test", type=kind, subject=name, time=self.now, key=name)
        place = topics.partition_of(name, PARTITIONS)
        return Incoming(topic, place, 0, name, id_, kind, data, events.decode_envelope(raw))

    @contextmanager
    def open(self, *told: Data, partitions: range = range(PARTITIONS)) -> Iterator[sa.Connection]:
        """A batch of the ledger's worker, not committed before the block ends."""
        with self.engine.begin() as connection:
            tx = Tx(connection, self.now, self.now, list(partitions), {}, frozenset())
            records = [*map(self.incoming, told), *self.ledger.pull(tx, 1000)]
            batch = self.ledger.open(tx, records)
            out: list[Outgoing] = [one for record in records for one in batch.apply(record)]
            for due in batch.due(1000):
                out += batch.fire(due)
            batch.save()
            yield connection
        self.told += [one.data for one in out]

    def turn(self, *told: Data) -> None:
        with self.open(*told):
            pass

    def settle(self) -> None:
        """Let both work until neither has anything to do."""
        while self.counting.once() or self.sql("select 1 from relinked limit 1"):
            self.turn()
        self.turn()
        assert self.sql("select count(*) from entity_work") == [(0,)]

    def violated(self, seller: str, claim: str, severity: Any = "general", **more: Any) -> ViolationChanged:
        """An event of enforcement's."""
        revision = 1 + sum((word.seller, word.claim) == (seller, claim) for word in self.said)
        word = ViolationChanged(
            **{
                "seller": seller,
                "claim": claim,
                "item": f"i-{seller}-{claim}",
                "listing": "l",
                "severity": severity,
                "in_force": True,
                "revision": revision,
                "at": self.now,
                **more,
            }
        )
        self.said.append(word)
        return word

    def linked(self, seller: str, *keys: SellerKey) -> MarketplaceSeller:
        """What the marketplace says."""
        self.keys[seller] = set(keys)
        return MarketplaceSeller(seller=seller, keys=keys)

    def stands(self, seller: str) -> tuple[Any, ...]:
        """(entity's points, strikes, violations), or its own where it stands alone."""
        rows = self.sql(
            "select case when entity is null then array[general_points, serious_strikes, violations]"
            " else array[entity_points, entity_strikes, entity_violations] end, entity is not null"
            " from standings where seller = %s",
            seller,
        )
        return (*rows[0][0], rows[0][1]) if rows else (0, 0, 0, False)

    def measures(self, seller: str) -> str:
        rows = self.sql("select measures from standings where seller = %s", seller)
        return str(rows[0][0]) if rows else ""

    def right(self) -> None:
        """Everything is as a recount of all that was said has it."""
        sellers = {word.seller for word in self.said} | set(self.keys)
        keys = {seller: self.keys.get(seller, set()) for seller in sellers}
        together = recount_ledger.together(keys, self.rules.entity)
        stored: dict[str, set[str]] = {}
        for entity, seller in self.sql("select entity, seller from entity_members"):
            stored.setdefault(entity, set()).add(seller)
        assert {frozenset(members) for members in stored.values()} == {m for m in together if len(m) > 1}
        for members in together:
            counted = recount_ledger.entity(self.said, members, self.rules, self.now)
            for seller in members:
                assert self.stands(seller) == (*counted, len(members) > 1), (seller, members)


@pytest.fixture
def desk(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    migrate.migrate(stack.admin_url, stack.role_passwords("enforcement"))
    desk = Desk(stack, monkeypatch)
    desk.empty()
    yield desk
    desk.empty()  # its times are no other test's
    desk.close()


def test_who_changes_accounts_sheds_nothing(desk: Desk) -> None:
    desk.turn(desk.violated("a", "c-1"))
    desk.settle()
    desk.now += DAY
    desk.turn(desk.violated("b", "c-2"))
    assert desk.stands("b") == (0, 0, 1, False)
    desk.turn(desk.linked("a", key("HRB 1")), desk.linked("b", key("HRB 1")))
    desk.settle()
    assert desk.stands("a") == desk.stands("b") == (6, 0, 2, True)
    assert desk.sql("select distinct repeat_offender from standings") == [(True,)]
    told = [one for one in desk.told if isinstance(one, StandingChanged)][-1]
    assert (told.entity is not None, told.entity_points, told.entity_violations, told.general_points) == (True, 6, 2, 0)
    # both have a violation of their own, so that the business's restriction is theirs
    assert desk.measures("a") == desk.measures("b") == "listing_restricted"
    # an account that only now appears has nothing of its own, and is not restricted
    desk.turn(desk.linked("c", key("HRB 1")))
    desk.settle()
    assert (desk.stands("c"), desk.measures("c")) == ((6, 0, 2, True), "")
    # cut off, it stands by itself again, and so do the others
    desk.turn(desk.linked("b"))
    desk.settle()
    assert desk.stands("b") == (0, 0, 1, False)
    assert desk.measures("b") == ""
    assert [one.cause for one in desk.told if isinstance(one, SanctionChanged) and one.seller == "b"][-1] == "unlinked"
    desk.right()


def test_the_marketplace_tells_of_keys_and_knows_whom_it_told_of(desk: Desk, stack: Stack) -> None:
    migrate.migrate(stack.admin_url, stack.role_passwords("marketplace"))
    settings = Settings(
        database=stack.role_url("marketplace"),
        partitions=PARTITIONS,
        internal_callers=callers.written({"operator": INNER}),
    )
    name = f"s-{uuid.uuid4().hex}"
    digest = key("HRB 9").digest
    with TestClient(api.app(settings)) as client:

        def post(body: Any, bearer: str = INNER) -> int:
            return client.post("/sellers", json=body, headers={"Authorization": f"Bearer {bearer}"}).status_code

        assert post([], "guess") == 401
        for bad in ("HRB 9", digest.upper(), digest[1:], digest + "\n"):
            assert post([{"seller": name, "keys": [{"kind": "registration", "digest": bad}]}]) == 422
        assert post([{"seller": name, "keys": [{"kind": "passport", "digest": digest}]}]) == 422
        assert post([{"seller": name, "keys": [{"kind": "device", "digest": digest}] * 51}]) == 422
        assert post([{"seller": name, "keys": [{"kind": "device", "digest": digest}]}]) == 202
        assert post([{"seller": name}]) == 202
        assert client.get(f"/sellers/{name}").status_code == 404
        engine = db.connect(stack.role_url("marketplace"), schema="marketplace", name="test")
        shop = Marketplace()
        with engine.begin() as connection:
            tx = Tx(connection, desk.now, desk.now, list(range(PARTITIONS)), {}, frozenset())
            records = shop.pull(tx, 100)
            batch = shop.open(tx, records)
            told = [one.data for record in records for one in batch.apply(record)]
            batch.save()
        engine.dispose()
        assert [one for one in told if isinstance(one, MarketplaceSeller) and one.seller == name] == [
            MarketplaceSeller(seller=name, keys=(SellerKey("device", digest),)),
            MarketplaceSeller(seller=name),
        ]
        assert client.get(f"/sellers/{name}").status_code == 200


def test_what_reaches_the_business_reaches_every_account_until_it_is_undone(desk: Desk) -> None:
    desk.turn(*(desk.linked(seller, key("HRB 2")) for seller in "abc"))
    desk.settle()
    for number, seller in enumerate("aab"):
        desk.now += 4 * DAY
        desk.turn(desk.violated(seller, f"c-{number}", "serious"))
        desk.settle()
    # three strikes of the business close every account of it
    assert desk.stands("c") == (0, 3, 3, True)
    assert all("closed" in desk.measures(seller) for seller in "abc")
    desk.now += DAY
    desk.turn(desk.violated("b", "c-2", "serious", in_force=False))
    desk.settle()
    assert (desk.stands("c"), desk.measures("c")) == ((0, 2, 2, True), "may_not_list")
    assert "closed" not in desk.measures("a")
    # a year later its strikes expire, by the time alone
    desk.now += 366 * DAY
    desk.settle()
    assert (desk.stands("c"), desk.measures("c")) == ((0, 0, 0, True), "")
    desk.right()


def test_what_was_served_is_not_asked_for_again_when_a_cut_link_is_back(desk: Desk) -> None:
    desk.turn(*(desk.linked(seller, key("HRB 3")) for seller in "ab"))
    desk.turn(desk.violated("a", "c-1"))
    desk.settle()
    desk.now += DAY
    desk.turn(desk.violated("b", "c-2"))
    desk.settle()
    assert desk.measures("b") == "listing_restricted"
    desk.now += 5 * DAY
    desk.settle()
    assert desk.measures("b") == ""
    for keys in ((), (key("HRB 3"),)):
        desk.now += DAY
        desk.turn(desk.linked("b", *keys))
        desk.settle()
        assert desk.measures("b") == ""
    assert desk.sql("select state, cause, stands from sanctions where seller = 'b' and measures <> ''") == [
        ("ended", "timer", True)
    ]


def test_a_warning_that_an_operator_lifted_is_no_warning_of_the_business(desk: Desk) -> None:
    desk.turn(*(desk.linked(seller, key("HRB 4")) for seller in "ab"), desk.violated("a", "c-1"))
    desk.settle()
    assert desk.sql("select cardinality(warned) from entities") == [(1,)]
    ((sanction,),) = desk.sql("select sanction from sanctions where seller = 'a'")
    desk.now += DAY
    desk.turn(LiftSanction(command="k-1", account="a", sanction=sanction, by="op", reason="goodwill", at=desk.now))
    desk.settle()
    held = desk.sql("select cardinality(warned) from entities")
    assert held == desk.sql("select count(*)::int from sanctions where measures = '' and state <> 'lifted'")
    assert held == [(0,)]


def test_a_measure_goes_with_the_violation_of_another_account_that_it_came_with(desk: Desk) -> None:
    rules = msgspec.structs.replace(desk.rules, prior_warning=True)
    desk.ledger.policy = msgspec.structs.replace(desk.ledger.policy, version="warns", penalties=rules)
    desk.turn(*(desk.linked(seller, key("HRB 6")) for seller in "ab"))
    desk.turn(desk.violated("a", "c-1", "serious"))
    desk.settle()
    assert desk.measures("a") == ""
    desk.now += DAY
    desk.turn(desk.violated("b", "c-2", "serious"))  # counts with the other strike: no threshold is reached by it
    desk.settle()
    assert desk.measures("a") == "frozen"
    desk.now += DAY
    desk.turn(desk.violated("b", "c-2", "serious", in_force=False))
    desk.settle()
    assert desk.measures("a") == ""
    assert desk.sql("select withheld, after from sanctions where seller = 'a' order by number desc limit 2") == [
        ("frozen", None),
        ("", BEGIN),
    ]


def test_a_blocked_seller_of_a_business_keeps_nobody_awake(desk: Desk) -> None:
    desk.turn(*(desk.linked(seller, key("HRB 5")) for seller in "ab"))
    assert desk.counting.once()
    with desk.engine.begin() as connection:
        tx = Tx(connection, desk.now, desk.now, list(range(PARTITIONS)), {}, frozenset("a"))
        records = desk.ledger.pull(tx, 10)
    assert {record.key for record in records} == {"a", "b"}
    assert all(record.raw for record in records)  # so that it can become a dead letter
    assert desk.sql("select count(*) from ledger_queue") == [(0,)]


def test_a_link_and_a_violation_that_cross_are_both_counted(desk: Desk) -> None:
    desk.turn(desk.violated("a", "c-1"))
    desk.now += DAY
    desk.turn(desk.linked("a", key("x")), desk.linked("b", key("x")))
    # the worker of b does not know of the link yet, and the count does not see what it has not committed
    with desk.open(desk.violated("b", "c-2")):
        assert desk.counting.once()
    assert desk.sql("select violations from entities") == [(1,)]
    desk.settle()
    assert desk.stands("a") == desk.stands("b") == (6, 0, 2, True)
    # and a key that is cut while the count runs
    with desk.open(desk.linked("b")):
        desk.turn(desk.linked("c", key("x")))
        assert desk.counting.once()
    desk.settle()
    desk.right()


def test_a_count_that_breaks_off_leaves_all_as_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.turn(desk.linked("a", key("x")), desk.linked("b", key("x")), desk.violated("a", "c-1"))

    def dies(*_: object) -> None:
        raise ConnectionError("killed")

    for step in ("save", "join", "leave", "changed", "done"):
        with monkeypatch.context() as patch:
            patch.setattr(entities_store, step, dies)
            with pytest.raises(ConnectionError):
                desk.counting.once()
        assert desk.sql("select count(*) from entities") == [(0,)]
    desk.settle()
    desk.right()


def test_only_one_counts_at_a_time(desk: Desk) -> None:
    desk.turn(desk.linked("a", key("x")), desk.linked("b", key("x")))
    with desk.engine.begin() as connection:
        assert entities_store.lock(connection)
        assert desk.counting.once() == 0
    assert desk.counting.once()


def test_a_key_shared_by_many_links_nobody_until_it_is_rare_again(desk: Desk) -> None:
    most = desk.rules.entity.links["device"]
    tool = key("tool", "device")
    sellers = [f"s-{number}" for number in range(most + 3)]
    for seller in sellers[:most]:
        desk.turn(desk.linked(seller, tool))
    desk.settle()
    desk.right()
    assert desk.sql("select count(*) from entity_members") == [(most,)]
    desk.turn(*(desk.linked(seller, tool) for seller in sellers[most:]))
    desk.settle()
    desk.right()
    assert desk.sql("select (select count(*) from entity_members), (select count(*) from common_keys)") == [(0, 1)]
    desk.turn(*(desk.linked(seller) for seller in sellers[:3]))
    desk.settle()
    desk.right()
    assert desk.sql("select (select count(*) from entity_members), (select count(*) from common_keys)") == [(most, 0)]


def test_other_rules_have_everything_counted_again(desk: Desk) -> None:
    desk.turn(desk.linked("a", key("x")), desk.linked("b", key("x")))
    desk.settle()
    desk.sql("update entity_rules set rules = 'older'")
    desk.sql("delete from entity_members")
    assert desk.counting.once() == 0
    other = Counting(desk.settings)
    assert other.once()
    other.close()
    desk.settle()
    desk.right()


def test_an_account_that_is_not_linked_leaves_no_work(desk: Desk) -> None:
    desk.turn(desk.violated("a", "c-1"), desk.violated("a", "c-2"))
    assert desk.sql("select count(*) from entity_work") == [(0,)]
    desk.turn(desk.linked("a", key("x")))
    desk.settle()
    desk.turn(desk.violated("a", "c-3"), desk.linked("a", key("x")))
    assert desk.sql("select count(*) from entity_work") == [(0,)]


@pytest.mark.parametrize("seed", [1, 2])
def test_in_any_order_all_is_as_a_recount_has_it(desk: Desk, seed: int) -> None:
    dice = random.Random(seed)
    sellers = [f"s-{number}" for number in range(6)]
    keys = [key(name, kind) for name in "xy" for kind in ("registration", "payment", "device")]
    for _ in range(60):
        desk.now += dice.choice((0, 0, 1, 1, 3, 20, 200)) * DAY / 2
        told: list[Data] = []
        for _ in range(dice.choice((1, 1, 3))):
            seller = dice.choice(sellers)
            if dice.random() < 0.4:
                told.append(desk.linked(seller, *dice.sample(keys, dice.choice((0, 1, 1, 2)))))
            else:
                severity = dice.choice(("general", "serious"))
                at = desk.now - dice.choice((0, 0, 0, 2, 364)) * DAY
                told.append(
                    desk.violated(seller, f"c-{dice.randrange(9)}", severity, in_force=dice.random() < 0.7, at=at)
                )
        if dice.random() < 0.4:
            with desk.open(*told):
                desk.counting.once()
        else:
            desk.turn(*told)
        if dice.random() < 0.3:
            desk.counting.once()
        if dice.random() < 0.15:
            desk.settle()
            desk.right()
    desk.settle()
    desk.right()


def test_other_penalties_are_seen_and_applied_by_the_owners(desk: Desk) -> None:
    desk.turn(desk.linked("a", key("x")), desk.linked("b", key("x")))
    for number, seller in enumerate("aabc"):
        desk.now += DAY
        desk.turn(desk.violated(seller, f"c-{number}"))
    desk.turn(desk.violated("d", "c-9", in_force=False))
    desk.settle()

    def build(count: int = 1) -> recompute.Found:
        found = recompute.Found()
        for place in range(count):
            with desk.admin.connect() as connection:
                found.add(recompute.build(connection, desk.ledger.policy, place, count))
        return found

    assert build(3).as_json() == {
        "sellers": 4,
        "violations": 4,
        "entities": 1,
        "ledger_differences": 0,
        "standing_differences": 0,
        "entity_differences": 0,
        "examples": [],
    }
    # a first violation costs something from now on
    general = msgspec.structs.replace(desk.rules.general, first=2)
    desk.rules = msgspec.structs.replace(desk.rules, general=general)
    desk.ledger.policy = msgspec.structs.replace(desk.ledger.policy, version="ipp-2027-01", penalties=desk.rules)
    desk.counting._rules = desk.rules
    found = build()
    assert (found.differing, len(found.differing_entities)) == (["a", "b", "c"], 1)
    with desk.admin.begin() as connection:
        recompute.apply(connection, found.differing, found.differing_entities)
    desk.settle()
    desk.right()
    assert desk.stands("c") == (2, 0, 1, False)
    assert desk.stands("a") == (2 + 6 + 6, 0, 3, True)
    assert build(2).as_json()["examples"] == []
    assert desk.sql("select kind, points from ledger_entries where seller = 'c' order by recorded_wall, entry") == [
        ("violation", 0),
        ("reversal", 0),
        ("violation", 2),
    ]
