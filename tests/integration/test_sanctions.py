"""Sanctions on the real broker and database: the ledger's worker, both adapters and the demo marketplace, on a stepped clock."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import psycopg2
import pytest
from kafka import KafkaProducer
from pydantic import SecretStr

from deploy.local.children import free_port
from deploy.local.stack import Stack
from deploy.marketplace import api
from deploy.marketplace.worker import Marketplace
from services.enforcement import sanctions
from services.enforcement.delivery import Delivery
from services.enforcement.ledger import EnforcementLedger
from shared import callers, clock, db, events, marketplace, migrate, topics, webhook_signatures
from shared.events import Data, LiftSanction, SellerCommand, SellerReceipt, ViolationChanged
from shared.runtime import Service, Worker
from shared.settings import Settings
from tests.integration.intake_parts import _with_database, wait

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
BEGINS = dt.datetime(2025, 3, 3, 2, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
HUSH = "hush" * 8
INNER = "inner" * 8
TYPES = {kind: name for name, kind in events.TYPES.items()}


class World:
    """A database and topics of its own, the clock in hand, the marketplace's HTTP side."""

    def __init__(self, stack: Stack) -> None:
        name = f"sanctions_{uuid.uuid4().hex[:8]}"
        with contextlib.closing(psycopg2.connect(stack.admin_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {name}")
        admin_url = _with_database(stack.admin_url, name)
        migrate.migrate(admin_url, stack.role_passwords("enforcement", "marketplace"))
        self.stack, self.name, self.port = stack, name, free_port(set())
        self.engine = db.administer(admin_url, autocommit=True)
        with self.engine.connect() as connection:
            clock.start_at(connection, business=BEGINS, rate=0)
        topics.create(self.settings("enforcement"))
        self.producer: Any = KafkaProducer(bootstrap_servers=stack.kafka)
        self.cases = 0
        self.server = api.serve(self.settings("marketplace"))
        wait(lambda: self.server.started)
        self.shop = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def begin(self) -> World:
        """A seller and a listing that no test before has met; days are counted from now."""
        self.cases += 1
        self.ann, self.shoe = f"ann-{self.cases}", f"shoe-{self.cases}"
        self.revisions: dict[str, int] = {}
        self.day = 0.0
        with self.engine.connect() as connection:
            self.begins = clock.read(connection)[0]
        return self

    def close(self) -> None:
        self.shop.close()
        self.producer.close()
        self.server.should_exit = True
        wait(lambda: not any(thread.name == "http" for thread in threading.enumerate()))
        self.engine.dispose()

    def settings(self, role: str, **more: Any) -> Settings:
        return Settings(
            kafka=self.stack.kafka,
            database=SecretStr(_with_database(self.stack.role_url(role), self.name)),
            topic_prefix=f"{self.name.replace('_', '-')}.",
            partitions=4,
            http_port=self.port,
            marketplace_url=f"http://127.0.0.1:{self.port}",
            marketplace_secret=SecretStr(HUSH),
            internal_callers=SecretStr(callers.written({"operator": INNER})),
            poll_ms=20,
            **more,
        )

    @contextmanager
    def running(self, *services: tuple[Service, str]) -> Iterator[None]:
        workers = [Worker(service, self.settings(role)) for service, role in services]
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values)]

    def send(self, topic: topics.Topic, data: Data, key: str = "") -> None:
        key = key or self.ann
        raw = events.encode(
            data, id=uuid.uuid4().hex, source="/test", type=TYPES[type(data)], subject=key, time=BEGINS, key=key
        )
        place = topics.partition_of(key, 4)
        name = f"{self.name.replace('_', '-')}.{topic.name}"
        self.producer.send(name, value=raw, key=key.encode(), partition=place).get(10)

    def violation(self, claim: str, *, in_force: bool = True, severity: Any = "general") -> None:
        """A violation now, or its end."""
        revision = self.revisions[claim] = self.revisions.get(claim, 0) + 1
        self.send(
            topics.VIOLATIONS,
            ViolationChanged(
                seller=self.ann,
                claim=claim,
                item=f"i-{claim}",
                listing=self.shoe,
                severity=severity,
                in_force=in_force,
                revision=revision,
                at=self.begins + self.day * DAY,
            ),
        )

    def to(self, day: float) -> None:
        """Set the clock ahead; what wakes the worker up is a receipt of no command, which changes nothing else."""
        self.day = day
        with self.engine.connect() as connection:
            clock.set_anchor(connection, business=self.begins + day * DAY, rate=0)
        self.send(topics.SELLER_RECEIPTS, SellerReceipt(command="foreign", seller=self.ann, seq=1))

    def seed(self, listing: str = "", seller: str = "") -> httpx.Response:
        body = [{"listing": listing or self.shoe, "seller": seller or self.ann}]
        return self.shop.post("/seed", json=body, headers={"Authorization": f"Bearer {INNER}"})

    def under(self) -> list[str]:
        """What the marketplace says in public."""
        found: list[str] = self.shop.get(f"/sellers/{self.ann}").json()["measures"]
        return found

    def page(self) -> httpx.Response:
        return self.shop.get(f"/items/{self.shoe}")

    def standing(self, columns: str) -> list[tuple[Any, ...]]:
        return self.sql(f"select {columns} from enforcement.standings where seller = %s", self.ann)

    def set(self, table: str, column: str) -> None:
        """As if a pause were over."""
        self.sql(f"update enforcement.{table} set {column} = now() where seller = %s returning seller", self.ann)

    def told(self, kind: type[Data]) -> list[Any]:
        rows = self.sql(
            "select payload from enforcement.ledger_event_log where key = %s and type = %s order by partition, seq",
            self.ann,
            TYPES[kind],
        )
        return [events.decode_data(events.decode_envelope(row[0])) for row in rows]

    def changes(self) -> list[tuple[str, str, int]]:
        return [(e.change, e.cause, e.level) for e in self.told(events.SanctionChanged)]

    def at_rest(self) -> bool:
        return self.standing("confirmed = seq") == [(True,)]


