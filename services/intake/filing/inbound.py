"""The ``inbound`` process: reads each upstream's topic, with the same requests, validation and tables as by HTTP.

The topic identifies the caller, because the ACL binds it to one upstream; the record never does.
``GOODFAITH_UPSTREAM_MAY`` sets for whom else an upstream may act and what it may file; ``via`` marks what it filed for
others. The time of right is the broker's LogAppendTime, in business time. Refusals are answered on
``inbound.refusals``, naming the field. No record from outside is ever set aside as a dead letter.

``inbound_progress`` holds the business time up to which each partition has been read to its end; watermarks
(``Barrier``) never go beyond it. A record's time is later than its partition's progress, which only the partition's
owner moves. So these transactions need no admission lock, and however long they run, they hold back watermarks only by
their progress.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from services.intake.filing import domain as filing_domain
from services.intake.filing import group_commit
from services.intake.filing import store as filing_store
from services.intake.filing.watermark import Clocks, published_upto
from services.intake.kernel import filings, requests, store
from services.intake.kernel.background import OBSERVE_S, Background
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.listings import named_by
from services.intake.kernel.refusals import account_closed, decoded, located, not_found
from shared import clock, db, kafka_links, policy, site_links
from shared.clocks import Offset
from shared.events import Data, decode_envelope
from shared.refusals import Refused
from shared.runtime.types import Due, Incoming, Outgoing, Tx
from shared.settings import Settings, UpstreamMay
from shared.topics import REFUSALS, Topic, inbound

log = structlog.get_logger(__name__)

REFUSED: Final = "goodfaith.inbound.refused.v1"
_TICK: Final = dt.timedelta(microseconds=1)
_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_PROGRESS: Final = """
    insert into inbound_progress (topic, partition, upto) select * from unnest(%s::text[], %s::int[], %s::timestamptz[])
    on conflict (topic, partition) do update set upto = greatest(inbound_progress.upto, excluded.upto)"""


class InboundRefused(Data, frozen=True, kw_only=True):
    """An upstream's record was refused and nothing was changed: an RFC 9457 problem, and the record's position."""

    upstream: str
    event: str | None = None
    """The record's CloudEvents id, if it could be read."""
    topic: str
    partition: int
    offset: int
    status: int
    reason: str
    detail: str
    field: str | None = None
    cure: str | None = None


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """Where the topics began and ended at a wall time. Later records are stamped later, ``broker_skew_ms`` aside."""

    at: dt.datetime
    first: Mapping[tuple[str, int], int]
    end: Mapping[tuple[str, int], int]
    ids: Mapping[str, str]

    def reached(
        self, cursors: Mapping[tuple[str, int], int], ids: Mapping[str, str], partitions: Iterable[int]
    ) -> list[tuple[str, int]]:
        """(topic, partition) pairs that have been read exactly to these ends.

        A cursor beyond an end belongs to another topic of the same name.

        Args:
            ids: by topic, the id that its cursors are valid for.
        """
        return [
            (topic, partition)
            for (topic, partition), end in self.end.items()
            if partition in partitions
            and cursors.get((topic, partition), self.first[topic, partition]) == end
            and ids.get(topic, self.ids.get(topic)) == self.ids.get(topic)
        ]


