"""Notification on the real broker and database, with a real SMTP conversation."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import msgspec
import psycopg2
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client import REGISTRY

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.notification.render import Contact, digest
from services.notification.reproduce import again
from services.notification.sender import FLIGHT, Sender
from services.notification.worker import Notification
from services.ops.message import kept_of
from shared import db, events, migrate, topics
from shared.events import AccountChannels, AccountNotice, AccountTold, DigestWanted, MessageSent, NoticeSent, State
from shared.runtime import Tx, Worker
from shared.settings import Settings
from tests.patience import PATIENCE_S
from tests.unit.notification.making import HOLDER, NOW, OWNER, changed, entered

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
PARTITIONS = 4
INNER = "inner" * 8


def wait(what: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
    """Wait until it is true."""
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found


class Post:
    """An SMTP server that keeps what it accepts; ``answers`` are given before it accepts anything."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mails: list[EmailMessage] = []
        self.answers: dict[str, list[str]] = {}
        self._controller: Any = None

    async def handle_RCPT(self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if self.answers.get(address):
            return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.answers.get("lost") and self.answers["lost"].pop():
            server.transport.abort()
        return "250 OK"

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if address in mail["To"]]


def contact_of(account: str) -> dict[str, Any] | None:
    """As intake answers."""
    if account.startswith("erased"):
        return None
    return {
        "name": f"Name of {account}",
        "address": f"1 Road of {account}\nTown",
        "email": f"{account}@x.example",
        "language": "de" if account.startswith("de-") else "en",
        "confirmed": not account.startswith("new-"),
    }


