"""Sellers' ledgers on a real database, written by the real worker's batches, without a broker."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from services.enforcement.ledger import EnforcementLedger
from shared import db, topics
from shared.events import Data, ViolationChanged
from shared.runtime import Incoming, Tx
from shared.runtime.store import Head, Store
from shared.settings import Settings

_CHANGED: Final = "goodfaith.violation.changed.v1"
_HEADS: Final = "select partition, seq, hash from ledger_partitions"
_HEAD: Final = """
    insert into ledger_partitions (partition, seq, hash) values (%s, %s, %s)
    on conflict (partition) do update set seq = excluded.seq, hash = excluded.hash"""


class Ledgers:
    """Applies events as ``enforcement ledger`` does: one batch, one transaction, log included."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = EnforcementLedger(settings)
        self.engine = db.connect(settings.database.get_secret_value(), schema="enforcement", name="test-ledger")
        self._store = Store(
            self.service.name, self.service.prefix, settings.partitions, settings.topic_prefix, self.service.keyed_like
        )
        self._heads: dict[int, Head] = {}
        self._offset = 0
        self._revisions = 0

    def say(
        self,
        seller: str,
        claim: str,
        at: dt.datetime,
        *,
        severity: Any = "general",
        in_force: bool = True,
        item: str = "",
    ) -> ViolationChanged:
        """An event of the worker by listing."""
        self._revisions += 1
        return ViolationChanged(
            seller=seller,
            claim=claim,
            item=item or f"{claim}-1",
            listing=f"listing-of-{item or claim}",
            severity=severity,
            in_force=in_force,
            revision=self._revisions,
            at=at,
        )

    def batch(
        self, now: dt.datetime, *events: Data, topic: str = topics.VIOLATIONS.name, kind: str = _CHANGED
    ) -> list[Data]:
        """One batch at a business time, timers included; what it made of it."""
        out: list[Any] = []
        partitions = range(self.settings.partitions)
        with self.engine.begin() as connection:
            heads = {row[0]: Head(row[1], row[2], 0, None) for row in connection.exec_driver_sql(_HEADS)}
            self._heads = {partition: heads.get(partition, Head(0, "", 0, None)) for partition in partitions}
            tx = Tx(connection, now, now, partitions, {}, frozenset())
            incoming = [self._incoming(event, topic, kind) for event in events]
            work = self.service.open(tx, incoming)
            for record in incoming:
                out += work.apply(record)
            for due in work.due(1000):
                out += work.fire(due)
            work.save()
            self._store.append(connection, self._heads, out)
            for partition, head in self._heads.items():
                connection.exec_driver_sql(_HEAD, (partition, head.seq, head.hash))
        return [event.data for event in out]

    def _incoming(self, event: Any, topic: str, kind: str) -> Incoming:
        self._offset += 1
        key = getattr(event, "seller", None) or event.account
        id_ = hashlib.sha256(f"{self._offset}".encode()).hexdigest()[:20]
        return Incoming(topic, topics.partition_of(key, self.settings.partitions), self._offset, key, id_, kind, event)

    def close(self) -> None:
        """Let go of connections."""
        self.engine.dispose()


def many(ledgers: Ledgers, now: dt.datetime, events: Sequence[Data], size: int = 500) -> None:
    """Events in batches."""
    for start in range(0, len(events), size):
        ledgers.batch(now, *events[start : start + size])
