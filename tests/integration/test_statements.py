"""Statements of reasons on the real broker and database: exactly one for each restriction, whatever fails on the way."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from deploy.local.children import free_port
from deploy.local.stack import Stack
from deploy.transparency.server import Database
from services.enforcement import statements, store
from services.enforcement.statements import NewStatement, puid
from services.enforcement.transparency import Transparency
from services.enforcement.worker import Enforcement
from services.ops.statements import counts, retry, unsent
from services.ops.verify.verify import verify_stack
from shared import db, events, migrate, policy, topics
from shared.events import ItemChanged, Role, State
from tests import statements_policy
from tests.conftest import ROOT
from tests.integration.small_run import SmallRun
from tests.integration.test_enforcement import NOW, World, wait
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
TOKEN = "gf_statements_" + "t" * 43
RULES = policy.parse(statements_policy.text(), f"{statements_policy.VERSION}.toml")


class Desk(World):
    """Enforcement's world, with events of items under a policy of choice."""

    def change(
        self,
        item: str,
        revision: int,
        *,
        held: bool,
        by: Role = "system",
        version: str = statements_policy.VERSION,
        listing: str = "shoe",
        wait_s: float = 10,
        **more: Any,
    ) -> None:
        """An item changed."""
        self.send("verification.events", listing, self.event(item, revision, held, by, version, listing, more))

    def event(
        self, item: str, revision: int, held: bool, by: Role, version: str, listing: str, more: dict[str, Any]
    ) -> bytes:
        """As verification would publish it."""
        data = ItemChanged(
            item=item,
            claim=f"claim-of-{item}",
            claim_size=1,
            listing=listing,
            seller="s-1",
            complainant="h-1",
            principal="h-1",
            right="r-1",
            right_type="trademark",
            reason="counterfeit",
            profile=version.partition("-")[0],
            policy=version,
            revision=revision,
            state=State.NOTIFIED,
            rule="7-upheld-prima-facie",
            by=by,
            held=held,
            received_at=NOW,
            **more,
        )
        return events.encode(
            data,
            id=more.get("id", uuid.uuid4().hex),
            source="/goodfaith/verification",
            type="goodfaith.item.notified.v1",
            subject=item,
            time=NOW,
            key=listing,
        )

    def kept(self) -> set[tuple[str, int]]:
        """Restrictions with a statement."""
        return set(self.sql("select item, revision from enforcement.statements"))

    def states(self) -> dict[str, int]:
        """How many statements there are in each state."""
        return dict(self.sql("select state, count(*) from enforcement.statements group by state"))


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    migrate.migrate(stack.admin_url, stack.role_passwords("enforcement"))
    desk = Desk(stack, f"t{uuid.uuid4().hex[:8]}.", free_port(set()), KafkaProducer(bootstrap_servers=stack.kafka))
    tables = desk.sql(
        "select tablename from pg_tables where schemaname = 'enforcement' and tablename not in ('alembic_version', 'ledger_entries')"
    )
    desk.sql(f"truncate {', '.join(f'enforcement.{name}' for (name,) in tables)}")
    topics.create(desk.settings("enforcement"))
    yield desk
    desk.producer.close()


@pytest.fixture
def eu() -> Iterator[Database]:
    database = Database(TOKEN)
    database.start()
    yield database
    database.stop()


