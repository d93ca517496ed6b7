"""The runtime's tables in a service's schema, as first created. Frozen: a change is a new function and a new migration."""

from __future__ import annotations


def runtime_v1(prefix: str = "") -> str:
    """SQL that creates the runtime's tables (in the search path's first schema).

    ``partitions``: one row a partition: who owns it (``epoch`` fences the others), the event log's head and how far it
    is published, and the watermark. ``cursors``: next offset of each input. ``inbox``: ids applied. ``event_log``: what
    happened, append-only, hash-chained by partition; audit trail and outbox in one. ``parked``: poison and what waits
    behind it.
    """
    return f"""
create table {prefix}partitions (
    partition int primary key,
    epoch bigint not null default 0,
    owner text not null default '',
    seq bigint not null default 0,
    hash text not null default '',
    published_upto bigint not null default 0,
    watermark timestamptz
) with (fillfactor = 50);
create table {prefix}cursors (
    topic text not null,
    partition int not null,
    next_offset bigint not null,
    primary key (topic, partition)
) with (fillfactor = 50);
create table {prefix}inbox (
    event_id text collate "C" primary key,
    received_wall timestamptz not null default now()
);
create index {prefix}inbox_received on {prefix}inbox using brin (received_wall);
create table {prefix}event_log (
    partition int not null,
    seq bigint not null,
    topic text not null,
    key text not null,
    target int not null,
    type text not null,
    claim text,
    recorded_wall timestamptz not null default now(),
    payload text not null,
    hash text not null,
    primary key (partition, seq)
);
create index {prefix}event_log_claim on {prefix}event_log (claim) where claim is not null;
create index {prefix}event_log_recorded on {prefix}event_log using brin (recorded_wall);
create table {prefix}parked (
    id bigint generated always as identity primary key,
    partition int not null,
    key text not null,
    topic text not null,
    "offset" bigint not null,
    event_id text,
    type text,
    headers text,
    value bytea not null,
    error text not null,
    count int not null default 1,
    state text not null default 'parked' check (state in ('parked', 'replay', 'done')),
    parked_wall timestamptz not null default now(),
    changed_wall timestamptz not null default now()
);
create index {prefix}parked_open on {prefix}parked (partition, key, id) where state <> 'done';
"""


def runtime_v2(prefix: str = "") -> str:
    """SQL that lets an inbox forget ids without forgetting what they say.

    ``inbox_marks``: of one topic, every event of a writer's partition up to number ``upto`` was read; their ids, up to
    ``gone_upto``, are no longer in ``inbox``. Written by ``goodfaith prune`` alone.
    """
    return f"""
create table {prefix}inbox_marks (
    topic text collate "C" not null,
    writer text collate "C" not null,
    partition int not null,
    upto bigint not null,
    gone_upto bigint not null default 0 check (gone_upto <= upto),
    primary key (topic, writer, partition)
);
-- ids go from it in runs now: they are cleaned up after before there are many
alter table {prefix}inbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
"""


def topic_ids(prefix: str = "") -> str:
    """SQL that creates ``topic_ids``: which topic of a name the cursors are valid for. One that was deleted and created again
    has another id, and its offsets mean other records.
    """
    return f"create table {prefix}topic_ids (topic text primary key, id text not null)"


def linked_events(prefix: str = "") -> str:
    """SQL for linked events (docs/decisions/0050): what a log publishes where, and what a reader has applied of it.

    ``tails``: the number of the log's last row for each topic and target partition, from which the next row's ``previous``
    is taken. ``reads``: for each log, the number of the last event applied. ``reads_log``: when that number moved, and from where;
    append-only. ``gaps``: places at which a reader stopped because records are missing. ``partitions.linked``: numbers
    decide what is a duplicate, not ids; false in rows that a version without links may still work on.
    """
    return f"""
alter table {prefix}partitions add column linked boolean not null default false;
alter table {prefix}cursors add column leader_epoch int;
create table {prefix}tails (
    partition int not null,
    topic text collate "C" not null,
    target int not null,
    seq bigint not null,
    primary key (partition, topic, target)
) with (fillfactor = 50);
create table {prefix}reads (
    topic text collate "C" not null,
    partition int not null,
    writer text collate "C" not null,
    log_partition int not null,
    seq bigint not null,
    primary key (topic, partition, writer, log_partition)
) with (fillfactor = 50);
create table {prefix}reads_log (
    topic text collate "C" not null,
    partition int not null,
    writer text collate "C" not null,
    log_partition int not null,
    previous bigint not null,
    seq bigint not null,
    recorded_wall timestamptz not null default now(),
    primary key (topic, writer, log_partition, partition, seq)
);
create index {prefix}reads_log_recorded on {prefix}reads_log using brin (recorded_wall);
create table {prefix}gaps (
    topic text collate "C" not null,
    partition int not null,
    "offset" bigint not null,
    reason text not null check (reason in ('deleted', 'gap', 'recreated', 'truncated')),
    detail text not null default '',
    found_wall timestamptz not null default now(),
    primary key (topic, partition)
);
insert into {prefix}tails (partition, topic, target, seq)
    select partition, topic, target, max(seq) from {prefix}event_log group by 1, 2, 3;
"""
