"""Attacks through what the marketplace publishes: contacts and receipts, by somebody who can write to its topics."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from labs.attacks.bed import ANSWERS_S, Attack, AttackBed, AttackOutcome, as_json
from shared import kafka_links, sealing, topics

TYPE: Final = "goodfaith.marketplace.contact.v1"
RECEIPT: Final = "goodfaith.marketplace.message_receipt.v1"
ANNA: Final = {"name": "Anna Example", "address": "Road 1", "email": "anna@honest.example", "vouched": True}
MALLORY: Final = {**ANNA, "email": "mallory@attacker.example"}


class _Feed:
    """A producer for the feed's topic."""

    def __init__(self, bed: AttackBed) -> None:
        self._topic = bed.settings.topic_prefix + topics.MARKETPLACE_CONTACTS.name
        self._partitions = bed.settings.partitions
        self._public = sealing.public_text(sealing.private_key("feed_key", bed.stack.secret("feed_key")))
        self._producer: Any = kafka_links.producer(bed.settings, acks="all", max_request_size=3_000_000)

    def sealed(self, seller: str, contact: Any) -> str:
        """Sealed with the public key, as anybody can."""
        return sealing.seal(self._public, sealing.about_contact(seller), msgspec.json.encode(contact))

    def send(self, key: str, raw: bytes | None) -> None:
        partition = topics.partition_of(key, self._partitions)
        self._producer.send(self._topic, key=key.encode(), value=raw, partition=partition).get(ANSWERS_S)

    def tell(self, key: str, **data: Any) -> None:
        """Send one event."""
        document = {"specversion": "1.0", "id": secrets.token_hex(8), "source": "/marketplace", "type": TYPE}
        self.send(key, as_json({**document, "data": data}))

    def close(self) -> None:
        self._producer.close()


def _revision(bed: AttackBed, seller: str) -> int:
    rows = bed.query("select revision from intake.fed_sellers where seller = %s", seller)
    return int(rows[0][0]) if rows else 0


def hostile_contacts(bed: AttackBed) -> AttackOutcome:
    """Divert a seller's mail with records of others, old records and rubbish, and stop the feed."""
    mark = secrets.token_hex(4)
    victim, other = f"s-fed-{mark}", f"s-other-{mark}"
    holder = bed.person().account
    before = bed.fleet["intake-worker.0"].pid
    with contextlib.closing(_Feed(bed)) as feed:
        feed.tell(victim, seller=victim, revision=10, sealed=feed.sealed(victim, ANNA))
        bed.wait(lambda: _revision(bed, victim) == 10, ANSWERS_S)
        known = bed.query("select account, sealed from intake.contacts where account in (%s, %s)", victim, holder)
        sent: list[dict[str, Any]] = [
            {"seller": victim, "revision": 11, "sealed": feed.sealed(other, MALLORY)},
            {"seller": victim, "revision": 9, "sealed": feed.sealed(victim, MALLORY)},
            {"seller": victim, "revision": 10, "sealed": feed.sealed(victim, MALLORY)},
            {"seller": victim, "revision": 9, "gone": True},
            {"seller": victim, "revision": 2**60, "sealed": feed.sealed(victim, MALLORY)},
            {"seller": victim, "revision": 12, "sealed": feed.sealed(victim, {**MALLORY, "email": "a@b\r\nBcc: c@d"})},
            {"seller": victim, "revision": 12, "sealed": feed.sealed(victim, {**MALLORY, "name": "x" * 100_000})},
            {"seller": victim, "revision": 12, "sealed": "A" * 16_384},
            {"seller": victim, "revision": 12, "sealed": MALLORY["email"]},
            {"seller": victim, "revision": 12, "language": "en\n"},
            {"seller": holder, "revision": 1, "sealed": feed.sealed(holder, MALLORY)},
            {"seller": holder, "revision": 2, "gone": True},
        ]
        for one in sent:
            feed.tell(one["seller"], **one)
        # the victim's record under the key of another
        feed.tell(other, seller=victim, revision=13, sealed=feed.sealed(victim, MALLORY))
        rubbish: list[bytes | None] = [None, b"", b"{}", b"[" * 100_000, secrets.token_bytes(1000), b"\xff\xfe" * 10]
        for raw in rubbish:
            feed.send(victim, raw)
        # what is honest is taken in afterwards, also of the same sellers
        for seller in (victim, other):
            feed.tell(seller, seller=seller, revision=20)
        heard = bed.wait(lambda: {_revision(bed, one) for one in (victim, other)} == {20}, ANSWERS_S)
    diverted = [row for row in bed.query("select account, sealed from intake.contacts where fed") if row not in known]
    diverted = [row for row in diverted if row[0] in (victim, other, holder)]
    changed = bed.query("select 1 from intake.accounts where id = %s and status <> 'open'", holder)
    kept = bed.query("select 1 from intake.contacts where account = %s", holder)
    same = bed.fleet["intake-worker.0"].pid == before
    count = len(sent) + 1 + len(rubbish)
    return AttackOutcome(
        bool(diverted or changed or not kept or not heard or not same),
        f"{count} records, {len(diverted)} diverted; the next ones were {'' if heard else 'not '}taken in",
    )


