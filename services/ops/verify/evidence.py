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
- ``v_unreached``: what was announced as lying in an inbox that nobody owns
- ``v_hold``: what enforcement published about holds
- ``v_recurrence``: the near copies that verification found
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

import sqlalchemy as sa

from services.ops.idle import present, writers
from services.ops.verify.findings import EXAMPLES, Finding, Table, Tally
from services.ops.verify.fold import Fold
from services.ops.verify.judge import HOLD, NOTICE, UNREACHED, Judge
from services.ops.verify.records import Reading, committed
from services.ops.verify.telling import ACCOUNT, told_of_sanction
from shared import clock, topics
from shared.events import SanctionChanged, decode_data, decode_envelope
from shared.settings import Settings

FILED: Final = "goodfaith.claim.filed.v1"
_BLOCK: Final = 20_000


def quoted(values: Iterable[str]) -> str:
    """A list of SQL strings, sorted."""
    return ", ".join(f"'{value}'" for value in sorted(values))


def not_set_aside(schema: str, prefix: str = "") -> str:
    """SQL condition: a key has no open dead letter.

    A dead letter waits for a person and is reported as such. What depends on it is not reported as lost too.
    """
    return f"not in (select key from {schema}.{prefix}dead_letters where state <> 'done')"


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
    canary boolean, content text collate "C") on commit drop;
create temp table v_refused (seq bigint, command text collate "C") on commit drop;
create temp table v_told (item text collate "C", revision int, kind text, party text) on commit drop;
create temp table v_notice (message text collate "C", item text collate "C", revision int, kind text, sent_at timestamptz,
    begins timestamptz, begun_by text) on commit drop;
create temp table v_unreached (message text collate "C", item text collate "C", revision int, at timestamptz) on commit drop;
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
    from {tables}event_log"""
_FILED: Final = """
    insert into v_filed select partition, seq, type, split_part(split_part(payload, '"item":"', 2), '"', 1),
        nullif(split_part(split_part(payload, '"command":"', 2), '"', 1), ''),
        nullif(split_part(split_part(payload, '"accepted_at":"', 2), '"', 1), '')::timestamptz
    from intake.event_log where type not in (
        'goodfaith.dead_letter.v1', 'goodfaith.account.notice.v1', 'goodfaith.account.channels.v1', 'goodfaith.message.read.v1',
        'goodfaith.account.erased.v1', 'goodfaith.sanction.lift.v1', 'goodfaith.claim.filed.v1')"""
_BY_NOTICE: Final = quoted(
    f"goodfaith.item.{kind}.v1" for kind in ("window_opened", "stands", "unreached", "reached", "notified", "appealed")
)
"""Changes that a notice may cause."""
_NOTICE: Final = """
    insert into v_notice select d ->> 'message', d ->> 'item', (d ->> 'revision')::int, d ->> 'kind', (d ->> 'sent_at')::timestamptz,
        coalesce(d ->> 'begins_at', d ->> 'sent_at')::timestamptz, coalesce(d ->> 'begun_by', 'sent')
    from (select payload::jsonb -> 'data' as d from notification.event_log where type = 'goodfaith.notice.sent.v1') t"""
_UNREACHED: Final = f"""
    insert into v_unreached select d ->> 'message', d ->> 'item', (d ->> 'revision')::int, (d ->> 'at')::timestamptz
    from (select payload::jsonb -> 'data' as d from notification.event_log where type = '{UNREACHED}') t"""
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
        self.readers = present(connection, writers(settings), table="event_log")
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

    def find(self, table: Table) -> list[Finding]:
        """The findings of a table of checks: one for each row whose SQL selects anything."""
        found = []
        for (category, kind), sql in table.items():
            count, examples = self.connection.exec_driver_sql(
                f"with found(e) as materialized ({sql}) select (select count(*) from found),"
                f" array(select e from found order by e limit {EXAMPLES})"
            ).one()
            if count:
                found.append(Finding(kind, category, count, list(examples)))
        return found

    def number(self, sql: str) -> int:
        """The number that ``sql`` selects; 0 for null."""
        return int(self.connection.exec_driver_sql(sql).scalar_one() or 0)

    def rows(self, sql: str) -> Iterator[Any]:
        """Rows, whose columns are also attributes. From a server-side cursor, so that memory stays flat."""
        options = {"stream_results": True, "yield_per": 2_000}
        yield from self.connection.exec_driver_sql(sql, execution_options=options)

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
                self._execute(_LOG.format(name=reader.name, tables=reader.tables))
            self._execute(_FILED)
            self._execute(_RECURRENCES)
            if self.has("notification"):
                self._execute(_NOTICE)
                self._execute(_UNREACHED)
                self._execute(_SENT)
                self._execute(_NOTED)
            if self.has("enforcement"):
                self._execute(_HOLD)
                self._sanctions()
            self._fold()
            reading.into(self.copy)
        finally:
            reading.close()
        self.records = self.number("select count(*) from v_rec")
        self._execute(f"analyze {', '.join(re.findall('create temp table ([a-z_]+)', _DDL))}")

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
        set_aside = {key for (key,) in self.rows("select key from verification.dead_letters where state <> 'done'")}
        partitions = list(self.rows("select partition, watermark from verification.partitions order by 1"))
        for partition, watermark in partitions:
            folded = Fold(self.folding, self._learned(partition))
            source = self.rows(
                f"select seq, type, payload from verification.event_log where partition = {partition}"
                f" and topic = '{self.name(topics.VERIFICATION)}' order by seq"
            )
            while block := list(itertools.islice(source, _BLOCK)):
                lines = folded.take(partition, block)
                self.changes += len(lines.v_change)
                for table, some in lines._asdict().items():
                    self._copy_lines(table, some)
            folded.judge.end(watermark, set_aside)
            stored = self.rows(
                "select item, state, original, blocks, waits, next_due, revision, body from verification.items"
                f" where partition = {partition}"
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
                f" where partition = {partition} and type in ({_BY_NOTICE})"
            )
            notices = source.format(schema="notification", topic=self.name(topics.NOTIFICATION))
            kinds = quoted((NOTICE, UNREACHED))
            judge.learn(self.rows(f"{notices} and type in ({kinds}) order by seq"), {cause for (cause,) in opened})
        if self.has("enforcement"):
            receipts = source.format(schema="enforcement", topic=self.name(topics.ENFORCEMENT))
            judge.learn(self.rows(f"{receipts} and type = '{HOLD}' and payload like '%%\"held\":true%%'"))
        return judge


Check = Table | Callable[[Evidence], list[Finding]]
"""A table of checks, or a function where they depend on the installation or are not SQL."""
