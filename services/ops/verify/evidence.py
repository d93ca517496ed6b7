"""The data that `goodfaith verify` compares: event logs, topics, and what the logs say, in temporary tables.

Everything is read in one transaction of one snapshot, which is made read-only; the tables vanish with it. Other
processes read the topics from their beginning while this one reads the logs. No service is asked.

Tables:

- ``v_log``: every row of every event log
- ``v_rec``: every record of our topics except watermarks
- ``v_mark``: the watermarks; those that follow closely upon one another are one row
- ``v_asked``: every record of the upstreams' topics
- ``v_ends``: first and next offset of each partition
- ``v_group``: offsets that workers' groups have committed at the broker, with their logs' heads
- ``v_filed``: items and commands that intake published
- ``v_item``: the stored items
- ``v_change``: every change of an item
- ``v_refused``: every refused command
- ``v_told``: what the parties must be told
- ``v_notice``, ``v_sent``: what was announced as sent
- ``v_hold``: what enforcement published about holds
- ``v_recurrence``: the near copies that verification found
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import itertools
import multiprocessing
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from kafka import TopicPartition
from msgspec import Struct

from services.ops.idle import Reader, present, readers
from services.ops.verify.item_model import FINAL
from services.ops.verify.judge import HOLD, NOTICE, Judge, Stored
from services.ops.verify.telling import ACCOUNT, CLOSED, told_of_sanction
from services.ops.verify.telling import told as must_be_told
from shared import clock, kafka_links, topics
from shared.events import (
    CommandRefused,
    ItemChanged,
    SanctionChanged,
    State,
    Watermark,
    decode_data,
    decode_envelope,
)
from shared.settings import Settings

Category = Literal["lost", "doubled", "problem"]
EXAMPLES: Final = 5
SUBMITTED: Final = "goodfaith.item.submitted.v1"
FILED: Final = "goodfaith.claim.filed.v1"
WATERMARK: Final = "watermark."
"""Prefix of the ids of watermarks."""
_LOCAL_RECORDS: Final = 30_000
"""Up to this many records a thread reads the topics: starting processes would take longer."""
_BLOCK: Final = 20_000


@dataclass(slots=True)
class Finding:
    """Something that is wrong: how often, and the first few cases."""

    kind: str
    category: Category
    count: int
    examples: list[str]


class Tally:
    """Collects findings one by one."""

    def __init__(self) -> None:
        self._found: dict[tuple[Category, str], Finding] = {}

    def add(self, category: Category, kind: str, example: str) -> None:
        """Add a case."""
        finding = self._found.setdefault((category, kind), Finding(kind, category, 0, []))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def findings(self) -> list[Finding]:
        """All findings so far."""
        return list(self._found.values())


_DDL: Final = """
create temp table v_log (writer text, partition int, seq bigint, topic text, key text, target int, type text,
    id text collate "C", cause text collate "C", previous bigint, sum uuid) on commit drop;
create temp table v_rec (topic text, partition int, "offset" bigint, id text collate "C", sum uuid) on commit drop;
create temp table v_mark (partition int, "offset" bigint, upto timestamptz, wall timestamptz) on commit drop;
create temp table v_asked (topic text, partition int, "offset" bigint, id text collate "C") on commit drop;
create temp table v_group (reader text, topic text, partition int, next bigint, seq bigint, hash text) on commit drop;
create temp table v_ends (topic text, partition int, first bigint, next bigint) on commit drop;
create temp table v_filed (partition int, seq bigint, type text, item text collate "C", command text collate "C",
    accepted_at timestamptz) on commit drop;
create temp table v_change (partition int, seq bigint, item text collate "C", revision int, type text, state text, rule text,
    command text collate "C", held boolean, upheld boolean, handled boolean, claim text, listing text collate "C",
    seller text collate "C", severity text, at timestamptz, caused boolean, complainant text collate "C", reason text collate "C",
    code text, settled boolean, recurs text collate "C", canary boolean) on commit drop;
create temp table v_item (item text collate "C", claim text, listing text collate "C", state text, revision int, seller text collate "C",
    held boolean, upheld boolean, severity text, awaits boolean, noticed_at timestamptz, handled_at timestamptz, sla text,
    canary boolean) on commit drop;
