"""Messages by webhooks, on the real broker and database, to a real server."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from standardwebhooks import Webhook

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.accounts.webhooks import new_secret
from services.notification import webhook_store
from services.notification.domain import deadline
from services.notification.webhooks import Webhooks
from shared import db, events, migrate, topics
from shared.events import AccountChannels, NoticeSent, State, WebhookDisabled, WebhookKnown
from tests.integration.hooks import Hooks
from tests.integration.test_notification import PARTITIONS, FakeIntake, Post, World, wait
from tests.patience import PATIENCE_S
from tests.unit.notification.making import NOW, facts

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]


class FakeIntakeWithHooks(FakeIntake):
    """Intake's internal calls, with webhooks."""

    known: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    def do_POST(self) -> None:  # noqa: N802
        if not self.path.endswith("/webhooks"):
            super().do_POST()
            return
        ids = json.loads(self.rfile.read(int(self.headers["content-length"])))["ids"]
        found = {id_: {"webhooks": self.known[id_]} for id_ in ids if id_ in self.known}
        raw = json.dumps({"webhooks": found}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Wide(World):
    """The installation, with webhooks of parties."""

    hooks: Hooks

    def environment(self, **more: Any) -> dict[str, Any]:
        return super().environment(
            **{
                "webhook_networks": ["127.0.0.0/8"],
                "webhook_http": True,
                "webhook_ports": [],
                "webhook_timeout_s": 1.0,
                "collect_s": 0.2,
                **more,
            }
        )

    def wants(
        self, party: str, *paths: str, order: tuple[Any, ...] = ("webhook", "email"), revision: int = 1
    ) -> list[str]:
        """Let the party have webhooks at these paths; returns their secrets."""
        secrets = [new_secret() for _ in paths]
        FakeIntakeWithHooks.known[party] = [
            {
                "id": f"w-{party}-{n}",
                "url": self.hooks.url(path),
                "secrets": [secret],
                "kinds": [],
                "generation": revision,
            }
            for n, (path, secret) in enumerate(zip(paths, secrets, strict=True))
        ]
        self.channels(party, [f"w-{party}-{n}" for n in range(len(paths))], order, revision)
        return secrets

    def channels(self, party: str, ids: list[str], order: tuple[Any, ...], revision: int) -> None:
        data = AccountChannels(
            account=party,
            revision=revision,
            order=order,
            at=NOW,
            webhooks=tuple(WebhookKnown(webhook=id_, generation=revision) for id_ in ids),
        )
        raw = events.encode(
            data,
            id=uuid.uuid4().hex,
            source="/goodfaith/intake",
            type="goodfaith.account.channels.v1",
            subject=party,
            time=NOW,
            key=party,
        )
        partition = topics.partition_of(party, PARTITIONS)
        self.producer.send(self.prefix + "intake.accounts", value=raw, key=party.encode(), partition=partition).get(10)

    def told(self, party: str, revision: int = 1) -> None:
        """Wait until notification knows of the party's channels."""
        wait(
            lambda: self.sql("select 1 from notification.channels where party = %s and revision = %s", party, revision)
        )

    def outcome(self, claim: str, party: str) -> None:
        """Something that begins no window."""
        self.say(
            State.REJECTED,
            item=f"{claim}.1",
            claim=claim,
            claim_size=1,
            previous=State.UNDER_REVIEW,
            complainant=party,
            principal=party,
            seller=None,
            listing=f"{claim}-listing",
        )

    def notice(self, claim: str, seller: str) -> None:
        """Something that begins a window, for the seller alone."""
        self.say(
            State.NOTIFIED,
            item=f"{claim}.1",
            claim=claim,
            claim_size=1,
            listing=f"{claim}-listing",
            seller=seller,
            revision=2,
            previous=State.UNDER_REVIEW,
        )

    @contextlib.contextmanager
    def calling(self, *, processes: int = 1, **more: Any) -> Iterator[list[Webhooks]]:
        parts = [Webhooks(self.settings(instance=f"h{n}", **more)) for n in range(processes)]
        threads = [threading.Thread(target=part.run) for part in parts]
        with self.running(**more):
            for thread in threads:
                thread.start()
            try:
                yield parts
            finally:
                self.hooks.let_go()
                for part in parts:
                    part.stop()
                for thread in threads:
                    thread.join(30)
                    assert not thread.is_alive()

    @contextlib.contextmanager
    def process(self, role: str, *, crash: str = "", **more: Any) -> Iterator[subprocess.Popen[bytes]]:
        settings = {
            f"GOODFAITH_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
            for name, value in self.environment(**more).items()
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "services.notification", role],
            env={**os.environ, **settings, "GOODFAITH_CRASH_AT": crash},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def deliveries(self, columns: str = "endpoint, state, result", where: str = "true") -> list[tuple[Any, ...]]:
        return self.sql(
            f"select {columns} from notification.webhook_deliveries where {where} order by endpoint, message"
        )

    def hurry(self) -> None:
        """As if every pause had passed."""
        self.sql(
            "update notification.webhook_deliveries set due_wall = clock_timestamp() where state in ('queued', 'sending')"
        )
        self.sql(
            "update notification.endpoints set due_wall = clock_timestamp(), until_wall = null, lease_wall = '-infinity'"
            " where state = 'enabled'"
        )


@pytest.fixture
def world(stack: Stack) -> Iterator[Wide]:
    migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
    post = Post(free_port(set()))
    post.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeIntakeWithHooks)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakeIntake.calls.clear()
    FakeIntake.down = False
    FakeIntakeWithHooks.known.clear()
    world = Wide(stack, f"t{uuid.uuid4().hex[:8]}.", post, f"http://127.0.0.1:{server.server_address[1]}")
    world.hooks = Hooks().start()
    tables = world.sql(
        "select tablename from pg_tables where schemaname = 'notification' and tablename not like 'alem%'"
    )
    world.sql("truncate " + ", ".join(f"notification.{name}" for (name,) in tables))
    topics.create(world.settings())
    yield world
    world.producer.close()
    world.hooks.stop()
    post.stop()
    server.shutdown()
    server.server_close()


