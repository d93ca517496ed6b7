"""The worker by seller: turns violations, receipts and keys into penalty entries, standings, sanctions and commands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa

from services.enforcement import entities_store, ledger_store, penalties, sanctions, sanctions_store, statements, store
from services.enforcement.entities_store import LinkedEntity
from services.enforcement.ledger_store import StoredSeller
from services.enforcement.penalties import Item, LedgerRow, Seller, Violation
from services.enforcement.sanctions import Account, Facts
from services.enforcement.statements import NewStatement
from shared import events, metrics, policy
from shared.events import (
    Data,
    LiftSanction,
    MarketplaceSeller,
    PenaltyEntered,
    SanctionChanged,
    SellerCommand,
    SellerKey,
    SellerReceipt,
    StandingChanged,
    ViolationChanged,
)
from shared.policy import Policy
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx
from shared.settings import Settings
from shared.topics import ACCOUNTS, LEDGER, MARKETPLACE_SELLERS, SELLER_COMMANDS, SELLER_RECEIPTS, VIOLATIONS, Topic

NAME: Final = "enforcement-ledger"
ENTRIES = metrics.counter(
    "goodfaith_penalty_entries_total",
    "Entries written to the penalty ledgers.",
    {"ledger": ("general", "serious"), "kind": ("violation", "reversal")},
    of=NAME,
    do="many reversals: decisions are overturned",
)
SANCTIONS = metrics.counter(
    "goodfaith_sanctions_total",
    "Sanctions that began or ended, and why.",
    {
        "change": ("imposed", "lifted", "ended"),
        "cause": ("threshold", "replaced", "timer", "expiry", "reversal", "unlinked", "operator"),
    },
    of=NAME,
    do="many `imposed` at once: did the policy change? many `lifted` by `reversal`: decisions are overturned",
)
COMMANDS = metrics.counter("goodfaith_seller_commands_total", "Commands on sellers issued to the marketplace.", of=NAME)
RESENT = metrics.counter(
    "goodfaith_seller_commands_resent_total",
    "Commands on sellers sent again because no receipt came.",
    of=NAME,
    do="grows: the marketplace does not answer; meanwhile sellers keep selling, or stay blocked",
)
IGNORED = metrics.counter(
    "goodfaith_ledger_ignored_total",
    "Receipts and operators' lifts without effect: foreign, repeated, or of no sanction in force.",
    {"kind": ("receipt", "lift")},
    of=NAME,
    do="a steady stream of `receipt`: the marketplace answers what was not asked",
)

_ENTERED: Final = "goodfaith.penalty.entered.v1"
_STANDING: Final = "goodfaith.standing.changed.v1"
_SANCTION: Final = "goodfaith.sanction.changed.v1"
_COMMAND: Final = "goodfaith.marketplace.seller_command.v1"
_RECEIPT: Final = "goodfaith.marketplace.seller_receipt.v1"
_RESEND: Final = "@"
"""Prefix of the subject of a timer that sends a command again; no seller's id begins with it."""
_LOOK_FOR_RESENDS: Final = dt.timedelta(seconds=0.5)


class EnforcementLedger:
    """Service ``enforcement-ledger``."""

    name = NAME
    schema = "enforcement"
    prefix = "ledger_"
    reads: Sequence[Topic] = (VIOLATIONS, SELLER_RECEIPTS, ACCOUNTS, MARKETPLACE_SELLERS)
    keyed_like = frozenset({LEDGER.name, SELLER_COMMANDS.name})
    raw = False
    keeps_time = False

    def __init__(self, settings: Settings) -> None:
        # one profile's penalties for all: a ledger is the seller's, not one item's
        self.policy: Policy = policy.current(settings.penalties_profile)
        self.http = settings.marketplace == "http"
        self.queue = "ledger_queue" if self.http else "relinked"
        self.resend = dt.timedelta(seconds=settings.resend_s)
        self.look_at = dt.datetime.min.replace(tzinfo=dt.UTC)

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Receipts that came by HTTP, and accounts whose entity has changed."""
        found = []
        for id_, partition, command, seller, seq, result in sanctions_store.pull(tx.connection, tx.partitions, room):
            receipt = SellerReceipt(command=command, seller=seller, seq=seq, result=result)
            name = f"receipt.{command}.{id_}"
            # as if it had come by topic, so that it can become a dead letter and be replayed like any record
            raw = events.encode(
                receipt, id=name, source="/marketplace", type=_RECEIPT, subject=seller, time=tx.now, key=seller
            )
            found.append(Incoming("@queue", partition, id_, seller, name, _RECEIPT, receipt, raw=raw))
        for id_, partition, seller in entities_store.take(tx.connection, tx.partitions, room - len(found)):
            # only a signal to look at the standing again: what there is to see is loaded then
            look = StandingChanged(seller=seller, general_points=0, serious_strikes=0, violations=0, at=tx.now)
            name = f"relinked.{id_}"
            raw = events.encode(
                look, id=name, source="/enforcement-entities", type=_STANDING, subject=seller, time=tx.now, key=seller
            )
            found.append(Incoming("@queue", partition, id_, seller, name, _STANDING, look, raw=raw))
        return found

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load sellers, the batch's claims with their items, and the whole history where it is needed."""
        batch = LedgerBatch(self, tx)
        batch.load([record.data for record in incoming])
        return batch