@pytest.fixture
def sor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of policies, with one that asks for statements; it is that of this process meanwhile."""
    folder = tmp_path / "policies"
    statements_policy.write(folder)
    monkeypatch.setattr(policy.files, "FOLDER", folder)
    caches = (policy.load, policy.versions, policy.files._newest)
    for cached in caches:
        cached.cache_clear()
    yield folder
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


def sender(desk: Desk, eu: Database, **more: Any) -> Transparency:
    settings = {"statements_url": eu.url, "statements_token": TOKEN, "statements_timeout_s": 1.0} | more
    return Transparency(desk.settings("enforcement", **settings))


def keep(desk: Desk, number: int) -> set[str]:
    """Statements that wait, without a broker."""
    engine = db.connect(desk.stack.role_url("enforcement"), schema="enforcement", name="test")
    made = []
    for place in range(number):
        raw = desk.event(f"i-{place}", 2, True, "system", statements_policy.VERSION, "shoe", {})
        event = events.decode_data(events.decode_envelope(raw))
        assert isinstance(event, ItemChanged)
        body = msgspec.json.encode(statements.build(event, RULES, "suspend", NOW)).decode()
        made.append(NewStatement(puid(event.item, 2), event.item, 2, event.policy, body))
    with engine.begin() as connection:
        store.keep_statements(connection, made)
        store.keep_statements(connection, made)  # again: nothing happens
    engine.dispose()
    return {one.puid for one in made}


def drain(desk: Desk, *senders: Transparency, timeout_s: float = PATIENCE_S) -> None:
    """Send until nothing waits; waits are cut short."""
    until = time.monotonic() + timeout_s
    while desk.states().get("waiting"):
        assert time.monotonic() < until, desk.sql("select puid, tries, error from enforcement.statements limit 5")
        for one in senders:
            if not one.once():
                desk.sql("update enforcement.statements set next_wall = now() where state = 'waiting'")


def test_each_hold_under_a_policy_that_asks_has_one_statement(desk: Desk, eu: Database, sor: Path) -> None:
    settings = desk.settings("enforcement")
    with desk.running((Enforcement(settings), settings)):
        desk.change("a", 1, held=True)
        desk.change("a", 1, held=True)  # the same again, under another event's id
        desk.change("b", 1, held=True, by="reviewer")  # the listing is down already: a restriction all the same
        desk.change("a", 2, held=True)
        desk.change("a", 3, held=False)
        desk.change("a", 4, held=False)
        desk.change("a", 5, held=True)  # down once more: a second restriction
        desk.change("c", 1, held=True, version="ipp-2026-11")
        desk.change("d", 1, held=False)
        desk.change("e:1", 1, held=True, listing="hat")
        desk.change("z", 1, held=True, listing="hat")
        wait(lambda: len(desk.kept()) == 5)
        wait(lambda: desk.sql("select sum(revision) from enforcement.holds") == [(5 + 1 + 1 + 1 + 1,)])
    assert desk.kept() == {("a", 1), ("b", 1), ("a", 5), ("e:1", 1), ("z", 1)}
    one = sender(desk, eu)
    try:
        drain(desk, one)
        one.look()
    finally:
        one.close()
    assert set(eu.taken) == {"a-1", "b-1", "a-5", "e_3a1-1", "z-1"}
    assert eu.calls == [5]
    assert eu.taken["b-1"]["automated_decision"] == "AUTOMATED_DECISION_NOT_AUTOMATED"
    assert desk.states() == {"sent": 5}


def test_a_lost_answer_makes_no_second_statement(desk: Desk, eu: Database) -> None:
    wanted = keep(desk, 3)
    eu.faults.extend(["drop after"])
    one = sender(desk, eu)
    try:
        assert one.once() == 3
        assert one.troubled
        assert set(eu.taken) == wanted
        assert desk.sql("select distinct state, tries, error is not null from enforcement.statements") == [
            ("waiting", 1, True)
        ]
        assert one.once() == 0, "they wait for their next time"
        drain(desk, one)
    finally:
        one.close()
    assert desk.states() == {"sent": 3}
    assert list(eu.taken) == sorted(wanted)


@pytest.mark.parametrize("names", [True, False], ids=["errors are named", "errors are not named"])
def test_whatever_fails_each_is_there_once(desk: Desk, eu: Database, names: bool) -> None:
    wanted = keep(desk, 250)
    eu.names_errors = names
    eu.faults.extend(["500", "drop before", "drop after", "slow", "drop after", "503", "drop after"])
    one = sender(desk, eu, statements_batch=40)
    try:
        drain(desk, one)
    finally:
        one.close()
    assert set(eu.taken) == wanted
    assert desk.states() == {"sent": 250}
    assert max(eu.calls) <= 40
    assert not eu.faults


@pytest.mark.parametrize("names", [True, False], ids=["errors are named", "errors are not named"])
def test_one_bad_statement_holds_up_no_other(desk: Desk, eu: Database, names: bool) -> None:
    wanted = keep(desk, 100)
    bad = {"i-7-2", "i-42-2"}
    eu.names_errors = names
    eu.refuse = lambda statement: "names a person" if statement["puid"] in bad else None
    one = sender(desk, eu)
    try:
        assert one.once() == 100
        assert set(eu.taken) == wanted - bad
        assert desk.states() == {"sent": 98, "refused": 2}
        assert len(eu.calls) <= (3 if names else 30)
        assert one.once() == 0, "what was refused waits for a person"
        one.look()
        engine = db.administer(desk.stack.admin_url, autocommit=True, pooled=False)
        with engine.connect() as connection:
            assert counts(connection) == {"sent": 98, "waiting": 0, "refused": 2}
            rows = unsent(connection)
            assert {row["puid"] for row in rows} == bad
            assert all("422" in row["error"] for row in rows)
            eu.refuse = lambda _: None
            assert retry(connection, "nobody") == []
            assert retry(connection, "i-7-2") == ["i-7-2"]
            assert retry(connection) == ["i-42-2"]
        engine.dispose()
        drain(desk, one)
    finally:
        one.close()
    assert set(eu.taken) == wanted
    assert desk.states() == {"sent": 100}


def test_a_wrong_token_or_address_refuses_nothing(desk: Desk, eu: Database) -> None:
    keep(desk, 2)
    for more in ({"statements_token": "wrong"}, {"statements_url": eu.url + "/nowhere"}):
        one = sender(desk, eu, **more)
        try:
            desk.sql("update enforcement.statements set next_wall = now()")
            assert one.once() == 2
            assert one.troubled
        finally:
            one.close()
    assert desk.states() == {"waiting": 2}
    assert not eu.taken


def test_several_senders_share_the_work(desk: Desk, eu: Database) -> None:
    wanted = keep(desk, 1200)
    senders = [sender(desk, eu, statements_timeout_s=20.0) for _ in range(4)]

    def work(one: Transparency) -> None:
        while one.once():
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one in senders:
        one.close()
    assert set(eu.taken) == wanted
    assert sum(eu.calls) == 1200, "none was sent twice"
    assert desk.states() == {"sent": 1200}


START = """
import sys
from pathlib import Path
from shared import policy
policy.files.FOLDER = Path(sys.argv[1])
from services.enforcement.__main__ import main
raise SystemExit(main(sys.argv[2:]))
"""


@pytest.mark.thorough
@pytest.mark.faults
def test_killed_processes_lose_no_statement_and_make_none_twice(desk: Desk, eu: Database, sor: Path) -> None:
    chance = random.Random(os.environ.get("GOODFAITH_SEED", "11"))
    kinds = {"worker-0": "worker", "worker-1": "worker", "statements-0": "statements", "statements-1": "statements"}
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        env = os.environ | {
            "GOODFAITH_KAFKA": desk.stack.kafka,
            "GOODFAITH_DATABASE": desk.stack.role_url("enforcement"),
            "GOODFAITH_TOPIC_PREFIX": desk.prefix,
            "GOODFAITH_PARTITIONS": "4",
            "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
            "GOODFAITH_LOG_LEVEL": "error",
            "GOODFAITH_RETRY_MAX_S": "0.5",
            "GOODFAITH_STATEMENTS_URL": eu.url,
            "GOODFAITH_STATEMENTS_TOKEN": TOKEN,
            "GOODFAITH_STATEMENTS_TIMEOUT_S": "1",
            "GOODFAITH_STATEMENTS_BATCH": "7",
        }
        running[name] = subprocess.Popen([sys.executable, "-c", START, str(sor), kinds[name]], env=env)

    for name in kinds:
        start(name)
    wanted: set[tuple[str, int]] = set()
    state: dict[str, tuple[int, bool]] = {}
    try:
        for step in range(1000):
            item = f"item-{chance.randrange(150)}"
            revision, held = state.get(item, (0, False))
            revision, held_now = revision + 1, chance.random() < 0.6
            if held_now and not held:
                wanted.add((item, revision))
            state[item] = (revision, held_now)
            desk.change(item, revision, held=held_now, listing=f"listing-{item[5:]}")
            if step % 20 == 0:
                eu.faults.append(chance.choice(["500", "503", "drop before", "drop after", "slow"]))
            if step % 125 == 60:
                name = chance.choice(list(kinds))
                running[name].kill()
                running[name].wait()
                start(name)
        wait(lambda: desk.kept() == wanted, timeout_s=120)

        def settled() -> bool:
            desk.sql(
                "update enforcement.statements set next_wall = now() where (item, revision) in (select item, revision"
                " from enforcement.statements where state = 'waiting' and error is not null"
                " and next_wall > now() + interval '2 s' for update skip locked)"
            )
            return desk.states() == {"sent": len(wanted)}

        wait(settled, timeout_s=120)
        assert set(eu.taken) == {puid(item, revision) for item, revision in wanted}
        assert [name for name, process in running.items() if process.poll() is not None] == []
        assert desk.sql("select count(*) from enforcement.dead_letters") == [(0,)]
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(PATIENCE_S)


@pytest.mark.thorough
def test_a_whole_run_under_the_dsa_has_its_statements(eu: Database) -> None:
    """Every process of the fleet, from the claim to the EU's database; `goodfaith verify` finds nothing amiss."""
    # a stack of its own: the whole fleet works on it
    whole = Stack.start(ROOT, f"test-{os.getpid()}-dsa")
    eu.token = whole.secret("statements_token")
    eu.faults.extend(["drop after", "503"])
    # of the version before evidence was needed: nobody reviews here
    settings = {"GOODFAITH_STATEMENTS_URL": eu.url, "GOODFAITH_PINNED_POLICIES": '{"dsa": "dsa-2026-11"}'}
    run = SmallRun(whole, settings, profile="dsa")
    try:
        run.play()
        report = verify_stack(run.settings, wait_s=60)
        assert report.clean, report.kinds
        with run.engine.connect() as connection:
            kept = dict(connection.exec_driver_sql("select puid, state from enforcement.statements").all())
            held = connection.exec_driver_sql("select item from enforcement.holds where revision > 0").scalars().all()
    finally:
        run.close()
        whole.destroy()
    assert len(kept) > 10
    assert set(kept.values()) == {"sent"}
    assert set(eu.taken) == set(kept)
    assert {name.rpartition("-")[0] for name in kept} <= set(held)
    assert {body["automated_decision"] for body in eu.taken.values()} == {"AUTOMATED_DECISION_FULLY"}
    assert {tuple(body["category_specification"]) for body in eu.taken.values()} == {
        ("KEYWORD_TRADEMARK_INFRINGEMENT",),
        ("KEYWORD_COPYRIGHT_INFRINGEMENT",),
    }
    text = json.dumps(list(eu.taken.values()))
    for party in ("h-owl", "s-anna", "s-ben", "s-cleo", "li-1"):
        assert party not in text


