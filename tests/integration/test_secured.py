"""A stack whose links are secured: who may do what at the broker, what is said when a link is refused, and logins exchanged."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.producer import ProduceRequest
from kafka.record.memory_records import MemoryRecordsBuilder

from deploy.local import fleet, postgres, up
from deploy.local.authority import Authority
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.secured import BROKER, HOSTS, write
from deploy.local.stack import Stack
from services.ops.broker import topic_plan
from services.ops.broker.login import at_broker
from services.ops.broker.topics import Broker, apply_to, compare
from shared import access, db, kafka_links, migrate, topics
from shared.callers import trust
from shared.settings import Settings
from tests.conftest import ROOT
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack

UPSTREAMS = '{"crm": "acc-1", "erp": "acc-2"}'


def needs_tls() -> None:
    """The bundled database has no TLS; `make test` installs the system's where it may."""
    try:
        postgres.binaries(tls=True)
    except StackError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def secured() -> Iterator[Stack]:
    """Broker and database, with topics and permissions; no tables, no process."""
    needs_tls()
    name = f"test-{os.getpid()}-secured"
    stack = Stack(ROOT, name)
    try:
        stack = Stack.start(ROOT, name, secure="password")
        stack.environment(GOODFAITH_UPSTREAMS=UPSTREAMS, GOODFAITH_PARTITIONS="2")
        up.prepare_broker(stack)
        yield stack
    finally:
        Fleet.end(stack.dir)
        stack.destroy()


def settings_as(stack: Stack, principal: str) -> Settings:
    """The settings of a process of this principal's."""
    login = stack.broker_login(principal)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**login, **stack.environment()}.items():
            patch.setenv(name, value)
        return Settings()


# ------------------------------------------------------------------------------------------------------------- who may what


DENIED = 29
"""TOPIC_AUTHORIZATION_FAILED"""