class FakeIntake(BaseHTTPRequestHandler):
    """Intake's internal calls. Accounts that begin with "erased" have no contact any more, "erased-lost" no inbox either.

    Of "fed-lost", nobody but the marketplace has given an address.
    """

    protocol_version = "HTTP/1.1"
    calls: ClassVar[Counter[str]] = Counter()
    down = False

    def do_POST(self) -> None:
        ids = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("ids", ())
        assert self.headers["authorization"] == f"Bearer {INNER}"
        FakeIntake.calls[self.path] += 1
        answer: dict[str, Any] = {"claims": {id_: {"right_number": "7654321"} for id_ in ids}}
        if self.path.endswith("contacts"):
            answer = {
                "contacts": {id_: contact for id_ in ids if (contact := contact_of(id_)) is not None},
                "unowned": [id_ for id_ in ids if id_.startswith(("erased-lost", "fed-lost"))],
            }
        if self.path.endswith("challenges"):
            answer = {"challenges": []}
        if self.path.endswith("codes"):
            answer = {"codes": {id_: {"code": f"CODE-{id_}"} for id_ in ids if not id_.startswith("old")}}
        raw = json.dumps(answer).encode()
        self.send_response(503 if FakeIntake.down else 200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class World:
    """An installation of its own on the session's stack: own topics; tables are emptied."""

    stack: Stack
    prefix: str
    post: Post
    intake: str
    producer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.producer = KafkaProducer(bootstrap_servers=self.stack.kafka)

    def environment(self, **more: Any) -> dict[str, Any]:
        return {
            "kafka": self.stack.kafka,
            "database": self.stack.role_url("notification"),
            "topic_prefix": self.prefix,
            "partitions": PARTITIONS,
            "intake_url": self.intake,
            "internal_token": INNER,
            "smtp_port": self.post.port,
            "marketplace_url": "https://market.example",
            "poll_ms": 20,
            "collect_s": 1.0,
            "retry_max_s": 0.5,
            **more,
        }

    def settings(self, **more: Any) -> Settings:
        return Settings(**self.environment(**more))

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.stack.admin_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def say(self, state: State, *, type_: str | None = None, id_: str | None = None, **more: Any) -> None:
        """An event of verification."""
        data = changed(state, **more)
        raw = events.encode(
            data,
            id=id_ or uuid.uuid4().hex,
            source="/goodfaith/verification",
            type=type_ or entered(state),
            subject=data.item,
            time=NOW,
            key=data.listing,
        )
        partition = topics.partition_of(data.listing, PARTITIONS)
        topic = self.prefix + "verification.events"
        self.producer.send(topic, value=raw, key=data.listing.encode(), partition=partition).get(10)

    def notify(self, account: str, kind: str, *, notice: str, id_: str | None = None, **more: Any) -> None:
        """A notice of intake to an account."""
        data = AccountNotice(notice=notice, account=account, kind=kind, at=NOW, **more)
        raw = events.encode(
            data,
            id=id_ or uuid.uuid4().hex,
            source="/goodfaith/intake",
            type="goodfaith.account.notice.v1",
            subject=account,
            time=NOW,
            key=account,
        )
        partition = topics.partition_of(account, PARTITIONS)
        self.producer.send(self.prefix + "intake.accounts", value=raw, key=account.encode(), partition=partition).get(
            10
        )

    def wants_digest(self, account: str, digest: DigestWanted | None, revision: int) -> None:
        """How an account wants to be told."""
        data = AccountChannels(account=account, revision=revision, order=("email",), digest=digest, at=NOW)
        raw = events.encode(
            data,
            id=uuid.uuid4().hex,
            source="/goodfaith/intake",
            type="goodfaith.account.channels.v1",
            subject=account,
            time=NOW,
            key=account,
        )
        partition = topics.partition_of(account, PARTITIONS)
        self.producer.send(self.prefix + "intake.accounts", value=raw, key=account.encode(), partition=partition).get(
            10
        )

    def claim(self, size: int, *, claim: str = "c", sellers: int = 1, **more: Any) -> None:
        """A claim, all of whose items are upheld prima facie at once."""
        for n in range(1, size + 1):
            self.say(
                State.NOTIFIED,
                item=f"{claim}.{n}",
                claim=claim,
                claim_size=size,
                listing=f"{claim}-listing-{n}",
                seller=f"seller-{n % sellers}",
                revision=1,
                via=(State.RECEIVED, State.UNDER_REVIEW),
                **more,
            )

    def messages(self, columns: str = "kind, party, cardinality(items)", where: str = "true") -> list[tuple[Any, ...]]:
        return self.sql(f"select {columns} from notification.messages where {where} order by kind, party, id")

    def leases_end(self) -> None:
        """As if the time of every lease had passed."""
        self.sql("update notification.messages set due_wall = clock_timestamp() where state in ('queued', 'sending')")

    def idle(self) -> bool:
        return self.sql("""
            select not exists (select from notification.message_items where message is null)
            and not exists (select from notification.messages where state in ('queued', 'sending'))
            and not exists (select from notification.announcements)
            and exists (select from notification.messages)""")[0][0]  # type: ignore[no-any-return]

    def published(self) -> list[tuple[int, str, Any]]:
        """(partition, key, data) of everything on notification.events, each event once: a rebalance publishes some again."""
        consumer = KafkaConsumer(bootstrap_servers=self.stack.kafka)
        topic = self.prefix + "notification.events"
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        left = sum(consumer.end_offsets(places).values())
        found = {}
        seen = 0
        while seen < left:
            for place, records in consumer.poll(timeout_ms=500).items():
                for record in records:
                    seen += 1
                    envelope = events.decode_envelope(record.value)
                    found[envelope.id] = (place.partition, record.key.decode(), events.decode_data(envelope))
        consumer.close()
        return list(found.values())

    @contextmanager
    def running(self, *, workers: int = 1, senders: int = 1, **more: Any) -> Iterator[None]:
        parts = [Worker(Notification(), self.settings(instance=f"w{n}", **more)) for n in range(workers)]
        parts += [Sender(self.settings(instance=f"s{n}", **more)) for n in range(senders)]  # type: ignore[misc]
        threads = [threading.Thread(target=part.run) for part in parts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for part in parts:
                part.stop()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()

    @contextmanager
    def process(self, role: str, *, crash: str = "", **more: Any) -> Iterator[subprocess.Popen[bytes]]:
        settings = {f"GOODFAITH_{name.upper()}": str(value) for name, value in self.environment(**more).items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "services.notification", role],
            env={**os.environ, **settings, "GOODFAITH_CRASH_AT": crash},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def world(stack: Stack) -> Iterator[World]:
    migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
    post = Post(free_port(set()))
    post.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeIntake)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakeIntake.calls.clear()
    FakeIntake.down = False
    world = World(stack, f"t{uuid.uuid4().hex[:8]}.", post, f"http://127.0.0.1:{server.server_address[1]}")
    tables = world.sql(
        "select tablename from pg_tables where schemaname = 'notification' and tablename not like 'alem%'"
    )
    world.sql("truncate " + ", ".join(f"notification.{name}" for (name,) in tables))
    topics.create(world.settings())
    yield world
    world.producer.close()
    post.stop()
    server.shutdown()
    server.server_close()


def counted(result: str, channel: str = "email") -> float:
    labels = {"channel": channel, "result": result}
    return REGISTRY.get_sample_value("goodfaith_deliveries_total", labels) or 0.0


def test_one_message_for_a_claim_and_a_party(world: World) -> None:
    """Two workers, items on several partitions; the notice's dates are announced where the items live."""
    with world.running(workers=2, senders=2, collect_s=60):
        world.claim(5, principal=OWNER)
        wait(world.idle)

    assert world.messages() == [("claim_receipt", HOLDER, 5), ("seller_notice", "seller-0", 5)]
    (notice,) = world.post.to("seller-0@x.example")
    (receipt,) = world.post.to(f"{HOLDER}@x.example")
    body = notice.get_body(("plain",)).get_content()
    for needed in (
        f"Name of {HOLDER}",
        f"1 Road of {HOLDER}",
        f"{HOLDER}@x.example",
        f"Name of {OWNER}",
        "7654321",
        "trade mark",
        "Counterfeit",
        "counter",
        *(f"https://market.example/items/c-listing-{n}" for n in range(1, 6)),
    ):
        assert needed in body, needed
    assert "Claim c: received" in receipt["Subject"]

    published = world.published()
    notices = [(place, key, data) for place, key, data in published if isinstance(data, NoticeSent)]
    assert sorted(data.item for _, _, data in notices) == [f"c.{n}" for n in range(1, 6)]
    assert len({place for place, _, _ in notices}) > 1
    for place, key, data in notices:
        assert (key, place) == (data.listing, topics.partition_of(data.listing, PARTITIONS))
        assert (data.kind, data.revision) == ("seller_notice", 1)
    sent = [(place, key, data) for place, key, data in published if isinstance(data, MessageSent)]
    assert sorted(data.kind for _, _, data in sent) == ["claim_receipt", "seller_notice"]
    for place, key, data in sent:
        assert (key, place) == ("c-listing-1", topics.partition_of("c-listing-1", PARTITIONS))
        assert data.items == tuple(f"c.{n}" for n in range(1, 6))
    stored = dict(world.messages("id, digest"))
    assert {data.message: data.digest for _, _, data in sent} == stored
    assert {f"<{id_}@market.example>" for id_ in stored} == {notice["Message-ID"], receipt["Message-ID"]}
    logged = " ".join(row[0] for row in world.sql("select payload from notification.event_log"))
    assert "x.example" not in logged
    assert "Name of" not in logged


def test_what_was_sent_can_be_made_again(world: World) -> None:
    """By mail and to the inbox, about claims and accounts, in the party's language; a code is left out."""
    with world.running():
        world.claim(3, principal=OWNER)
        world.notify("de-1", "right_expiring", notice="n-1", about="r-9")
        world.notify("a-1", "email_code", notice="n-2", figures={"minutes": 60})
        world.notify("erased-1", "account_closed", notice="n-3")
        wait(lambda: len(world.messages()) == 5 and world.idle())

    (mail,) = world.post.to("de-1@x.example")
    assert mail["Content-Language"] == "de"
    assert "Schutzrecht" in mail.get_body(("html",)).get_content()
    engine = db.administer(world.stack.admin_url, pooled=False)
    with engine.connect() as connection:
        for (id_,) in world.messages("id"):
            found = kept_of(connection, id_)
            assert found is not None
            kept, logged = found
            contacts = {account: Contact.of(contact_of(account)) for account in kept.parties}
            _, raw = again(kept, contacts, "7654321", site="https://market.example", sender=world.settings().smtp_from)
            assert digest(raw) == kept.digest, kept.kind
            assert logged == {kept.digest}
        assert kept_of(connection, "m-none") is None
    engine.dispose()
    sent = [data for _, _, data in world.published() if isinstance(data, MessageSent | AccountTold)]
    assert {data.locale for data in sent} == {"en", "de"}
    assert all(data.edition and data.rendered_at for data in sent)


def test_a_days_receipts_and_outcomes_come_together(world: World) -> None:
    """Of several claims in one message; what sets a time goes at once; and once nobody wants it any more, as usual."""
    with world.running(collect_s=60):
        world.wants_digest(HOLDER, DigestWanted(hour=8, zone="Europe/Berlin"), 1)
        wait(lambda: world.sql("select 1 from notification.digests where next_at > now()"))
        world.claim(2, claim="c")
        world.claim(1, claim="d")
        world.say(State.NEEDS_INFO, item="e.1", claim="e", listing="e-1", revision=2, previous=State.RECEIVED)
        world.say(State.RESTORED, item="c.1", claim="c", listing="c-listing-1", revision=2, previous=State.NOTIFIED)
        wait(
            lambda: (
                len(world.messages()) == 4
                and world.sql("select count(*) from notification.message_items where held") == [(4,)]
            )
        )
        wait(lambda: len(world.post.mails) == 4)
        assert world.messages("kind, party", f"party = '{HOLDER}'") == [("info_request", HOLDER)]
        world.sql("update notification.digests set next_at = now() - interval '1 hour'")
        wait(lambda: world.messages(where="kind = 'digest' and state = 'sent'"))
        # the next day's
        world.claim(1, claim="f")
        wait(
            lambda: (
                world.sql("select count(*) from notification.message_items where held and message is null") == [(1,)]
            )
        )
        world.wants_digest(HOLDER, None, 2)
        wait(lambda: world.messages(where=f"kind = 'claim_receipt' and party = '{HOLDER}'"))
        wait(world.idle)

    assert world.messages("party, cardinality(items)", "kind = 'digest'") == [(HOLDER, 4)]
    (mail,) = [mail for mail in world.post.to(f"{HOLDER}@x.example") if "4 items" in mail["Subject"]]
    text = mail.get_body(("plain",)).get_content()
    assert "restored" in text
    assert "d-listing-1" in text
    (sent,) = [data for _, _, data in world.published() if isinstance(data, MessageSent) and data.kind == "digest"]
    assert sorted(sent.items) == ["c.1", "c.1", "c.2", "d.1"]
    engine = db.administer(world.stack.admin_url, pooled=False)
    with engine.connect() as connection:
        found = kept_of(connection, sent.message)
        assert found is not None
        contacts = {account: Contact.of(contact_of(account)) for account in found[0].parties}
        sender = world.settings().smtp_from
        _, raw = again(found[0], contacts, "7654321", site="https://market.example", sender=sender)
        assert digest(raw) == sent.digest
    engine.dispose()


def test_an_unconfirmed_address_is_told_nothing_that_anybody_wrote(world: World) -> None:
    """Its window begins all the same, and the message is made again from what is kept of it."""
    with world.running(collect_s=60):
        world.say(State.NOTIFIED, item="c.1", claim="c", claim_size=1, seller="new-seller", revision=1)
        wait(world.idle)
    (mail,) = world.post.to("new-seller@x.example")
    raw = mail.as_bytes() + b"".join(
        part.get_payload(decode=True) or b"" for part in mail.walk() if not part.is_multipart()
    )
    for word in (b"Name of", b"Road", b"listing", b"7654321", b"market.example/items", HOLDER.encode()):
        assert word not in raw, word
    assert b"GET /v1/inbox" in raw
    assert [data.item for _, _, data in world.published() if isinstance(data, NoticeSent)] == ["c.1"]
    (sent,) = [d for _, _, d in world.published() if isinstance(d, MessageSent) and d.party == "new-seller"]
    engine = db.administer(world.stack.admin_url, pooled=False)
    with engine.connect() as connection:
        found = kept_of(connection, sent.message)
        assert found is not None
        contacts = {account: Contact.of(contact_of(account)) for account in found[0].parties}
        _, made = again(found[0], contacts, "7654321", site="https://market.example", sender=world.settings().smtp_from)
        assert digest(made) == sent.digest
    engine.dispose()
    # who has confirmed its address is told all
    (receipt,) = world.post.to(f"{HOLDER}@x.example")
    assert f"Name of {HOLDER}" in receipt["To"]


def test_300_items_of_40_sellers(world: World) -> None:
    before = FakeIntake.calls.total()
    with world.running(collect_s=60):
        world.claim(300, sellers=40)
        wait(world.idle)

    kinds = Counter(kind for kind, _, _ in world.messages())
    assert kinds == {"claim_receipt": 1, "seller_notice": 40}
    assert len(world.post.mails) == 41
    assert FakeIntake.calls.total() - before <= 12
    assert sum(isinstance(data, NoticeSent) for _, _, data in world.published()) == 300


def test_what_comes_late_is_told_in_a_further_message(world: World) -> None:
    with world.running(collect_s=0.3):
        world.say(State.REJECTED, item="c.1", claim="c", claim_size=2, previous=State.UNDER_REVIEW)
        wait(lambda: len(world.post.mails) == 1)
        world.say(State.REJECTED, item="c.2", claim="c", claim_size=2, previous=State.UNDER_REVIEW)
        wait(lambda: len(world.post.mails) == 2)
        wait(world.idle)

    assert [row[2] for row in world.messages()] == [1, 1]


def test_an_event_that_comes_again_is_not_told_again(world: World) -> None:
    with world.running():
        for _ in range(3):
            world.say(State.UPHELD, item="c.1", previous=State.NOTIFIED, id_="same")
        world.say(State.UPHELD, item="c.1", previous=State.NOTIFIED, id_="same change under another id")
        wait(world.idle)
        time.sleep(0.5)

    assert world.messages() == [("outcome", HOLDER, 1), ("outcome", "seller-1", 1)]
    assert len(world.post.mails) == 2


def test_notices_carry_the_revision_that_they_told_of(world: World) -> None:
    """The item has moved on by the time its notice goes out: the window is still that of the state told of."""
    world.say(State.NOTIFIED, item="c.1", revision=1, via=(State.UNDER_REVIEW,))
    world.say(State.NOTIFIED, item="c.1", revision=2, type_="goodfaith.item.handled.v1", previous=State.NOTIFIED)
    world.say(State.HOLDER_RESPONSE, item="c.1", revision=3, previous=State.NOTIFIED, via=(State.COUNTERED,))
    world.say(State.LITIGATION, item="c.1", revision=4, previous=State.HOLDER_RESPONSE)
    with world.running():
        wait(lambda: len(world.post.mails) == 4 and world.idle())

    notices = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
    assert {(data.kind, data.revision) for data in notices} == {("seller_notice", 1), ("counter_forwarded", 3)}
    clock = world.sql("select business, wall from platform.clock order by id desc limit 1")[0]
    for data in notices:
        assert data.sent_at - clock[0] <= dt.datetime.now(dt.UTC) - clock[1]


def test_killed_between_answer_and_commit_it_is_sent_again_and_counted(world: World) -> None:
    with world.process("worker"):
        world.claim(1)
        wait(lambda: world.sql("select count(*) from notification.message_items")[0][0] == 2)
        with world.process("sender", crash="notification-sender:after_send:2") as first:
            assert first.wait(PATIENCE_S) == -signal.SIGKILL
        assert world.messages("state") == [("sending",), ("sending",)]
        world.leases_end()
        assert len(world.post.mails) == 2
        with world.process("sender") as second:
            wait(world.idle)
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE_S) == 0

    assert world.messages("state, attempts, repeats") == [("sent", 2, 1), ("sent", 2, 1)]
    assert list(Counter(mail["Message-ID"] for mail in world.post.mails).values()) == [2, 2]
    assert sum(isinstance(data, NoticeSent) for _, _, data in world.published()) == 1