def test_the_stand_in_keeps_what_it_took(tmp_path: Path) -> None:
    file = tmp_path / "taken.jsonl"
    body = {"puid": "x-1"}
    first = Database(TOKEN, file=file)
    assert first.post(b'{"statements": [{"puid": "x-1"}]}')[0] == 422, "not a whole statement"
    assert [first.post(raw)[0] for raw in (b"no", b"[]", b'{"statements": []}', b'{"statements": 1}')] == [422] * 4
    event = ItemChanged(
        item="x",
        claim="c",
        claim_size=1,
        listing="l",
        complainant="h",
        principal="h",
        right="r",
        right_type="design",
        reason="design",
        profile="sor",
        policy=statements_policy.VERSION,
        revision=1,
        state=State.NOTIFIED,
        rule="7",
        received_at=NOW,
    )
    body = msgspec.to_builtins(statements.build(event, RULES, "remove", NOW + dt.timedelta(hours=1)))
    raw = msgspec.json.encode({"statements": [body]})
    assert first.post(raw)[0] == 201
    assert first.post(msgspec.json.encode({"statements": [body] * 101}))[0] == 422
    first.start()
    first.stop()
    again = Database(TOKEN, file=file)
    status, answer = again.post(raw)
    assert (status, answer["errors"]["existing_puids"]) == (422, ["x-1"])
    again.start()
    again.stop()
