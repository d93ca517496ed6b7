"""The local stack itself: joined, killed, restarted, cleaned up, and two side by side."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.local import prometheus
from deploy.local.children import StackError, free_port
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from labs.pager import Pager
from shared.failures import CommandError
from tests.conftest import ROOT
from tests.left_out import own_processes
from tests.patience import PATIENCE_S

pytestmark = [
    pytest.mark.stack,
    own_processes,
]


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack that may be damaged; it runs next to the session's, which other tests use."""
    stack = Stack.start(ROOT, f"test-{os.getpid()}-own")
    yield stack
    Fleet.end(stack.dir)
    stack.destroy()


def create_topic(stack: Stack, name: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=stack.kafka)) as admin:
        admin.create_topics([NewTopic(name, 1, 1)])


def produce(stack: Stack, topic: str, *values: bytes) -> None:
    with closing(KafkaProducer(bootstrap_servers=stack.kafka, acks="all")) as producer:
        for sent in [producer.send(topic, value) for value in values]:
            sent.get(timeout=30)


def consume(stack: Stack, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, auto_offset_reset="earliest", consumer_timeout_ms=15_000)
    with closing(consumer):
        consumer.assign([TopicPartition(topic, 0)])
        return [record.value for _, record in zip(range(count), consumer, strict=False)]


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def state(stack: Stack) -> dict[str, dict[str, Any]]:
    return dict(json.loads((stack.dir / "stack.json").read_bytes()))


def write_state(stack: Stack, part: str, **values: object) -> None:
    changed = state(stack)
    changed[part].update(values)
    (stack.dir / "stack.json").write_text(json.dumps(changed))


def test_start_joins_the_running_stack(own: Stack) -> None:
    before = state(own)
    again = Stack.start(ROOT, own.name)
    assert (again.kafka, again.admin_url) == (own.kafka, own.admin_url)
    assert state(own) == before
    with pytest.raises(CommandError, match="runs on port"):
        Stack.start(ROOT, own.name, kafka_port=free_port())


def test_secrets_are_readable_by_their_owner_only(own: Stack) -> None:
    assert stat.S_IMODE((own.dir / "stack.json").stat().st_mode) == 0o600
    assert own.secret("internal_token") == Stack.start(ROOT, own.name).secret("internal_token")
    for pid in (state(own)["kafka"]["handle"], state(own)["postgres"]["handle"]):
        command = " ".join(psutil.Process(pid).cmdline())
        assert str(state(own)["postgres"]["password"]) not in command


def test_only_loopback_listens(own: Stack) -> None:
    for part in ("kafka", "postgres"):
        for connection in psutil.Process(state(own)[part]["handle"]).net_connections():
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1")


def test_a_role_logs_in_with_its_own_password_and_may_nothing(own: Stack) -> None:
    url = own.role_url("intake")
    assert url == own.role_url("intake")
    assert query(url, "SELECT current_user, current_database()") == [("goodfaith_intake", "goodfaith")]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(url, "CREATE SCHEMA mine")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        query(url.replace(own.role_passwords("intake")["intake"], "wrong"), "SELECT 1")


def test_the_database_keeps_what_it_committed_when_killed(own: Stack) -> None:
    url = own.role_url("intake")
    query(own.admin_url, "CREATE TABLE kept (n int)")
    query(own.admin_url, "INSERT INTO kept SELECT generate_series(1, 1000)")
    with closing(psycopg2.connect(own.admin_url)) as open_session:
        open_session.cursor().execute("INSERT INTO kept VALUES (0)")  # never committed
        own.kill_postgres()
        with pytest.raises(psycopg2.OperationalError):
            query(own.admin_url, "SELECT 1")
        assert Stack.join(ROOT, own.name) is None
        partly = Stack.join(ROOT, own.name, whole=False)
        assert partly is not None
        assert partly.role_url("intake") == url  # a process can be started while the database is down
        own.start_postgres()
    assert query(own.admin_url, "SELECT count(*), min(n) FROM kept") == [(1000, 1)]