def hostile_receipts(bed: AttackBed) -> AttackOutcome:
    """Have a seller count as told by receipts of others, about others and made of rubbish, and stop what reads them."""
    mark = secrets.token_hex(4)
    victim, other, waits = f"s-told-{mark}", f"s-forger-{mark}", f"m-waits-{mark}"
    before = bed.fleet["notification-worker.0"].pid
    # as notification leaves a message that it handed to the message centre; nobody takes it until this ends
    bed.query(
        "insert into notification.messages (id, claim, party, kind, items, revisions, state, opened_wall, holder,"
        " result, due_wall) values (%s, 'c', %s, 'outcome', '{}', '{}', 'sending', now(), 'centre', 'centre', 'infinity') returning 1",
        waits,
        victim,
    )
    bed.query(
        "insert into notification.centre (message, party, handed_at, template, version, digest, locale, edition)"
        " values (%s, %s, now(), 't', 1, 'd', 'en', '') returning 1",
        waits,
        victim,
    )
    topic = bed.settings.topic_prefix + topics.CENTRE_RECEIPTS.name
    producer: Any = kafka_links.producer(bed.settings, acks="all", max_request_size=3_000_000)

    def send(key: str, raw: bytes | None) -> None:
        partition = topics.partition_of(key, bed.settings.partitions)
        producer.send(topic, key=key.encode(), value=raw, partition=partition).get(ANSWERS_S)

    def tell(key: str, **data: Any) -> str:
        id_ = secrets.token_hex(8)
        document = {"specversion": "1.0", "id": id_, "source": "/marketplace", "type": RECEIPT, "data": data}
        send(key, as_json(document))
        return id_

    forged: list[tuple[str, dict[str, Any]]] = [
        (other, {"message": waits, "seller": other, "result": "delivered"}),
        (other, {"message": waits, "seller": victim, "result": "delivered"}),
        (other, {"message": waits, "seller": victim, "result": "read"}),
        (victim, {"message": waits, "seller": other, "result": "refused"}),
        (victim, {"message": f"m-none-{mark}", "seller": victim, "result": "read"}),
        (victim, {"message": waits, "seller": victim, "result": "deemed"}),
        (victim, {"message": waits, "seller": victim, "result": "refused", "reason": "x" * 100_000}),
        (victim, {"message": [waits], "seller": victim, "result": "read"}),
    ]
    try:
        for key, one in forged:
            tell(key, **one)
        rubbish: list[bytes | None] = [None, b"", b"{}", b"[" * 100_000, secrets.token_bytes(1000), b"\xff\xfe" * 10]
        for raw in rubbish:
            send(victim, raw)
        # what comes after is read, of both keys
        last = [tell(one, message=f"m-none-{mark}", seller=one, result="read") for one in (victim, other)]
        noted = "select 1 from notification.dead_letters where event_id in (%s, %s) and state = 'done'"
        heard = bed.wait(lambda: len(bed.query(noted, *last)) == 2, ANSWERS_S)
        ((state, read),) = bed.query("select state, read_at from notification.messages where id = %s", waits)
        same = bed.fleet["notification-worker.0"].pid == before
    finally:
        producer.close()
        bed.query("delete from notification.centre where message = %s returning 1", waits)
        bed.query("delete from notification.messages where id = %s returning 1", waits)
    counts = state != "sending" or read is not None
    return AttackOutcome(
        bool(counts or not heard or not same),
        f"{len(forged) + len(rubbish)} receipts, {'one' if counts else 'none'} counted; the next ones were"
        f" {'' if heard else 'not '}read",
    )


FEEDS: Final[Sequence[Attack]] = (
    Attack("hostile contacts", "divert a seller's mail, or stop the feed", hostile_contacts),
    Attack("hostile receipts", "have a seller count as told, or stop the worker", hostile_receipts),
)