def test_a_message_comes_signed_and_begins_the_window(world: Wide) -> None:
    with world.calling():
        (secret,) = world.wants("seller-1", "/ok/a")
        world.told("seller-1")
        world.notice("c", "seller-1")
        wait(lambda: world.messages(where="state = 'delivered'"))
        wait(world.idle)
        engine = db.connect(world.stack.role_url("notification"), schema="notification", name="test")
        with engine.begin() as connection:
            replayed = webhook_store.replay(connection, "w-seller-1-0", "seller-1", since=NOW - dt.timedelta(days=3650))
        engine.dispose()
        assert replayed is not None
        assert replayed.messages == 1
        wait(lambda: world.deliveries(where="state = 'delivered' and attempts = 2"))

    call, again = world.hooks.received
    assert (again.id, again.body) == (call.id, call.body)
    ((id_, channel, result),) = world.messages("id, channel, result", "party = 'seller-1'")
    assert (call.id, channel, result) == (id_, "webhook", "sent")
    told = Webhook(secret).verify(call.body, call.headers)
    assert told["type"] == "seller_notice"
    assert told["data"]["items"][0]["item"] == "c.1"
    assert told["data"]["deadline"] > told["timestamp"]
    for needed in ("Name of holder-1", "holder-1@x.example", "7654321", "https://market.example/items/c-listing"):
        assert needed in told["data"]["text"], needed
    assert call.headers["content-type"].startswith("application/json")
    assert not world.post.to("seller-1@x.example")
    assert [data.item for _, _, data in world.published() if isinstance(data, NoticeSent)] == ["c.1"]
    assert world.deliveries("state, attempts, repeats, replays, cardinality(log)") == [("delivered", 2, 0, 1, 2)]
    for table in (
        "messages",
        "webhook_deliveries",
        "announcements",
        "event_log",
        "deliveries",
        "endpoints",
        "channels",
    ):
        for needle in ("Name of", "x.example", "/ok/a", "whsec_"):
            assert not world.sql(f"select 1 from notification.{table} t where t::text like %s", f"%{needle}%"), table