def test_the_database_starts_again_when_only_its_postmaster_was_killed(own: Stack) -> None:
    with closing(psycopg2.connect(own.admin_url)) as busy:
        busy.cursor().execute("SELECT pg_stat_clear_snapshot()")
        pid = state(own)["postgres"]["handle"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        own.start_postgres()
    assert query(own.admin_url, "SELECT 1") == [(1,)]


def test_the_broker_keeps_what_it_acknowledged_when_killed(own: Stack) -> None:
    create_topic(own, "kept")
    values = [str(n).encode() for n in range(1000)]
    produce(own, "kept", *values)
    own.kill_kafka()
    own.start_kafka()
    assert consume(own, "kept", len(values)) == values
    create_topic(own, "after")  # the controller is back as well


def test_stop_keeps_data_and_ports(own: Stack) -> None:
    create_topic(own, "stopped")
    produce(own, "stopped", b"x")
    query(own.admin_url, "CREATE TABLE stopped ()")
    own.stop()
    assert own.running() == {"kafka": False, "postgres": False}
    assert Stack.join(ROOT, own.name) is None
    again = Stack.start(ROOT, own.name)
    assert (again.kafka, again.admin_url) == (own.kafka, own.admin_url)
    assert consume(again, "stopped", 1) == [b"x"]
    assert query(again.admin_url, "SELECT count(*) FROM stopped") == [(0,)]


def test_a_half_started_stack_is_cleaned_up(own: Stack) -> None:
    own.stop()
    # The invocation before died: one process it had started is not recorded, the other's record names somebody else's
    # pid, and so does the pid file that PostgreSQL left.
    stranger = os.getpid()
    pid_file = own.dir / "postgres" / "postmaster.pid"
    own.start_postgres()
    lines = pid_file.read_text().splitlines()
    own.kill_postgres()
    pid_file.write_text("\n".join([str(stranger), *lines[1:]]) + "\n")
    own.start_kafka()
    orphan = state(own)["kafka"]["handle"]
    assert isinstance(orphan, int)
    write_state(own, "kafka", handle=None)
    write_state(own, "postgres", handle=stranger)
    (own.dir / "stack.json.new").write_text("{")

    again = Stack.start(ROOT, own.name)

    assert (again.kafka, again.admin_url) == (own.kafka, own.admin_url)
    assert state(own)["kafka"]["handle"] == orphan
    assert query(again.admin_url, "SELECT 1") == [(1,)]
    create_topic(again, "half-started")


def test_an_interrupted_first_start_is_begun_again() -> None:
    name = f"test-{os.getpid()}-new"
    folder = ROOT / name
    (folder / "postgres.new" / "base").mkdir(parents=True)
    (folder / "kafka" / "data").mkdir(parents=True)
    (folder / "kafka" / "data" / "meta.properties").write_text("version=1\n")
    stack = Stack.start(ROOT, name)
    try:
        create_topic(stack, "again")
        assert query(stack.admin_url, "SELECT 1") == [(1,)]
    finally:
        stack.destroy()
    assert not folder.exists()


def test_a_second_stack_next_to_the_first(own: Stack) -> None:
    other = Stack.start(ROOT, f"test-{os.getpid()}-other")
    try:
        assert other.kafka != own.kafka
        assert other.admin_url != own.admin_url
        create_topic(other, "only-there")
        with closing(KafkaAdminClient(bootstrap_servers=own.kafka)) as admin:
            assert "only-there" not in admin.list_topics()
    finally:
        other.destroy()
    assert own.running() == {"kafka": True, "postgres": True}


def test_a_stack_outlives_the_invocation_that_started_it() -> None:
    name = f"test-{os.getpid()}-cli"
    program = (
        f"from pathlib import Path; from deploy.local.stack import Stack; Stack.start(Path({str(ROOT)!r}), {name!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    stack = Stack.join(ROOT, name)
    assert stack is not None
    try:
        assert query(stack.admin_url, "SELECT 1") == [(1,)]
        pids = [state(stack)[part]["handle"] for part in ("kafka", "postgres")]
    finally:
        stack.destroy()
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_what_the_environment_names_is_used_and_left_alone(
    own: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOODFAITH_KAFKA", own.kafka)
    monkeypatch.setenv("GOODFAITH_DATABASE", own.admin_url)
    named = Stack.start(tmp_path, "named")
    assert (named.kafka, named.admin_url) == (own.kafka, own.admin_url)
    assert query(named.role_url("notification"), "SELECT current_user") == [("goodfaith_notification",)]
    with pytest.raises(StackError, match="was not started by"):
        named.kill_kafka()
    assert Stack.join(tmp_path, "named") is not None
    named.destroy()
    monkeypatch.undo()
    assert own.running() == {"kafka": True, "postgres": True}


@pytest.mark.parametrize("name", ["cache", "lock", "../x", "", "A", "a b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="no name for a stack"):
        Stack.start(ROOT, name)


def test_a_process_is_started_killed_and_found_again(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet.start(own, {"mailbox": 1}).wait_ready()
    mailbox = fleet["mailbox.0"]
    with smtplib.SMTP("127.0.0.1", own.port("smtp")) as smtp:
        smtp.sendmail(
            "a@example.com", ["b@example.com"], b"Subject: =?utf-8?q?M=C3=BCller?=\r\nMessage-ID: <1@x>\r\n\r\nx"
        )
    mailbox.kill9()
    assert not mailbox.alive()
    assert not mailbox.ready()
    first = mailbox.pid
    mailbox.start().wait_ready()
    assert mailbox.pid != first

    found = Fleet.load(own)["mailbox.0"]
    assert (found.pid, found.ready()) == (mailbox.pid, True)
    assert Fleet.start(own, {"mailbox": 1})["mailbox.0"].pid == mailbox.pid

    found.signal(signal.SIGSTOP)  # a stopped process ends as well
    sent, kill = [], os.kill
    with monkeypatch.context() as watched:
        watched.setattr(os, "kill", lambda pid, number: (sent.append(number), kill(pid, number)))
        assert Fleet.end(own.dir) == ["mailbox.0"]
    # by itself: it was not waited for in vain, and not killed
    assert [number for number in sent if number] == [signal.SIGTERM, signal.SIGCONT]
    assert not mailbox.alive()

    (line,) = (own.dir / "mailbox.jsonl").read_text().splitlines()
    message = json.loads(line)
    assert (message["from"], message["to"], message["subject"]) == ("a@example.com", ["b@example.com"], "Müller")
    assert (own.dir / message["file"]).stat().st_size == message["size"]


def test_a_process_that_ends_at_once_is_reported_with_its_log(own: Stack) -> None:
    fleet = Fleet.start(own, {"mailbox": 1}, env={"GOODFAITH_LOG_LEVEL": "shouting"})
    try:
        with pytest.raises(StackError, match=r"mailbox.0 ended while starting(.|\n)*log_level"):
            fleet.wait_ready()
    finally:
        own.environment(GOODFAITH_LOG_LEVEL="info")
    with pytest.raises(CommandError, match="neither a service nor a process: mailman"):
        Fleet.start(own, {"mailman": 1})


@pytest.mark.skipif(bool(prometheus.missing()) and not os.environ.get("CI"), reason="Prometheus is not installed")
def test_a_stack_is_observed(own: Stack) -> None:
    mailbox = Fleet.start(own, {"mailbox": 1}).wait_ready()["mailbox.0"]

    def up() -> list[str]:
        answer = httpx.get(
            own.observers()["prometheus"] + "/api/v1/query", params={"query": "up{job='mailbox'}"}, trust_env=False
        )
        return [row["value"][1] for row in answer.json()["data"]["result"]]

    def wait_for(wanted: list[str]) -> None:
        until = time.monotonic() + 120
        while up() != wanted:
            assert time.monotonic() < until, (up(), wanted)
            time.sleep(0.1)

    try:
        with Pager() as pager:
            own.observe(prometheus.Plan(scrape_s=0.2, speed=60, sink=pager.url))
            wait_for(["1"])
            mailbox.kill9()  # it is to run: so it is seen to be down
            wait_for(["0"])
            targets = own.dir / "targets.json"
            assert [one["labels"]["instance"] for one in json.loads(targets.read_bytes())] == ["mailbox.0"]
            mailbox.terminate()  # it is not to run any more
            assert json.loads(targets.read_bytes()) == []
            watchdog = pager.wait(lambda note: note.alert == "Watchdog", since=0, timeout_s=PATIENCE_S)
            assert watchdog is not None
            assert watchdog.firing
        before = own.observers()
        own.observe(prometheus.Plan(scrape_s=0.2, speed=60))  # again: the same processes, with the new configuration
        assert own.observers() == before
        mailbox.start()
        wait_for(["1"])
        os.kill(state(own)["prometheus"]["handle"], signal.SIGKILL)
        mailbox.terminate()
        # no end of its series was written, and five minutes of the rules' time are less than the wait
        own.observe(prometheus.Plan(scrape_s=0.2, speed=60))
        wait_for([])
        for part in prometheus.BINARIES:
            for connection in psutil.Process(state(own)[part]["handle"]).net_connections():
                assert connection.status != psutil.CONN_LISTEN or connection.laddr.ip == "127.0.0.1"
    finally:
        Fleet.end(own.dir)
        own.stop()
    assert own.observers() == {}
