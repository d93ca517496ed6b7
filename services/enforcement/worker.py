"""The worker by listing: turns items and receipts into holds, marketplace commands and violations."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa

from services.enforcement import domain, statements, store
from services.enforcement.domain import Hold, Listing
from shared import events, metrics
from shared.events import Data, HoldChanged, ItemChanged, MarketplaceCommand, Receipt, ViolationChanged
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx
from shared.settings import Settings
from shared.topics import (
    ENFORCEMENT,
    MARKETPLACE_COMMANDS,
    MARKETPLACE_LISTINGS,
    MARKETPLACE_RECEIPTS,
    VERIFICATION,
    VIOLATIONS,
    Topic,
)

_PROCESS: Final = "enforcement-worker"
IGNORED = metrics.counter(
    "goodfaith_enforcement_ignored_total",
    "Items and receipts without effect: stale, foreign or repeated.",
    {"kind": ("item", "receipt")},
    of=_PROCESS,
)
COMMANDS = metrics.counter(
    "goodfaith_marketplace_commands_total",
    "Commands issued to the marketplace, by action.",
    {"action": ("suspend", "restore", "remove", "lookup")},
    of=_PROCESS,
)
REAPPEARED = metrics.counter(
    "goodfaith_marketplace_reappeared_total",
    "Listings that were visible although held, and taken down again.",
    of=_PROCESS,
    do="grows: somebody at the marketplace puts listings back",
)
RESENT = metrics.counter(
    "goodfaith_marketplace_commands_resent_total",
    "Commands sent again because no receipt came.",
    of=_PROCESS,
    do="grows: the marketplace does not answer; meanwhile items are not handled",
)

_HOLD: Final = "goodfaith.hold.changed.v1"
_VIOLATION: Final = "goodfaith.violation.changed.v1"
_COMMAND: Final = "goodfaith.marketplace.command.v1"
_RECEIPT: Final = "goodfaith.marketplace.receipt.v1"
_LOOK_FOR_DUE: Final = dt.timedelta(seconds=0.5)


class Enforcement:
    """Service ``enforcement``."""

    name = "enforcement"
    schema = "enforcement"
    prefix = ""
    reads: Sequence[Topic] = (VERIFICATION, MARKETPLACE_RECEIPTS, MARKETPLACE_LISTINGS)
    keyed_like = frozenset({ENFORCEMENT.name, MARKETPLACE_COMMANDS.name})
    raw = False
    keeps_time = False

    def __init__(self, settings: Settings, *, down: domain.Down = "suspend") -> None:
        """``down``: the action that takes a listing down."""
        self.http = settings.marketplace == "http"
        self.queue = "receipts" if self.http else ""
        self.down: domain.Down = down
        self.resend = dt.timedelta(seconds=settings.resend_s)
        self.look_at = dt.datetime.min.replace(tzinfo=dt.UTC)

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Receipts that came by HTTP."""
        found = []
        for id_, partition, command, listing, seq, result, trace in store.pull(tx.connection, tx.partitions, room):
            receipt = Receipt(command=command, listing=listing, seq=seq, result=result)
            name = f"receipt.{command}.{id_}"
            # as if it had come by topic, so that it can become a dead letter and be replayed like any record
            raw = events.encode(
                receipt, id=name, source="/marketplace", type=_RECEIPT, subject=listing, time=tx.now, key=listing
            )
            entry = Incoming("@queue", partition, id_, listing, name, _RECEIPT, receipt, raw=raw)
            if trace is not None:
                entry.traced, entry.parent = True, trace
            found.append(entry)
        return found

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load what the batch touches."""
        items, listings, receipted = set(), set(), set()
        for record in incoming:
            data = record.data
            if isinstance(data, ItemChanged):
                if domain.matters(record.type, data):
                    items.add(data.item)
                    listings.add(data.listing)
            elif isinstance(data, Receipt) and data.seq:
                listings.add(data.listing)
                receipted.add(data.listing)
            elif isinstance(data, events.Listing) and data.state == "visible":
                listings.add(data.listing)
        return EnforcementBatch(
            self, tx, store.listings(tx.connection, listings), store.holds(tx.connection, items, receipted)
        )


class EnforcementBatch:
    """The holds of one batch."""

    def __init__(self, service: Enforcement, tx: Tx, listings: dict[str, Listing], holds: dict[str, Hold]) -> None:
        self._service = service
        self._tx = tx
        self._listings = listings
        self._holds = holds
        self._of: dict[str, list[Hold]] = {}
        for hold in holds.values():
            self._of.setdefault(hold.listing, []).append(hold)
        self._changed_listings: dict[str, Listing] = {}
        self._changed_holds: dict[str, Hold] = {}
        self._deliveries: list[tuple[int, MarketplaceCommand, str | None]] = []
        self._statements: list[statements.NewStatement] = []

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Fold in an item's change, a receipt, or what the marketplace reports of a listing."""
        data = incoming.data
        if isinstance(data, ItemChanged):
            if domain.matters(incoming.type, data):
                return self._item(incoming, data)
        elif isinstance(data, Receipt):
            return self._receipt(incoming, data)
        elif isinstance(data, events.Listing):
            return self._reappeared(incoming, data)
        return ()

    def _item(self, incoming: Incoming, event: ItemChanged) -> list[Outgoing]:
        tx = self._tx
        listing = self._listings.get(event.listing)
        if listing is None:
            listing = self._listings[event.listing] = Listing(event.listing, incoming.partition)
        hold = self._holds.get(event.item)
        if hold is None:
            hold = self._holds[event.item] = Hold(event.item, event.claim, event.listing)
            self._of.setdefault(event.listing, []).append(hold)
        envelope = incoming.envelope
        at = envelope.time if envelope is not None and envelope.time is not None else tx.now
        holds, seq, held = listing.holds, listing.seq, hold.held
        out = domain.change(listing, hold, event, self._service.down, at, tx.now, tx.wall, self._service.resend)
        if out is None:
            tx.count(IGNORED, "item")
            return []
        self._changed_holds[event.item] = hold
        if (listing.holds, listing.seq) != (holds, seq):
            self._changed_listings[event.listing] = listing
        if hold.held and not held:
            statement = statements.statement_of(event, self._service.down, at)
            if statement is not None:
                self._statements.append(statement)
        return self._outgoing(incoming.partition, out, incoming.id, event.claim, incoming.trace)

    def _receipt(self, incoming: Incoming, receipt: Receipt) -> list[Outgoing]:
        if not receipt.seq:
            return []  # of a look-up, which is verification's
        listing = self._listings.get(receipt.listing)
        changes = domain.receive(listing, self._of.get(receipt.listing, ()), receipt, self._tx.now)
        if changes is None or listing is None:
            self._tx.count(IGNORED, "receipt")
            return []
        self._changed_listings[receipt.listing] = listing
        return self._outgoing(incoming.partition, changes, incoming.id, None, incoming.trace)

    def _reappeared(self, incoming: Incoming, reported: events.Listing) -> list[Outgoing]:
        listing = self._listings.get(reported.listing)
        command = domain.reappeared(listing, reported, self._service.down, self._tx.wall, self._service.resend)
        if command is None or listing is None:
            return []
        self._changed_listings[reported.listing] = listing
        self._tx.count(REAPPEARED)
        return self._outgoing(incoming.partition, [command], incoming.id, None, incoming.trace)

    def _outgoing(
        self, partition: int, out: Iterable[Data], cause: str | None, claim: str | None, trace: str | None = None
    ) -> list[Outgoing]:
        now = self._tx.now
        made = []
        for data in out:
            if isinstance(data, HoldChanged):
                made.append(
                    Outgoing(partition, ENFORCEMENT, data.listing, _HOLD, data, data.item, now, data.claim, cause)
                )
            elif isinstance(data, ViolationChanged):
                made.append(
                    Outgoing(
                        partition, VIOLATIONS, data.seller, _VIOLATION, data, data.item, data.at, data.claim, cause
                    )
                )
            elif isinstance(data, MarketplaceCommand):
                self._tx.count(COMMANDS, data.action)
                if self._service.http:
                    self._deliveries.append((partition, data, trace))
                else:
                    made.append(
                        Outgoing(
                            partition,
                            MARKETPLACE_COMMANDS,
                            data.listing,
                            _COMMAND,
                            data,
                            data.listing,
                            now,
                            claim,
                            cause,
                        )
                    )
        return made

    def due(self, limit: int) -> Sequence[Due]:
        """Commands without a receipt; looked for only now and then, as seconds do not matter here."""
        tx, service = self._tx, self._service
        if tx.wall < service.look_at:
            return ()
        found = []
        for listing in store.due(tx.connection, tx.partitions, tx.wall, tx.blocked, limit):
            known = self._listings.setdefault(listing.listing, listing)
            # the batch may have brought the receipt, or a newer command
            if known.resend_at is not None and known.resend_at <= tx.wall:
                found.append(Due(known.partition, known.listing, known.listing, tx.now))
        if not found:  # else look again at once, in case this transaction is refused
            service.look_at = tx.wall + _LOOK_FOR_DUE
        return found

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Send a command again."""
        listing = self._listings[due.subject]
        command = domain.again(listing, self._tx.wall, self._service.resend)
        self._changed_listings[listing.listing] = listing
        if command is None:
            return ()
        self._tx.count(RESENT)
        return self._outgoing(due.partition, [command], None, None)

    def save(self) -> None:
        """Write what changed."""
        connection: sa.Connection = self._tx.connection
        store.save(connection, self._changed_listings.values(), self._changed_holds.values())
        store.deliver(connection, self._deliveries)
        store.keep_statements(connection, self._statements)

    def marks(self) -> dict[int, dt.datetime]:
        """Enforcement publishes no watermarks."""
        return {}
