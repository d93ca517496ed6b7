"""Attacks through an upstream's topic: acting for strangers, and garbage."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from labs.attacks.bed import ANSWERS_S, SEEN, Attack, AttackBed, AttackOutcome, as_json
from shared import kafka_links, topics

UPSTREAM: Final = "crm"
UPSTREAM_ACCOUNT: Final = "a-upstream-crm"
ENVIRONMENT: Final = {
    "GOODFAITH_UPSTREAMS": json.dumps({UPSTREAM: UPSTREAM_ACCOUNT}),
    "GOODFAITH_UPSTREAM_MAY": json.dumps({UPSTREAM: {"accounts": ["h-crm-*"], "commands": ["submit_claim"]}}),
}
"""Settings of the attacked stack: one upstream, which files claims for accounts of its own."""


class _Topic:
    """A producer for the upstream's topic."""

    def __init__(self, bed: AttackBed) -> None:
        settings = bed.settings
        self._topic = settings.topic_prefix + topics.inbound(UPSTREAM).name
        self._producer: Any = kafka_links.producer(settings, acks="all", max_request_size=3_000_000)

    def send(self, raw: bytes | None, key: bytes = b"k") -> None:
        self._producer.send(self._topic, key=key, value=raw).get(ANSWERS_S)

    def send_event(self, kind: str, data: Mapping[str, Any], **changed: Any) -> str:
        """Send one event; returns its id."""
        id = secrets.token_hex(8)
        document = {
            "specversion": "1.0",
            "id": id,
            "source": f"/upstream/{UPSTREAM}",
            "type": f"goodfaith.request.{kind}.v1",
            "time": dt.datetime.now(dt.UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": data,
            **changed,
        }
        self.send(as_json(document))
        return id

    def close(self) -> None:
        self._producer.close()


def _upstream(bed: AttackBed) -> None:
    """Make sure that the topic's account exists."""
    with contextlib.suppress(Exception):
        bed.must(
            bed.admin,
            "POST",
            "/v1/accounts",
            {"role": "upstream", "id": UPSTREAM_ACCOUNT, **SEEN},
        )


def impersonation(bed: AttackBed) -> AttackOutcome:
    """Withdraw a stranger's claim through an upstream's topic."""
    _upstream(bed)
    victim = bed.person()
    made = bed.claim(victim, bed.right(victim))
    item = made["items"][0]["item"]
    with contextlib.closing(_Topic(bed)) as topic:
        event = topic.send_event("withdraw", {"item": item, "ground": "error", "on_behalf_of": victim.account})

        def done() -> str:
            if bed.query("select 1 from intake.commands where item = %s and kind = 'withdraw'", item):
                return "withdrawn"
            refused = bed.query("select 1 from intake.inbound_event_log where payload like %s", f"%{event}%")
            return "refused" if refused else ""

        said = bed.wait(done, ANSWERS_S)
    return AttackOutcome(said == "withdrawn", said or "no answer")


def hostile_records(bed: AttackBed) -> AttackOutcome:
    """Send garbage to an upstream's topic; a valid record after it must still be answered."""
    _upstream(bed)
    before = bed.fleet["intake-inbound.0"].pid
    rubbish: list[bytes | None] = [
        None,
        b"",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        secrets.token_bytes(1000),
        b'"' + b"a" * 900_000 + b'"',
        b"\xff\xfe" * 10,
        b'{"specversion":"1.0","id":"\\u0000","source":"x","type":"y","data":{}}',
        b"9" * 500_000,
        b'{"specversion":"1.0","id":"' + b"i" * 10_000 + b'","source":"/","type":"t","data":{}}',
        as_json(
            {
                "specversion": "1.0",
                "id": "x",
                "source": "/",
                "type": "goodfaith.request.decide.v1",
                "data": {"on_behalf_of": "a-operator"},
            }
        ),
    ]
    with contextlib.closing(_Topic(bed)) as topic:
        for raw in rubbish:
            topic.send(raw)
        event = topic.send_event("withdraw", {"item": "i-none", "ground": "error"})
        heard = bed.wait(
            lambda: bed.query("select 1 from intake.inbound_event_log where payload like %s", f"%{event}%"),
            ANSWERS_S,
        )
    same = bed.fleet["intake-inbound.0"].pid == before
    return AttackOutcome(
        not heard or not same, f"{len(rubbish)} records; the next one was {'answered' if heard else 'not answered'}"
    )


UPSTREAMS: Final[Sequence[Attack]] = (
    Attack("impersonation", "act for a stranger through a topic", impersonation, "S13"),
    Attack("hostile records", "stop the upstream intake", hostile_records),
)