def written(settings: Settings, names: Sequence[str]) -> set[str]:
    """Topics of which the broker takes a record from this login; it is asked for all at once."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1024)
    builder.append(timestamp=int(time.time() * 1000), key=b"key", value=b"{}", headers=[])
    builder.close()
    topic = ProduceRequest.TopicProduceData
    data = [
        topic(name=name, partition_data=[topic.PartitionProduceData(index=0, records=builder.buffer())])
        for name in names
    ]
    asked = ProduceRequest(transactional_id=None, acks=-1, timeout_ms=30_000, topic_data=data, max_version=9)
    answer = ask(settings, asked)
    codes = {one.name: one.partition_responses[0].error_code for one in answer.responses}
    assert set(codes) == set(names)
    assert set(codes.values()) <= {0, DENIED}, codes
    return {name for name, code in codes.items() if not code}


def read(settings: Settings, names: Sequence[str]) -> set[str]:
    """The same for records that it hands out."""
    topic = FetchRequest.FetchTopic
    place = topic.FetchPartition(
        partition=0, current_leader_epoch=-1, fetch_offset=0, log_start_offset=-1, partition_max_bytes=10_000
    )
    asked = FetchRequest(
        max_wait_ms=1000,
        min_bytes=1,
        max_bytes=10_000_000,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[topic(topic=name, partitions=[place]) for name in names],
        forgotten_topics_data=[],
        rack_id="",
        max_version=11,
    )
    codes = {one.topic: one.partitions[0].error_code for one in ask(settings, asked).responses}
    assert set(codes) == set(names)
    assert set(codes.values()) <= {0, DENIED}, codes
    return {name for name, code in codes.items() if not code}


def ask(settings: Settings, request: Any) -> Any:
    """The broker's answer to a login's request."""
    admin = kafka_links.admin(settings)
    try:
        return admin._manager.run(admin._manager.send, request)
    finally:
        admin.close()


def test_each_principal_reads_and_writes_what_is_declared_and_nothing_else(secured: Stack) -> None:
    operator = fleet.settings_of(secured)
    names = [topic.name for topic in topics.of(operator)]
    assert written(operator, names) == read(operator, names) == set(names)
    others = [one for one in access.principals(operator) if not one.administers]
    assert {one.name for one in others} == {
        "intake",
        "verification",
        "enforcement",
        "notification",
        "streams",
        "marketplace",
        "watch",
        "upstream.crm",
        "upstream.erp",
    }
    for one in others:
        settings = settings_as(secured, one.name)
        assert written(settings, names) == {topic.name for topic in one.writes}, one.name
        assert read(settings, names) == {topic.name for topic in (*one.reads, *one.compares)}, one.name


def test_an_upstreams_client_is_refused_anothers_topic(secured: Stack) -> None:
    producer = kafka_links.producer(settings_as(secured, "upstream.crm"), max_block_ms=30_000, acks="all")
    try:
        producer.send("inbound.crm", b"{}", b"key").get(30)
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send("inbound.erp", b"{}", b"key").get(30)
    finally:
        producer.close(timeout=5)


def test_nobody_is_a_member_of_another_services_group(secured: Stack) -> None:
    consumer = kafka_links.consumer(
        settings_as(secured, "intake"), group_id="verification", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        consumer.subscribe([topics.VERIFICATION.name])
        with pytest.raises(GroupAuthorizationFailedError):
            consumer.poll(timeout_ms=30_000)
    finally:
        with contextlib.suppress(GroupAuthorizationFailedError):
            consumer.close(autocommit=False)


def test_what_is_applied_is_there_once_and_what_differs_is_mended(secured: Stack) -> None:
    settings = fleet.settings_of(secured)
    assert compare(settings).changes == ()
    wide = access.Acl("User:goodfaith-intake", "topic", "verification.events", False, "WRITE")
    broker = Broker(settings)
    try:
        broker.carry_out(topic_plan.Plan(changes=(topic_plan.Allow(wide),)))
        shorter = {"retention.ms": str(topics.DAY_MS)}
        broker._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "intake.events", shorter)])
    finally:
        broker.close()
    until = time.monotonic() + PATIENCE_S
    while len(compare(settings).changes) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    made = apply_to(settings)
    assert {str(change).split(":")[0] for change in made.changes} == {
        "intake.events",
        f"no longer allow {wide}".split(":")[0],
    }
    assert compare(settings) == topic_plan.Plan()


def test_what_would_lose_something_is_refused_and_nothing_is_done(secured: Stack) -> None:
    settings = fleet.settings_of(secured).model_copy(
        update={"partitions": 3, "upstreams": {"crm": "acc-1", "new": "acc-3"}}
    )
    made = apply_to(settings)
    assert made.refusals
    assert "inbound.new" in {change.topic for change in made.changes if isinstance(change, topic_plan.Create)}
    assert "inbound.new" not in {str(change) for change in compare(fleet.settings_of(secured)).changes}
    assert compare(fleet.settings_of(secured)) == topic_plan.Plan()


# ---------------------------------------------------------------------------------------------------------- what is refused


class Impostor:
    """A server of TLS with a certificate that has ended."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        ended = authority.issue("ended", HOSTS, ends=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), folder=folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(ended.certificate, ended.key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            with line, contextlib.suppress(OSError):
                self._context.wrap_socket(line, server_side=True).close()

    def close(self) -> None:
        """Serve no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


def environment(stack: Stack, name: str, folder: Path, changed: Mapping[str, str]) -> dict[str, str]:
    """Of a process that is not one of the stack's fleet."""
    spec = fleet.BY_NAME[name]
    own = {
        "METRICS_PORT": "0",
        "HTTP_PORT": "0",
        "INSTANCE": folder.name,
        "STATE_DIR": str(folder),
        "RETRY_MAX_S": "0.5",
    }
    found = fleet.environment(stack, spec, stack.environment()) | {
        f"GOODFAITH_{key}": value for key, value in own.items()
    }
    return {key: value for key, value in {**found, **changed}.items() if value}


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Entries of a log."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_link_that_is_refused_is_one_line_that_says_why(secured: Stack, tmp_path: Path) -> None:
    assert secured.secured is not None
    authority = secured.secured.authority
    write(tmp_path / "wrong", "not-the-password-at-all")
    ended = authority.issue(
        "goodfaith-verification", ends=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), folder=tmp_path
    )
    port = secured.kafka.rpartition(":")[2]
    by_certificate = secured.broker_login("operator")
    impostor = Impostor(tmp_path, authority)
    no_login = {"GOODFAITH_KAFKA_USER_FILE": "", "GOODFAITH_KAFKA_PASSWORD_FILE": ""}
    stranger = str(Authority(tmp_path / "stranger").certificate)
    cases: dict[str, tuple[str, dict[str, str], str]] = {
        "password": (
            "verification",
            {"GOODFAITH_KAFKA_PASSWORD_FILE": str(tmp_path / "wrong")},
            "does not take user 'goodfaith-verification' with this password",
        ),
        "streams": (
            "streams",
            {"GOODFAITH_KAFKA_PASSWORD_FILE": str(tmp_path / "wrong")},
            "does not take user 'goodfaith-streams' with this password",
        ),
        "authority": ("verification", {"GOODFAITH_KAFKA_CA": stranger}, "is not vouched for by the authorities in"),
        "name": ("verification", {"GOODFAITH_KAFKA": f"localhost:{port}"}, "is not for the name 'localhost'"),
        "ended": ("verification", {"GOODFAITH_KAFKA": impostor.address}, "the broker's certificate has expired"),
        "own-ended": (
            "verification",
            {
                **no_login,
                "GOODFAITH_KAFKA": by_certificate["GOODFAITH_KAFKA"],
                "GOODFAITH_KAFKA_SECURITY": "tls",
                "GOODFAITH_KAFKA_CERTIFICATE": str(ended.certificate),
                "GOODFAITH_KAFKA_KEY": str(ended.key),
            },
            "this process's certificate",
        ),
    }
    running = {}
    for case, (name, changed, _) in cases.items():
        (tmp_path / case).mkdir()
        with (tmp_path / f"{case}.log").open("w") as log:
            running[case] = subprocess.Popen(
                [sys.executable, "-m", *fleet.BY_NAME[name].command],
                env=environment(secured, name, tmp_path / case, changed),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT.parent,
            )
    try:
        until = time.monotonic() + 150
        for case, (_, _, says) in cases.items():
            while says not in (tmp_path / f"{case}.log").read_text():
                assert running[case].poll() is None, (tmp_path / f"{case}.log").read_text()
                assert time.monotonic() < until, (case, (tmp_path / f"{case}.log").read_text())
                time.sleep(0.1)
        time.sleep(3)  # several tries more, of which nothing is to be said
    finally:
        for process in running.values():
            process.kill()
            process.wait(PATIENCE_S)
        impostor.close()
    for case, (_, _, says) in cases.items():
        loud = [entry for entry in lines_of(tmp_path / f"{case}.log") if entry["level"] not in ("info", "debug")]
        assert len(loud) == 1, (case, loud)
        assert says in loud[0].get("error", loud[0]["event"]), case
        assert "not-the-password-at-all" not in (tmp_path / f"{case}.log").read_text()