class LedgerBatch:
    """The sellers of one batch."""

    def __init__(self, service: EnforcementLedger, tx: Tx) -> None:
        self._service = service
        self._rules = service.policy.penalties
        self._tx = tx
        self._sellers: dict[str, Seller] = {}
        self._accounts: dict[str, Account] = {}
        self._linked: dict[str, LinkedEntity] = {}
        self._relinked: dict[str, tuple[int, LinkedEntity]] = {}
        self._keys: dict[str, set[SellerKey]] = {}
        self._stored_keys: dict[str, frozenset[SellerKey]] = {}
        self._marks: set[str] = set()
        """Accounts whose entity must be counted again."""
        self._changed_at: dict[str, dt.datetime] = {}
        self._changed: dict[str, Seller] = {}
        self._items: dict[tuple[str, str, str], Item] = {}
        self._written: list[LedgerRow] = []
        self._stored_violations: dict[tuple[str, str], tuple[object, ...]] = {}
        self._stored_sanctions: dict[tuple[str, int], tuple[object, ...]] = {}
        self._deliveries: list[tuple[int, SellerCommand]] = []
        self._statements: list[NewStatement] = []

    def load(self, records: Sequence[Data]) -> None:
        """Load what the records touch."""
        changes = [data for data in records if isinstance(data, ViolationChanged)]
        names = {data.seller for data in records if isinstance(data, ViolationChanged | SellerReceipt)}
        names |= {data.account for data in records if isinstance(data, LiftSanction)}
        reported = {data.seller for data in records if isinstance(data, MarketplaceSeller)}
        relinked = {data.seller for data in records if isinstance(data, StandingChanged)}
        connection = self._tx.connection
        if reported:
            self._keys = entities_store.keys(connection, reported)
            self._stored_keys = {seller: frozenset(keys) for seller, keys in self._keys.items()}
        if relinked:
            self._relinked = entities_store.of(connection, relinked)
        names |= relinked | reported
        if not names:
            return
        self._take(ledger_store.sellers(connection, names))
        pairs = {(event.seller, event.claim) for event in changes if event.seller in self._sellers}
        if pairs:
            self._know(ledger_store.violations(connection, pairs))
        # a guess, as earlier events of the batch move the end: histories missed here are loaded when they are needed
        self._complete({event.seller for event in changes if event.seller in self._sellers and self._needs(event)})

    def _take(self, stored: Iterable[StoredSeller]) -> None:
        """Take in sellers that the batch does not have yet."""
        for one in stored:
            name = one.seller.seller
            self._sellers[name] = one.seller
            self._changed_at[name] = one.changed_at
            self._accounts[name] = one.account
            if one.linked is not None:
                self._linked[name] = one.linked
            for sanction in one.account.sanctions:
                self._stored_sanctions[name, sanction.number] = sanctions_store.sanction_row(sanction)

    def _needs(self, event: ViolationChanged) -> bool:
        """Whether the event cannot be judged without the seller's whole history."""
        seller, known = self._sellers[event.seller], self._accounts[event.seller].open_grounds
        return penalties.needs_history(seller, event, self._tx.now) or (
            not seller.complete
            and event.in_force
            and sanctions.needs_history(known, self._service.policy.version, event.at)
        )

    def _know(self, found: Iterable[tuple[str, Violation]]) -> None:
        """Take in stored violations, unless the batch has newer ones."""
        for name, violation in found:
            if violation.claim not in self._sellers[name].history:
                self._sellers[name].history[violation.claim] = violation
                self._stored_violations[name, violation.claim] = ledger_store.violation_row(violation)

    def _complete(self, names: set[str]) -> None:
        if names:
            self._know(ledger_store.histories(self._tx.connection, names))
            for name in names:
                self._sellers[name].complete = True

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Fold in an item's violation, a receipt, a seller's keys or its entity, or lift a sanction."""
        data = incoming.data
        if isinstance(data, ViolationChanged):
            return self._violation(incoming, data)
        if isinstance(data, SellerReceipt):
            if sanctions.receive(self._accounts.get(data.seller), data):
                self._changed[data.seller] = self._sellers[data.seller]
            else:
                self._tx.count(IGNORED, "receipt")
        elif isinstance(data, LiftSanction):
            return self._lift(incoming, data)
        elif isinstance(data, MarketplaceSeller):
            self._keys[data.seller] = set(data.keys)
            return self._appeared(incoming, data.seller)
        elif isinstance(data, StandingChanged):
            return self._look(incoming, data.seller)
        return ()

    def _appeared(self, incoming: Incoming, name: str) -> list[Outgoing]:
        """Tell the marketplace again about a seller that it did not know the first time."""
        account = self._accounts.get(name)
        if account is None or account.result != "unknown_seller":
            return []
        self._changed[name] = self._sellers[name]
        return self._outgoing(incoming.partition, name, self._ordered(account), incoming.id)

    def _known(self, name: str, partition: int) -> Seller:
        seller = self._sellers.get(name)
        if seller is None:
            seller = self._sellers[name] = Seller(name, partition)
            self._accounts[name] = Account(name, sanctions.OpenGrounds(rules=self._service.policy.version))
            self._changed_at[name] = self._tx.now
        return seller

    def _look(self, incoming: Incoming, name: str) -> list[Outgoing]:
        """Take in the seller's entity and that entity's standing."""
        entries, linked = self._relinked.get(name, (0, None))
        before = self._linked.get(name)
        if linked == before:
            return []
        seller = self._known(name, incoming.partition)
        # a history is long: read it when a threshold was reached or left, not for every violation of another account
        if (
            linked is None
            or before is None
            or linked.entity.grounds != before.entity.grounds
            or linked.entity.last < before.entity.last  # reversed: a measure may have come with it
            or self._expired(seller)
            or self._accounts[name].open_grounds.rules != self._service.policy.version
        ) and not seller.complete:
            self._complete({name})
        if linked is None:
            del self._linked[name]
        else:
            self._linked[name] = linked
            if entries != seller.entries:
                # the count lacks what has happened since, which left no mark as the link was not known
                self._marks.add(name)
        self._changed[name] = seller
        out: list[Data] = []
        if seller.complete:
            self._changed_at[name] = self._tx.now
            out = self._recounted(seller)
        if not out and (linked is None or before is None or not linked.same(before)):
            out = [seller.standing(self._tx.now)]
        # like the effect of a timer: no event caused it
        return self._outgoing(incoming.partition, name, [*out, *self._judged(seller)], None)

    def _violation(self, incoming: Incoming, event: ViolationChanged) -> list[Outgoing]:
        now = self._tx.now
        seller = self._known(event.seller, incoming.partition)
        if self._needs(event):
            self._complete({event.seller})
        changed = penalties.change(seller, event, self._rules, now)
        if changed is None:
            return []
        out, written = changed
        self._changed[event.seller] = seller
        self._items[(event.seller, event.claim, event.item)] = seller.history[event.claim].items[event.item]
        self._written += written
        if written:
            self._changed_at[event.seller] = now
            if event.seller in self._linked:
                self._marks.add(event.seller)
            if not seller.complete:
                self._advance(seller, event.claim)
            out = [*out, *self._judged(seller)]
        return self._outgoing(incoming.partition, event.seller, out, incoming.id)

    def _advance(self, seller: Seller, claim: str) -> None:
        """Advance the open grounds by the entry of a violation that comes after all others."""
        entry = seller.history[claim].entry
        if entry is not None:
            account = self._accounts[seller.seller]
            points = seller.general_points if entry.penalty.ledger == "general" else seller.serious_strikes
            account.open_grounds = sanctions.advance(account.open_grounds, entry, points, self._rules, self._tx.now)

    def _recounted(self, seller: Seller) -> list[Data]:
        """Count a standing from its complete history; reassess it if the ledger was kept by other rules."""
        if self._accounts[seller.seller].open_grounds.rules == self._service.policy.version:
            changed = penalties.recount(seller, self._rules, self._tx.now)
            return [seller.standing(self._tx.now)] if changed else []
        out, written = penalties.reassess(seller, self._rules, self._tx.now)
        self._written += written
        if written and seller.seller in self._linked:
            self._marks.add(seller.seller)
        return out

    def _judged(self, seller: Seller) -> list[Data]:
        """The sanctions that the seller's standing brings about now, and the command that tells the marketplace."""
        tx, account = self._tx, self._accounts[seller.seller]
        own: Sequence[sanctions.Ground] = account.open_grounds.open
        if seller.complete:
            entries = [violation.entry for violation in seller.history.values() if violation.entry is not None]
            own = sanctions.grounds(entries, self._rules, tx.now)
            account.open_grounds = sanctions.open_grounds(own, entries, self._service.policy.version, tx.now)
        linked = self._linked.get(seller.seller)
        entity = linked.entity if linked is not None else None
        facts = Facts(own, seller.complete, seller.tail.last[0], seller.violations > 0, entity)
        decided = sanctions.decide(account, facts, self._rules, tx.now)
        if entity is not None and any(not change.measures for change in decided):
            self._marks.add(seller.seller)  # a warning counts for every account of the business
        out: list[Data] = [*decided]
        return [*out, *self._ordered(account)]

    def _ordered(self, account: Account) -> list[Data]:
        command = sanctions.command(account, self._tx.wall, self._service.resend)
        return [] if command is None else [command]

    def _lift(self, incoming: Incoming, asked: LiftSanction) -> list[Outgoing]:
        account = self._accounts.get(asked.account)
        out = None if account is None else sanctions.lift(account, asked, self._tx.now)
        if account is None or out is None:
            self._tx.count(IGNORED, "lift")
            return []
        self._changed[asked.account] = self._sellers[asked.account]
        if asked.account in self._linked and any(not change.measures for change in out):
            self._marks.add(asked.account)  # a lifted warning no longer counts for any account of the business
        return self._outgoing(incoming.partition, asked.account, [*out, *self._ordered(account)], incoming.id)

    def _outgoing(self, partition: int, seller: str, out: Iterable[Data], cause: str | None) -> list[Outgoing]:
        tx = self._tx
        made = []
        for data in out:
            if isinstance(data, PenaltyEntered):
                tx.count(ENTRIES, data.ledger, data.kind)
                made.append(Outgoing(partition, LEDGER, seller, _ENTERED, data, data.entry, tx.now, data.claim, cause))
            elif isinstance(data, SanctionChanged):
                tx.count(SANCTIONS, data.change, data.cause)
                statement = statements.account_statement_of(data, self._service.policy)
                if statement is not None:
                    self._statements.append(statement)
                made.append(
                    Outgoing(partition, LEDGER, seller, _SANCTION, data, data.sanction, tx.now, data.claim, cause)
                )
            elif isinstance(data, StandingChanged):
                linked = self._linked.get(seller)
                if linked is not None:
                    data = linked.standing(data)
                made.append(Outgoing(partition, LEDGER, seller, _STANDING, data, seller, tx.now, None, cause))
            elif isinstance(data, SellerCommand):
                tx.count(COMMANDS)
                if self._service.http:
                    self._deliveries.append((partition, data))
                else:
                    made.append(
                        Outgoing(partition, SELLER_COMMANDS, seller, _COMMAND, data, seller, tx.now, None, cause)
                    )
        return made

    def due(self, limit: int) -> Sequence[Due]:
        """Sellers with an entry, a violation or a sanction that has ended; commands without a receipt."""
        tx = self._tx
        found = []
        names, stored = ledger_store.due(
            tx.connection, tx.partitions, tx.now, but=tx.blocked, known=self._sellers.keys(), limit=limit
        )
        self._take(stored)
        expired = set()
        for name in names:
            seller, account = self._sellers[name], self._accounts[name]
            # the batch may have judged it again already
            due_at = self._due_at(seller)
            if due_at is not None and due_at <= tx.now:
                found.append(Due(seller.partition, name, name, due_at))
                if not seller.complete and (
                    self._expired(seller) or account.open_grounds.rules != self._service.policy.version
                ):
                    expired.add(name)
        self._complete(expired)
        return [*found, *self._unanswered(limit)]

    def _expired(self, seller: Seller) -> bool:
        return seller.next_change is not None and seller.next_change <= self._tx.now

    def _due_at(self, seller: Seller) -> dt.datetime | None:
        account = self._accounts[seller.seller]
        if account.open_grounds.rules != self._service.policy.version:
            return penalties.NEVER
        return min((at for at in (seller.next_change, account.next_end) if at is not None), default=None)

    def _unanswered(self, limit: int) -> list[Due]:
        """Commands without a receipt; looked for only now and then, as seconds do not matter here."""
        tx, service = self._tx, self._service
        if tx.wall < service.look_at:
            return []
        names = sanctions_store.due(tx.connection, tx.partitions, tx.wall, tx.blocked, limit)
        unknown = [name for name in names if name not in self._sellers]
        if unknown:
            self._take(ledger_store.sellers(tx.connection, unknown))
        found = [
            Due(self._sellers[name].partition, name, _RESEND + name, tx.now)
            for name in names
            # the batch may have brought the receipt, or a newer command
            if (at := self._accounts[name].resend_at) is not None and at <= tx.wall
        ]
        if not found:  # else look again at once, in case this transaction is refused
            service.look_at = tx.wall + _LOOK_FOR_RESENDS
        return found

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Count a standing and judge it again, or send a command again."""
        tx, seller = self._tx, self._sellers[due.key]
        self._changed[due.key] = seller
        if due.subject.startswith(_RESEND):
            command = sanctions.again(self._accounts[due.key], tx.wall, self._service.resend)
            if command is None:
                return ()
            tx.count(RESENT)
            return self._outgoing(due.partition, due.key, [command], None)
        out: list[Data] = []
        if seller.complete:
            self._changed_at[due.key] = tx.now
            out = self._recounted(seller)
        return self._outgoing(due.partition, due.key, [*out, *self._judged(seller)], None)

    def save(self) -> None:
        """Write what changed; the ledger only grows."""
        connection = self._tx.connection
        self._save_sellers(connection)
        self._save_keys(connection)
        changed = [
            (name, row)
            for name, seller in self._changed.items()
            for violation in seller.history.values()
            if self._stored_violations.get((name, violation.claim)) != (row := ledger_store.violation_row(violation))
        ]
        items = [(seller, claim, item) for (seller, claim, _), item in self._items.items()]
        ledger_store.save_violations(connection, changed, items, self._written)

    def _save_keys(self, connection: sa.Connection) -> None:
        lost, gained = [], []
        for name, keys in self._keys.items():
            stored = self._stored_keys.get(name, frozenset())
            lost += [(name, key) for key in stored - keys]
            gained += [(name, key) for key in keys - stored]
        entities_store.tell(connection, lost, gained)
        entities_store.mark(connection, [*lost, *gained, *((name, None) for name in sorted(self._marks))])

    def _save_sellers(self, connection: sa.Connection) -> None:
        stored, changed = [], []
        for name, seller in self._changed.items():
            account = self._accounts[name]
            one = StoredSeller(seller, account, self._linked.get(name), self._changed_at[name])
            stored.append((one, self._due_at(seller)))
            changed += [
                row
                for sanction in account.sanctions
                if self._stored_sanctions.get((name, sanction.number))
                != (row := sanctions_store.sanction_row(sanction))
            ]
        ledger_store.save_sellers(connection, stored, self._rules)
        sanctions_store.save(connection, changed)
        sanctions_store.deliver(connection, self._deliveries)
        store.keep_statements(connection, self._statements)

    def marks(self) -> dict[int, dt.datetime]:
        """Enforcement publishes no watermarks."""
        return {}