create temp table v_refused (seq bigint, command text collate "C") on commit drop;
create temp table v_told (item text collate "C", revision int, kind text, party text) on commit drop;
create temp table v_notice (message text collate "C", item text collate "C", revision int, kind text, sent_at timestamptz,
    begins timestamptz, begun_by text) on commit drop;
create temp table v_sent (message text collate "C", sent_at timestamptz) on commit drop;
create temp table v_recurrence (partition int, seq bigint, listing text collate "C", right_id text collate "C", item text collate "C")
    on commit drop;
create temp table v_hold (partition int, seq bigint, item text collate "C", held boolean) on commit drop;
"""
# our envelopes are compact: an unescaped `"name":"` cannot be inside a string
_LOG: Final = """
    insert into v_log select '{name}', partition, seq, topic, key, target, type, '{name}.' || partition || '.' || seq,
        nullif(split_part(split_part(payload, '"causationid":"', 2), '"', 1), ''),
        substring(split_part(payload, ',"data":', 1) from '"previous":([0-9]+)')::bigint, md5(key || ' ' || payload)::uuid
    from {schema}.{prefix}event_log"""
_FILED: Final = """
    insert into v_filed select partition, seq, type, split_part(split_part(payload, '"item":"', 2), '"', 1),
        nullif(split_part(split_part(payload, '"command":"', 2), '"', 1), ''),
        nullif(split_part(split_part(payload, '"accepted_at":"', 2), '"', 1), '')::timestamptz
    from intake.event_log where type not in (
        'goodfaith.dead_letter.v1', 'goodfaith.account.notice.v1', 'goodfaith.account.channels.v1', 'goodfaith.message.read.v1',
        'goodfaith.account.erased.v1', 'goodfaith.sanction.lift.v1', 'goodfaith.claim.filed.v1')"""
_NOTICE: Final = """
    insert into v_notice select d ->> 'message', d ->> 'item', (d ->> 'revision')::int, d ->> 'kind', (d ->> 'sent_at')::timestamptz,
        coalesce(d ->> 'begins_at', d ->> 'sent_at')::timestamptz, coalesce(d ->> 'begun_by', 'sent')
    from (select payload::jsonb -> 'data' as d from notification.event_log where type = 'goodfaith.notice.sent.v1') t"""
_SENT: Final = """
    insert into v_sent select d ->> 'message', (d ->> 'sent_at')::timestamptz
    from (select payload::jsonb -> 'data' as d from notification.event_log
          where type in ('goodfaith.message.sent.v1', 'goodfaith.account.told.v1')) t"""
# a notice to an account has a message of its own (services/notification/store.py)
_NOTED: Final = f"""
    insert into v_told select d ->> 'notice', 1, '{ACCOUNT}' || (d ->> 'kind'), d ->> 'account'
    from (select payload::jsonb -> 'data' as d from intake.event_log where type = 'goodfaith.account.notice.v1') t"""
_RECURRENCES: Final = """
    insert into v_recurrence select partition, seq, d ->> 'listing', d ->> 'right', d ->> 'item'
    from (select partition, seq, payload::jsonb -> 'data' as d from verification.event_log
          where type = 'goodfaith.recurrence.found.v1') t"""
_HOLD: Final = """
    insert into v_hold select partition, seq, d ->> 'item', (d ->> 'held')::boolean
    from (select partition, seq, payload::jsonb -> 'data' as d from enforcement.event_log
          where type = 'goodfaith.hold.changed.v1') t"""


class Evidence:
    """Everything that the checks compare, at one moment.

    Args:
        connection: an administrator's, in a REPEATABLE READ transaction that has read nothing yet.
        groups: an earlier result of `committed`.
    """

    def __init__(self, connection: sa.Connection, settings: Settings, groups: str | None = None) -> None:
        self.connection = connection
        self.settings = settings
        # before the snapshot, so that what is committed at the broker is in it
        self._groups = committed(settings) if groups is None else groups
        known = {reader.name: reader for reader in readers(settings)}
        # its log exists even if there are no upstreams
        known.setdefault("intake-inbound", Reader("intake-inbound", "intake", "inbound_", ()))
        self.readers = present(connection, known.values(), table="event_log")
        self.now, _ = clock.read(connection)
        self.folding = Tally()
        self.records = 0
        self.changes = 0

    def has(self, schema: str) -> bool:
        """Whether the service works on this database (the marketplace may be elsewhere)."""
        return any(reader.schema == schema for reader in self.readers)

    def name(self, topic: topics.Topic) -> str:
        """The topic's name on the broker."""
        return self.settings.topic_prefix + topic.name

    def topics(self) -> list[topics.Topic]:
        """Topics that only our logs write."""
        return [topic for topic in topics.TOPICS if topic.writer != "marketplace" or self.has("marketplace")]

    def upstreams(self) -> list[str]:
        """Names of the upstreams' topics."""
        return [self.name(topics.inbound(name)) for name in self.settings.upstreams]

    # ---- asking

    def find(self, category: Category, kind: str, sql: str) -> list[Finding]:
        """A finding if ``sql``, which selects one text per case, selects anything."""
        count, examples = self.connection.exec_driver_sql(
            f"with found(e) as materialized ({sql}) select (select count(*) from found),"
            f" array(select e from found order by e limit {EXAMPLES})"
        ).one()
        return [Finding(kind, category, count, list(examples))] if count else []

    def number(self, sql: str) -> int:
        """The number that ``sql`` selects; 0 for null."""
        return int(self.connection.exec_driver_sql(sql).scalar_one() or 0)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a server-side cursor, so that memory stays flat."""
        options = {"stream_results": True, "yield_per": 2_000}
        result = self.connection.exec_driver_sql(sql, execution_options=options)
        for row in result:
            yield tuple(row)

    # ---- gathering

    def gather(self, reading: Reading | None = None) -> None:
        """Fill the tables.

        Args:
            reading: of the topics, if it has already begun.

        Raises:
            kafka.errors.KafkaError: the broker cannot be reached.
        """
        # the checks compare whole sets: a nested loop, chosen by a wrong estimate of their size, takes hours
        self._execute("set local enable_nestloop = off; set local work_mem = '192MB'; set local jit = off")
        self._execute(_DDL)
        self.copy("v_group", io.StringIO(self._groups))
        # nothing but temporary tables can be written from here on
        self._execute("set transaction read only")
        reading = reading or Reading(self.settings, [self.name(topic) for topic in self.topics()], self.upstreams())
        try:
            for reader in self.readers:
                self._execute(_LOG.format(name=reader.name, schema=reader.schema, prefix=reader.prefix))
            self._execute(_FILED)
            self._execute(_RECURRENCES)
            if self.has("notification"):
                self._execute(_NOTICE)
                self._execute(_SENT)
                self._execute(_NOTED)
            if self.has("enforcement"):
                self._execute(_HOLD)
                self._sanctions()
            self._fold()
            self.records = reading.into(self)
        finally:
            reading.close()
        for table in (
            "log",
            "rec",
            "mark",
            "asked",
            "filed",
            "item",
            "change",
            "told",
            "notice",
            "sent",
            "hold",
            "refused",
            "recurrence",
        ):
            self._execute(f"analyze v_{table}")

    def _execute(self, sql: str) -> None:
        self.connection.exec_driver_sql(sql)

    def copy(self, table: str, rows: IO[Any]) -> None:
        """Load rows in COPY's text format."""
        cursor: Any = self.connection.connection.cursor()
        cursor.copy_expert(f"copy {table} from stdin", rows)
        cursor.close()

    def _copy_lines(self, table: str, lines: list[str]) -> None:
        if lines:
            self.copy(table, io.StringIO("\n".join(lines) + "\n"))

    def _sanctions(self) -> None:
        """Note what sellers must be told about sanctions."""
        told = []
        for (payload,) in self.rows(
            "select payload from enforcement.ledger_event_log where type = 'goodfaith.sanction.changed.v1'"
        ):
            change = decode_data(decode_envelope(payload))
            kind = told_of_sanction(change) if isinstance(change, SanctionChanged) else None
            if isinstance(change, SanctionChanged) and kind is not None:
                told.append(f"{change.sanction}.{change.change}\t1\t{ACCOUNT}{kind}\t{change.seller}")
        if self.has("notification"):
            self._copy_lines("v_told", told)

    def _fold(self) -> None:
        """Fold verification's log, one partition at a time, and compare the result with the stored items."""
        parked = {key for (key,) in self.rows("select key from verification.dead_letters where state <> 'done'")}
        for partition, watermark in list(
            self.rows("select partition, watermark from verification.partitions order by 1")
        ):
            folded = Fold(self.folding, self._learned(int(partition)))
            source = self.rows(
                f"select seq, type, payload from verification.event_log where partition = {int(partition)}"
                " and topic = '" + self.name(topics.VERIFICATION) + "' order by seq"
            )
            while block := list(itertools.islice(source, _BLOCK)):
                changes, refused, told = folded.take(partition, block)
                self.changes += len(changes)
                self._copy_lines("v_change", changes)
                self._copy_lines("v_refused", refused)
                self._copy_lines("v_told", told)
            folded.judge.end(watermark, parked)
            stored = self.rows(
                "select item, state, original, blocks, waits, next_due, revision, body from verification.items"
                f" where partition = {int(partition)}"
            )
            self._copy_lines("v_item", folded.compare(stored))

    def _learned(self, partition: int) -> Judge:
        """A judge that knows what verification reads on a partition."""
        judge = Judge(self.folding.add)
        source = (
            f"select '{{schema}}.' || partition || '.' || seq, type, payload from {{schema}}.event_log"
            f" where partition = {partition} and topic = '{{topic}}'"
        )
        judge.learn(self.rows(source.format(schema="intake", topic=self.name(topics.INTAKE)) + " order by seq"))
        if self.has("notification"):
            opened = self.rows(
                "select split_part(split_part(payload, '\"causationid\":\"', 2), '\"', 1) from verification.event_log"
                f" where partition = {partition} and type in ('goodfaith.item.window_opened.v1', 'goodfaith.item.stands.v1')"
            )
            notices = source.format(schema="notification", topic=self.name(topics.NOTIFICATION))
            judge.learn(self.rows(f"{notices} and type = '{NOTICE}' order by seq"), {cause for (cause,) in opened})
        if self.has("enforcement"):
            receipts = source.format(schema="enforcement", topic=self.name(topics.ENFORCEMENT))
            judge.learn(self.rows(f"{receipts} and type = '{HOLD}' and payload like '%%\"held\":true%%'"))
        return judge