@pytest.mark.parametrize("step", ["after_take", "after_sending", "after_commit"])
def test_killed_elsewhere_nothing_is_sent_twice(world: World, step: str) -> None:
    with world.process("worker"):
        world.claim(1)
        wait(lambda: world.sql("select count(*) from notification.message_items")[0][0] == 2)
        with world.process("sender", crash=f"notification-sender:{step}:2", collect_s=0) as first:
            # rounds without messages count as steps too, so it may be killed sooner or later in its life
            world.claim(1, claim="d")
            wait(lambda: first.poll() is not None or world.idle())
        world.leases_end()
        with world.process("sender"):
            wait(lambda: len(world.messages()) == 4 and world.idle())
        # the worker is killed when this ends, with whatever it has not published
        wait(lambda: sum(isinstance(data, MessageSent) for _, _, data in world.published()) >= 4)

    assert set(Counter(mail["Message-ID"] for mail in world.post.mails).values()) == {1}
    assert len(world.post.mails) == 4
    assert sum(isinstance(data, MessageSent) for _, _, data in world.published()) == 4


def test_a_lost_answer_is_counted_and_sent_again(world: World) -> None:
    before = counted("repeated")
    world.post.answers["lost"] = ["once"]
    with world.running():
        world.claim(1)
        wait(world.idle)

    assert counted("repeated") == before + 1
    assert sum(row[0] for row in world.messages("repeats")) == 1
    assert len(world.post.mails) == 3


