"""An upstream of Goodfaith's: files a claim by topic and waits for the answer (docs/reference/events.md, "Upstreams").

The installation names the upstream and its account, and says for whom it may act:

    GOODFAITH_UPSTREAMS='{"portal": "a-portal"}'
    GOODFAITH_UPSTREAM_MAY='{"portal": {"accounts": ["*"], "commands": ["submit_claim"]}}'

On a local stack, set both before `make up`, run `eval "$(.venv/bin/goodfaith env)"`, and open the account `a-portal`
with role `upstream` (POST /v1/accounts, with the operator's token). Then, for a holder with a confirmed address and
its right:

    python examples/upstream_producer.py portal --account "$HOLDER" --right "$RIGHT" https://market.example/items/1

The last line printed is the answer, as JSON. Exit status: 0 accepted, 1 refused, 2 no answer. Needs kafka-python.
Elsewhere than on a local stack the broker wants TLS and a login, and lets no upstream read the answers: there a part
of the marketplace's own reads them, and passes them on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

REFUSALS = "inbound.refusals"
"""Keyed by the event's id."""
FILINGS = "intake.filings"
"""Every accepted claim once, keyed by the account that files."""


def event_of(given: argparse.Namespace) -> dict[str, Any]:
    """The claim as a CloudEvent. Its id is the idempotency key: the same event sent again changes nothing."""
    return {
        "specversion": "1.0",
        "id": given.event,
        "source": f"/{given.upstream}",
        "type": "goodfaith.request.submit_claim.v1",
        "datacontenttype": "application/json",
        "data": {
            "on_behalf_of": given.account,
            "right": given.right,
            "reason": given.reason,
            "listings": given.listing,
        },
    }


def at_the_end_of(kafka: Sequence[str], *topics: str) -> Any:
    """A consumer that reads what comes from now on."""
    consumer: Any = KafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    places = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    consumer.seek_to_end(*places)
    for place in places:
        consumer.position(place)  # looks it up now, not when it is read for the first time
    return consumer


def answer_to(event: dict[str, Any], consumer: Any, wait_s: float) -> dict[str, Any] | None:
    """The refusal of the event, or the claim that it has become; None: neither came.

    A filing does not name the event. It is taken for ours by account, size and way, so this is right only as long as
    nobody else files such a claim for the account at the same moment.
    """
    until = time.monotonic() + wait_s
    ours = (event["data"]["on_behalf_of"], len(event["data"]["listings"]), "kafka")
    while time.monotonic() < until:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                data = json.loads(record.value)["data"]
                if record.topic.endswith(REFUSALS) and record.key == event["id"].encode():
                    return {"accepted": False, **data}
                if record.topic.endswith(FILINGS) and (data["account"], data["items"], data["channel"]) == ours:
                    return {"accepted": True, **data}
    return None


def main() -> int:
    """Send one claim."""
    parser = argparse.ArgumentParser(description="File a claim by topic and wait for the answer.")
    parser.add_argument("upstream", help="name of the upstream: it writes to inbound.<name>")
    parser.add_argument("listing", nargs="+", help="link to a listing")
    parser.add_argument("--account", required=True, help="holder for whom the claim is filed")
    parser.add_argument("--right", required=True, help="right of that holder")
    parser.add_argument("--reason", default="counterfeit")
    parser.add_argument("--event", default=f"example-{uuid.uuid4()}", help="id of the event")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA", "127.0.0.1:9092"), help="brokers (default: $KAFKA)")
    parser.add_argument("--prefix", default="", help="the installation's GOODFAITH_TOPIC_PREFIX")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds")
    given = parser.parse_args()

    brokers, event = given.kafka.split(","), event_of(given)
    consumer = at_the_end_of(brokers, given.prefix + REFUSALS, given.prefix + FILINGS)
    producer: Any = KafkaProducer(bootstrap_servers=brokers, acks="all")
    # what concerns one claim has one key, so that it stays in order
    sent = producer.send(
        f"{given.prefix}inbound.{given.upstream}",
        key=event["id"].encode(),
        value=json.dumps(event).encode(),
        headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
    )
    sent.get(timeout=given.wait)
    producer.close()
    print(f"sent {event['id']}", flush=True)
    answer = answer_to(event, consumer, given.wait)
    consumer.close()
    if answer is None:
        print(f"no answer in {given.wait:.0f} s (an event that was sent before is not answered again)", file=sys.stderr)
        return 2
    print(json.dumps(answer))
    return 0 if answer["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())