# --------------------------------------------------------------------------------------------------------- the fold


class _Event(Struct):
    """The fields that are read of verification's events."""

    time: dt.datetime
    data: msgspec.Raw
    causationid: str | None = None


_event = msgspec.json.Decoder(_Event)
_change = msgspec.json.Decoder(ItemChanged)
_refused = msgspec.json.Decoder(CommandRefused)
_item = msgspec.json.Decoder(Stored)
_REFUSED: Final = "goodfaith.command.refused.v1"
_RECURRENCE: Final = "goodfaith.recurrence.found.v1"
_CONSTANT: Final = (
    "claim",
    "claim_size",
    "listing",
    "complainant",
    "principal",
    "right",
    "right_type",
    "reason",
    "severity",
    "profile",
    "policy",
    "lane",
    "received_at",
    "recurs",
    "canary",
)
_ONCE: Final = ("seller", "noticed_at", "handled_at", "sla")
"""Fields that never change once they are set."""


def _text(value: object) -> str:
    if value is None:
        return "\\N"
    if value is True:
        return "t"
    if value is False:
        return "f"
    return str(value)


def _moments(timers: dict[str, dt.datetime]) -> str:
    return ", ".join(f"{name} {at.isoformat()}" for name, at in sorted(timers.items())) or "none"