@pytest.fixture(scope="module")
def site(stack: Stack) -> Iterator[World]:
    world = World(stack)
    yield world
    world.close()


@pytest.fixture
def world(site: World) -> World:
    return site.begin()


def test_from_a_warning_to_closure_and_half_of_it_undone(world: World) -> None:
    ledger, market = EnforcementLedger(world.settings("enforcement")), Marketplace()
    with world.running((ledger, "enforcement"), (market, "marketplace")):
        assert world.seed().status_code == 202
        wait(lambda: world.page().status_code == 200)
        assert world.under() == []
        assert world.shop.get("/sellers/nobody").status_code == 404

        world.violation("c0")
        wait(lambda: world.changes() == [("imposed", "threshold", 1)])
        assert world.told(SellerCommand) == []  # a warning is no command
        world.to(1)
        world.violation("c1")
        wait(lambda: world.under() == ["listing_restricted"])
        assert 'content="noindex"' in world.page().text
        assert world.shop.get(f"/sellers/{world.ann}").json()["until"] == f"{world.begins + 4 * DAY:%Y-%m-%dT%H:%M:%SZ}"
        world.to(4)
        wait(lambda: world.under() == [])
        assert world.changes()[-1] == ("ended", "timer", 2)

        world.to(10)
        world.violation("c2")
        wait(lambda: world.page().status_code == 404)
        assert world.under() == ["frozen"]
        assert "the account is frozen" in world.page().text
        world.to(17)
        wait(lambda: world.page().status_code == 200)

        world.to(20)
        world.violation("c3")
        world.to(21)
        world.violation("c4")
        wait(lambda: world.under() == ["frozen", "may_not_list"])
        refused = world.seed("boot")
        assert (refused.status_code, refused.json()["detail"]) == (403, "The account may offer nothing new.")
        assert world.seed().json() == {"accepted": 1}  # it is there already
        assert world.seed("hat", seller="ben").status_code == 202

        # c0 is reversed: c1 is the first now, 18 points are left
        world.violation("c0", in_force=False)
        wait(lambda: world.page().status_code == 200)
        assert world.changes()[-1] == ("lifted", "reversal", 4)
        assert world.under() == []

        for day in range(22, 27):
            world.to(day)
            world.violation(f"c{day}")
        wait(lambda: "closed" in world.under())
        assert world.under() == ["closed", "frozen", "may_not_list"]
        assert world.seed("boot").json()["detail"] == "The account is closed."
        world.to(60)
        wait(lambda: world.under() == ["closed"])
        world.violation("c26", in_force=False)
        wait(lambda: world.under() == [])
        wait(world.at_rest)
    commands = world.told(SellerCommand)
    assert [command.seq for command in commands] == list(range(1, len(commands) + 1))
    assert [command.command for command in commands] == [sanctions.command_id(world.ann, c.seq) for c in commands]
    # the marketplace told the worker of no command that there was none of: they are ignored
    assert world.standing("seq, confirmed, measures, resend_at, due_at is not null")[0] == (
        len(commands),
        len(commands),
        "",
        None,
        True,
    )