def test_mail_server_down_then_up(world: World) -> None:
    world.post.stop()
    with world.running(collect_s=60):
        world.claim(FLIGHT + 10, sellers=FLIGHT + 10)
        wait(lambda: len(world.messages()) == FLIGHT + 11)
        time.sleep(1)
        assert not world.post.mails
        world.post.start()
        wait(world.idle)

    assert set(world.messages("state, repeats")) == {("sent", 0)}
    assert len(world.post.mails) == FLIGHT + 11


def test_refusals_of_a_recipient(world: World) -> None:
    """For now: later. For good, or nowhere to send to: the inbox, and the window begins all the same."""
    world.post.answers = {"seller-0@x.example": ["451 later"], "seller-1@x.example": ["550 no such user"]}
    with world.running():
        world.claim(1, claim="a", sellers=1)
        world.say(State.NOTIFIED, item="b.1", claim="b", listing="b-1", seller="seller-1", revision=1)
        world.say(State.NOTIFIED, item="e.1", claim="e", listing="e-1", seller="erased-1", revision=1)
        wait(world.idle)

    assert world.messages("party, channel, result, tries", "kind = 'seller_notice'") == [
        ("erased-1", "inbox", "no_contact", 0),
        ("seller-0", "email", "sent", 1),
        ("seller-1", "inbox", "refused", 0),
    ]
    notices = [data for _, _, data in world.published() if isinstance(data, NoticeSent)]
    assert {data.item for data in notices} == {"a.1", "b.1", "e.1"}


