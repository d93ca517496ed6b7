"""A marketplace that publishes how to reach a seller (docs/reference/events.md, "Contacts").

    eval "$(.venv/bin/goodfaith env)"
    python examples/contact_producer.py s-anna --revision 1 --name "Anna Example" --address "Road 1, Town" \
        --email anna@example.org --vouched --language de

Name, address and e-mail are sealed with the installation's public key ($FEED_KEY; `goodfaith feed key` prints it), so
that nothing personal is in clear on the topic. Each record has all of it. Needs kafka-python and cryptography, and
elsewhere than on a local stack the marketplace's login at the broker.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import json
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

TOPIC = "marketplace.contacts"
"""Keyed by seller with the default partitioner."""
TYPE = "goodfaith.marketplace.contact.v1"


def sealed(key: str, seller: str, contact: dict[str, Any]) -> str:
    """The contact as only the installation can read it: HPKE, bound to the seller."""
    public = X25519PublicKey.from_public_bytes(base64.b64decode(key))
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    plain = json.dumps(contact, ensure_ascii=False).encode()
    return base64.b64encode(suite.encrypt(plain, public, f"{TYPE}\n{seller}".encode())).decode()


def event_of(given: argparse.Namespace) -> dict[str, Any]:
    """The seller's contact as a CloudEvent."""
    data: dict[str, Any] = {"seller": given.seller, "revision": given.revision}
    if given.gone:
        data["gone"] = True
    if given.language is not None:
        data["language"] = given.language
    if given.email is not None:
        contact = {"name": given.name, "address": given.address, "email": given.email, "vouched": given.vouched}
        data["sealed"] = sealed(given.key, given.seller, contact)
    return {
        "specversion": "1.0",
        "id": f"contact-{uuid.uuid4()}",
        "source": "/marketplace",
        "type": TYPE,
        "time": dt.datetime.now(dt.UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Publish how to reach a seller.")
    parser.add_argument("seller")
    parser.add_argument("--revision", type=int, required=True, help="the marketplace's number of the data; it rises")
    parser.add_argument("--language", help="of messages, such as de or zh-Hant")
    parser.add_argument("--email", help="left out: the marketplace knows no contact data (any more)")
    parser.add_argument("--name", help="required with --email")
    parser.add_argument("--address", help="required with --email")
    parser.add_argument("--vouched", action="store_true", help="the marketplace knows that the address is the seller's")
    parser.add_argument("--gone", action="store_true", help="the marketplace has erased the seller")
    parser.add_argument("--key", default=os.environ.get("FEED_KEY"), help="public key (default: $FEED_KEY)")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA", "127.0.0.1:9092"), help="brokers (default: $KAFKA)")
    parser.add_argument("--prefix", default="", help="the installation's GOODFAITH_TOPIC_PREFIX")
    given = parser.parse_args(words)
    if given.email is not None and None in (given.name, given.address, given.key):
        parser.error("--email needs --name, --address and a key")
    return given


def main() -> int:
    """Publish one record."""
    from kafka import KafkaProducer

    given = arguments()
    event = event_of(given)
    producer: Any = KafkaProducer(bootstrap_servers=given.kafka.split(","), acks="all")
    sent = producer.send(
        given.prefix + TOPIC,
        key=given.seller.encode(),
        value=json.dumps(event).encode(),
        headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
    )
    sent.get(timeout=60)
    producer.close()
    print(json.dumps(event["data"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