class Fold:
    """The items of one partition, as verification's log has them. ``judge`` sees every row."""

    def __init__(self, tally: Tally, judge: Judge) -> None:
        self.judge = judge
        self._tally = tally
        self._last: dict[str, ItemChanged] = {}

    def take(self, partition: int, rows: Iterable[tuple[int, str, str]]) -> tuple[list[str], list[str], list[str]]:
        """Fold rows of the log; returns lines for ``v_change``, ``v_refused`` and ``v_told``."""
        changes: list[str] = []
        refused: list[str] = []
        told: list[str] = []
        for seq, type_, payload in rows:
            if type_ == _RECURRENCE:
                continue  # it is about a listing, and changes no item
            try:
                event = _event.decode(payload)
                if type_ == _REFUSED:
                    refusal = _refused.decode(event.data)
                    refused.append(f"{seq}\t{refusal.command}")
                    self.judge.refused(event.time, event.causationid, refusal)
                    continue
                change = _change.decode(event.data)
            except msgspec.DecodeError as error:
                self._tally.add("problem", "event-unreadable", f"verification.{partition}.{seq}: {error}")
                continue
            self._next(f"verification.{partition}.{seq}", change)
            self.judge.changed(event.time, event.causationid, change)
            values = (
                partition,
                seq,
                change.item,
                change.revision,
                type_,
                change.state.value,
                change.rule,
                change.command,
                change.held,
                change.upheld,
                change.handled_at is not None,
                change.claim,
                change.listing,
                change.seller,
                change.severity,
                event.time.isoformat(),
                event.causationid is not None,
                change.complainant,
                change.reason,
                change.code,
                change.settled,
                change.recurs,
                change.canary,
            )
            changes.append("\t".join(map(_text, values)))
            told += [
                f"{change.item}\t{change.revision}\t{kind}\t{party}" for kind, party in must_be_told(type_, change)
            ]
        return changes, refused, told

    def _next(self, event: str, change: ItemChanged) -> None:
        """Check that a change follows from the item's previous one."""
        before = self._last.get(change.item)
        revision = 0 if before is None else before.revision
        if change.revision != revision + 1:
            kind = "revision-gap" if change.revision > revision else "revision-fork"
            category: Category = "lost" if change.revision > revision else "doubled"
            self._tally.add(category, kind, f"{event}: {change.item} has revision {change.revision} after {revision}")
            if change.revision <= revision:
                return
        self._last[change.item] = change
        if change.previous is not (None if before is None else before.state):
            self._tally.add("problem", "state-torn", f"{event}: {change.item} came from {change.previous}")
        stands = change.state is State.NOTIFIED and change.upheld  # where no window runs
        if change.settled != (change.state in CLOSED or stands):
            self._tally.add("problem", "settled-wrong", f"{event}: {change.item} in {change.state}")
        if change.handled_at is not None and change.sla is None:
            self._tally.add("problem", "sla-open", f"{event}: {change.item} is handled")
        if before is None:
            return
        for name in _CONSTANT:
            if getattr(change, name) != getattr(before, name):
                self._tally.add("problem", "item-altered", f"{event}: {name} of {change.item}")
        for name in _ONCE:
            known = getattr(before, name)
            if known is not None and getattr(change, name) != known:
                self._tally.add("doubled", f"{name.replace('_', '-')}-twice", f"{event}: {change.item}")
        if before.state in FINAL and change.state is not before.state:
            self._tally.add("problem", "final-left", f"{event}: {change.item} left {before.state}")

    def compare(self, rows: Iterable[tuple[Any, ...]]) -> list[str]:
        """Compare the result with the stored items of the partition. Returns lines for ``v_item``."""
        lines: list[str] = []
        for name, state, original, blocks, waiting, next_due, revision, body in rows:
            last = self._last.pop(name, None)
            item = _item.decode(body)
            values = (
                item.item,
                item.claim,
                item.listing,
                item.state.value,
                item.revision,
                item.seller,
                item.held,
                item.upheld,
                item.severity,
                bool(item.awaits),
                item.noticed_at,
                item.handled_at,
                item.sla,
                item.canary,
            )
            lines.append("\t".join(map(_text, values)))
            if last is None:
                self._tally.add("problem", "item-untold", f"{name} has no event")
                continue
            if wrong := item.differs(last):
                self._tally.add("problem", "state-differs", f"{name}: {', '.join(wrong)}")
            due = self.judge.timers(name)
            kept = {timer: at for timer, at in item.timers if timer != "lookup"}
            if due is not None and kept != due:
                self._tally.add("problem", "timers-differ", f"{name}: {_moments(kept)}, not {_moments(due)}")
            columns = (state, original, blocks, waiting, next_due, revision)
            if columns != (item.state, item.original, item.blocks, item.waits, item.next_due, item.revision):
                self._tally.add("problem", "item-columns", name)
        for name in self._last:
            self._tally.add("lost", "item-forgotten", f"{name} has events and no row")
        return lines