def test_intake_down_nothing_is_sent_without_contacts(world: World) -> None:
    FakeIntake.down = True
    with world.running():
        world.claim(1)
        wait(lambda: FakeIntake.calls["/internal/contacts"] > 1)
        assert not world.post.mails
        FakeIntake.down = False
        wait(world.idle)

    assert {row[0] for row in world.messages("channel")} == {"email"}
    assert {row[0] for row in world.messages("repeats")} == {0}


def test_several_senders_share_the_work(world: World) -> None:
    for n in range(200):
        world.claim(1, claim=f"c{n}")
    with world.running(workers=2, senders=3):
        wait(lambda: len(world.messages()) == 400 and world.idle(), timeout_s=120)

    assert set(Counter(mail["Message-ID"] for mail in world.post.mails).values()) == {1}
    assert len(world.post.mails) == 400
    items = world.sql("select count(*), count(distinct (item, revision, kind, party)) from notification.message_items")
    assert items == [(400, 400)]
    told = Counter(data.item for _, _, data in world.published() if isinstance(data, NoticeSent))
    assert set(told.values()) == {1}
    assert len(told) == 200


def test_an_announcement_that_was_set_aside_can_be_run_again(world: World) -> None:
    """Rows of the queue carry a whole event, as the runtime needs it."""
    with world.running(workers=0):
        world.sql(
            "insert into notification.message_items (item, revision, kind, party, claim, claim_size, partition, listing, opened_wall, facts)"
            " values ('c.1', 1, 'outcome', %s, 'c', 1, 0, 'l', now(), %s)",
            HOLDER,
            msgspec.json.encode(
                {
                    "listing": "l",
                    "complainant": HOLDER,
                    "principal": HOLDER,
                    "right": "r",
                    "right_type": "trademark",
                    "reason": "counterfeit",
                    "policy": "ipp-2026-11",
                    "state": "REJECTED",
                }
            ).decode(),
        )
        wait(lambda: world.messages(where="state = 'sent'"))
    engine = db.connect(world.stack.role_url("notification"), schema="notification", name="test")
    with engine.begin() as connection:
        tx = Tx(connection, NOW, NOW, range(PARTITIONS), {}, frozenset({"l"}))
        assert not Notification().pull(tx, 10)
        tx.blocked = frozenset()
        (row,) = Notification().pull(tx, 10)
    engine.dispose()
    envelope = events.decode_envelope(row.raw)
    assert events.decode_data(envelope) == row.data
    assert (envelope.id, envelope.type) == (row.id, row.type)