def test_receipts_lost_foreign_and_twice(world: World) -> None:
    ledger = EnforcementLedger(world.settings("enforcement"))
    with world.running((ledger, "enforcement")):
        world.violation("never", in_force=False)  # the end of what never began
        world.violation("c0", severity="serious")
        first = wait(lambda: world.told(SellerCommand))[0]
        assert (first.seq, first.measures, first.until) == (1, ("frozen",), None)
        for seq in (0, 1, 2):
            command = "other" if not seq else sanctions.command_id(world.ann, seq)
            if seq != 1:  # of no command, and before the command
                world.send(topics.SELLER_RECEIPTS, SellerReceipt(command=command, seller=world.ann, seq=max(seq, 1)))
        world.send(topics.SELLER_RECEIPTS, SellerReceipt(command="x", seller="zoe", seq=1), "zoe")
        world.set("standings", "resend_at")
        wait(lambda: len(world.told(SellerCommand)) == 2)
        assert world.told(SellerCommand) == [first, first]
        assert world.standing("confirmed, tries") == [(0, 1)]
        receipt = SellerReceipt(command=first.command, seller=world.ann, seq=1, result="unknown_seller")
        for _ in range(2):
            world.send(topics.SELLER_RECEIPTS, receipt)
        wait(world.at_rest)
        assert world.standing("result, resend_at") == [("unknown_seller", None)]
        world.send(topics.MARKETPLACE_SELLERS, events.MarketplaceSeller(seller=world.ann))  # it has appeared since
        wait(lambda: world.told(SellerCommand)[-1].seq == 2)
        assert world.told(SellerCommand)[-1].measures == ("frozen",)
        assert world.sql("select count(*) from enforcement.ledger_dead_letters") == [(0,)]


def test_an_operator_lifts(world: World) -> None:
    ledger = EnforcementLedger(world.settings("enforcement"))
    with world.running((ledger, "enforcement")):
        world.violation("c0", severity="serious")
        imposed = wait(lambda: world.told(events.SanctionChanged))[0]

        def lift(sanction: str) -> None:
            asked = LiftSanction(
                command=uuid.uuid4().hex, account=world.ann, sanction=sanction, by="op", reason="goodwill", at=BEGINS
            )
            world.send(topics.ACCOUNTS, asked)

        for sanction in ("none", imposed.sanction, imposed.sanction):
            lift(sanction)
        wait(lambda: len(world.told(SellerCommand)) == 2)
        world.violation("c1", severity="serious")  # within three days: the strike that was lifted counts for both
        wait(lambda: world.standing("violations") == [(2,)])
    assert world.changes() == [("imposed", "threshold", 1), ("lifted", "operator", 1)]
    assert [command.measures for command in world.told(SellerCommand)] == [("frozen",), ()]
    assert world.sql("select state, cause, reason, stands from enforcement.sanctions where seller = %s", world.ann) == [
        ("lifted", "operator", "goodwill", True)
    ]