# ------------------------------------------------------------------------------------------------------- the topics

_HEAD: Final = b'{"specversion":"1.0","id":"'


class _Id(Struct):
    id: str


_id = msgspec.json.Decoder(_Id)


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of a topic, from its first offset to just before its next one."""

    topic: str
    partition: int
    first: int
    next: int


def identify(value: bytes) -> str | None:
    """The id of a record, escaped for COPY; None if it has none."""
    if value.startswith(_HEAD):
        raw = value[len(_HEAD) : value.find(b'"', len(_HEAD))]
        if raw.isascii() and b"\\" not in raw:
            return raw.decode()
    try:
        text = _id.decode(value).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for mark, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "")):
        text = text.replace(mark, escaped)
    return text


class _Mark(Struct):
    data: Watermark


_mark = msgspec.json.Decoder(_Mark)
_CLOSE_S: Final = 10.0
_CLOSE: Final = dt.timedelta(minutes=1)
"""Watermarks within this much wall time and business time are merged, as if the last of them had come first."""


class Marks:
    """The watermarks of one partition, merged where they follow closely upon one another."""

    def __init__(self) -> None:
        self.found: list[tuple[int, dt.datetime, float]] = []
        self._first: dt.datetime | None = None

    def add(self, offset: int, upto: dt.datetime, wall: float) -> None:
        """Add a watermark, in order of offset."""
        if self._first is not None and self.found:
            begun, _, since = self.found[-1]
            if abs(wall - since) <= _CLOSE_S and dt.timedelta() <= upto - self._first <= _CLOSE:
                self.found[-1] = (begun, upto, since)
                return
        self._first = upto
        self.found.append((offset, upto, wall))

    def cut(self) -> None:
        """Another record follows: merge no further watermark with the last one."""
        self._first = None

    def lines(self, partition: int) -> Iterator[str]:
        """Lines for ``v_mark``."""
        for offset, upto, wall in self.found:
            moment = dt.datetime.fromtimestamp(wall, dt.UTC)
            yield f"{partition}\t{offset}\t{upto.isoformat()}\t{moment.isoformat()}\n"


def line(topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> str | None:
    """A record as a line for ``v_rec``; None for a watermark or a tombstone."""
    if value is None:
        return None
    name = identify(value)
    if name is not None and name.startswith(WATERMARK):
        return None
    digest = hashlib.md5((key or b"") + b" " + value, usedforsecurity=False).hexdigest()
    return f"{topic}\t{partition}\t{offset}\t{_text(name)}\t{digest}\n"


Lines = tuple[str, str, str]
"""Lines for ``v_rec``, ``v_mark`` and ``v_asked``."""


def committed(settings: Settings) -> str:
    """The offsets that each kind of worker has committed at the broker, as lines for ``v_group``.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    prefix = settings.topic_prefix
    asked = {
        prefix + reader.name: [
            TopicPartition(prefix + topic.name, partition)
            for topic in reader.reads
            for partition in range(settings.partitions)
        ]
        for reader in readers(settings)
    }
    admin: Any = kafka_links.admin(settings, client_id="goodfaith-verify")
    try:
        answers = admin.list_group_offsets(asked)
    finally:
        admin.close()
    return "".join(
        f"{group.removeprefix(prefix)}\t{place.topic.removeprefix(prefix)}\t{place.partition}\t{position.offset}"
        f"\t{_head(position.metadata)}\n"
        for group, positions in answers.items()
        for place, position in positions.items()
        if position is not None and position.offset >= 0
    )


