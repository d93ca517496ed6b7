"""A marketplace that publishes what a listing shows (docs/reference/events.md, "Listings").

    eval "$(.venv/bin/goodfaith env)"
    python examples/listing_producer.py mug-1 --seller s-anna --title "A mug with an owl" --revision 2 \
        --price 12.50 EUR --picture front=owl.jpg=https://cdn.market.example/owl.jpg

Each record has all that the listing shows: what is left out counts as gone from the page. A picture's bytes stay with
the marketplace; the record has their SHA-256 and where they can be fetched. Needs kafka-python, and elsewhere than on
a local stack the marketplace's login at the broker.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOPIC = "marketplace.listings"
"""Compacted, and keyed by listing with the default partitioner."""


def picture_of(given: str) -> dict[str, str]:
    """A picture from ID=FILE or ID=FILE=URL."""
    name, _, rest = given.partition("=")
    file, _, url = rest.partition("=")
    picture = {"id": name, "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}
    return picture | {"url": url} if url else picture


def event_of(given: argparse.Namespace) -> dict[str, Any]:
    """The listing as a CloudEvent."""
    shown = {
        "title": given.title,
        "revision": given.revision,
        "brand": given.brand,
        "category": given.category,
        "price": None if given.price is None else {"amount": given.price[0], "currency": given.price[1]},
        "condition": given.condition,
        "description": given.description,
        "images": [picture_of(one) for one in given.picture] or None,
    }
    return {
        "specversion": "1.0",
        "id": f"listing-{uuid.uuid4()}",
        "source": "/marketplace",
        "type": "goodfaith.marketplace.listing.v1",
        "time": dt.datetime.now(dt.UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "listing": given.listing,
            "seller": given.seller,
            "state": given.state,
            **{name: value for name, value in shown.items() if value is not None},
        },
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Publish what a listing shows.")
    parser.add_argument("listing")
    parser.add_argument("--seller", required=True)
    parser.add_argument("--state", choices=["visible", "ended"], default="visible")
    parser.add_argument("--title", required=True)
    parser.add_argument("--revision", type=int, help="the marketplace's number of what is shown; it rises")
    parser.add_argument("--brand")
    parser.add_argument("--category", help="a path from the top, such as 'Kitchen > Mugs'")
    parser.add_argument("--price", nargs=2, metavar=("AMOUNT", "CURRENCY"))
    parser.add_argument("--condition", help="such as new or used")
    parser.add_argument("--description", help="up to 4,000 characters")
    parser.add_argument("--picture", action="append", default=[], metavar="ID=FILE[=URL]", help="up to 12, in order")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA", "127.0.0.1:9092"), help="brokers (default: $KAFKA)")
    parser.add_argument("--prefix", default="", help="the installation's GOODFAITH_TOPIC_PREFIX")
    return parser.parse_args(words)


def main() -> int:
    """Publish one listing."""
    from kafka import KafkaProducer

    given = arguments()
    event = event_of(given)
    producer: Any = KafkaProducer(bootstrap_servers=given.kafka.split(","), acks="all")
    sent = producer.send(
        given.prefix + TOPIC,
        key=given.listing.encode(),
        value=json.dumps(event).encode(),
        headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
    )
    sent.get(timeout=60)
    producer.close()
    print(json.dumps(event["data"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