def test_by_http_until_it_is_answered(world: World) -> None:
    settings = world.settings("enforcement", marketplace="http")
    delivery = Delivery(settings)
    try:
        with world.running((EnforcementLedger(settings), "enforcement")):
            world.violation("c0", severity="serious")
            assert world.seed().status_code == 202
            wait(delivery.once)  # the marketplace's worker is away: taken, not answered
            assert world.sql("select left(error, 8) from enforcement.seller_deliveries") == [("HTTP 202",)]
            with world.running((Marketplace(), "marketplace")):
                wait(lambda: world.sql("select count(*) from marketplace.queue") == [(0,)])
                world.set("seller_deliveries", "next_wall")
                assert wait(delivery.once) == 1
                wait(world.at_rest)
                assert world.page().status_code == 404
                world.violation("c0", in_force=False, severity="serious")
                wait(delivery.once)
                wait(world.at_rest)
                assert world.page().status_code == 200
        assert world.standing("seq, confirmed, result") == [(2, 2, "done")]
        assert world.sql(
            "select (select count(*) from enforcement.seller_deliveries) + count(*) from enforcement.seller_receipts"
        ) == [(0,)]
        assert world.told(SellerCommand) == []  # they are no topic's
    finally:
        delivery.close()


def test_a_command_on_a_seller_is_not_taken_as_one_on_a_listing(world: World) -> None:
    command = SellerCommand(command="k1", seller=world.ann, seq=1, measures=("frozen",))
    now = dt.datetime.now(dt.UTC)
    body, signed = marketplace.signed_request(HUSH, command, now)
    assert world.shop.post("/commands", content=body, headers=signed).status_code == 401
    as_listing = msgspec.json.encode({"type": marketplace.TYPES["/commands"], **msgspec.to_builtins(command)})
    signed = webhook_signatures.signed_headers("k1", as_listing, [HUSH.encode()], now)
    for path, status in (("/commands", 422), ("/seller-commands", 401)):
        answer = world.shop.post(path, content=as_listing, headers=signed)
        assert answer.status_code == status, answer.text


def test_intake_does_a_command_on_a_seller_once(world: World) -> None:
    def post(command: SellerCommand, **headers: str) -> httpx.Response:
        body, signed = marketplace.signed_request(HUSH, command, dt.datetime.now(dt.UTC))
        return world.shop.post("/seller-commands", content=body, headers=signed | headers)

    down = SellerCommand(command="k1", seller=world.ann, seq=1, measures=("frozen",))
    up = SellerCommand(command="k2", seller=world.ann, seq=2)
    assert world.shop.post("/seller-commands", content=msgspec.json.encode(down)).status_code == 401
    assert post(down, **{"webhook-signature": "v1,AAAA"}).status_code == 401
    assert post(down, **{"webhook-id": "other"}).status_code == 401
    assert post(SellerCommand(command="k3", seller=world.ann, seq=2**40)).status_code == 422
    assert post(SellerCommand(command="k4", seller=world.ann, seq=1, measures=("hanged",))).status_code == 422  # type: ignore[arg-type]
    assert world.shop.get("/sellers/a%00b").status_code == 404
    with world.running((Marketplace(), "marketplace")):
        world.seed()
        wait(lambda: world.page().status_code == 200)
        assert post(down).json() == {"command": "k1", "seller": world.ann, "seq": 1, "result": "done"}
        assert world.page().status_code == 404
        assert post(up).status_code == 200
        assert post(down).status_code == 200  # replayed: answered as before, and without effect
        assert (
            post(SellerCommand(command="k5", seller=world.ann, seq=1, measures=("closed",))).json()["result"] == "done"
        )
        assert world.under() == []
        assert post(SellerCommand(command="k6", seller="zoe", seq=1)).json()["result"] == "unknown_seller"
