"""The runtime's SQL: ownership, inbox, event log, cursors, dead letters. One statement per step; rows go as arrays."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared import db, tracing
from shared.events import encode
from shared.runtime.links import Link
from shared.runtime.types import Outgoing, Sent
from shared.topics import partition_of


class Fenced(Exception):
    """Another worker has taken over a partition: this one must write nothing and rejoin the group."""


class WentBack(Fenced):
    """The database lacks what it had committed before: a late follower was promoted, or a backup restored.

    Nothing may be written on top of it: readers would take reused numbers for events that they have already applied.
    """


@dataclass(slots=True)
class Head:
    """A partition's row: the event log's last sequence number and hash, and the watermark."""

    seq: int
    hash: str
    published_upto: int
    watermark: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Owned:
    """A partition as claimed: its epoch, and the number and hash of the log's last row."""

    epoch: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Witness:
    """A row of an event log that was seen outside the database, and that the database must still have.

    Attributes:
        hash: the row's hash or the beginning of it; None: not known.
        payload: the row's payload; None: not known.
        seen: where it was seen, in words.
    """

    partition: int
    seq: int
    seen: str
    hash: str | None = None
    payload: str | None = None


def chain(previous: str, payload: str) -> str:
    """Hash of an event log row: SHA-256 over the previous row's hash and the payload, hex."""
    return hashlib.sha256(previous.encode() + payload.encode()).hexdigest()