class Inbound:
    """The service as the runtime sees it."""

    name = "intake-inbound"
    schema = "intake"
    prefix = "inbound_"
    keyed_like: frozenset[str] = frozenset()
    queue = ""
    raw = True
    keeps_time = True

    def __init__(self, settings: Settings, *, background: bool = True, wall: Callable[[], float] = time.time) -> None:
        """
        Args:
            background: tests turn the thread off and call ``observe`` themselves.
            wall: this process's clock.
        """
        self.settings = settings
        self._wall = wall
        self._clocks = Clocks(settings)
        self.upstreams = {inbound(name).name: (name, account) for name, account in settings.upstreams.items()}
        self.reads: Sequence[Topic] = tuple(inbound(name) for name in settings.upstreams)
        self._engine = db.connect(
            settings.present("database"), schema="intake", name=f"intake-ends-{settings.instance}", pool_size=1
        )
        self.quota = group_commit.Quota()
        self._skew = dt.timedelta(milliseconds=settings.broker_skew_ms)
        self._ends: TopicEnds | None = None
        self._admin: Any = None
        self._jobs = (
            [Background("ends", min(OBSERVE_S, settings.watermark_ms / 1000), self.observe)] if background else []
        )

    def close(self) -> None:
        """Stop the thread."""
        for job in self._jobs:
            job.close()
        if self._admin is not None:
            self._admin.close()
        self._engine.dispose()

    def observe(self) -> None:
        """Look up where the topics end now."""
        if self._admin is None:
            self._admin = kafka_links.admin(self.settings, client_id="intake-ends")
        prefix = self.settings.topic_prefix
        read = {
            TopicPartition(prefix + topic.name, partition): (topic.name, partition)
            for topic in self.reads
            for partition in range(self.settings.partitions)
        }
        # the time first, then the ends: whatever is in the log at that time lies before them
        with self._engine.begin() as connection:
            before = self._wall()
            _, at = clock.read(connection)
            offset = Offset.of(at.timestamp(), before, self._wall())
        if not self._clocks.agree(offset):
            self._ends = None  # progress by a clock that is ahead would make later records late
            return
        try:
            first = self._admin.list_partition_offsets(dict.fromkeys(read, OffsetSpec.EARLIEST), timeout_ms=5_000)
            end = self._admin.list_partition_offsets(dict.fromkeys(read, OffsetSpec.LATEST), timeout_ms=5_000)
            # after the ends: a topic recreated in between has a different id from its cursors'
            found = self._admin.describe_topics([prefix + topic.name for topic in self.reads])
        except Exception:
            admin, self._admin = self._admin, None
            admin.close()
            raise
        self._ends = TopicEnds(
            at,
            {name: first[partition].offset for partition, name in read.items()},
            {name: end[partition].offset for partition, name in read.items()},
            {one["name"].removeprefix(prefix): str(one["topic_id"]) for one in found},
        )
        self.quota.flush(self._engine)

    # ---- in the batch

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Take nothing, but move on the progress of partitions read to their end: to when the ends were looked up."""
        ends, self._ends = self._ends, None
        if ends is None:
            return ()
        cursors = {
            (topic, partition): offset
            for topic, partition, offset in tx.connection.exec_driver_sql(
                "select topic, partition, next_offset from inbound_cursors where partition = any(%s)",
                (list(tx.partitions),),
            )
        }
        ids = dict(map(tuple, tx.connection.exec_driver_sql("select topic, id from inbound_topic_ids")))
        if done := ends.reached(cursors, ids, tx.partitions):
            upto = clock.History.load(tx.connection).at(ends.at - self._skew) - _TICK
            self._progress(tx.connection, dict.fromkeys(done, upto))
        return ()

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> InboundBatch:
        """Accept or refuse all the records at once."""
        if not incoming:
            return InboundBatch({})
        # the runtime has already given this transaction its id (see store.enter_admission)
        now, wall = store.right_now(tx.connection)
        history = clock.History.load(tx.connection)
        least = self._least(tx.connection, sorted({record.partition for record in incoming}))
        read = [self._read(record) for record in incoming]
        people = store.accounts(
            tx.connection,
            [account for _, account in self.upstreams.values()]
            + [behalf for _, _, behalf in read if behalf is not None],
        )
        results: list[Filed | Refused | None] = [None] * len(read)
        last: dict[tuple[str, int], dt.datetime] = {}
        claims: list[tuple[int, Filing]] = []
        others: list[tuple[int, Filing]] = []
        for index, (record, (_, body, behalf)) in enumerate(zip(incoming, read, strict=True)):
            assert record.wall is not None
            at = record.topic, record.partition
            accepted_at = max(min(history.at(record.wall), now), least(at))
            # another broker, whose clock is slower, may stamp the next record
            last[at] = max(accepted_at - self._skew - _TICK, last.get(at, accepted_at - self._skew - _TICK))
            if isinstance(body, Refused):
                results[index] = body
                continue
            try:
                filing = self._filing(record, body, behalf, people, accepted_at)
                (claims if filing.rules is not None else others).append((index, filing))
            except Refused as refused:
                results[index] = refused
        # claims first: a command in this batch may be about one of them
        for part in (claims, self._targets(tx.connection, others, results)):
            filings = list(part)
            filed = filing_store.file(
                tx.connection,
                [filing for _, filing in filings],
                now,
                wall,
                self.settings.partitions,
                policy.current(self.settings.misuse_profile).misuse.held_max,
            )
            for (index, filing), result in zip(filings, filed, strict=True):
                results[index] = result
                group_commit.observe(filing, result)
                if isinstance(result, Filed) and result.rows is not None and result.rows.items:
                    self.quota.add(filing.account.id, len(result.rows.items))
        self._progress(tx.connection, last)
        refusals: dict[str, InboundRefused] = {}
        for record, (event, _, _), answer in zip(incoming, read, results, strict=True):
            if isinstance(answer, Refused):
                refusals[record.id] = InboundRefused(
                    upstream=self.upstreams[record.topic][0],
                    event=event,
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    status=answer.status,
                    reason=answer.reason,
                    detail=answer.detail,
                    field=answer.field,
                    cure=answer.cure or None,
                )
        return InboundBatch(refusals, tx.now)

    def _targets(
        self, connection: sa.Connection, filings: Sequence[tuple[int, Filing]], results: list[Filed | Refused | None]
    ) -> Iterator[tuple[int, Filing]]:
        """Commands, with the claim filled in for those that name the upstream's submission.

        Lazy: runs once claims are filed.
        """
        wanted: dict[str, set[str]] = {}
        for _, filing in filings:
            if submission := getattr(filing.body, "submission", None):
                wanted.setdefault(filing.scope, set()).add(submission)
        known = {scope: filing_store.claims_of_keys(connection, scope, keys) for scope, keys in wanted.items()}
        for index, filing in filings:
            if submission := getattr(filing.body, "submission", None):
                filing.claim = known[filing.scope].get(submission)
                if filing.claim is None:
                    refused = not_found()
                    refused.field = "submission"
                    results[index] = refused
                    continue
            yield index, filing

    def _least(self, connection: sa.Connection, partitions: Sequence[int]) -> Callable[[tuple[str, int]], dt.datetime]:
        """Returns a partition's earliest possible time of right for a record, which no watermark has reached."""
        read = {
            (topic, partition): upto
            for topic, partition, upto in connection.exec_driver_sql(
                "select topic, partition, upto from inbound_progress where partition = any(%s)", (list(partitions),)
            )
        }
        upto = published_upto(connection)

        def least(partition: tuple[str, int]) -> dt.datetime:
            known = [one for one in (read.get(partition), upto) if one is not None]
            return max(known) + _TICK if known else _NEVER

        return least

    def _progress(self, connection: sa.Connection, upto: Mapping[tuple[str, int], dt.datetime]) -> None:
        rows = [(topic, partition, at) for (topic, partition), at in sorted(upto.items())]
        if rows:
            connection.exec_driver_sql(_PROGRESS, db.columns(rows))

    def _read(self, record: Incoming) -> tuple[str | None, UpstreamRequest | Refused, str | None]:
        """(event id, the record or why it was refused, on whose behalf)."""
        event: str | None = None
        try:
            if len(record.raw) > self.settings.max_body_bytes:
                raise Refused(
                    413,
                    "too_large",
                    f"The record has more than {self.settings.max_body_bytes} bytes.",
                    cure="Send less at a time.",
                )
            try:
                envelope = decode_envelope(record.raw)
            except msgspec.ValidationError as error:
                field, detail = located(str(error))
                raise Refused(
                    422, "not_a_cloudevent", detail, field=field, cure="Send a CloudEvents 1.0 JSON document."
                ) from None
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise Refused(
                    400,
                    "malformed",
                    f"The record is not JSON: {str(error)[:200]}.",
                    cure="Send a CloudEvents 1.0 JSON document.",
                ) from None
            if not envelope.id.isascii() or not envelope.id.isprintable():
                raise Refused(
                    422,
                    "bad_id",
                    "The id has characters that are not printable ASCII.",
                    field="id",
                    cure="Use another id.",
                )
            event = envelope.id
            kind = requests.BY_TOPIC.get(envelope.type)
            if kind is None:
                raise Refused(
                    422,
                    "unknown_type",
                    "There is no such type of event.",
                    field="type",
                    cure=f"Use one of: {', '.join(sorted(requests.BY_TOPIC))}.",
                )
            raw = bytes(envelope.data)
            try:
                body = decoded(raw, kind)
            except Refused as refused:
                if not requests.is_worded(envelope.type.split(".")[2], refused.field):
                    raise
                raise Refused(
                    422,
                    "text_by_topic",
                    "What a party says is personal data, and a topic could not erase it.",
                    field=refused.field,
                    cure="Leave the field out, or have the party file by HTTP.",
                ) from None
            return event, UpstreamRequest(event, envelope.type, raw, body), body.on_behalf_of
        except Refused as refused:
            return event, refused, None

    def _filing(
        self,
        record: Incoming,
        read: UpstreamRequest,
        behalf: str | None,
        people: Mapping[str, Account],
        accepted_at: dt.datetime,
    ) -> Filing:
        """The request as a filing.

        Raises:
            Refused: the account is unknown or may not be acted for, or the request by itself is not acceptable.
        """
        upstream, bound = self.upstreams[record.topic]
        account = people.get(bound)
        if account is None or account.status == "closed":
            raise Refused(403, "unknown_upstream", "The topic's account does not exist.", cure="An operator opens it.")
        kind = read.type.split(".")[2]
        # before looking at the account: an upstream that is not bound to it must learn nothing about it
        if account.role == "upstream":
            check_bound(self.settings.upstream_may.get(upstream), bound, kind, behalf or bound)
        if behalf is not None and behalf != bound:
            if account.role != "upstream":
                raise Refused(
                    403,
                    "not_for_others",
                    f"A {account.role} acts for itself only.",
                    field="on_behalf_of",
                    cure="Leave the field out.",
                )
            # an upstream relays for the marketplace's people, its reviewers included; an operator acts in person
            account = people.get(behalf)
            if account is None or account.role not in ("holder", "seller", "reviewer"):
                raise Refused(
                    422,
                    "unknown_account",
                    "There is no such holder, seller or reviewer.",
                    field="on_behalf_of",
                    cure="Open the account first.",
                )
        if account.status == "closed":
            raise account_closed(403)
        if account.canary:
            # its items would come in under the upstream's channel, for any listing
            raise Refused(
                403,
                "canary_listing_only",
                "A canary files through the public API only.",
                field="on_behalf_of",
                cure="Name somebody else.",
            )
        filing = Filing(
            account,
            read.event,
            bound,
            filings.digest(read.type, "", read.raw),
            kind,
            read.body,
            "kafka",
            accepted_at=accepted_at,
            trace=record.trace,
        )
        if isinstance(read.body, requests.SubmitClaim):
            if account.role != "holder":
                raise Refused(
                    403,
                    "not_your_role",
                    f"A claim is not for the role {account.role}.",
                    field="on_behalf_of",
                    cure="Name the holder that files.",
                )
            filing.rules = filing_domain.check_claim(
                read.body, account, self.settings.pinned_policies, self.settings.profiles
            )
            filing.listings, filing.sellers = named_by(read.body.listings, site_links.of(self.settings.site_links))
            filing.over_quota = self.quota.over(account.id)
        else:
            given = {name: getattr(read.body, name) for name in ("item", "claim", "submission", "listing")}
            filing.item, filing.claim, filing.listing = given["item"], given["claim"], given["listing"]
            if sum(given[name] is not None for name in ("item", "claim", "submission")) != 1:
                raise Refused(
                    422,
                    "no_target",
                    "The command must name an item, a claim, or the submission of one.",
                    field="item",
                    cure="Give one of `item`, `claim` and `submission`.",
                )
        return filing