def _head(metadata: str | None) -> str:
    """The head of its log that a worker commits with its offset: the last row's number, and the start of its hash."""
    said = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{16})", metadata or "")
    return f"{said[1]}\t{said[2]}" if said else "\\N\t\\N"


def read(settings: Settings, places: Sequence[Place], upstreams: Sequence[str] = ()) -> Lines:
    """Read all records of some partitions.

    Args:
        upstreams: topics that others write.
    """
    consumer: Any = kafka_links.consumer(
        settings,
        enable_auto_commit=False,
        check_crcs=False,
        max_poll_records=10_000,
        max_partition_fetch_bytes=4_000_000,
        allow_auto_create_topics=False,
    )
    out: list[str] = []
    asked: list[str] = []
    marks: dict[TopicPartition, Marks] = {}
    try:
        left = {TopicPartition(place.topic, place.partition): place.next for place in places}
        consumer.assign(list(left))
        for place in places:
            consumer.seek(TopicPartition(place.topic, place.partition), place.first)
        while left:
            for where, records in consumer.poll(timeout_ms=500).items():
                topic, partition = where.topic, where.partition
                if topic in upstreams:
                    asked += [
                        f"{topic}\t{partition}\t{record.offset}\t{_text(identify(record.value or b''))}\n"
                        for record in records
                    ]
                    continue
                seen = marks.setdefault(where, Marks())
                for record in records:
                    text = line(topic, partition, record.offset, record.key, record.value)
                    if text is not None:
                        out.append(text)
                        seen.cut()
                    elif record.value is not None:
                        seen.add(record.offset, _mark.decode(record.value).data.upto, record.timestamp / 1000)
            done = [where for where, end in left.items() if consumer.position(where) >= end]
            for where in done:
                del left[where]
                consumer.pause(where)
    finally:
        consumer.close()
    found = "".join(text for where, some in marks.items() for text in some.lines(where.partition))
    return "".join(out), found, "".join(asked)


