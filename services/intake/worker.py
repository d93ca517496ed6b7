"""The worker: publishes accepted requests, and folds the events of verification and notification into the read model,
and takes in the marketplace's feed of sellers' contacts.

Watermarks (docs/explanation/architecture.md, "Time of right"): the ``Barrier`` finds T. A batch that reads T sees
every command accepted up to T. Once these are on the topic, T is published.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
import structlog
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from services.intake.accounts import feed, feed_store, webhooks_store
from services.intake.filing import admission, recurrence
from services.intake.filing.watermark import GOOD_S, Barrier, BrokerClock, published_upto
from services.intake.goodfaith import domain as goodfaith
from services.intake.goodfaith import store as goodfaith_store
from services.intake.housekeeping import Housekeeping
from services.intake.kernel import domain, metrics, right_jobs, security, store
from services.intake.kernel.background import OBSERVE_S, Background
from services.intake.kernel.outbox import AccountEvent, moment_of
from services.intake.pictures import store as pictures_store
from services.intake.review import domain as review
from services.intake.review import store as review_store
from shared import db, events, kafka_links
from shared.backoff import Quiet
from shared.events import State
from shared.refusals import Refused
from shared.runtime.types import Due, Incoming, Outgoing, Tx, Unacceptable
from shared.settings import Settings
from shared.topics import ACCOUNTS, FILINGS, INTAKE, MARKETPLACE_CONTACTS, NOTIFICATION, VERIFICATION, Topic, inbound

log = structlog.get_logger(__name__)

BROKER_S: Final = 1.0
"""Seconds between looks at the brokers' clocks."""
RAREST_LOOK_S: Final = 5.0
"""The same while nothing is filed."""
RARER: Final = 5
"""While nothing is filed, watermarks are up to this many times rarer: each wakes every worker."""
_SUBMITTED: Final = "goodfaith.item.submitted.v1"
_terms: Final = msgspec.json.Decoder(events.ItemSubmitted)
_queued: Final = {
    name: msgspec.json.Decoder(kind)
    for name, kind in events.TYPES.items()
    if issubclass(kind, events.Command | AccountEvent | events.ClaimFiled | events.PicturesCompared)
}