def check_bound(may: UpstreamMay | None, own: str, kind: str, account: str) -> None:
    """Check that an upstream keeps to what it is bound to; ``may`` None: its own account.

    Raises:
        Refused: 403, naming the field.
    """
    if may is not None and kind not in may.commands:
        raise Refused(
            403,
            "not_bound",
            "This upstream may not file records of this type.",
            field="type",
            cure="Have the operator add it to `commands` of GOODFAITH_UPSTREAM_MAY.",
        )
    if account != own and (may is None or not may.covers(account)):
        raise Refused(
            403,
            "not_bound",
            "This upstream may not act for this account.",
            field="on_behalf_of",
            cure="Have the operator add it to `accounts` of GOODFAITH_UPSTREAM_MAY, or name another account.",
        )


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A record that could be read."""

    event: str
    type: str
    raw: bytes
    body: requests.In


class InboundBatch:
    """One batch, already decided. Only its refusals are left to publish."""

    def __init__(self, refusals: Mapping[str, InboundRefused], now: dt.datetime | None = None) -> None:
        self._refusals = refusals
        self._now = now

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """The refusal of a record, if it was refused."""
        refusal = self._refusals.get(incoming.id)
        if refusal is None:
            return ()
        assert self._now is not None
        key = refusal.event or incoming.id
        return (Outgoing(incoming.partition, REFUSALS, key, REFUSED, refusal, key, self._now, causation=refusal.event),)

    def due(self, limit: int) -> Sequence[Due]:
        """This service has no timers."""
        return ()

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """This service has no timers."""
        raise NotImplementedError

    def save(self) -> None:
        """Everything was written in ``open``."""

    def marks(self) -> dict[int, dt.datetime]:
        """None: the worker publishes watermarks."""
        return {}