# ----------------------------------------------------------------------------------------------------------- the database


def test_the_database_is_spoken_to_by_tls_alone_and_vouched_for(secured: Stack, tmp_path: Path) -> None:
    url = secured.role_url("intake")
    plain, _, _ = url.partition("?")
    with contextlib.closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute("select version from pg_stat_ssl where pid = pg_backend_pid()")
        assert cursor.fetchone() in (("TLSv1.3",), ("TLSv1.2",))
    stranger = Authority(tmp_path / "stranger").certificate
    wrong = url.replace(secured.role_passwords("intake")["intake"], "not-it")
    for refused, says in (
        (f"{plain}?sslmode=disable", "lets nobody in without TLS"),
        (f"{plain}?sslmode=verify-full&sslrootcert={stranger}", "not vouched for by the authorities"),
        (
            url.replace("@127.0.0.1:", "@localhost:"),
            "and not for the name in GOODFAITH_DATABASE",
        ),
        (wrong, "does not take user 'goodfaith_intake' with this password"),
    ):
        with pytest.raises(psycopg2.OperationalError) as caught:
            psycopg2.connect(refused)
        said = db.refused(caught.value)
        assert said is not None, caught.value
        assert says in said
        assert "not-it" not in said


def test_a_login_is_exchanged_while_both_are_good(
    secured: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    write(file, secured.role_url("intake"))
    with contextlib.closing(psycopg2.connect(secured.admin_url)) as session, session, session.cursor() as cursor:
        cursor.execute("create schema intake create table kept (id int)")
        cursor.execute(
            "grant usage on schema intake to goodfaith_intake; grant select, insert on intake.kept to goodfaith_intake"
        )
    monkeypatch.setenv("GOODFAITH_DATABASE_FILE", str(file))
    monkeypatch.delenv("GOODFAITH_DATABASE", raising=False)
    settings = Settings()
    engine = db.connect(settings.present("database"), schema="intake", name="exchange", pool_size=1)

    def who() -> str:
        with engine.begin() as connection:
            connection.exec_driver_sql("insert into kept select count(*) from kept")
            return str(connection.exec_driver_sql("select current_user").scalar())

    assert who() == "goodfaith_intake"
    role = migrate.set_login(secured.admin_url, "intake", "another-password", other=True)
    try:
        first = secured.role_passwords("intake")["intake"]
        write(file, secured.role_url("intake").replace(f"goodfaith_intake:{first}", f"{role}:another-password"))
        assert who() == "goodfaith_intake"  # what is open goes on
        engine.pool.dispose()
        assert who() == role
        write(file, secured.role_url("intake"))
        engine.pool.dispose()
        assert who() == "goodfaith_intake"
    finally:
        engine.dispose()
        migrate.set_login(secured.admin_url, "intake", None, other=True)


def test_secrets_of_links_are_readable_by_their_owner_alone(secured: Stack) -> None:
    assert secured.secured is not None
    settings_as(secured, "intake")
    files = [file for file in secured.secured.folder.iterdir() if file.is_file()]
    assert files
    assert [file.name for file in files if file.stat().st_mode & 0o077] == []


@pytest.mark.thorough
@pytest.mark.timeout(1200)
def test_login_and_authority_at_the_broker_are_exchanged_under_load(secured: Stack) -> None:
    """A client writes on through the change of its login and of the authority, and a start of the broker: all of it, once."""
    assert secured.secured is not None
    folder, operator = secured.secured.folder, fleet.settings_of(secured)
    topic = "streams-9-refill"
    admin = kafka_links.admin(operator)
    try:
        topics.create_one(admin, operator, topic, {})
    finally:
        admin.close()
    settings = settings_as(secured, "streams")
    producer = kafka_links.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        delivery_timeout_ms=240_000,
        max_block_ms=120_000,
        reconnect_backoff_max_ms=500,
    )
    acknowledged = 0
    stop = threading.Event()
    wrong: list[BaseException] = []

    def write_on() -> None:
        nonlocal acknowledged
        try:
            while not stop.is_set():
                producer.send(topic, str(acknowledged).encode(), b"one key").get(240)
                acknowledged += 1
                time.sleep(0.005)
        except BaseException as error:
            wrong.append(error)

    def more(count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted, until = acknowledged + count, time.monotonic() + 240
        while acknowledged < wanted:
            assert not wrong, wrong
            assert time.monotonic() < until, f"{acknowledged} acknowledged"
            time.sleep(0.02)

    thread = threading.Thread(target=write_on, daemon=True)
    thread.start()
    try:
        more(20)
        other = access.login(settings, "streams", other=True)
        at_broker(operator, {other: "the-second-login's-password"})
        write(folder / "streams.user", other)
        write(folder / "streams.password", "the-second-login's-password")
        trusted = secured.secured.authority.certificate
        following = Authority(folder / "following", "the next authority")
        write(trusted, trusted.read_text() + following.certificate.read_text())
        following.issue(BROKER, HOSTS, folder=folder)
        more(20)
        at_broker(operator, {access.login(settings, "streams"): None})
        more(20)  # what is open goes on
        secured.kill_kafka()
        secured.start_kafka()
        more(20)
    finally:
        stop.set()
        thread.join(300)
        producer.close(timeout=10)
    assert not wrong
    consumer = kafka_links.consumer(
        settings,
        group_id="streams-9",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    try:
        consumer.subscribe([topic])
        found = []
        while len(found) < acknowledged:
            found.append(int(next(consumer).value))
    finally:
        consumer.close(autocommit=False)
    assert found == list(range(acknowledged))


# -------------------------------------------------------------------------------------------------------- internal APIs


def test_internal_apis_speak_tls_alone_where_links_are_secured(secured: Stack) -> None:
    """A process with the environment of a secured stack: its callers reach it by TLS, others not at all."""
    needs_tls()
    assert secured.secured is not None
    env = fleet.environment(secured, fleet.BY_NAME["enforcement-api"], {})
    ask = fleet.settings_of(secured)
    assert ask.enforcement_url.startswith("https://")
    assert {env["GOODFAITH_HTTP_CERTIFICATE"], env["GOODFAITH_HTTP_KEY"]} == {
        str(secured.secured.http().certificate),
        str(secured.secured.http().key),
    }
    callers_ = fleet.environment(secured, fleet.BY_NAME["intake-api"], {})
    assert callers_["GOODFAITH_INTERNAL_CA"] == str(secured.secured.authority.certificate)
    assert callers_["GOODFAITH_INTERNAL_TOKEN"] not in {
        env.get("GOODFAITH_INTERNAL_TOKEN"),
        secured.secret("internal_token"),
    }
    port = secured.port("enforcement")
    with (secured.dir / "enforcement-api.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.enforcement", "api"],
            env=env | {"GOODFAITH_HTTP_PORT": str(port), "GOODFAITH_METRICS_PORT": "0"},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"{ask.enforcement_url}/internal/offenders"

        def asked(token: str, authorities: Path | None) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.get(
                url, headers=headers, verify=trust(url, authorities), trust_env=False, timeout=30
            ).status_code

        until = time.monotonic() + 120
        while True:
            try:
                assert asked("nobody", ask.internal_ca) == 401
                break
            except httpx.ConnectError:
                assert child.poll() is None, (secured.dir / "enforcement-api.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
        assert asked(callers_["GOODFAITH_INTERNAL_TOKEN"], ask.internal_ca) != 401
        assert asked(secured.secret("internal_token_status"), ask.internal_ca) == 401
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            asked("nobody", None)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https://", "http://"), trust_env=False, timeout=30)
    finally:
        child.terminate()
        child.wait(PATIENCE_S)


# ------------------------------------------------------------------------------------------------------- the whole of it


def demo(how: str, name: str) -> dict[str, Any]:
    """The demo on secured links; what it prints."""
    command = [
        sys.executable,
        "-m",
        "services.ops.cli",
        "demo",
        "--stack",
        name,
        "--limit",
        "60",
        "--secure",
        how,
        "--json",
    ]
    env = {**os.environ, "GOODFAITH_STATE_DIR": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1500, cwd=ROOT.parent)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["password", "certificate"])
def test_the_demo_passes_and_nobody_is_refused_anything(how: str) -> None:
    needs_tls()
    name = f"test-{os.getpid()}-demo-{how}"
    try:
        found = demo(how, name)
        assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, 0)
        assert found["items"] > 0
        log = (ROOT / name / "log" / "kafka.log").read_text()
        assert [line for line in log.splitlines() if "is Denied" in line] == []
        for file in (ROOT / name / "log").glob("*.log"):
            assert "broker refused" not in file.read_text(errors="replace"), file.name
    finally:
        up_root = pytest.MonkeyPatch()
        up_root.setenv("GOODFAITH_STATE_DIR", str(ROOT))
        up.destroy(name)
        up_root.undo()


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_logins_and_authorities_are_exchanged_under_load(tmp_path: Path) -> None:
    """Every login is changed for its second one, and the authority for another, while claims come in; nothing is lost."""
    from services.ops.verify import verify

    needs_tls()
    name = f"test-{os.getpid()}-exchange"
    stack = Stack(ROOT, name)
    patch = pytest.MonkeyPatch()
    patch.setenv("GOODFAITH_STATE_DIR", str(ROOT))
    load: subprocess.Popen[bytes] | None = None
    try:
        stack = Stack.start(ROOT, name, secure="password")
        assert stack.secured is not None
        running, processes = up.bring_up(name)
        said = tmp_path / "replay.log"
        with said.open("w") as out:
            load = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.ops.cli",
                    "lab",
                    "replay",
                    "deploy/demo/notices-2025.jsonl.gz",
                    "--limit",
                    "60",
                    "--no-step",
                    "--rate",
                    "2",
                    "--stack",
                    name,
                ],
                env={**os.environ},
                cwd=ROOT.parent,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 300
        with contextlib.closing(psycopg2.connect(running.admin_url)) as session, session.cursor() as cursor:
            session.autocommit = True
            items = 0
            while items < 5:
                assert load.poll() is None, said.read_text()
                assert time.monotonic() < until, said.read_text()
                time.sleep(0.2)
                cursor.execute("select count(*) from intake.items")
                ((items,),) = cursor.fetchall()
        settings = fleet.settings_of(running)
        mine = sorted({spec.principal for spec in fleet.FLEET if spec.principal})
        fresh = {one: f"exchanged-{one}-password" for one in mine}
        at_broker(settings, {access.login(settings, one, other=True): fresh[one] for one in mine})
        following = Authority(stack.secured.folder / "following", "the next authority")
        trusted = stack.secured.authority.certificate
        both = trusted.read_bytes() + following.certificate.read_bytes()
        for one in mine:
            write(stack.secured.folder / f"{one}.user", access.login(settings, one, other=True))
            write(stack.secured.folder / f"{one}.password", fresh[one])
        write(trusted, both.decode())
        # everybody connects again, to a broker whose certificate is the next authority's, by the second login alone
        following.issue(BROKER, HOSTS, folder=stack.secured.folder)
        at_broker(settings, {access.login(settings, one): None for one in mine})
        running.kill_kafka()
        running.start_kafka()
        assert load.poll() is None, said.read_text()
        assert load.wait(900) == 0, said.read_text()
        proof = verify.verify_stack(fleet.settings_of(running), wait_s=300)
        assert proof.clean, proof.kinds
        for process in processes:
            assert process.alive(), process.name
        for file in (stack.dir / "log").glob("*.log"):
            text = file.read_text(errors="replace")
            assert "does not take user" not in text, file.name
            assert not any(password in text for password in fresh.values()), file.name
    finally:
        patch.undo()
        if load is not None and load.poll() is None:
            load.kill()
            load.wait(PATIENCE_S)
        Fleet.end(stack.dir)
        stack.destroy()
