"""A million open timers: they cost nothing while none is due, and fire in time order, once each, across a kill -9."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import pytest
from kafka import KafkaProducer
from pydantic import SecretStr

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.verification import store
from services.verification.item import Item, Timer
from shared import clock, db, events, migrate, topics
from shared.events import State
from shared.settings import Settings
from tests.integration.intake_parts import _with_database, wait
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

MANY = 1_000_000
DUE = 2_000
PARTITIONS = 4
BEGINS = dt.datetime(2025, 3, 3, 2, 0, tzinfo=dt.UTC)
FIRST = BEGINS + dt.timedelta(days=1)
"""When the first one is due; then one each second."""


def template() -> str:
    """An item whose seller was told and may still accept or counter; number and deadline are filled in by SQL."""
    item = Item(
        item="i-@n@",
        claim="c-1",
        claim_size=1,
        listing="l-@n@",
        complainant="h-1",
        principal="h-1",
        right="r-1",
        right_type="trademark",
        reason="counterfeit",
        severity="serious",
        profile="ipp",
        policy="ipp-2026-11",
        received_at=BEGINS,
        identity_verified=True,
        authority="owner",
        materials=("ownership",),
        seller="s-1",
        state=State.NOTIFIED,
        revision=3,
        visit=1,
        timers=(Timer("window", FIRST),),
        held=True,
        noticed_at=BEGINS,
        handled_at=BEGINS,
        sla="met",
        sla_due=BEGINS + dt.timedelta(days=1),
    )
    return msgspec.json.encode(item).decode().replace(f'["window","{FIRST:%Y-%m-%dT%H:%M:%S}Z"]', '["window","@due@"]')


FILL = """
    insert into verification.items
        (item, partition, claim, listing, right_id, reason, state, original, blocks, waits, next_due, revision, body)
    select 'i-' || n, n %% %(partitions)s, 'c-1', 'l-' || n, 'r-1', 'counterfeit', 'NOTIFIED', null, true, false, due, 3,
        replace(replace(%(body)s, '@n@', n::text), '@due@', to_char(due at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
    from (select n, %(first)s::timestamptz + n * interval '1 second' as due from generate_series(0, %(many)s - 1) as n) as t
"""


class Rig:
    """A database and topics of its own, and verification's worker as a process."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        name = f"timers_{uuid.uuid4().hex[:8]}"
        with contextlib.closing(psycopg2.connect(stack.admin_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {name}")
        admin_url = _with_database(stack.admin_url, name)
        migrate.migrate(admin_url, stack.role_passwords("verification"))
        self.settings = Settings(
            kafka=stack.kafka,
            database=SecretStr(_with_database(stack.role_url("verification"), name)),
            topic_prefix=f"{name.replace('_', '-')}.",
            partitions=PARTITIONS,
            timers_per_batch=200,
            session_timeout_ms=6_000,
        )
        topics.create(self.settings)
        self.engine = db.administer(admin_url, autocommit=True)
        self.log = folder / "verification.log"
        self._producer: Any = KafkaProducer(bootstrap_servers=stack.kafka, acks="all")
        self._child: subprocess.Popen[bytes] | None = None

    def query(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def start(self) -> None:
        """Start the worker."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("GOODFAITH_")}
        for field, value in self.settings.model_dump(exclude_defaults=True).items():
            env[f"GOODFAITH_{field.upper()}"] = str(value.get_secret_value() if isinstance(value, SecretStr) else value)
        env["GOODFAITH_METRICS_PORT"] = str(free_port())
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "services.verification"]
            self._child = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL the worker."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(PATIENCE_S)

    def close(self) -> None:
        """End everything."""
        self.kill()
        self._producer.close()
        self.engine.dispose()

    def mark(self, upto: dt.datetime) -> None:
        """The clock and the watermarks come to ``upto``."""
        with self.engine.connect() as connection:
            clock.set_anchor(connection, business=upto, rate=0)
        for partition in range(PARTITIONS):
            raw = events.encode(
                events.Watermark(upto=upto),
                id=f"watermark.{partition}.{upto:%Y%m%dT%H%M%S.%f}",
                source="/test",
                type="goodfaith.watermark.v1",
                subject=None,
                time=upto,
                key=None,
            )
            self._producer.send(self.settings.topic_prefix + topics.INTAKE.name, value=raw, partition=partition)
        self._producer.flush()

    def marked(self, upto: dt.datetime) -> bool:
        """Whether the worker has taken the watermarks in."""
        rows = self.query("select count(*) from verification.partitions where watermark = %s", (upto,))
        return rows == [(PARTITIONS,)]

    def fired(self) -> int:
        """Windows that have ended."""
        return int(
            self.query("select count(*) from verification.event_log where type like '%%upheld_by_default%%'")[0][0]
        )


@pytest.fixture
def rig(stack: Stack, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(stack, tmp_path)
    yield rig
    rig.close()


def plan(rig: Rig, upto: dt.datetime) -> dict[str, Any]:
    """How the worker's own query for due timers runs: rows and pages."""
    values = (list(range(PARTITIONS)), [upto] * PARTITIONS, [], rig.settings.timers_per_batch)
    with rig.engine.connect() as connection:
        connection.exec_driver_sql("set search_path = verification")
        answer = connection.exec_driver_sql(
            f"explain (analyze, buffers, format json) {store._DUE}", values
        ).scalar_one()
    return dict((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan."""
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def pages(node: dict[str, Any]) -> int:
    """Pages that a plan touched."""
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


@pytest.mark.thorough
def test_a_million_timers(rig: Rig) -> None:
    with rig.engine.connect() as connection:
        clock.start_at(connection, business=BEGINS, rate=0)
    body = template()
    assert body.count("@due@") == 1
    begun = time.monotonic()
    rig.query(FILL, {"partitions": PARTITIONS, "body": body, "first": FIRST, "many": MANY})
    rig.query("analyze verification.items")
    filled = time.monotonic() - begun

    # none is due: four descents of an index, and not one of the million rows
    idle = plan(rig, FIRST - dt.timedelta(seconds=1))
    scans = [node for node in nodes(idle) if node.get("Relation Name") == "items"]
    assert [(node["Node Type"], node["Index Name"]) for node in scans] == [("Index Scan", "items_due")]
    assert idle["Actual Rows"] == 0
    assert pages(idle) <= PARTITIONS * 8, f"{pages(idle)} pages"
    # some are due: what is due is read, and nothing else
    some = plan(rig, FIRST + dt.timedelta(seconds=99))
    assert some["Actual Rows"] == 100
    assert pages(some) <= 100 * 4 + PARTITIONS * 8

    rig.start()
    rig.mark(FIRST - dt.timedelta(seconds=1))
    wait(lambda: rig.marked(FIRST - dt.timedelta(seconds=1)))
    assert rig.fired() == 0

    rig.kill()
    upto = FIRST + dt.timedelta(seconds=DUE - 1)
    rig.mark(upto)
    rig.start()
    wait(lambda: rig.fired() > 0)
    rig.kill()
    rig.start()
    wait(lambda: rig.fired() >= DUE)
    time.sleep(0.5)
    assert rig.fired() == DUE, f"filled in {filled:.1f} s"
    assert rig.query("select count(*) from verification.items where state = 'NOTIFIED'") == [(MANY - DUE,)]
    # each as of its own deadline, and in that order in every partition
    found = rig.query(
        "select partition, payload::jsonb -> 'data' ->> 'item', (payload::jsonb ->> 'time')::timestamptz"
        " from verification.event_log where type like '%%upheld_by_default%%' order by partition, seq"
    )
    assert len({item for _, item, _ in found}) == DUE
    for partition in range(PARTITIONS):
        mine = [(item, moment) for place, item, moment in found if place == partition]
        assert [moment for _, moment in mine] == sorted(moment for _, moment in mine)
        assert all(moment == FIRST + dt.timedelta(seconds=int(item.removeprefix("i-"))) for item, moment in mine)