def test_what_no_webhook_takes_goes_by_mail_and_begins_its_window_once(world: Wide) -> None:
    """Whatever the webhook does: after its time the notice is mailed."""
    paths = {"/redirect": "307", "/fail": "500", "/hang": "timeout", "/lost": "broken"}
    with world.calling(webhook_fallback_s=1.5):
        for n, path in enumerate(paths):
            world.wants(f"seller-{n}", path)
        for n in range(len(paths)):
            world.told(f"seller-{n}")
            world.notice(f"c{n}", f"seller-{n}")
        wait(lambda: len(world.messages(where="party like 'seller-%%' and state = 'sent'")) == len(paths))
        wait(world.idle)
    assert world.messages("channel, tried", "party like 'seller-%%'") == [("email", ["webhook"])] * len(paths)
    assert {row[0] for row in world.deliveries("result", "tries > 0")} == set(paths.values())
    assert {call.path for call in world.hooks.received} == set(paths)
    assert sorted(data.item for _, _, data in world.published() if isinstance(data, NoticeSent)) == [
        f"c{n}.1" for n in range(len(paths))
    ]


def test_what_was_mailed_before_comes_with_the_date_of_the_mail(world: Wide) -> None:
    """The window runs from the mail; a webhook that works again days later is told no later date."""
    world.hooks.answers["/ok/a"] = [500]
    with world.calling(webhook_fallback_s=0.5):
        world.wants("seller-1", "/ok/a")
        world.told("seller-1")
        world.notice("c", "seller-1")
        wait(lambda: world.messages(where="party = 'seller-1' and channel = 'email'"))
        wait(lambda: world.deliveries(where="tries = 1 and state = 'queued'"))
        ((made,),) = world.sql(
            "update notification.messages set rendered_at = rendered_at - interval '70 hours', sent_at = sent_at - interval '70 hours'"
            " where party = 'seller-1' returning rendered_at"
        )
        world.hurry()
        wait(lambda: world.deliveries(where="state = 'delivered'"))
        wait(world.idle)
    told = json.loads(world.hooks.received[-1].body)
    assert dt.datetime.fromisoformat(told["timestamp"]) == made
    assert dt.datetime.fromisoformat(told["data"]["deadline"]) == deadline("seller_notice", [facts()], made)
    assert world.messages("rendered_at, channel", "party = 'seller-1'") == [(made, "email")]


def test_gone_disables_and_the_message_goes_the_other_way_at_once(world: Wide) -> None:
    with world.calling():
        world.wants("seller-1", "/gone")
        world.told("seller-1")
        world.notice("c", "seller-1")
        wait(lambda: world.messages(where="party = 'seller-1' and channel = 'email'"))
        # intake has not yet heard of it, and still says that there is a webhook
        world.notice("d", "seller-1")
        wait(lambda: len(world.messages(where="party = 'seller-1' and channel = 'email'")) == 2)
        wait(world.idle)
    assert len(world.hooks.received) == 1
    assert world.sql("select state from notification.endpoints") == [("disabled",)]
    (told,) = [(place, key, data) for place, key, data in world.published() if isinstance(data, WebhookDisabled)]
    assert told[:2] == (topics.partition_of("seller-1", PARTITIONS), "seller-1")
    assert (told[2].reason, told[2].generation) == ("gone", 1)


def test_failing_for_days_disables(world: Wide) -> None:
    with world.calling(webhook_disable_s=0.5):
        world.wants("a-1", "/fail")
        world.told("a-1")
        world.outcome("c", "a-1")
        wait(lambda: world.deliveries(where="tries = 1"))
        time.sleep(0.5)
        world.hurry()
        wait(lambda: world.messages(where="party = 'a-1' and channel = 'email'"))
        wait(world.idle)
    assert [data.reason for _, _, data in world.published() if isinstance(data, WebhookDisabled)] == ["failing"]


def test_asked_to_wait_it_waits(world: Wide) -> None:
    world.hooks.answers["/ok/a"] = [429]
    with world.calling():
        world.wants("a-1", "/ok/a")
        world.told("a-1")
        world.outcome("c", "a-1")
        wait(lambda: world.deliveries(where="result = '429'"))
        ((failures, waits),) = world.sql("select failures, until_wall > clock_timestamp() from notification.endpoints")
        assert (failures, waits) == (0, True)
        wait(lambda: world.deliveries(where="state = 'delivered'"))
    first, second = world.hooks.received
    assert first.id == second.id
    assert second.at - first.at >= 1.0


