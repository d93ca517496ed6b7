"""Nothing secret or personal is in a log, on a topic, in an event log or in a metric; and what each process shows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition

from deploy.local import fleet
from shared import metrics, topics
from tests import exposition
from tests.e2e.world import World

TRACE = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(world: World) -> World:
    """One claim with all its messages, all traced, and requests that carry secrets where they do not belong."""
    with world.traced(f"00-{TRACE}-{TRACE[:16]}-01"):
        _tell(world)
    world.settle()
    return world


def _tell(world: World) -> None:
    holder, seller = world.account("h-secret"), world.account("s-secret", "seller")
    named = world.secrets.add("name of a file", "Privatum Passport 1999")
    text = world.secrets.add("words of a document", "what only reviewers read")
    document = world.document(holder, text.encode(), "identity", f"{named}.txt")
    link = world.call(holder, "POST", f"/v1/evidence/{document}/link")["url"]
    world.secrets.add("signature of a link", link.rpartition("=")[2])
    assert world.http.get(link).text == text
    said = [world.secrets.add(f"words of a {side}", f"what the {side} says") for side in ("holder", "seller")]
    links = world.offer(seller, "secret-1")
    explained = {"explanation": said[0], "explanations": [{"listing": links[0], "text": said[0]}]}
    claim = world.file(holder, world.right(holder), links, evidence=[document], **explained)
    world.notified(claim.items[0])
    world.do(seller, claim.items[0], "counter", {"materials": ["identity", "statement"], "text": said[1]})
    world.reach(claim.items[0], "HOLDER_RESPONSE")
    token, mail = world.tokens[holder], world.secrets.values["e-mail of h-secret"]
    bearer = {"Authorization": f"Bearer {token}"}
    for method, path, body in (
        ("GET", f"/v1/items/{token}", None),
        ("GET", f"/v1/claims?cursor={token}", None),
        ("PUT", "/v1/contact", {"name": mail, "address": mail, "email": 7}),
        ("PUT", "/v1/contact", {"name": mail, "address": mail, "email": mail + "\n"}),
        ("POST", "/v1/claims", {"right": mail, "reason": token, "listings": [mail], "extra": token}),
        ("POST", f"/v1/items/{claim.items[0]}/counter", {"text": f"{said[1]}\0"}),
    ):
        assert world.http.request(method, path, json=body, headers=bearer).status_code >= 400
    assert world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    world.relay("secret-event", "counter", seller, item=claim.items[0], materials=[mail], **{mail: token})
    world.relay("secret-text", "counter", seller, item=claim.items[0], text=said[1])


def secrets_of(world: World) -> dict[str, bytes]:
    """What is searched for, by what it is."""
    stack = world.stack
    found = dict(world.secrets.values)
    found |= {f"password of {role}": password for role, password in stack.role_passwords(*fleet.ROLES).items()}
    found |= {name: stack.secret(name) for name in fleet.KEPT}
    found["password of the administrator"] = stack.admin_url.partition("@")[0].rpartition(":")[2]
    assert all(len(value) >= 12 for value in found.values())
    return {what: value.encode() for what, value in found.items()}


def records(world: World, name: str) -> Iterator[bytes]:
    """Everything on a topic."""
    consumer: Any = KafkaConsumer(bootstrap_servers=world.settings.kafka, enable_auto_commit=False)
    places = [TopicPartition(world.settings.topic_prefix + name, n) for n in range(world.settings.partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    ends = consumer.end_offsets(places)
    while any(consumer.position(place) < ends[place] for place in places):
        for batch in consumer.poll(timeout_ms=500).values():
            for record in batch:
                yield b"\n".join([record.key or b"", record.value or b"", repr(record.headers).encode()])
    consumer.close()


def test_no_secret_is_written_down(told: World) -> None:
    sources: dict[str, bytes] = {
        f"log {path.name}": path.read_bytes() for path in (told.stack.dir / "log").rglob("*") if path.is_file()
    }
    assert {f"log {process.name}.log" for process in told.fleet} <= set(sources)
    for topic in topics.TOPICS:
        sources[f"topic {topic.name}"] = b"\n".join(records(told, topic.name))
    logs = told.rows("select schemaname || '.' || tablename from pg_tables where tablename like '%%event_log'")
    assert len(logs) >= 7
    for (table,) in logs:
        sources[f"table {table}"] = b"\n".join(
            payload.encode() for (payload,) in told.rows(f"select payload from {table}")
        )
    # spans come a second later
    told.until(lambda: any(span.name == "process notification.events" for span in told.collector.spans(TRACE)))
    sources["spans"] = b"\n".join(told.collector.bodies)
    # the search finds what is there
    assert b"h-secret" in sources["topic intake.events"]
    assert b"secret-event" in sources["topic inbound.refusals"]
    assert b"h-secret" in sources["table verification.event_log"]
    found = [
        f"{what} in {source}"
        for what, value in secrets_of(told).items()
        for source, text in sources.items()
        if value in text
    ]
    assert found == []


def test_what_each_process_shows(told: World) -> None:
    """Declared names, labels and values, all of them from the start, and no ids; and few series."""
    known = metrics.load()
    wrong: list[str] = []
    for process in told.fleet:
        base = f"http://127.0.0.1:{process.metrics_port}"
        for path in ("/live", "/ready"):
            answer = httpx.get(base + path, timeout=30, trust_env=False)
            assert answer.status_code == 200, f"{process.name}{path}: {answer.text}"
        text = httpx.get(base + "/metrics", timeout=30, trust_env=False).text
        kind = process.name.rpartition(".")[0]
        if shutil.which("promtool") is not None:
            checked = subprocess.run(
                ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
            )
            wrong += (f"{process.name}: promtool: {line}" for line in (checked.stdout + checked.stderr).splitlines())
        wrong += (f"{process.name}: {finding}" for finding in exposition.findings(text, known, kind))
    assert wrong == [], "\n".join(wrong)


def test_series_do_not_grow_with_what_is_filed(told: World) -> None:
    def series() -> dict[str, int]:
        return {
            process.name: httpx.get(
                f"http://127.0.0.1:{process.metrics_port}/metrics", timeout=30, trust_env=False
            ).text.count("\ngoodfaith_")
            for process in told.fleet
        }

    def claim(name: str) -> None:
        holder, seller = told.account(f"h-{name}"), told.account(f"s-{name}", "seller")
        filed = told.file(holder, told.right(holder), told.offer(seller, name))
        told.notified(filed.items[0])
        told.do(seller, filed.items[0], "accept")
        told.reach(filed.items[0], "UPHELD")
        told.settle()

    claim("series-0")
    before = series()
    for number in range(1, 4):
        claim(f"series-{number}")
    assert series() == before