class Intake:
    """The service as the runtime sees it."""

    name = "intake"
    schema = "intake"
    prefix = ""
    reads: Sequence[Topic] = (VERIFICATION, NOTIFICATION, MARKETPLACE_CONTACTS)
    keyed_like = frozenset({INTAKE.name, ACCOUNTS.name, FILINGS.name})
    queue = "admission_queue"
    raw = False
    keeps_time = True

    def __init__(self, settings: Settings, *, background: bool = True) -> None:
        """
        Args:
            background: tests turn the threads off and call ``barrier.turn`` and ``pressure.observe`` themselves.

        Raises:
            ValueError: a key is not base64, or not 32 bytes.
        """
        self.settings = settings
        self.contacts = security.Contacts.of(settings)
        self.feed_keys = feed.keys(settings)
        self.pressure = admission.Pressure({"standard": settings.window_standard, "bulk": settings.window_bulk})
        self._admission = admission.Admission(settings.weights, self.pressure)
        self._engine = db.connect(
            settings.present("database"), schema="intake", name=f"intake-marks-{settings.instance}", pool_size=2
        )
        self._inbound = tuple(inbound(name).name for name in settings.upstreams)
        self._brokers = BrokerClock(settings)
        self._quiet = Quiet()
        self.barrier = Barrier(self._engine, settings, self._inbound, self._brokers.offsets, self._quiet)
        self.housekeeping = Housekeeping(self._engine, settings, lambda: self.barrier.today)
        self._marked: dict[int, dt.datetime] = {}
        self._marked_at = 0.0
        self._pulled: tuple[dt.datetime | None, dict[int, dt.datetime]] = (None, {})
        self._admin: Any = None
        self._jobs: list[Background] = []
        if background:
            watermark_s = settings.watermark_ms / 1000
            # twice as often as `GOOD_S` asks for, on each partition
            rarest_s = min(RAREST_LOOK_S, GOOD_S / 2 / settings.partitions)
            self._jobs = [
                Background("marks", watermark_s, self.barrier.turn),
                Background("broker-clock", max(watermark_s, BROKER_S), self._brokers.look, self._quiet, rarest_s),
                Background("pressure", OBSERVE_S, self.observe, self._quiet),
                *(Background(*job, self._quiet) for job in self.housekeeping.jobs()),
            ]

    def close(self) -> None:
        """Stop the threads."""
        for job in self._jobs:
            job.close()
        if self._admin is not None:
            self._admin.close()
        self._brokers.close()
        self._engine.dispose()

    # ---- in the background

    def observe(self) -> None:
        """Measure how many records verification has not consumed yet."""
        settings = self.settings
        if self._admin is None:
            self._admin = kafka_links.admin(settings, client_id="intake-pressure")
        topic = settings.topic_prefix + INTAKE.name
        group = settings.topic_prefix + "verification"
        watched = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        try:
            ends = self._admin.list_partition_offsets(dict.fromkeys(watched, OffsetSpec.LATEST), timeout_ms=5_000)
            consumed = self._admin.list_group_offsets({group: watched})[group]
        except Exception:
            # a broken client does not recover
            admin, self._admin = self._admin, None
            admin.close()
            raise
        under_way = 0
        for partition in watched:
            position = consumed.get(partition)
            under_way += ends[partition].offset - max(position.offset if position is not None else 0, 0)
        self.pressure.observe(max(under_way, 0))
        metrics.UNDER_WAY.set(under_way)

    # ---- in the batch

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Admit rows of the admission queue."""
        # read the mark first: the queue is read after it, and so shows everything that the mark covers
        mark = published_upto(tx.connection) if self._mark_due() else None
        taken = self._admission.take(tx.connection, tx.partitions, room)
        # nor may a watermark pass a dead letter, which is not published until it is replayed
        dead = store.dead_letters_since(tx.connection, tx.partitions) if tx.blocked else {}
        cut = dict(taken.cut)
        for partition, since in dead.items():
            before = since - dt.timedelta(microseconds=1)
            cut[partition] = min(cut.get(partition, before), before)
        self._pulled = (mark, cut)
        if not taken.rows:
            return ()
        self._quiet.worked()
        terms = {claim: _terms.decode(text) for claim, text in admission.payloads(tx.connection, taken.rows).items()}
        counts: dict[str, int] = {}
        incoming = []
        for row in taken.rows:
            data: events.Data
            if row.kind == "submit":
                # the time of right is the row's: for a held item the end of the suspension, when its 24 hours begin
                data = msgspec.structs.replace(
                    terms[row.claim],
                    item=row.item,
                    listing=row.listing,
                    on_site=row.on_site,
                    accepted_at=row.accepted_at,
                )
                kind = _SUBMITTED
                counts[row.lane] = counts.get(row.lane, 0) + 1
            else:
                assert row.type is not None
                assert row.payload is not None
                data = _queued[row.type].decode(row.payload)
                kind = row.type
                if row.kind == "command":
                    counts["command"] = counts.get("command", 0) + 1
            # a key of its own: an event that the read model cannot process must not stop admission
            entry = Incoming("@queue", row.partition, row.id, f"admission:{row.listing}", str(row.id), kind, data)
            if row.traceparent is not None:
                entry.traced, entry.parent = True, row.traceparent
            incoming.append(entry)
        for lane, count in counts.items():
            tx.count(metrics.ADMITTED, lane, by=count)
        return incoming

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Fold:
        """Begin a batch. The database folds the read model, so nothing is loaded."""
        # a mark is valid only in the transaction that pulled
        (mark, cut), self._pulled = self._pulled, (None, {})
        return Fold(tx, self, mark, cut)

    def _mark_due(self) -> bool:
        every_s = self.settings.watermark_ms / 1000
        return time.monotonic() - self._marked_at >= self._quiet.wait_s(every_s, RARER * every_s)

    def marks(
        self, partitions: Sequence[int], mark: dt.datetime | None, cut: Mapping[int, dt.datetime]
    ) -> dict[int, dt.datetime]:
        """Watermarks for a batch, at most every ``watermark_ms``; less often while nothing happens.

        Args:
            cut: by partition, the time up to which its commands were taken, if not all were.
        """
        if mark is None or not self._mark_due():
            return {}
        result: dict[int, dt.datetime] = {}
        for partition in partitions:
            upto = min(mark, cut.get(partition, mark))
            known = self._marked.get(partition)
            if known is None or upto > known:
                result[partition] = self._marked[partition] = upto
        if result:
            self._marked_at = time.monotonic()
        return result


_UPDATE_ITEMS: Final = """
    update items as i set state = n.state, revision = n.revision, seller = coalesce(n.seller, i.seller),
        told = greatest(i.told, n.told), changed_at = n.at, last = n.last, taken_down = i.taken_down or n.held,
        triage = coalesce(n.triage, i.triage)
    from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::smallint[], %s::timestamptz[], %s::text[], %s::bool[],
        %s::text[]) as n(id, state, revision, seller, told, at, last, held, triage)
    where i.id = n.id and i.revision < n.revision"""
_INSERT_TIMELINE: Final = """
    insert into timeline (item, revision, type, state, by, code, at)
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
    on conflict do nothing"""
_UPDATE_COMMANDS: Final = """
    update commands as c set status = n.status, code = n.code, detail = n.detail, revision = n.revision
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[]) as n(id, status, code, detail, revision)
    where c.id = n.id and c.status = 'accepted'"""
_INSERT_MESSAGES: Final = """
    insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at, about)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing"""


class ItemUpdate(NamedTuple):
    """What a batch makes of an item in the read model, in the order of ``_UPDATE_ITEMS``."""

    item: str
    state: str
    revision: int
    seller: str | None
    told: int
    at: dt.datetime
    last: str
    held: bool
    triage: str | None


class TimelineEntry(NamedTuple):
    """A change of an item, in the order of ``_INSERT_TIMELINE``."""

    item: str
    revision: int
    type: str
    state: str
    by: str
    code: str | None
    at: dt.datetime


class CommandUpdate(NamedTuple):
    """What became of a command, in the order of ``_UPDATE_COMMANDS``."""

    command: str
    status: Literal["applied", "refused"]
    code: str | None
    detail: str | None
    revision: int | None = None
    """Of the item, by which it was applied."""


class Fold:
    """One batch: queue rows become events, and events become the read model."""

    def __init__(self, tx: Tx, service: Intake, mark: dt.datetime | None, cut: Mapping[int, dt.datetime]) -> None:
        self._tx = tx
        self._service = service
        self._mark = mark
        self._cut = cut
        self._items: dict[str, ItemUpdate] = {}
        self._timeline: list[TimelineEntry] = []
        self._commands: list[CommandUpdate] = []
        self._messages: list[tuple[Any, ...]] = []
        self._case_changes: dict[str, review.CaseChange] = {}
        self._decided: list[str] = []
        self._outcomes: dict[str, goodfaith.OutcomeChange] = {}
        self._recurring: list[events.RecurrenceFound] = []
        self._disabled: list[events.WebhookDisabled] = []
        self._fed: list[tuple[events.SellerContact, feed.FedContact | None]] = []
        self._without_right: set[tuple[str, str, str]] = set()
        self._pictured: set[tuple[str, str, events.RightType]] = set()

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Publish a row of the admission queue, or note what an event says."""
        data = incoming.data
        if isinstance(data, AccountEvent):
            at = moment_of(data)
            return (
                Outgoing(incoming.partition, ACCOUNTS, data.account, incoming.type, data, data.account, at, None, None),
            )
        if isinstance(data, events.ClaimFiled):
            return (
                Outgoing(
                    incoming.partition, FILINGS, data.account, incoming.type, data, data.account, data.at, data.claim
                ),
            )
        if incoming.topic == "@queue":
            assert isinstance(data, events.ItemSubmitted | events.Command | events.PicturesCompared)
            return (
                Outgoing(
                    incoming.partition,
                    INTAKE,
                    data.listing,
                    incoming.type,
                    data,
                    data.item,
                    data.at if isinstance(data, events.PicturesCompared) else data.accepted_at,
                    data.claim,
                ),
            )
        if isinstance(data, events.ItemChanged):
            self._changed(incoming, data)
        elif isinstance(data, events.CommandRefused):
            self._commands.append(CommandUpdate(data.command, "refused", data.code, data.detail))
        elif isinstance(data, events.RecurrenceFound):
            self._recurring.append(data)
        elif isinstance(data, events.WebhookDisabled):
            self._disabled.append(data)
        elif isinstance(data, events.SellerContact):
            if data.seller != incoming.key:
                raise Unacceptable("seller: not the record's key; key each record by its seller")
            self._fed.append((data, feed.opened(data, self._service.feed_keys)))
        elif isinstance(data, events.MessageSent):
            self._messages.append(
                (
                    data.message,
                    data.party,
                    data.claim,
                    data.kind,
                    list(data.items),
                    data.channel,
                    data.template,
                    data.version,
                    data.digest,
                    data.sent_at,
                    None,
                )
            )
        elif isinstance(data, events.AccountTold):
            self._messages.append(
                (
                    data.message,
                    data.account,
                    None,
                    data.kind,
                    [],
                    data.channel,
                    data.template,
                    data.version,
                    data.digest,
                    data.sent_at,
                    data.about,
                )
            )
        return ()

    def _changed(self, incoming: Incoming, data: events.ItemChanged) -> None:
        envelope = incoming.envelope
        assert envelope is not None
        at = envelope.time or self._tx.now
        known = self._items.get(data.item)
        told = domain.told(data)
        if known is None or known.revision < data.revision:
            seller = data.seller if data.seller is not None or known is None else known.seller
            turn = goodfaith.outcome_change(data, at, incoming.partition)
            self._items[data.item] = ItemUpdate(
                data.item,
                data.state.value,
                data.revision,
                seller,
                max(told, known.told if known else 0),
                at,
                bytes(envelope.data).decode(),
                data.held or (known is not None and known.held),
                known.triage if data.triage is None and known else _encoded(data.triage),
            )
            if turn is not None:
                self._outcomes[data.item] = goodfaith.follow(self._outcomes.get(data.item), turn)
        if data.state is State.NEEDS_INFO and "right" in data.missing:
            self._without_right.add((data.right, data.complainant, data.principal))
        if self._service.settings.pictures_hosts and State.UNDER_REVIEW in (data.state, *data.via) and not data.canary:
            self._pictured.add((data.item, data.right, data.right_type))
        code = data.begun_by or data.code
        self._timeline.append(
            TimelineEntry(data.item, data.revision, incoming.type, data.state.value, data.by, code, at)
        )
        if data.command is not None:
            self._commands.append(CommandUpdate(data.command, "applied", data.code, None, data.revision))
        if review.concerns(data):
            self._case_changes[data.item] = review.follow(
                self._case_changes.get(data.item), data, overdue=incoming.type == review.OVERDUE, at=at
            )
            if data.command is not None:
                self._decided.append(data.command)

    def due(self, limit: int) -> Sequence[Due]:
        """This service has no timers."""
        return ()

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """This service has no timers."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the read model: one statement per table, rows in key order so that batches never deadlock."""
        connection = self._tx.connection
        if self._recurring:
            self._recur()
        if self._items:
            connection.exec_driver_sql(_UPDATE_ITEMS, db.columns(sorted(self._items.values())))
        if self._outcomes:
            goodfaith_store.settle(connection, list(self._outcomes.values()))
        if self._timeline:
            timeline = sorted(self._timeline, key=attrgetter("item", "revision"))
            connection.exec_driver_sql(_INSERT_TIMELINE, db.columns(timeline))
        if self._commands:
            commands = sorted(self._commands, key=attrgetter("command"))
            connection.exec_driver_sql(_UPDATE_COMMANDS, db.columns(commands))
        if self._case_changes:
            review_store.fold(connection, self._case_changes.values())
        if self._decided:
            review_store.applied(connection, self._decided)
        if refused := [row.command for row in self._commands if row.status == "refused"]:
            review_store.refused(connection, refused)
        for message in self._messages:
            connection.exec_driver_sql(_INSERT_MESSAGES, message)
        if self._without_right:
            right_jobs.queue_in_force(connection, self._without_right)
        if self._pictured:
            pictures_store.queue(connection, self._pictured)
        if self._disabled:
            webhooks_store.disabled(connection, self._disabled, self._service.settings.partitions)
        if self._fed:
            for result, count in feed_store.take(connection, self._fed, self._service.contacts).items():
                self._tx.count(metrics.FED, result, by=count)

    def _recur(self) -> None:
        """File claims for recurrences (row 20).

        First, before this transaction holds a row that an exclusive holder of the admission lock might wait for.
        """
        now, wall = store.enter_admission(self._tx.connection)
        results = recurrence.file(self._tx.connection, self._recurring, now, wall, self._service.settings)
        for found, result in zip(self._recurring, results, strict=True):
            if isinstance(result, Refused):
                self._tx.count(metrics.REQUESTS_REFUSED, recurrence.CHANNEL, result.reason)
                log.info("recurrence not filed", listing=found.listing, original=found.item, reason=result.reason)
            elif result.rows is not None and result.rows.claim is not None:
                lane = result.rows.answer["lane"]
                self._tx.count(metrics.CLAIMS_RECEIVED, recurrence.CHANNEL, result.rows.claim.right_type, lane)
                self._tx.count(metrics.ITEMS_RECEIVED, recurrence.CHANNEL, lane)

    def marks(self) -> dict[int, dt.datetime]:
        """Watermarks, once all commands before them are in this batch or an earlier one."""
        return self._service.marks(self._tx.partitions, self._mark, self._cut)


def _encoded(triage: events.Triage | None) -> str | None:
    return None if triage is None else msgspec.json.encode(triage).decode()
