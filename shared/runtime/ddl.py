"""The runtime's tables in a service's schema. Frozen: a change is a new function and a new migration."""

from __future__ import annotations


def runtime_v1(prefix: str = "") -> str:
    """SQL that creates the runtime's tables (in the search path's first schema).

    - ``partitions``: one row per partition: its owner (``epoch`` fences all others), the event log's head, how far the
      log is published, and the watermark.
    - ``cursors``: the next offset of each input.
    - ``topic_ids``: the id of the topic that the cursors are valid for; a topic deleted and created again has another.
    - ``inbox``: ids of applied records from outside.
    - ``event_log``: what happened; append-only, hash-chained by partition; audit trail and outbox in one.
    - ``tails``: the number of the log's last row per topic and target partition, used for the next row's ``previous``.
    - ``reads``: the number of the last event applied, per log.
    - ``reads_log``: when that number moved, and from where; append-only.
    - ``gaps``: where a reader stopped because records are missing.
    - ``dead_letters``: records that could not be processed, and later records of the same keys, which wait for them.
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
    leader_epoch int,
    primary key (topic, partition)
) with (fillfactor = 50);
create table {prefix}topic_ids (topic text primary key, id text not null);
create table {prefix}inbox (
    event_id text collate "C" primary key,
    received_wall timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
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
create table {prefix}dead_letters (
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
    state text not null default 'waiting' check (state in ('waiting', 'replay', 'done')),
    set_aside_wall timestamptz not null default now(),
    changed_wall timestamptz not null default now()
);
create index {prefix}dead_letters_open on {prefix}dead_letters (partition, key, id) where state <> 'done';
"""