def test_sick_ones_do_not_hold_up_others(world: Wide) -> None:
    """Twenty that hang, with a backlog each, before one that does not: it is called while they hang, one call each at a time."""
    with world.calling(webhook_timeout_s=120):
        for n in range(20):
            world.wants(f"sick-{n}", f"/hang/{n}")
        world.wants("well", "/ok/a")
        for party in (*(f"sick-{n}" for n in range(20)), "well"):
            world.told(party)
        for n in range(60):
            world.outcome(f"s{n}", f"sick-{n % 20}")
        wait(lambda: len(world.hooks.received) == 20)
        for n in range(10):
            world.outcome(f"w{n}", "well")
        wait(lambda: len(world.hooks.at("/ok/a")) == 10, timeout_s=100)  # they hang for longer
        assert not world.deliveries(where="party <> 'well' and tries > 0")
        assert {world.hooks.most_open[f"/hang/{n}"] for n in range(20)} == {1}
        assert world.hooks.most_open["/ok/a"] <= 2


def test_two_secrets_sign_and_kinds_are_heeded(world: Wide) -> None:
    """Both secrets of a webhook whose secret was changed; what it does not want it is not sent, but for what begins a window."""
    world.wants("seller-1", "/ok/a")
    old, new = new_secret(), new_secret()
    FakeIntakeWithHooks.known["seller-1"][0]["secrets"] = [new, old]
    known = WebhookKnown(webhook="w-seller-1-0", generation=1, kinds=("outcome",))
    with world.calling():
        world.told("seller-1")
        world.sql(
            "update notification.channels set webhooks = %s",
            json.dumps([{"webhook": known.webhook, "generation": 1, "kinds": ["outcome"]}]),
        )
        world.notify("seller-1", "account_resumed", notice="n-1")
        world.notice("c", "seller-1")
        wait(lambda: len(world.messages(where="party = 'seller-1' and state in ('sent', 'delivered')")) == 2)
        wait(world.idle)
    (call,) = world.hooks.received
    for secret in (old, new):
        assert Webhook(secret).verify(call.body, call.headers)["type"] == "seller_notice"
    assert world.messages("kind, channel", "party = 'seller-1'") == [
        ("account.account_resumed", "email"),
        ("seller_notice", "webhook"),
    ]


def test_killed_between_answer_and_commit_it_is_sent_again_under_its_id(world: Wide) -> None:
    with world.running(senders=0):
        world.wants("seller-1", "/ok/a")
        world.told("seller-1")
        world.notice("c", "seller-1")
        wait(lambda: world.sql("select 1 from notification.message_items where party = 'seller-1'"))
        with world.process("webhooks", crash="notification-webhooks:after_call:1") as first:
            assert first.wait(PATIENCE_S) == -signal.SIGKILL
        assert world.deliveries("state") == [("sending",)]
        world.hurry()
        with world.process("webhooks") as second:
            wait(lambda: world.messages(where="party = 'seller-1' and state = 'delivered'"))
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE_S) == 0
        wait(lambda: any(isinstance(data, NoticeSent) for _, _, data in world.published()))

    assert list(Counter(call.id for call in world.hooks.received).values()) == [2]
    assert world.deliveries("state, attempts, repeats") == [("delivered", 2, 1)]
    assert world.messages("attempts, repeats", "party = 'seller-1'") == [(2, 1)]
    assert sum(isinstance(data, NoticeSent) for _, _, data in world.published()) == 1


def test_deleted_or_enabled_again(world: Wide) -> None:
    """What waits for a webhook that its owner took away goes by e-mail; one that is in use again begins with a clean circuit."""
    with world.calling():
        world.wants("a-1", "/fail")
        world.told("a-1")
        world.outcome("c", "a-1")
        wait(lambda: world.deliveries(where="tries = 1"))
        world.wants("a-1", revision=2)
        wait(lambda: world.messages(where="party = 'a-1' and channel = 'email'"))
        assert world.deliveries("state") == [("dropped",)]
        world.wants("a-1", "/ok/a", revision=3)
        world.told("a-1", 3)
        assert world.sql("select state, failures, generation from notification.endpoints") == [("enabled", 0, 3)]
        world.outcome("d", "a-1")
        wait(lambda: len(world.hooks.at("/ok/a")) == 1)