class Store:
    """SQL of one kind of worker: its tables carry ``prefix``."""

    def __init__(self, name: str, prefix: str, partitions: int, topic_prefix: str, keyed_like: frozenset[str]) -> None:
        self._name = name
        self._source = f"/goodfaith/{name}"
        self._partitions = partitions
        self._topic_prefix = topic_prefix
        self._keyed_like = keyed_like
        # number of the log's last row by partition, full topic and target, for the owned partitions
        self._tails: dict[tuple[int, str, int], int] = {}
        p = prefix
        self._sql_claim = f"""
            insert into {p}partitions (partition, epoch, owner) select unnest(%s::int[]), 1, %s
            on conflict (partition) do update set epoch = {p}partitions.epoch + 1, owner = excluded.owner
            returning partition, epoch, seq, hash"""
        self._sql_lock = f"""
            select partition, epoch, owner, seq, hash, published_upto, watermark, (select min(worker) from platform.went_back)
            from {p}partitions where partition = any(%s) order by partition for no key update"""
        self._sql_heads = f"""
            update {p}partitions as t set seq = n.seq, hash = n.hash, published_upto = n.upto, watermark = n.mark
            from unnest(%s::int[], %s::bigint[], %s::text[], %s::bigint[], %s::timestamptz[]) as n(partition, seq, hash, upto, mark)
            where t.partition = n.partition"""
        self._sql_published = f"""
            update {p}partitions as t set published_upto = greatest(t.published_upto, least(n.upto, t.seq))
            from unnest(%s::int[], %s::bigint[], %s::bigint[]) as n(partition, epoch, upto)
            where t.partition = n.partition and t.epoch = n.epoch"""
        self._sql_cursors = f"""
            select topic, partition, next_offset, coalesce(leader_epoch, -1) from {p}cursors where partition = any(%s)"""
        self._sql_topic_ids = f"select topic, id from {p}topic_ids"
        self._sql_know_topics = f"""
            insert into {p}topic_ids (topic, id) select * from unnest(%s::text[], %s::text[]) on conflict do nothing"""
        self._sql_move = f"""
            insert into {p}cursors as c (topic, partition, next_offset, leader_epoch)
            select topic, partition, next_offset, leader_epoch
                from unnest(%(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(epochs)s::int[])
                    as n(topic, partition, next_offset, leader_epoch)
            on conflict (topic, partition) do update set next_offset = excluded.next_offset, leader_epoch = excluded.leader_epoch
            where exists (select from unnest(%(topics)s::text[], %(partitions)s::int[], %(before)s::bigint[]) as b(topic, partition, at)
                where b.topic = c.topic and b.partition = c.partition and b.at = c.next_offset)"""
        self._sql_reads = f"select topic, partition, writer, log_partition, seq from {p}reads where partition = any(%s)"
        # one statement for both the number and the record of its move
        self._sql_read = f"""
            with n as (select * from unnest(%s::text[], %s::int[], %s::text[], %s::int[], %s::bigint[])
                    as n(topic, partition, writer, log_partition, seq)),
                moved as (insert into {p}reads (topic, partition, writer, log_partition, seq) select * from n
                    on conflict (topic, partition, writer, log_partition) do update set seq = excluded.seq)
            insert into {p}reads_log (topic, partition, writer, log_partition, previous, seq)
            select n.topic, n.partition, n.writer, n.log_partition, coalesce(r.seq, 0), n.seq from n
                left join {p}reads r using (topic, partition, writer, log_partition)"""
        self._sql_gap = f"""
            insert into {p}gaps (topic, partition, "offset", reason, detail)
            select topic, partition, at, %s, %s from unnest(%s::text[], %s::int[], %s::bigint[]) as n(topic, partition, at)
            on conflict do nothing"""
        self._sql_gaps = f'select topic, partition, "offset", reason from {p}gaps where partition = any(%s)'
        self._sql_tails = f"select partition, topic, target, seq from {p}tails where partition = any(%s)"
        self._sql_tail = f"""
            insert into {p}tails (partition, topic, target, seq) select * from unnest(%s::int[], %s::text[], %s::int[], %s::bigint[])
            on conflict (partition, topic, target) do update set seq = excluded.seq"""
        self._sql_rows = f"""
            select l.partition, l.seq, l.hash, l.payload from {p}event_log l
            join unnest(%s::int[], %s::bigint[]) as n(partition, seq) on n.partition = l.partition and n.seq = l.seq"""
        self._sql_inbox = f"""
            insert into {p}inbox (event_id) select unnest(%s::text[]) on conflict do nothing returning event_id"""
        self._event_log = f"{p}event_log"
        self._sql_unpublished = f"""
            select l.partition, l.seq, l.topic, l.key, l.target, l.payload, extract(epoch from l.recorded_wall)::float
            from {p}event_log l join {p}partitions p on p.partition = l.partition and l.seq > p.published_upto
            where l.partition = any(%s) order by l.partition, l.seq"""
        self._sql_blocked_keys = (
            f"select distinct key from {p}dead_letters where state <> 'done' and partition = any(%s)"
        )
        self._sql_blocked_since = f"""
            select coalesce(extract(epoch from min(set_aside_wall)), 0)::float from {p}dead_letters
            where state <> 'done' and partition = any(%s)"""
        self._sql_set_aside = f"""
            insert into {p}dead_letters (partition, key, topic, "offset", event_id, type, headers, value, error, state)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
        self._sql_replays = f"""
            select id, partition, key, topic, "offset", event_id, value from {p}dead_letters
            where state = 'replay' and partition = any(%s) order by id limit 500"""
        self._sql_replayed = f"update {p}dead_letters set state = 'done', changed_wall = now() where id = %s"
        self._sql_failed = f"""
            update {p}dead_letters set count = count + (id = %s)::int, changed_wall = now(), state = 'waiting',
                error = case when id = %s then %s else error end
            where partition = %s and key = %s and state = 'replay'"""
        self._sql_key_open = (
            f"select exists (select from {p}dead_letters where partition = %s and key = %s and state <> 'done')"
        )

    # ---- ownership

    def claim(self, connection: sa.Connection, partitions: Sequence[int], owner: str) -> dict[int, Owned]:
        """Take over the partitions: writes of all earlier owners are refused from now on.

        Raises:
            WentBack: a worker has found that the database lacks what it had committed.
        """
        if (finder := connection.exec_driver_sql("select min(worker) from platform.went_back").scalar()) is not None:
            raise WentBack(f"{finder} found it")
        rows = connection.exec_driver_sql(self._sql_claim, (list(partitions), owner))
        owned = {row[0]: Owned(*row[1:]) for row in rows}
        tails = connection.exec_driver_sql(self._sql_tails, (list(partitions),))
        self._tails = {(partition, topic, target): seq for partition, topic, target, seq in tails}
        return owned

    def lock(
        self, connection: sa.Connection, owner: str, epochs: Mapping[int, int], known: Mapping[int, tuple[int, str]]
    ) -> dict[int, Head]:
        """Lock the owned partitions for this transaction.

        Args:
            known: for each of them, number and hash of the log's last row, as this owner last saw it committed.

        Raises:
            Fenced: another worker owns one of them.
            WentBack: one of them is not as this owner left it, although nobody else has claimed it.
        """
        heads = {}
        rows = connection.exec_driver_sql(self._sql_lock, (sorted(epochs),))
        for partition, epoch, whose, seq, hash_, upto, mark, finder in rows:
            if finder is not None:
                raise WentBack(f"{finder} found it")
            if epoch > epochs[partition]:
                raise Fenced(f"partition {partition}: epoch {epoch}, ours {epochs[partition]}")
            if epoch < epochs[partition] or whose != owner:
                raise WentBack(
                    f"partition {partition} does not know its owner: epoch {epoch}, ours {epochs[partition]}"
                )
            if (seq, hash_) != known[partition]:
                raise WentBack(f"partition {partition}: the event log ends at {seq}, it ended at {known[partition][0]}")
            heads[partition] = Head(seq, hash_, upto, mark)
        if len(heads) != len(epochs):
            raise WentBack("a partition's row is missing")
        return heads

    def ends(self, connection: sa.Connection, partitions: Sequence[int]) -> dict[int, int]:
        """Number of each log's last row."""
        return {row[0]: row[3] for row in connection.exec_driver_sql(self._sql_lock, (list(partitions),))}

    def went_back(self, connection: sa.Connection, reason: str) -> None:
        """Tell all other workers that the database lacks what it had committed."""
        connection.exec_driver_sql(
            "insert into platform.went_back (worker, reason) values (%s, %s)", (self._name, reason[:1000])
        )

    def missing(self, connection: sa.Connection, witnesses: Iterable[Witness]) -> list[Witness]:
        """The witnesses whose row is missing from the event log or has other content."""
        asked = list(witnesses)
        if not asked:
            return []
        places = sorted({(one.partition, one.seq) for one in asked})
        rows = connection.exec_driver_sql(self._sql_rows, db.columns(places))
        there = {(partition, seq): (hash_, payload) for partition, seq, hash_, payload in rows}
        lost = []
        for one in asked:
            hash_, payload = there.get((one.partition, one.seq), (None, None))
            if hash_ is None or not hash_.startswith(one.hash or "") or one.payload not in (None, payload):
                lost.append(one)
        return lost

    # ---- in

    def cursors(self, connection: sa.Connection, partitions: Sequence[int]) -> dict[tuple[str, int], tuple[int, int]]:
        """Next offset, and leader epoch of the record before it (-1: not known), by (topic, partition)."""
        rows = connection.exec_driver_sql(self._sql_cursors, (list(partitions),))
        return {(topic, partition): (offset, epoch) for topic, partition, offset, epoch in rows}

    def reads(self, connection: sa.Connection, partitions: Sequence[int]) -> dict[Link, int]:
        """The number of the last event applied, per log."""
        rows = connection.exec_driver_sql(self._sql_reads, (list(partitions),))
        return {Link(*row[:4]): row[4] for row in rows}

    def read(self, connection: sa.Connection, numbers: Mapping[Link, int]) -> None:
        """Record which events are applied; the partitions must be locked."""
        db.unnest(connection, self._sql_read, [(*link, seq) for link, seq in sorted(numbers.items())])

    def gap(
        self, connection: sa.Connection, places: Mapping[tuple[str, int], int], reason: str, detail: str = ""
    ) -> None:
        """Note for ``goodfaith restore unread`` that records are missing at these offsets. Earlier entries stay."""
        rows = [(topic, partition, offset) for (topic, partition), offset in sorted(places.items())]
        if rows:
            connection.exec_driver_sql(self._sql_gap, (reason, detail, *db.columns(rows)))

    def gaps(self, connection: sa.Connection, partitions: Sequence[int]) -> dict[tuple[str, int], tuple[int, str]]:
        """Offset and reason of the gaps that wait for ``goodfaith restore unread``, by topic and partition."""
        rows = connection.exec_driver_sql(self._sql_gaps, (list(partitions),))
        return {(topic, partition): (offset, reason) for topic, partition, offset, reason in rows}

    def topic_ids(self, connection: sa.Connection, now: Mapping[str, str]) -> dict[str, str]:
        """The topic id for which the cursors are valid, by topic; for a new topic, its id in ``now`` from now on."""
        known: dict[str, str] = dict(map(tuple, connection.exec_driver_sql(self._sql_topic_ids)))
        if new := {topic: id_ for topic, id_ in now.items() if topic not in known}:
            connection.exec_driver_sql(self._sql_know_topics, (list(new), list(new.values())))
        return {**now, **known}

    def move(
        self,
        connection: sa.Connection,
        cursors: Mapping[tuple[str, int], tuple[int, int]],
        before: Mapping[tuple[str, int], int],
    ) -> None:
        """Move cursors; the partitions must be locked.

        Args:
            cursors: next offset and leader epoch of the record before it.
            before: their present position, as the caller knows it.

        Raises:
            WentBack: a cursor is somewhere else.
        """
        if not cursors:
            return
        topics, partitions = zip(*cursors, strict=True)
        offsets, epochs = zip(*cursors.values(), strict=True)
        moved = connection.exec_driver_sql(
            self._sql_move,
            {
                "topics": list(topics),
                "partitions": list(partitions),
                "offsets": list(offsets),
                "epochs": list(epochs),
                "before": [before.get(place, -1) for place in cursors],
            },
        ).rowcount
        if moved != len(cursors):
            raise WentBack("a cursor is not where this worker left it")

    def fresh(self, connection: sa.Connection, ids: Iterable[str]) -> set[str]:
        """Enter ids of records from outside in the inbox, and return those that are new."""
        # sorted, so that concurrent transactions visit index pages in the same order
        ordered = sorted(ids)
        return {row[0] for row in connection.exec_driver_sql(self._sql_inbox, (ordered,))} if ordered else set()

    # ---- out

    def append(self, connection: sa.Connection, heads: dict[int, Head], events: Iterable[Outgoing]) -> Sent:
        """Append events to the log, numbered and linked; advances ``heads``.

        The caller must call ``appended`` once the transaction is committed.
        """
        sent = Sent()
        tails = sent.tails
        partitions: list[int] = []
        seqs: list[int] = []
        topics: list[str] = []
        keys: list[str] = []
        targets: list[int] = []
        types: list[str] = []
        claims: list[str | None] = []
        payloads: list[str] = []
        hashes: list[str] = []
        for event in events:
            head = heads[event.partition]
            head.seq += 1
            name = event.topic.name
            target = event.partition if name in self._keyed_like else partition_of(event.key, self._partitions)
            topic = self._topic_prefix + name
            place = (event.partition, topic, target)
            raw = encode(
                event.data,
                id=f"{self._name}.{event.partition}.{head.seq}",
                source=self._source,
                type=event.type,
                subject=event.subject,
                time=event.time,
                key=event.key,
                correlation=event.correlation,
                causation=event.causation,
                trace=event.trace,
                previous=tails[place] if place in tails else self._tails.get(place, 0),
            )
            tails[place] = head.seq
            payload = raw.decode()
            head.hash = chain(head.hash, payload)
            partitions.append(event.partition)
            seqs.append(head.seq)
            topics.append(topic)
            keys.append(event.key)
            targets.append(target)
            types.append(event.type)
            claims.append(event.correlation)
            payloads.append(payload)
            hashes.append(head.hash)
            sent.rows.append((topic, event.key, raw, target, event.trace))
            sent.upto[event.partition] = head.seq
        if seqs:
            db.copy(
                connection,
                self._event_log,
                {
                    "partition": partitions,
                    "seq": seqs,
                    "topic": topics,
                    "key": keys,
                    "target": targets,
                    "type": types,
                    "claim": claims,
                    "payload": payloads,
                    "hash": hashes,
                },
            )
            db.unnest(connection, self._sql_tail, [(*place, seq) for place, seq in sorted(tails.items())])
        return sent

    def appended(self, sent: Sent) -> None:
        """Note that what ``append`` wrote is committed."""
        self._tails |= sent.tails

    def save_heads(self, connection: sa.Connection, heads: dict[int, Head]) -> None:
        """Write back the partition rows that changed."""
        if heads:
            values = list(heads.values())
            connection.exec_driver_sql(
                self._sql_heads,
                (
                    list(heads),
                    [h.seq for h in values],
                    [h.hash for h in values],
                    [h.published_upto for h in values],
                    [h.watermark for h in values],
                ),
            )

    def published(self, connection: sa.Connection, epochs: Mapping[int, int], upto: Mapping[int, int]) -> None:
        """Record how far the log is published: only for partitions still owned, and never beyond the log's end."""
        rows = [(partition, epochs[partition], number) for partition, number in upto.items() if partition in epochs]
        db.unnest(connection, self._sql_published, rows)

    def unpublished(self, connection: sa.Connection, partitions: Sequence[int]) -> Sent:
        """Log rows beyond ``published_upto``, to send again with the same ids."""
        sent = Sent()
        for partition, seq, topic, key, target, payload, recorded in connection.exec_driver_sql(
            self._sql_unpublished, (list(partitions),)
        ):
            sent.since = min(sent.since or recorded, recorded)
            sent.rows.append((topic, key, payload.encode(), target, tracing.of_payload(payload)))
            sent.upto[partition] = seq
        return sent

    # ---- poison

    def blocked_keys(self, connection: sa.Connection, partitions: Sequence[int]) -> set[str]:
        """Keys that wait for a dead letter."""
        return {row[0] for row in connection.exec_driver_sql(self._sql_blocked_keys, (list(partitions),))}

    def blocked_since(self, connection: sa.Connection, partitions: Sequence[int]) -> float:
        """Wall time at which the oldest record that still waits was set aside; 0: none waits."""
        return float(connection.exec_driver_sql(self._sql_blocked_since, (list(partitions),)).scalar() or 0)

    def set_aside(
        self,
        connection: sa.Connection,
        *,
        partition: int,
        key: str,
        topic: str,
        offset: int,
        event_id: str | None,
        type: str | None,
        headers: str | None,
        value: bytes,
        error: str,
        state: str = "waiting",
    ) -> None:
        """Set a record aside as a dead letter, with its bytes and origin."""
        connection.exec_driver_sql(
            self._sql_set_aside,
            (partition, key, topic, offset, event_id, type, headers, value, error.replace("\0", "�")[:4000], state),
        )

    def replays(self, connection: sa.Connection, partitions: Sequence[int]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        """Dead letters to run again, oldest first."""
        return connection.exec_driver_sql(self._sql_replays, (list(partitions),)).all()

    def replayed(self, connection: sa.Connection, row_id: int) -> None:
        """Note that a dead letter was applied."""
        connection.exec_driver_sql(self._sql_replayed, (row_id,))

    def replay_failed(self, connection: sa.Connection, row_id: int, partition: int, key: str, error: str) -> None:
        """Note that a dead letter failed again: it and the later records of its key keep waiting."""
        connection.exec_driver_sql(self._sql_failed, (row_id, row_id, error.replace("\0", "�")[:4000], partition, key))

    def key_open(self, connection: sa.Connection, partition: int, key: str) -> bool:
        """Whether this key still has dead letters."""
        return bool(connection.exec_driver_sql(self._sql_key_open, (partition, key)).scalar())
