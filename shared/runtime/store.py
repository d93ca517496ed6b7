"""The runtime's SQL: ownership, inbox, event log, cursors, parked records. One statement a step, arrays for rows."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared import db, tracing
from shared.events import encode
from shared.runtime.types import Outgoing, Sent
from shared.topics import partition_of


class Fenced(Exception):
    """Another worker has taken a partition over: this one must write nothing and join the group anew."""


@dataclass(slots=True)
class Head:
    """A partition's row: the event log's last sequence number and hash, and the watermark."""

    seq: int
    hash: str
    published_upto: int
    watermark: dt.datetime | None


def chain(previous: str, payload: str) -> str:
    """Hash of an event log row: SHA-256 over the previous row's hash and the payload, hex."""
    return hashlib.sha256(previous.encode() + payload.encode()).hexdigest()


def place_of(id_: str) -> tuple[str, int, int] | None:
    """Writer, partition and number of an event by its id; None when it was not made as ours are."""
    writer, _, rest = id_.partition(".")
    partition, _, seq = rest.partition(".")
    if not (writer and _is_number(partition, 9) and _is_number(seq, 18)):
        return None
    return writer, int(partition), int(seq)


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= most and (text == "0" or text[0] != "0")


class Store:
    """SQL of one kind of worker: its tables carry ``prefix``."""

    def __init__(self, name: str, prefix: str, partitions: int, topic_prefix: str, keyed_like: frozenset[str]) -> None:
        self._name = name
        self._source = f"/goodfaith/{name}"
        self._partitions = partitions
        self._topic_prefix = topic_prefix
        self._keyed_like = keyed_like
        p = prefix
        self._sql_claim = f"""
            insert into {p}partitions (partition, epoch, owner) select unnest(%s::int[]), 1, %s
            on conflict (partition) do update set epoch = {p}partitions.epoch + 1, owner = excluded.owner
            returning partition, epoch"""
        self._sql_lock = f"""
            select partition, epoch, seq, hash, published_upto, watermark from {p}partitions
            where partition = any(%s) order by partition for no key update"""
        self._sql_heads = f"""
            update {p}partitions as t set seq = n.seq, hash = n.hash, published_upto = n.upto, watermark = n.mark
            from unnest(%s::int[], %s::bigint[], %s::text[], %s::bigint[], %s::timestamptz[]) as n(partition, seq, hash, upto, mark)
            where t.partition = n.partition"""
        self._sql_published = f"""
            update {p}partitions as t set published_upto = greatest(t.published_upto, n.upto)
            from unnest(%s::int[], %s::bigint[]) as n(partition, upto) where t.partition = n.partition"""
        self._sql_cursors = f"select topic, partition, next_offset from {p}cursors where partition = any(%s)"
        self._sql_topic_ids = f"select topic, id from {p}topic_ids"
        self._sql_know_topics = f"""
            insert into {p}topic_ids (topic, id) select * from unnest(%s::text[], %s::text[]) on conflict do nothing"""
        self._sql_move = f"""
            insert into {p}cursors (topic, partition, next_offset) select * from unnest(%s::text[], %s::int[], %s::bigint[])
            on conflict (topic, partition) do update set next_offset = excluded.next_offset"""
        self._sql_inbox = f"""
            insert into {p}inbox (event_id)
            select n.id from unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[])
                as n(id, topic, writer, partition, seq)
            where not exists (select from {p}inbox_marks m where m.topic = n.topic and m.writer = n.writer
                and m.partition = n.partition and m.upto >= n.seq)
            on conflict do nothing returning event_id"""
        self._event_log = f"{p}event_log"
        self._sql_unpublished = f"""
            select l.partition, l.seq, l.topic, l.key, l.target, l.payload, extract(epoch from l.recorded_wall)::float
            from {p}event_log l join {p}partitions p on p.partition = l.partition and l.seq > p.published_upto
            where l.partition = any(%s) order by l.partition, l.seq"""
        self._sql_parked_keys = f"select distinct key from {p}parked where state <> 'done' and partition = any(%s)"
        self._sql_parked_since = f"""
            select coalesce(extract(epoch from min(parked_wall)), 0)::float from {p}parked
            where state <> 'done' and partition = any(%s)"""
        self._sql_park = f"""
            insert into {p}parked (partition, key, topic, "offset", event_id, type, headers, value, error, state)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
        self._sql_replays = f"""
            select id, partition, key, topic, "offset", event_id, value from {p}parked
            where state = 'replay' and partition = any(%s) order by id limit 500"""
        self._sql_replayed = f"update {p}parked set state = 'done', changed_wall = now() where id = %s"
        self._sql_failed = f"""
            update {p}parked set count = count + (id = %s)::int, changed_wall = now(), state = 'parked',
                error = case when id = %s then %s else error end
            where partition = %s and key = %s and state = 'replay'"""
        self._sql_key_open = (
            f"select exists (select from {p}parked where partition = %s and key = %s and state <> 'done')"
        )

    # ---- ownership

    def claim(self, connection: sa.Connection, partitions: Sequence[int], owner: str) -> dict[int, int]:
        """Take the partitions over: every earlier owner's writes are refused from here on. Returns their epochs."""
        rows = connection.exec_driver_sql(self._sql_claim, (list(partitions), owner))
        return {row[0]: row[1] for row in rows}

    def lock(self, connection: sa.Connection, epochs: dict[int, int]) -> dict[int, Head]:
        """Lock the owned partitions for this transaction.

        Raises:
            Fenced: one of them has another owner.
        """
        heads = {}
        for partition, epoch, seq, hash_, upto, mark in connection.exec_driver_sql(self._sql_lock, (sorted(epochs),)):
            if epoch != epochs[partition]:
                raise Fenced(f"partition {partition}: epoch {epoch}, ours {epochs[partition]}")
            heads[partition] = Head(seq, hash_, upto, mark)
        if len(heads) != len(epochs):
            raise Fenced("a partition's row is gone")
        return heads

    # ---- in

    def cursors(self, connection: sa.Connection, partitions: Sequence[int]) -> dict[tuple[str, int], int]:
        """Next offset by (topic, partition)."""
        rows = connection.exec_driver_sql(self._sql_cursors, (list(partitions),))
        return {(topic, partition): offset for topic, partition, offset in rows}

    def topic_ids(self, connection: sa.Connection, now: Mapping[str, str]) -> dict[str, str]:
        """By topic the id that its cursors are valid for; of topics that were not known it is the one of ``now``, from here on."""
        known: dict[str, str] = dict(map(tuple, connection.exec_driver_sql(self._sql_topic_ids)))
        if new := {topic: id_ for topic, id_ in now.items() if topic not in known}:
            connection.exec_driver_sql(self._sql_know_topics, (list(new), list(new.values())))
        return {**now, **known}

    def move(self, connection: sa.Connection, cursors: dict[tuple[str, int], int]) -> None:
        """Move cursors; the partitions must be locked."""
        if cursors:
            topics, partitions = zip(*cursors, strict=True)
            connection.exec_driver_sql(self._sql_move, (list(topics), list(partitions), list(cursors.values())))

    def fresh(self, connection: sa.Connection, ids: Mapping[str, str]) -> set[str]:
        """Enter ids in the inbox; returns those that were not there, nor covered by a mark.

        Args:
            ids: topic, without prefix, by id.
        """
        if not ids:
            return set()
        # in order, so that concurrent transactions meet index pages in one order
        ordered = sorted(ids)
        places = [place_of(id_) or (None, None, None) for id_ in ordered]
        values = (ordered, [ids[id_] for id_ in ordered], *map(list, zip(*places, strict=True)))
        return {row[0] for row in connection.exec_driver_sql(self._sql_inbox, values)}

    # ---- out

    def append(self, connection: sa.Connection, heads: dict[int, Head], events: Iterable[Outgoing]) -> Sent:
        """Append events to the log and number them; ``heads`` moves on with them."""
        sent = Sent()
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
            )
            payload = raw.decode()
            head.hash = chain(head.hash, payload)
            name = event.topic.name
            target = event.partition if name in self._keyed_like else partition_of(event.key, self._partitions)
            topic = self._topic_prefix + name
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
                    "partition": partitions, "seq": seqs, "topic": topics, "key": keys, "target": targets, "type": types,
                    "claim": claims, "payload": payloads, "hash": hashes,
                },
            )  # fmt: skip
        return sent

    def save_heads(self, connection: sa.Connection, heads: dict[int, Head]) -> None:
        """Write back the partitions' rows that changed."""
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

    def published(self, connection: sa.Connection, upto: dict[int, int]) -> None:
        """Note how far the log is on its topics. Harmless from a zombie: it only says what is true."""
        if upto:
            connection.exec_driver_sql(self._sql_published, (list(upto), list(upto.values())))

    def unpublished(self, connection: sa.Connection, partitions: Sequence[int]) -> Sent:
        """Log rows beyond ``published_upto``: to be sent again with the same ids."""
        sent = Sent()
        for partition, seq, topic, key, target, payload, recorded in connection.exec_driver_sql(
            self._sql_unpublished, (list(partitions),)
        ):
            sent.since = min(sent.since or recorded, recorded)
            sent.rows.append((topic, key, payload.encode(), target, tracing.of_payload(payload)))
            sent.upto[partition] = seq
        return sent

    # ---- poison

    def parked_keys(self, connection: sa.Connection, partitions: Sequence[int]) -> set[str]:
        """Keys that wait behind a poison record."""
        return {row[0] for row in connection.exec_driver_sql(self._sql_parked_keys, (list(partitions),))}

    def parked_since(self, connection: sa.Connection, partitions: Sequence[int]) -> float:
        """Wall time at which the oldest record that still waits was parked; 0: none does."""
        return float(connection.exec_driver_sql(self._sql_parked_since, (list(partitions),)).scalar() or 0)

    def park(
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
        state: str = "parked",
    ) -> None:
        """Keep a record with its bytes and origin."""
        connection.exec_driver_sql(
            self._sql_park,
            (partition, key, topic, offset, event_id, type, headers, value, error.replace("\0", "�")[:4000], state),
        )

    def replays(self, connection: sa.Connection, partitions: Sequence[int]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        """Parked records that are to be run again, oldest first."""
        return connection.exec_driver_sql(self._sql_replays, (list(partitions),)).all()

    def replayed(self, connection: sa.Connection, row_id: int) -> None:
        """A parked record was applied."""
        connection.exec_driver_sql(self._sql_replayed, (row_id,))

    def replay_failed(self, connection: sa.Connection, row_id: int, partition: int, key: str, error: str) -> None:
        """It failed again: it and what waits behind it stay parked."""
        connection.exec_driver_sql(self._sql_failed, (row_id, row_id, error.replace("\0", "�")[:4000], partition, key))

    def key_open(self, connection: sa.Connection, partition: int, key: str) -> bool:
        """Whether anything of this key is still parked."""
        return bool(connection.exec_driver_sql(self._sql_key_open, (partition, key)).scalar())
