"""Enforcement, its ledger and the demo marketplace on the real broker and database."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import psycopg2
import pytest
from kafka import KafkaProducer
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.local.children import free_port
from deploy.local.stack import Stack
from deploy.marketplace import api, old_signature
from deploy.marketplace.worker import Marketplace
from services.enforcement import domain
from services.enforcement.delivery import Delivery
from services.enforcement.ledger import EnforcementLedger
from services.enforcement.worker import Enforcement
from shared import callers, events, marketplace, migrate, topics, tracing
from shared.events import ItemChanged, State
from shared.runtime import Service, Worker
from shared.settings import Settings
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
HUSH = "hush" * 8
INNER = "inner" * 8
KNOWN = callers.written(dict.fromkeys(callers.CALLERS, INNER))
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


@dataclass
class World:
    """An installation of its own on the session's stack: own topics; tables are emptied."""

    stack: Stack
    prefix: str
    port: int
    producer: Any

    def settings(self, role: str, **more: Any) -> Settings:
        return Settings(
            kafka=self.stack.kafka,
            database=self.stack.role_url(role),
            topic_prefix=self.prefix,
            partitions=4,
            http_port=self.port,
            marketplace_url=f"http://127.0.0.1:{self.port}",
            marketplace_secret=HUSH,
            internal_callers=KNOWN,
            poll_ms=20,
            **more,
        )

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.stack.admin_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def say(self, item: str, revision: int, *, listing: str, held: bool, upheld: bool = False, **more: Any) -> None:
        """An event of verification."""
        type_ = more.pop("type", "goodfaith.item.notified.v1")
        at = more.pop("at", NOW)
        headers = more.pop("headers", None)
        data = ItemChanged(
            item=item,
            claim=more.pop("claim", f"claim-of-{item}"),
            claim_size=1,
            listing=listing,
            seller=more.pop("seller", "seller-1"),
            complainant="holder",
            principal="holder",
            right="right",
            right_type="trademark",
            reason="improper_use",
            profile="ipp",
            policy="ipp-2026-11",
            revision=revision,
            state=State.NOTIFIED,
            rule="7",
            held=held,
            upheld=upheld,
            received_at=NOW,
            **more,
        )
        raw = events.encode(
            data, id=uuid.uuid4().hex, source="/goodfaith/verification", type=type_, subject=item, time=at, key=listing
        )
        self.send("verification.events", listing, raw, headers)

    def send(self, topic: str, key: str, raw: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        place = topics.partition_of(key, 4)
        self.producer.send(self.prefix + topic, value=raw, key=key.encode(), partition=place, headers=headers).get(10)

    def told(self, type_: str = "goodfaith.hold.changed.v1", prefix: str = "") -> list[Any]:
        """Data of the events of a type in enforcement's log, in order."""
        rows = self.sql(
            f"select payload from enforcement.{prefix}event_log where type = %s and topic like %s order by recorded_wall, partition, seq",
            type_,
            self.prefix + "%",
        )
        return [events.decode_data(events.decode_envelope(row[0])) for row in rows]

    @contextmanager
    def running(self, *services: tuple[Service, Settings]) -> Iterator[None]:
        workers = [Worker(service, settings) for service, settings in services]
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


def wait(what: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
    """Wait until it is true."""
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found


@pytest.fixture
def world(stack: Stack) -> Iterator[World]:
    passwords = stack.role_passwords("enforcement", "marketplace")
    migrate.migrate(stack.admin_url, passwords)
    world = World(stack, f"t{uuid.uuid4().hex[:8]}.", free_port(set()), KafkaProducer(bootstrap_servers=stack.kafka))
    for schema, kept in (("enforcement", "ledger_entries"), ("marketplace", "listings")):
        tables = world.sql(
            "select tablename from pg_tables where schemaname = %s and tablename <> 'alembic_version'", schema
        )
        names = ", ".join(f"{schema}.{name}" for (name,) in tables)
        world.sql(f"alter table {schema}.{kept} disable trigger user")
        world.sql(f"truncate {names}")
        world.sql(f"alter table {schema}.{kept} enable trigger user")
    topics.create(world.settings("enforcement"))
    yield world
    world.producer.close()


@pytest.fixture
def shop(world: World) -> Iterator[httpx.Client]:
    """The marketplace's HTTP side (without its worker)."""
    server = api.serve(world.settings("marketplace"))
    wait(lambda: server.started)
    with httpx.Client(base_url=f"http://127.0.0.1:{world.port}", timeout=10) as client:
        yield client
    server.should_exit = True
    wait(lambda: not any(thread.name == "http" for thread in threading.enumerate()))


def seed(shop: httpx.Client, *listings: str, **more: Any) -> None:
    answer = shop.post(
        "/seed",
        json=[{"listing": listing, "seller": "seller-1", **more} for listing in listings],
        headers={"Authorization": f"Bearer {INNER}"},
    )
    assert answer.status_code == 202, answer.text


def test_a_page_goes_with_its_first_hold_and_comes_back_with_its_last(world: World, shop: httpx.Client) -> None:
    with world.running(
        (Marketplace(), world.settings("marketplace")),
        (Enforcement(world.settings("enforcement")), world.settings("enforcement")),
    ):
        seed(shop, "shoe", title="A <shoe>")
        page = wait(lambda: (answer := shop.get("/items/shoe")).status_code == 200 and answer)
        assert "A &lt;shoe&gt;" in page.text
        world.say("a", 1, listing="shoe", held=True)
        wait(lambda: shop.get("/items/shoe").status_code == 410)
        first = wait(world.told)[0]
        assert (first.item, first.held, first.result) == ("a", True, "done")
        assert first.action == domain.command_id("shoe", 1)

        world.say("b", 1, listing="shoe", held=True)
        second = wait(lambda: len(world.told()) == 2 and world.told())[1]
        assert (second.item, second.held, second.action) == ("b", True, None)

        world.say("a", 2, listing="shoe", held=False)
        third = wait(lambda: len(world.told()) == 3 and world.told())[2]
        assert (third.item, third.held, third.action) == ("a", False, None)
        assert shop.get("/items/shoe").status_code == 410

        world.say("b", 2, listing="shoe", held=False)
        wait(lambda: shop.get("/items/shoe").status_code == 200)
        fourth = wait(lambda: len(world.told()) == 4 and world.told())[3]
        assert (fourth.item, fourth.held, fourth.action) == ("b", False, domain.command_id("shoe", 2))
    assert world.sql("select holds, seq, confirmed, action, resend_at from enforcement.listings") == [
        (0, 2, 2, "restore", None)
    ]


def test_a_listing_that_appears_while_held_is_taken_down(world: World, shop: httpx.Client) -> None:
    with world.running(
        (Marketplace(), world.settings("marketplace")),
        (Enforcement(world.settings("enforcement")), world.settings("enforcement")),
    ):
        world.say("a", 1, listing="nowhere", held=True)
        told = wait(world.told)[0]
        assert (told.held, told.result) == (True, "unknown_listing")
        seed(shop, "nowhere")
        wait(lambda: shop.get("/items/nowhere").status_code == 410)
        wait(lambda: world.sql("select seq, confirmed, result from enforcement.listings") == [(2, 2, "done")])
        assert len(world.told()) == 1, "the item was told of its hold once"


def test_a_command_without_receipt_is_sent_again_under_the_same_id(world: World, shop: httpx.Client) -> None:
    settings, market = world.settings("enforcement"), world.settings("marketplace")
    with world.running((Marketplace(), market)):
        seed(shop, "shoe")
        wait(lambda: shop.get("/items/shoe").status_code == 200)
    with world.running((Enforcement(settings), settings)):
        world.say("a", 1, listing="shoe", held=True)
        commands = "goodfaith.marketplace.command.v1"
        wait(lambda: world.told(commands))
        world.sql("update enforcement.listings set resend_at = now()")
        wait(lambda: len(world.told(commands)) == 2)
        one, two = world.told(commands)
        assert one == two
        with world.running((Marketplace(), market)):
            wait(world.told)
    assert len(world.told()) == 1
    assert world.sql("select confirmed, tries from enforcement.listings") == [(1, 1)]


def test_violations_reach_the_ledger_and_leave_it(world: World) -> None:
    settings = world.settings("enforcement")
    with world.running((Enforcement(settings), settings), (EnforcementLedger(settings), settings)):
        for day, item in enumerate(("a", "b", "c")):
            world.say(
                item,
                1,
                listing=f"listing-{item}",
                held=True,
                upheld=True,
                type="goodfaith.item.upheld.v1",
                at=NOW + dt.timedelta(days=day),
            )

        def standing() -> list[tuple[Any, ...]]:
            return world.sql(
                "select general_points, violations, repeat_offender, general_consequence from enforcement.standings"
            )

        wait(lambda: standing() == [(12, 3, True, "frozen")])
        world.say(
            "a", 2, listing="listing-a", held=False, type="goodfaith.item.restored.v1", at=NOW + dt.timedelta(days=9)
        )
        # b is the first now: its 6 points go as well
        wait(lambda: standing() == [(6, 2, True, "listing_restricted")])
        for item in ("b", "c"):
            world.say(item, 2, listing=f"listing-{item}", held=False, type="goodfaith.item.restored.v1")
        wait(lambda: standing() == [(0, 0, False, None)])
    assert world.sql("select coalesce(sum(points), 0) from enforcement.ledger_entries") == [(0,)]
    (open_,) = world.sql(
        "select count(*) from enforcement.ledger_entries e where kind = 'violation'"
        " and not exists (select from enforcement.ledger_entries r where r.reverses = e.entry)"
    )
    assert open_ == (0,)
    entered = world.told("goodfaith.penalty.entered.v1", "ledger_")
    assert len(entered) == world.sql("select count(*) from enforcement.ledger_entries")[0][0]
    with pytest.raises(psycopg2.errors.RaiseException):
        world.sql("delete from enforcement.ledger_entries")


def test_the_http_adapter_delivers_until_it_is_answered(world: World, shop: httpx.Client) -> None:
    settings = world.settings("enforcement", marketplace="http")
    delivery = Delivery(settings)
    try:
        with world.running((Enforcement(settings), settings)):
            world.say("a", 1, listing="shoe", held=True)
            seed(shop, "shoe")
            wait(delivery.once)  # the marketplace's worker is away: taken, not answered
            assert world.sql("select error like 'HTTP 202%%' from enforcement.deliveries") == [(True,)]
            with world.running((Marketplace(), world.settings("marketplace"))):
                wait(lambda: shop.get("/items/shoe").status_code == 410)
                world.sql("update enforcement.deliveries set next_wall = now()")
                assert wait(delivery.once) == 1
                told = wait(world.told)
                world.say("a", 2, listing="shoe", held=False)
                wait(delivery.once)
                wait(lambda: len(world.told()) == 2)
                assert shop.get("/items/shoe").status_code == 200
        assert told[0].action == domain.command_id("shoe", 1)
        assert world.sql(
            "select (select count(*) from enforcement.deliveries) + (select count(*) from enforcement.receipts)"
        ) == [(0,)]
    finally:
        delivery.close()


def test_a_slow_marketplace_is_called_once_for_a_command(world: World, shop: httpx.Client) -> None:
    """While one process waits for the answer the command is nobody else's: its lease outlasts the call."""
    settings = world.settings("enforcement", marketplace="http")
    called, answered = threading.Event(), threading.Event()
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        called.set()
        assert answered.wait(PATIENCE_S)
        return httpx.Response(500)

    first, second = (Delivery(settings, httpx.Client(transport=httpx.MockTransport(answer))) for _ in range(2))
    slow = threading.Thread(target=lambda: wait(first.once))
    try:
        with world.running((Enforcement(settings), settings)):
            world.say("a", 1, listing="shoe", held=True)
            slow.start()
            assert called.wait(PATIENCE_S)
            time.sleep(3.0)
            assert second.once() == 0
    finally:
        answered.set()
        slow.join()
    assert len(calls) == 1
    # it was not answered, so it is due again after a short pause, not after the lease
    ((pause,),) = world.sql("select extract(epoch from next_wall - now())::float from enforcement.deliveries")
    assert pause <= 2.0
    world.sql("update enforcement.deliveries set next_wall = now()")
    second._begin_within_s = -1.0
    assert second.once() == 0
    assert len(calls) == 1, "no call begins that may end after its lease"
    assert world.sql("select tries, next_wall <= now() from enforcement.deliveries") == [(1, True)]
    first.close()
    second.close()


def test_an_answer_that_drips_is_given_up(world: World, shop: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part comes in time, and the whole would outlast the lease."""
    monkeypatch.setattr("services.enforcement.delivery._CALL_S", 0.2)
    settings = world.settings("enforcement", marketplace="http")
    sent: list[bytes] = []

    def drip() -> Iterator[bytes]:
        for _ in range(50):
            sent.append(b" ")
            time.sleep(0.05)
            yield b" "

    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=drip())))
    with closing(Delivery(settings, client)) as delivery, world.running((Enforcement(settings), settings)):
        world.say("a", 1, listing="shoe", held=True)
        wait(delivery.once)
    assert len(sent) < 25
    ((error,),) = world.sql("select error from enforcement.deliveries")
    assert "takes too long" in error


def test_leases_of_calls_outlast_them(world: World) -> None:
    delivery = Delivery(world.settings("enforcement", marketplace="http"))
    timeout = delivery._client.timeout
    assert delivery._lease_s > delivery._begin_within_s + sum(
        one or 0.0 for one in (timeout.connect, timeout.write, timeout.read)
    )
    delivery.close()


def test_a_trace_goes_with_a_command_to_the_marketplace_and_comes_back_with_its_receipt(
    world: World, shop: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.settings("enforcement", marketplace="http", traces_url="http://127.0.0.1:9/", traces_ratio=0)
    spans = InMemorySpanExporter()
    made = tracing.Tracing(settings, "enforcement", spans)
    monkeypatch.setattr(tracing, "_tracing", made)
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("traceparent"))
        command = msgspec.json.decode(request.content, type=marketplace.MarketplaceCommand)
        receipt = marketplace.Receipt(command=command.command, listing=command.listing, seq=command.seq, result="done")
        return httpx.Response(200, content=msgspec.json.encode(receipt))

    delivery = Delivery(settings, httpx.Client(transport=httpx.MockTransport(answer)))
    context = f"00-{'ab' * 16}-{'cd' * 8}-01"
    try:
        with world.running((Enforcement(settings), settings)):
            world.say("a", 1, listing="shoe", held=True, headers=[("traceparent", context.encode())])
            wait(delivery.once)
            wait(world.told)
    finally:
        delivery.close()
        made.close()
    by_name = {span.name: span for span in spans.get_finished_spans()}
    first, call, last = (by_name[n] for n in ("process verification.events", "POST /commands", "process receipts"))
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == "cd" * 8
    assert sent == [tracing.context_of(call)]
    assert {span.context.trace_id for span in (first, call, last)} == {int("ab" * 16, 16)}
    assert {span.parent.span_id for span in (call, last) if span.parent} == {first.context.span_id}
    ((payload,),) = world.sql("select payload from enforcement.event_log where type = 'goodfaith.hold.changed.v1'")
    assert json.loads(payload)["traceparent"] == tracing.context_of(last)


def test_intake_refuses_what_is_not_signed_and_does_a_command_once(world: World, shop: httpx.Client) -> None:
    def post(
        command: marketplace.MarketplaceCommand, *, secret: str = HUSH, ago_s: int = 0, **headers: str
    ) -> httpx.Response:
        at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago_s)
        body, signed = marketplace.signed_request(secret, command, at)
        return shop.post("/commands", content=body, headers=signed | headers)

    down = marketplace.MarketplaceCommand(command="c1", listing="shoe", action="suspend", seq=1)
    up = marketplace.MarketplaceCommand(command="c2", listing="shoe", action="restore", seq=2)
    assert shop.post("/commands", content=msgspec.json.encode(down)).status_code == 401
    assert post(down, secret="guess").status_code == 401
    assert post(down, ago_s=3600).status_code == 401
    assert post(down, **{"webhook-id": "other"}).status_code == 401
    assert (
        post(marketplace.MarketplaceCommand(command="c3", listing="shoe", action="suspend", seq=2**40)).status_code
        == 422
    )
    assert post(marketplace.MarketplaceCommand(command="c4", listing="shoe", action="lookup", seq=1)).status_code == 422
    assert shop.post("/seed", json=[]).status_code == 401
    assert shop.get("/items/a%00b").status_code == 404
    with world.running((Marketplace(), world.settings("marketplace"))):
        seed(shop, "shoe")
        wait(lambda: shop.get("/items/shoe").status_code == 200)
        assert post(down).json() == {"command": "c1", "listing": "shoe", "seq": 1, "result": "done"}
        # the form of the release before
        body = msgspec.json.encode(up)
        at = int(time.time())
        signature = old_signature.sign(HUSH, at, "/commands", body)
        before = {"Goodfaith-Timestamp": str(at), "Goodfaith-Signature": signature, "Idempotency-Key": "c2"}
        assert shop.post("/commands", content=body, headers=before).status_code == 200
        assert shop.post("/commands", content=body, headers=before | {"Idempotency-Key": "c3"}).status_code == 401
        assert post(up).status_code == 200
        # replayed: answered as before, and without effect
        assert post(down).status_code == 200
        assert shop.get("/items/shoe").status_code == 200


def test_a_lookup_publishes_the_listing_before_its_receipt(world: World, shop: httpx.Client) -> None:
    with world.running((Marketplace(), world.settings("marketplace"))):
        seed(shop, "shoe", title="A shoe")
        seed(shop, "hat", ended=True)
        wait(lambda: shop.get("/items/hat").status_code == 410)
        for listing in ("shoe", "hat", "ghost"):
            command = marketplace.MarketplaceCommand(command=f"lookup-{listing}", listing=listing, action="lookup")
            raw = events.encode(
                command,
                id=uuid.uuid4().hex,
                source="/goodfaith/verification",
                type="goodfaith.marketplace.command.v1",
                subject=listing,
                time=NOW,
                key=listing,
            )
            world.send("marketplace.commands", listing, raw)

        def answers() -> dict[str, list[Any]]:
            rows = world.sql(
                "select key, payload from marketplace.event_log where payload::json->>'causationid' not like 'seed%%'"
                " order by partition, seq"
            )
            found: dict[str, list[Any]] = {}
            for key, payload in rows:
                found.setdefault(key, []).append(events.decode_data(events.decode_envelope(payload)))
            return found

        found = wait(lambda: (all_ := answers()) and sum(map(len, all_.values())) == 6 and all_)
    assert {key: (pair[0].state, pair[0].seller, pair[1].command) for key, pair in found.items()} == {
        "shoe": ("visible", "seller-1", "lookup-shoe"),
        "hat": ("ended", "seller-1", "lookup-hat"),
        "ghost": ("unknown", None, "lookup-ghost"),
    }


COMMANDS = {
    "marketplace": ("marketplace", "deploy.marketplace"),
    "worker-0": ("enforcement", "services.enforcement", "worker"),
    "worker-1": ("enforcement", "services.enforcement", "worker"),
    "ledger": ("enforcement", "services.enforcement", "ledger"),
}


class Herd:
    """Enforcement's processes and the marketplace's, to be killed and started again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in COMMANDS:
            self.start(name)

    def start(self, name: str) -> None:
        role, module, *arguments = COMMANDS[name]
        world = self.world
        env = os.environ | {
            "GOODFAITH_KAFKA": world.stack.kafka,
            "GOODFAITH_DATABASE": world.stack.role_url(role),
            "GOODFAITH_TOPIC_PREFIX": world.prefix,
            "GOODFAITH_PARTITIONS": "4",
            "GOODFAITH_HTTP_PORT": str(world.port),
            "GOODFAITH_INTERNAL_CALLERS": KNOWN,
            "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
            "GOODFAITH_INSTANCE": name,
            "GOODFAITH_LOG_LEVEL": "error",
            "GOODFAITH_RETRY_MAX_S": "1",
        }
        self.running[name] = subprocess.Popen([sys.executable, "-m", module, *arguments], env=env)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(PATIENCE_S)


@pytest.mark.thorough
@pytest.mark.faults
def test_killed_processes_lose_nothing_and_do_nothing_twice(world: World) -> None:
    chance = random.Random(os.environ.get("GOODFAITH_SEED", "7"))
    listings = [f"listing-{number}" for number in range(60)]
    herd = Herd(world)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{world.port}", timeout=10) as shop:

            def answers() -> bool:
                try:
                    return shop.get("/items/x").status_code == 404
                except httpx.HTTPError:
                    return False

            wait(answers, timeout_s=90)
            for listing in listings:
                seed(shop, listing, seller=f"seller-{listing[-1]}")
        # a hold on a listing that the marketplace does not know yet would be receipted as such
        wait(lambda: world.sql("select count(*) from marketplace.listings") == [(len(listings),)])
        state: dict[str, tuple[int, bool, bool]] = {}
        where = {f"item-{number}": chance.choice(listings) for number in range(400)}
        for step in range(2000):
            item = chance.choice(list(where))
            revision, held, upheld = state.get(item, (0, False, False))
            held, upheld = (held, not upheld) if held and chance.random() < 0.5 else (not held, False)
            state[item] = (revision + 1, held, upheld)
            world.say(
                item,
                revision + 1,
                listing=where[item],
                held=held,
                upheld=upheld,
                claim=f"claim-{where[item]}-{item[-1]}",
                seller=f"seller-{where[item][-1]}",
                at=NOW + dt.timedelta(hours=step),
            )
            if step % 200 == 100:
                name = chance.choice(list(COMMANDS))
                herd.kill(name)
                herd.start(name)
        for table in ("listings", "standings"):
            world.sql(f"update enforcement.{table} set resend_at = now() where resend_at is not null")

        def settled() -> bool:
            (row,) = world.sql(
                "select (select sum(revision) from enforcement.holds),"
                " (select count(*) from enforcement.listings where confirmed < seq),"
                " (select sum(seq - published_upto) from enforcement.partitions),"
                " (select count(*) from (select target, partition, max(seq) as seq from enforcement.event_log"
                " where type = 'goodfaith.violation.changed.v1' group by target, partition) told"
                " left join enforcement.ledger_reads r on r.writer = 'enforcement' and r.partition = told.target"
                " and r.log_partition = told.partition where coalesce(r.seq, 0) < told.seq),"
                " (select count(*) from enforcement.standings where confirmed < seq),"
                " (select sum(seq - published_upto) from enforcement.ledger_partitions)"
            )
            # a first revision with a hold is never left out, so every item's last revision is in
            return row == (sum(revision for revision, _, _ in state.values()), 0, 0, 0, 0, 0)

        wait(settled, timeout_s=90)
        assert world.sql("select listing from enforcement.listings where result <> 'done'") == []
        down = {where[item] for item, (_, held, _) in state.items() if held}
        shown = dict(world.sql("select listing, measure from marketplace.listings"))
        assert {listing for listing, measure in shown.items() if measure == "suspended"} == down
        held = dict(world.sql("select listing, holds from enforcement.listings"))
        for listing in listings:
            assert held.get(listing, 0) == sum(where[item] == listing and h for item, (_, h, _) in state.items())
        told: dict[str, list[bool]] = {}
        for change in world.told():
            told.setdefault(change.item, []).append(change.held)
        assert {item: changes[-1] for item, changes in told.items()} == {
            item: held for item, (_, held, _) in state.items()
        }
        in_force = {
            (f"seller-{where[item][-1]}", f"claim-{where[item]}-{item[-1]}") for item, (_, _, up) in state.items() if up
        }
        assert set(world.sql("select seller, claim from enforcement.violations where in_force")) == in_force
        wrong = world.sql(
            "select s.seller from enforcement.standings s left join (select seller,"
            " sum(points) filter (where ledger = 'general') g from enforcement.ledger_entries"
            " where expires_at > (select max(changed_at) from enforcement.standings) group by seller) e using (seller)"
            " where s.general_points <> coalesce(e.g, 0)"
        )
        assert wrong == []
        # each command on a seller once, however often it was sent, and the marketplace where the last one says
        commands: dict[tuple[str, int], Any] = {}
        for command in world.told("goodfaith.marketplace.seller_command.v1", "ledger_"):
            assert commands.setdefault((command.seller, command.seq), command) == command
        assert commands
        last = {seller: (seq, ",".join(commands[(seller, seq)].measures)) for seller, seq in sorted(commands)}
        assert {
            seller: told for seller, *told in world.sql("select seller, seq, measures from marketplace.sellers")
        } == {seller: list(told) for seller, told in last.items()}
        assert [seq for _, seq in sorted(commands)] == [
            n + 1 for seller in sorted(last) for n in range(last[seller][0])
        ]
        assert world.sql(
            "select count(*) from enforcement.dead_letters union all select count(*) from marketplace.dead_letters"
        ) == [
            (0,),
            (0,),
        ]
        assert [name for name, process in herd.running.items() if process.poll() is not None] == []
    finally:
        herd.stop()
