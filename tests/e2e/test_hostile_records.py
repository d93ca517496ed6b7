"""Rubbish on every topic that a worker reads: no worker dies or is stuck, foreign records are refused, ours become dead letters.

Leaves rubbish on the topics, so it comes last.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError

from services.ops import dlq
from shared import topics
from shared.events import TYPES
from tests.e2e.test_no_secrets import records
from tests.e2e.world import World
from tools import contracts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
INTERNAL = (
    topics.INTAKE,
    topics.ACCOUNTS,
    topics.FILINGS,
    topics.VERIFICATION,
    topics.ENFORCEMENT,
    topics.VIOLATIONS,
    topics.NOTIFICATION,
    topics.LEDGER,
    topics.MARKETPLACE_COMMANDS,
    topics.SELLER_COMMANDS,
    topics.CENTRE_MESSAGES,
)
OUTSIDE = (
    topics.MARKETPLACE_RECEIPTS,
    topics.MARKETPLACE_LISTINGS,
    topics.SELLER_RECEIPTS,
    topics.MARKETPLACE_SELLERS,
    topics.MARKETPLACE_CONTACTS,
    topics.CENTRE_RECEIPTS,
    topics.inbound("desk"),
)
EACH = 36
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    1e308,
    "",
    " ",
    "x" * 5_000,
    "\0",
    "a\nb",
    "‮",
    "'; drop table items; --",
    [],
    {},
    [[]],
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    "2025-01-01T00:00:00",
)


def sound(kind: str, number: int) -> dict[str, Any]:
    """An event of that type, about nothing that there is, whose data fits its schema."""
    schema = contracts.schemas()[contracts.all_types()[kind].__name__]
    data: dict[str, Any] = {}
    for name in schema["required"]:
        field = schema["properties"][name]
        of_state = "$ref" in field
        if of_state:
            data[name] = "NOTIFIED"
        elif "enum" in field:
            data[name] = field["enum"][0]
        elif field.get("format") == "date-time":
            data[name] = "2025-03-03T02:00:00Z"
        else:
            data[name] = {"integer": 1, "boolean": True, "array": [], "object": {}}.get(
                field["type"], f"hostile-{number}"
            )
    return {
        "specversion": "1.0",
        "id": f"hostile.{number}",
        "source": "/hostile",
        "type": kind,
        "time": "2025-03-03T02:00:00Z",
        "datacontenttype": "application/json",
        "data": data,
    }


def mutated(dice: random.Random, document: dict[str, Any]) -> bytes:
    """The event with something wrong in it."""
    data = document["data"]
    ways: tuple[Callable[[], Any], ...] = (
        lambda: data.__setitem__(dice.choice([*data, "more"]), dice.choice(ODD)),
        lambda: data.pop(dice.choice([*data, "more"]), None),
        lambda: document.__setitem__("data", dice.choice(ODD)),
        lambda: document.__setitem__(dice.choice(list(document)), dice.choice(ODD)),
        lambda: document.pop(dice.choice(list(document))),
        lambda: document.__setitem__("type", document["type"][:-1] + "7"),
        lambda: document.__setitem__("type", "goodfaith.of.no.kind.v1"),
        lambda: None,
    )
    dice.choice(ways)()
    raw = json.dumps(document).encode()
    spoilt: tuple[Callable[[], bytes], ...] = (
        lambda: raw[: dice.randrange(len(raw))],
        lambda: raw.replace(b"hostile", b"\xff\xfe"),
        lambda: b"[" * 20_000,
        lambda: dice.randbytes(200),
        lambda: raw[:-1] + b',"blob":"' + b"x" * 900_000 + b'"}',
        lambda: b"",
    )
    return dice.choice(spoilt)() if dice.random() < 0.3 else raw


def fuzz(world: World, dice: random.Random, topic: topics.Topic, kinds: tuple[str, ...], number: int) -> int:
    """Send rubbish; returns how many records the broker took."""
    producer: Any = KafkaProducer(bootstrap_servers=world.settings.kafka, acks="all", enable_idempotence=False)
    # a watermark is what it says: the ACL keeps it from others, nothing else could
    kinds = tuple(kind for kind in kinds if kind != "goodfaith.watermark.v1")
    futures = []
    for place in range(EACH):
        number += 1
        raw: bytes | None = mutated(dice, sound(dice.choice(kinds), number))
        key = dice.choice(
            [f"hostile-{number}".encode(), f"hostile-{number}".encode(), b"hostile-\0", b"\xff\xfe", None]
        )
        if topic.compacted and key is None:
            key = b""  # the broker itself refuses none
        if place == 0:
            raw, key = None, b"hostile-gone"  # a tombstone
        if place == 1:
            raw, key = json.dumps(sound(kinds[0], number) | {"id": "hostile\0"}).encode(), b"hostile-id"
        if place == 2:
            raw, key = b"{", b"hostile-\0"
        headers = [("content-type", b"\xff" * 100), ("", b""), ("'; --", dice.randbytes(50))] if place % 3 == 0 else []
        target = dice.randrange(world.settings.partitions)
        futures.append(
            producer.send(world.settings.topic_prefix + topic.name, raw, key=key, headers=headers, partition=target)
        )
    producer.flush()
    taken = 0
    for future in futures:
        try:
            future.get(30)
            taken += 1
        except KafkaError:
            pass
    producer.close()
    return taken


def test_rubbish_on_every_topic(world: World) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    holder, seller = world.account("h-last"), world.account("s-last", "seller")
    right = world.right(holder)
    links = world.offer(seller, "last-1", "last-2")
    claim = world.file(holder, right, links[:1])
    world.notified(claim.items[0])
    world.settle()
    pids = {process.name: process.pid for process in world.fleet}
    with world.engine.connect() as connection:
        tables = dlq.tables(connection, world.settings)
        before = len(dlq.dead_letters(connection, tables, done=True))
    sent = 0
    for place, topic in enumerate((*INTERNAL, *OUTSIDE)):
        kinds = contracts.CARRIES.get(topic.name, contracts.CARRIES[contracts.INBOUND.name])
        sent += fuzz(world, dice, topic, kinds, 1_000 * (place + 1))
    assert sent > EACH * 8, f"seed {seed}"

    # an upstream is answered: each record of its topic that is one is refused by name
    inbound = topics.inbound("desk").name
    world.until(lambda: _read_to_the_end(world), 180)
    refusals = [raw for raw in records(world, topics.REFUSALS.name) if f'"topic":"{inbound}"'.encode() in raw]
    assert len(refusals) >= EACH // 2

    with world.engine.connect() as connection:
        letters = dlq.dead_letters(connection, tables)
        everything = dlq.dead_letters(connection, tables, done=True)
    assert len(everything) > before
    outside = {topic.name for topic in OUTSIDE}
    assert [row for row in letters if row["topic"] in outside and not row["event_id"]] == [], (
        "from outside, and a dead letter"
    )
    assert {row["topic"] for row in letters} & {topic.name for topic in INTERNAL}
    ours = {"last-1", "last-2", *claim.listings}
    assert not [row for row in letters if row["key"] in ours], f"seed {seed}: an honest key is blocked"

    # everybody is there, the same processes as before, and what is honest goes its way
    for process in world.fleet:
        assert process.alive(), f"{process.name}, seed {seed}"
        assert process.ready(), f"{process.name}, seed {seed}"
        assert process.pid == pids[process.name]
    world.do(seller, claim.items[0], "accept")
    world.reach(claim.items[0], "UPHELD")
    honest = world.file(holder, right, links[1:])
    world.notified(honest.items[0])
    assert world.page("last-2") == 410
    world.until(lambda: world.mails(seller, honest))
    log = "".join(path.read_text(errors="replace") for path in (world.stack.dir / "log").glob("*.log"))
    assert '"event": "stuck"' not in log, f"seed {seed}"


def _read_to_the_end(world: World) -> bool:
    """Whether every worker has gone past the rubbish."""
    from services.ops.idle import Watch

    watch = Watch(world.engine, world.settings)
    try:
        counts = watch.pending(world.now()).counts
    finally:
        watch.close()
    time.sleep(0.2)
    return not any(count for name, count in counts.items() if name.startswith("unread"))


def test_every_type_is_tried() -> None:
    carried = {kind for topic in (*INTERNAL, *OUTSIDE) for kind in contracts.CARRIES.get(topic.name, ())}
    assert set(TYPES) == carried