def test_a_seller_is_told_of_sanctions(world: World) -> None:
    imposed = events.SanctionChanged(
        seller="s-1",
        sanction="abc.s1",
        change="imposed",
        cause="threshold",
        measures=("frozen",),
        ledger="general",
        level=3,
        begins=NOW,
        ends=NOW + dt.timedelta(days=7),
        entry="e.3",
        claim="c-1",
        at=NOW,
    )
    lifted = msgspec.structs.replace(imposed, change="lifted", cause="reversal")
    replaced = msgspec.structs.replace(imposed, sanction="abc.s2", change="ended", cause="replaced")
    standing = events.StandingChanged(seller="s-1", general_points=12, serious_strikes=0, violations=3, at=NOW)
    with world.running():
        for type_, data in (
            ("goodfaith.standing.changed.v1", standing),
            *(("goodfaith.sanction.changed.v1", x) for x in (imposed, replaced, lifted)),
        ):
            raw = events.encode(
                data,
                id=uuid.uuid4().hex,
                source="/goodfaith/enforcement-ledger",
                type=type_,
                subject="s-1",
                time=NOW,
                key="s-1",
            )
            partition = topics.partition_of("s-1", PARTITIONS)
            world.producer.send(world.prefix + "enforcement.ledger", value=raw, key=b"s-1", partition=partition).get(10)
        wait(lambda: len(world.messages()) == 2 and world.idle())
    assert world.messages("kind, party, claim, channel, result", "kind like 'account.%%'") == [
        ("account.sanction_imposed", "s-1", "abc.s1.imposed", "email", "sent"),
        ("account.sanction_lifted", "s-1", "abc.s1.lifted", "email", "sent"),
    ]
    mails = {mail["Subject"]: mail for mail in world.post.to("s-1@x.example")}
    assert sorted(mails) == ["A measure against your account s-1", "A measure against your account s-1 is lifted"]
    first = mails["A measure against your account s-1"]
    assert "2026-12-01 12:00 UTC" in first.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    told = [data for _, _, data in world.published() if isinstance(data, AccountTold)]
    assert {(data.account, data.kind, data.about) for data in told} == {
        ("s-1", "sanction_imposed", "abc.s1"),
        ("s-1", "sanction_lifted", "abc.s1"),
    }


