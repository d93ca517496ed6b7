"""The worker: runs batches of records through the life cycle, and keeps the resulting items and events.

``lifecycle`` makes all decisions; this module only loads and saves.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from services.verification import lifecycle, recurrence, refusals, store
from services.verification.item import INTERNAL, Facts, Item, Outcome, PastDecision, Reopened, past_of
from services.verification.store import Triple
from shared import metrics, policy, topics
from shared.events import (
    TYPES,
    ChangeRight,
    Command,
    CommandRefused,
    HoldChanged,
    ItemSubmitted,
    Listing,
    MarketplaceCommand,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    RecurrenceFound,
    State,
)
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx

_PROCESS = "verification"
_CHANGES = tuple(
    name.split(".")[2] for name in TYPES if name.startswith("goodfaith.item.") and name != "goodfaith.item.submitted.v1"
)
CHANGES = metrics.counter(
    "goodfaith_item_changes_total",
    "Changes of items, by kind.",
    {"change": _CHANGES, "tier": metrics.TIERS},
    of=_PROCESS,
)
REFUSED = metrics.counter(
    "goodfaith_commands_refused_total",
    "Commands that verification refused, by code.",
    {"code": tuple(refusals.TEXTS)},
    of=_PROCESS,
    do="`not_now` or `too_late` jumps: a client acts on stale states",
)
RECURRENCES = metrics.counter(
    "goodfaith_recurrences_found_total",
    "Near copies of upheld listings that were found, by what is alike.",
    {"near": ("title", "picture", "both")},
    of=_PROCESS,
    do="a jump: sellers relist what was taken down, or the thresholds are too loose (how many end as `REJECTED`?)",
)
IGNORED = metrics.counter(
    "goodfaith_events_ignored_total",
    "Events ignored as stale or irrelevant, by type.",
    {"type": metrics.Values("event type", r"goodfaith\.[a-z0-9_.]+")},
    of=_PROCESS,
)


NO_FACTS = Facts()
Copy = tuple[str, recurrence.UpheldItem, recurrence.Likeness]
"""A listing, an upheld item that it is a near copy of, and how near."""


class VerificationBatch(Batch):
    """The items of one transaction. Nothing is written before ``save``."""

    def __init__(self, tx: Tx, incoming: Sequence[Incoming]) -> None:
        self._tx = tx
        self._items: dict[str, Item] = {}
        self._partitions: dict[str, int] = {}
        self._changed: dict[str, tuple[int, Item]] = {}
        self._told: dict[str, store.ToldListing] = {}
        self._passed: list[store.ToldListing] = []
        """What the marketplace said about listings, and said otherwise later in this batch."""
        self._filed: set[tuple[str, str]] = set()
        """(listing, digest of what it shows) on which items are judged from this batch on."""
        named: set[str] = set()
        asked: set[str] = set()
        told: set[str] = set()
        triples: set[Triple] = set()
        judged: set[str] = set()
        for record in incoming:
            data = record.data
            if isinstance(data, ItemSubmitted):
                # the item itself too: a submission under another event id must find it
                named.add(data.item)
                asked.add(data.listing)
                triples.add((data.listing, data.right, data.reason))
            elif isinstance(data, Command | PicturesCompared):
                named.add(data.item)
                judged.add(data.item)
            elif isinstance(data, NoticeSent | NoticeUnreached | HoldChanged):
                named.add(data.item)
            elif isinstance(data, Listing):
                told.add(data.listing)
        connection = tx.connection
        for item in store.items(connection, named):
            self._items[item.item] = item
        for item in store.waiting(connection, told):
            self._items[item.item] = item
            judged.add(item.item)
        self._waiting: dict[str, set[str]] = {}
        for item in self._items.values():
            self._index(item)
            if item.item in judged:
                asked.add(item.listing)
                triples.add((item.listing, item.right, item.reason))
        self._listings: dict[str, Listing] = {}
        self._contents: dict[str, str | None] = {}
        self._violations: dict[str, int] = {}
        self._past: dict[str, list[PastDecision]] = {}
        self._known_listings: set[str] = set()
        self._blocking: dict[Triple, str] = {}
        self._known_triples: set[Triple] = set()
        self._copies = self._recurring(incoming, triples)
        self._pairs = store.recurrences(connection, [(new, old.right) for new, old, _ in _flat(self._copies)])
        self._found: dict[store.Pair, str] = {}
        self._learn(asked, triples)

        self._journal: list[tuple[str, Item | None, tuple[int, Item] | None]] = []

    # ---- records

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Judge one record, completely or not at all."""
        self._journal.clear()
        try:
            return self._apply(incoming)
        except Exception:
            self._undo()
            raise

    def _undo(self) -> None:
        for name, item, changed in reversed(self._journal):
            present = self._items.pop(name)
            triple = (present.listing, present.right, present.reason)
            if self._blocking.get(triple) == name:
                del self._blocking[triple]
            self._waiting.get(present.listing, set()).discard(name)
            self._changed.pop(name, None)
            if item is not None:
                self._items[name] = item
                self._index(item)
                if item.blocks:
                    self._blocking.setdefault(triple, name)
            if changed is not None:
                self._changed[name] = changed
        self._journal.clear()

    def _apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        data = incoming.data
        if isinstance(data, Listing):
            return self._listed(incoming, data)
        if isinstance(data, ItemSubmitted | Command | NoticeSent | NoticeUnreached | HoldChanged | PicturesCompared):
            item = self._items.get(data.item)
            if item is None and not isinstance(data, ItemSubmitted):
                if isinstance(data, ChangeRight):
                    self._tx.count(IGNORED, incoming.type)
                    return ()
                if isinstance(data, Command):
                    # admission sends an item's submission before its commands, so there is no such item
                    return [self._refusal(incoming.partition, _unknown(data), incoming.id)]
                raise LookupError(f"{incoming.type} for the unknown item {data.item}")
            return self._judge(incoming.partition, item, data, incoming.id)
        self._tx.count(IGNORED, incoming.type)
        return ()

    def _judge(self, partition: int, item: Item | None, event: lifecycle.Event, cause: str | None) -> list[Outgoing]:
        subject = event if item is None else item
        assert isinstance(subject, Item | ItemSubmitted)
        if isinstance(event, NoticeSent | NoticeUnreached | HoldChanged):
            facts = NO_FACTS  # they only move windows and receipts; nothing is judged
        else:
            facts = self._facts(subject.listing, subject.right, subject.reason, subject.item)
        outcome = lifecycle.decide(item, event, facts, policy.load(subject.policy), self._tx.now)
        return self._take(partition, item, outcome, cause)

    def _listed(self, incoming: Incoming, data: Listing) -> list[Outgoing]:
        """Take in what the marketplace said about a listing; items that wait for it proceed."""
        # a microsecond apart, so that what was said in one batch keeps its order
        told = store.ToldListing.of(data, self._tx.now + dt.timedelta(microseconds=len(self._passed)))
        before = self._told.get(data.listing)
        if before is not None and before.content not in (None, told.content):
            self._passed.append(before)
        self._told[data.listing] = told
        self._listings[data.listing] = told.listing
        self._contents[data.listing] = told.content
        self._known_listings.add(data.listing)
        outgoing: list[Outgoing] = []
        # oldest first: of two items that wait, the earlier becomes the original
        for name in sorted(self._waiting.get(data.listing, ()), key=lambda name: (self._items[name].received_at, name)):
            outgoing.extend(self._judge(incoming.partition, self._items[name], data, incoming.id))
        outgoing += [self._recurs(incoming, data, *copy) for copy in self._news(incoming.id, data.listing)]
        return outgoing

    # ---- row 20

    def _recurring(self, incoming: Sequence[Incoming], triples: set[Triple]) -> dict[str, list[Copy]]:
        """By record, the upheld items that its listing is a near copy of; adds their triples to ``triples``."""
        told: list[tuple[str, Listing, recurrence.Traits]] = []
        for record in incoming:
            data = record.data
            if isinstance(data, Listing) and data.state == "visible" and (data.title or data.image_hash):
                look = recurrence.traits(data)
                if look is not None:
                    told.append((record.id, data, look))
        if not told:
            return {}
        upheld = store.upheld_of(
            self._tx.connection, {owner for _, data, _ in told for owner in recurrence.owners(data)}
        )
        found: dict[str, list[Copy]] = {}
        for id_, data, look in told if upheld else ():
            theirs = {old.item: old for owner in recurrence.owners(data) for old in upheld.get(owner, ())}
            copies = recurrence.copies(data.listing, look, theirs.values(), self._tx.now)
            if copies:
                found[id_] = [(data.listing, *copy) for copy in copies]
                triples.update((data.listing, old.right, old.reason) for old, _ in copies)
        return found

    def _news(self, record: str, listing: str) -> Iterator[tuple[recurrence.UpheldItem, recurrence.Likeness]]:
        """Near copies that nobody has claimed, and that were not found before."""
        for _, old, likeness in self._copies.get(record, ()):
            pair = (listing, old.right)
            if pair in self._pairs or pair in self._found or (listing, old.right, old.reason) in self._blocking:
                continue
            if any((i.listing, i.right) == pair and i.state in store.JUDGED for _, i in self._changed.values()):
                continue
            yield old, likeness

    def _recurs(
        self, incoming: Incoming, data: Listing, old: recurrence.UpheldItem, likeness: recurrence.Likeness
    ) -> Outgoing:
        self._found[data.listing, old.right] = old.item
        rules = recurrence.rules_of(old.profile)
        assert rules is not None
        alike = likeness.title is not None and likeness.title >= rules.title
        looks = likeness.distance is not None and likeness.distance <= rules.picture
        self._tx.count(RECURRENCES, "both" if alike and looks else "title" if alike else "picture")
        found = RecurrenceFound(
            listing=data.listing,
            seller=data.seller,
            item=old.item,
            claim=old.claim,
            before=old.listing,
            right=old.right,
            reason=old.reason,
            profile=old.profile,
            title=likeness.title,
            distance=likeness.distance,
        )
        return Outgoing(
            incoming.partition,
            topics.VERIFICATION,
            data.listing,
            "goodfaith.recurrence.found.v1",
            found,
            data.listing,
            self._tx.now,
            old.claim,
            incoming.id,
        )

    # ---- facts

    def _learn(self, listings: set[str], triples: set[Triple]) -> None:
        """Load what is not yet known about listings, and about the items that block triples."""
        listings -= self._known_listings
        triples -= self._known_triples
        self._known_listings |= listings
        self._known_triples |= triples
        learnt = store.listings(self._tx.connection, listings)
        for name, (listing, content) in learnt.items():
            self._listings[name] = listing
            self._contents[name] = content
        owners = {
            owner for listing, _ in learnt.values() for owner in recurrence.owners(listing)
        } - self._violations.keys()
        self._violations.update(store.violations(self._tx.connection, owners))
        for decision in store.past(self._tx.connection, listings):
            self._past.setdefault(decision.listing, []).append(decision)
        for triple, original in store.blocking(self._tx.connection, triples):
            # what this batch has changed is newer than what the database says
            if original not in self._changed or self._items[original].blocks:
                self._blocking.setdefault(triple, original)

    def _facts(self, listing: str, right: str, reason: str, item: str) -> Facts:
        triple = (listing, right, reason)
        if listing not in self._known_listings or triple not in self._known_triples:
            self._learn({listing}, {triple})
        known = self._listings.get(listing)
        held_by = self._blocking.get(triple)
        # the port's contract: only the programme suspends or removes; a listing down for other reasons is ``ended``
        ours = known is not None and known.state in ("suspended", "removed")
        failed, upheld = past_of(self._past.get(listing, ()), right, reason, item)
        return Facts(
            listing=known,
            original=None if held_by == item else held_by,
            failed_before=failed,
            upheld_here=upheld,
            seller_violations=None if known is None else self._against(known),
            ours=ours,
            content=self._contents.get(listing),
        )

    def _against(self, listing: Listing) -> int:
        return max((self._violations.get(owner, 0) for owner in recurrence.owners(listing)), default=0)

    # ---- timers

    def due(self, limit: int) -> Sequence[Due]:
        """Deadlines up to each partition's watermark, earliest first."""
        found: list[Due] = []
        for partition, item in store.due(self._tx.connection, self._tx.watermarks, self._tx.blocked, limit):
            self._items.setdefault(item.item, item)
            assert item.next_due is not None
            found.append(Due(partition, item.listing, item.item, item.next_due))
        # and those of items that this batch has changed or created, which the database does not know yet
        seen = {timer.subject for timer in found}
        for partition, item in self._changed.values():
            upto = self._tx.watermarks.get(partition)
            if upto is not None and item.next_due is not None and item.next_due <= upto and item.item not in seen:
                found.append(Due(partition, item.listing, item.item, item.next_due))
        found.sort(key=lambda timer: timer.at)
        items = [self._items[timer.subject] for timer in found]
        # an item that was due when the batch began may have ended since, with no timer left
        asking = [item for item in items if item.timers and item.timers[0].kind in INTERNAL]
        self._learn({item.listing for item in asking}, {(item.listing, item.right, item.reason) for item in asking})
        return found

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """Fire an item's deadlines, each effective at its own time, until none is left up to the watermark."""
        self._journal.clear()
        try:
            return self._fire(due)
        except Exception:
            self._undo()
            raise

    def _fire(self, due: Due) -> Iterable[Outgoing]:
        upto = self._tx.watermarks[due.partition]
        outgoing: list[Outgoing] = []
        for _ in range(100):
            item = self._items[due.subject]
            if item.next_due is None or item.next_due > upto:
                break
            # only look-up timers need facts: the others end a state that is known
            asks = item.timers[0].kind in INTERNAL
            facts = self._facts(item.listing, item.right, item.reason, item.item) if asks else NO_FACTS
            outcome = lifecycle.fire(item, facts, policy.load(item.policy), upto)
            if outcome.item is item:
                break
            outgoing.extend(self._take(due.partition, item, outcome, None))
        return outgoing

    # ---- outcomes

    def _take(self, partition: int, before: Item | None, outcome: Outcome, cause: str | None) -> list[Outgoing]:
        """Keep an outcome and turn it into events."""
        outgoing: list[Outgoing] = []
        after = outcome.item
        if outcome.refused is not None:
            self._tx.count(REFUSED, outcome.refused.code)
            outgoing.append(self._refusal(partition, outcome.refused, cause))
        if after is None or after is before:
            return outgoing
        self._journal.append((after.item, self._items.get(after.item), self._changed.get(after.item)))
        self._items[after.item] = after
        self._changed[after.item] = (partition, after)
        if after.content is not None and (before is None or before.content is None):
            self._filed.add((after.listing, after.content))
        self._index(after)
        triple = (after.listing, after.right, after.reason)
        if after.blocks:
            self._blocking.setdefault(triple, after.item)
        elif self._blocking.get(triple) == after.item:
            del self._blocking[triple]
            self._known_triples.discard(triple)  # a second item may block it as well
        for change in outcome.changes:
            data = change.data
            if not data.canary:
                self._tx.count(CHANGES, change.kind, data.lane)
            outgoing.append(
                Outgoing(
                    partition,
                    topics.VERIFICATION,
                    data.listing,
                    f"goodfaith.item.{change.kind}.v1",
                    data,
                    data.item,
                    change.at,
                    data.claim,
                    cause,
                )
            )
        if outcome.lookup:
            outgoing.append(self._lookup(partition, after, cause))
        if outcome.released:
            outgoing.extend(self._reopen(partition, after, cause))
        return outgoing

    def _reopen(self, partition: int, original: Item, cause: str | None) -> Iterator[Outgoing]:
        """Row 2: the oldest duplicate takes over from its original; the others then duplicate that one."""
        found = store.duplicates(self._tx.connection, original.item)
        known = {item.item: self._items.get(item.item, item) for item in found}
        known.update({item.item: item for _, item in self._changed.values() if item.original == original.item})
        waiting = [item for item in known.values() if item.state is State.DUPLICATE and item.original == original.item]
        for item in sorted(waiting, key=lambda item: (item.received_at, item.item)):
            self._items.setdefault(item.item, item)
            yield from self._judge(
                partition, self._items[item.item], Reopened(item=item.item, original=original.item), cause
            )

    def _lookup(self, partition: int, item: Item, cause: str | None) -> Outgoing:
        command = MarketplaceCommand(
            command=f"lookup:{item.item}:{item.revision}", listing=item.listing, action="lookup"
        )
        return Outgoing(
            partition,
            topics.MARKETPLACE_COMMANDS,
            item.listing,
            "goodfaith.marketplace.command.v1",
            command,
            item.listing,
            self._tx.now,
            item.claim,
            cause,
        )

    def _refusal(self, partition: int, refused: CommandRefused, cause: str | None) -> Outgoing:
        return Outgoing(
            partition,
            topics.VERIFICATION,
            refused.listing,
            "goodfaith.command.refused.v1",
            refused,
            refused.item,
            self._tx.now,
            refused.claim,
            cause,
        )

    def _index(self, item: Item) -> None:
        if item.waits:
            self._waiting.setdefault(item.listing, set()).add(item.item)
        else:
            self._waiting.get(item.listing, set()).discard(item.item)

    def save(self) -> None:
        """Write what has changed."""
        store.save(self._tx.connection, list(self._changed.values()))
        changed = [item for _, item in self._changed.values()]
        store.save_upheld(self._tx.connection, changed, self._listings)
        store.save_recurrences(self._tx.connection, self._found, changed)
        store.save_listings(self._tx.connection, self._told, self._passed, self._filed)

    def marks(self) -> dict[int, dt.datetime]:
        """Verification publishes no watermarks."""
        return {}


def _flat(copies: dict[str, list[Copy]]) -> Iterator[Copy]:
    return (copy for some in copies.values() for copy in some)


def _unknown(command: Command) -> CommandRefused:
    return CommandRefused(
        command=command.command,
        item=command.item,
        claim=command.claim,
        listing=command.listing,
        code="unknown_item",
        detail="There is no such item.",
    )


class Verification:
    """Service ``verification``."""

    name = "verification"
    schema = "verification"
    prefix = ""
    reads = (topics.INTAKE, topics.NOTIFICATION, topics.ENFORCEMENT, topics.MARKETPLACE_LISTINGS)
    keyed_like = frozenset({topics.VERIFICATION.name, topics.MARKETPLACE_COMMANDS.name})
    queue = ""
    raw = False
    keeps_time = False

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Verification has no queue of its own."""
        return ()

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> VerificationBatch:
        """Load what the batch needs."""
        return VerificationBatch(tx, incoming)