class Reading:
    """Reads topics in the background, from their beginning to their present end."""

    def __init__(self, settings: Settings, names: Sequence[str], upstreams: Sequence[str] = ()) -> None:
        """
        Args:
            names: topics that only our logs write.
            upstreams: topics that others write.
        """
        consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
        try:
            there = consumer.topics()
            wanted = [name for name in (*names, *upstreams) if name in there]
            where = [TopicPartition(name, p) for name in wanted for p in range(settings.partitions)]
            firsts, nexts = consumer.beginning_offsets(where), consumer.end_offsets(where)
        finally:
            consumer.close()
        self.places = [Place(w.topic, w.partition, firsts[w], nexts[w]) for w in where]
        self._spools: dict[str, IO[str]] = {
            table: tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
            for table in ("v_rec", "v_mark", "v_asked")
        }
        self._lock = threading.Lock()
        full = [place for place in self.places if place.next > place.first]
        total = sum(place.next - place.first for place in full)
        self._executor: Executor
        if total <= _LOCAL_RECORDS:
            self._executor = ThreadPoolExecutor(1)
            tasks = [full] if full else []
        else:
            workers = max(os.cpu_count() or 1, 2)
            self._executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
            tasks = _split(full, max(total // (workers * 8), 1_000))
        self._futures: list[Future[Lines]] = []
        for task in tasks:
            future = self._executor.submit(read, settings, task, tuple(upstreams))
            future.add_done_callback(self._keep)
            self._futures.append(future)

    def _keep(self, future: Future[Lines]) -> None:
        """Move a finished part out of memory, to disk."""
        if not future.cancelled() and future.exception() is None:
            with self._lock:
                for spool, lines in zip(self._spools.values(), future.result(), strict=True):
                    spool.write(lines)
            future._result = None

    def into(self, evidence: Evidence) -> int:
        """Wait until everything is read, and load it. Returns the number of records."""
        for future in self._futures:
            future.result()
        self._executor.shutdown()  # waits for the last callback too
        for table, spool in self._spools.items():
            spool.seek(0)
            evidence.copy(table, spool)
        ends = "".join(f"{p.topic}\t{p.partition}\t{p.first}\t{p.next}\n" for p in self.places)
        evidence.copy("v_ends", io.StringIO(ends))
        return evidence.number("select count(*) from v_rec")

    def close(self) -> None:
        """Stop reading, and close the files."""
        self._executor.shutdown(cancel_futures=True)
        for spool in self._spools.values():
            spool.close()


def _split(places: Sequence[Place], size: int) -> list[list[Place]]:
    """Group partitions by about ``size`` records, the largest first."""
    groups: list[list[Place]] = []
    count = size
    for place in sorted(places, key=lambda place: place.first - place.next):
        if count >= size:
            groups.append([])
            count = 0
        groups[-1].append(place)
        count += place.next - place.first
    return groups