def test_an_account_is_told_once_of_each_notice(world: World) -> None:
    """Known kinds and unknown ones, next to a claim; a notice that comes again is the same message."""
    with world.running(workers=2, senders=2):
        for _ in range(2):
            world.notify(
                "a-1", "right_expiring", notice="n-1", about="r-9", figures={"expires_at": "2026-12-24T12:00:00Z"}
            )
        world.notify("a-2", "of_no_known_kind", notice="n-2", figures={"takedown_rate": 0.88})
        world.notify("erased-3", "seller_notice", notice="n-3")
        world.claim(1)
        wait(lambda: len(world.messages()) == 5 and world.idle())

    assert world.messages("kind, party, claim, channel, result", "kind like 'account.%%'") == [
        ("account.of_no_known_kind", "a-2", "n-2", "email", "sent"),
        ("account.right_expiring", "a-1", "n-1", "email", "sent"),
        ("account.seller_notice", "erased-3", "n-3", "inbox", "no_contact"),
    ]
    (mail,) = world.post.to("a-1@x.example")
    assert "r-9" in mail.get_body(("plain",)).get_content()
    assert "of no known kind" in world.post.to("a-2@x.example")[0]["Subject"]
    told = {data.notice: (place, key, data) for place, key, data in world.published() if isinstance(data, AccountTold)}
    assert sorted(told) == ["n-1", "n-2", "n-3"]
    for place, key, data in told.values():
        assert (key, place) == (data.account, topics.partition_of(data.account, PARTITIONS))
    assert (told["n-1"][2].kind, told["n-1"][2].about) == ("right_expiring", "r-9")
    assert told["n-2"][2].template == "account.notice"
    assert len([data for _, _, data in world.published() if isinstance(data, NoticeSent)]) == 1


def test_a_code_is_in_the_mail_and_nowhere_else(world: World) -> None:
    with world.running():
        world.notify("a-1", "email_code", notice="n-1", figures={"minutes": 60})
        world.notify("a-2", "email_code", notice="old-2", figures={"minutes": 60})
        wait(lambda: len(world.messages()) == 2 and world.idle())

    (mail,) = world.post.mails
    assert "CODE-n-1" in mail.get_body(("plain",)).get_content()
    assert world.messages("party, channel, result") == [("a-1", "email", "sent"), ("a-2", "inbox", "outdated")]
    tables = world.sql("select tablename from pg_tables where schemaname = 'notification'")
    for (table,) in tables:
        assert not world.sql(f"select 1 from notification.{table} t where t::text like '%%CODE-%%'")
    assert all("CODE-" not in str(data) for _, _, data in world.published())
    raw = mail.as_bytes(policy=mail.policy.clone(linesep="\r\n"))
    assert digest(raw) not in {row[0] for row in world.messages("digest")}
