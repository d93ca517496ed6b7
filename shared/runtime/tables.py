"""The runtime's tables as declarations; ``ddl.runtime_v1`` creates them and says what they are for."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)

from shared.columns import ID, TIME, identity, one_of, required


def runtime_tables(metadata: MetaData, prefix: str = "") -> None:
    """Declare the runtime's tables of one worker in a service's schema."""
    Table(
        f"{prefix}partitions",
        metadata,
        Column("partition", Integer, primary_key=True, autoincrement=False),
        required("epoch", BigInteger, server_default="0"),
        required("owner", Text, server_default=""),
        required("seq", BigInteger, server_default="0"),
        required("hash", Text, server_default=""),
        required("published_upto", BigInteger, server_default="0"),
        Column("watermark", TIME),
    )
    Table(
        f"{prefix}cursors",
        metadata,
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        required("next_offset", BigInteger),
        Column("leader_epoch", Integer),
    )
    Table(
        f"{prefix}topic_ids",
        metadata,
        Column("topic", Text, primary_key=True),
        required("id", Text),
    )
    Table(
        f"{prefix}inbox",
        metadata,
        Column("event_id", ID, primary_key=True),
        required("received_wall", TIME, server_default=func.now()),
        Index(f"{prefix}inbox_received", "received_wall", postgresql_using="brin"),
    )
    Table(
        f"{prefix}event_log",
        metadata,
        Column("partition", Integer, primary_key=True),
        Column("seq", BigInteger, primary_key=True),
        required("topic", Text),
        required("key", Text),
        required("target", Integer),
        required("type", Text),
        Column("claim", Text),
        required("recorded_wall", TIME, server_default=func.now()),
        required("payload", Text),
        required("hash", Text),
        Index(f"{prefix}event_log_claim", "claim", postgresql_where=text("claim is not null")),
        Index(f"{prefix}event_log_recorded", "recorded_wall", postgresql_using="brin"),
    )
    Table(
        f"{prefix}tails",
        metadata,
        Column("partition", Integer, primary_key=True),
        Column("topic", ID, primary_key=True),
        Column("target", Integer, primary_key=True),
        required("seq", BigInteger),
    )
    Table(
        f"{prefix}reads",
        metadata,
        Column("topic", ID, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("writer", ID, primary_key=True),
        Column("log_partition", Integer, primary_key=True),
        required("seq", BigInteger),
    )
    Table(
        f"{prefix}reads_log",
        metadata,
        required("topic", ID),
        required("partition", Integer),
        required("writer", ID),
        required("log_partition", Integer),
        required("previous", BigInteger),
        required("seq", BigInteger),
        required("recorded_wall", TIME, server_default=func.now()),
        PrimaryKeyConstraint("topic", "writer", "log_partition", "partition", "seq"),
        Index(f"{prefix}reads_log_recorded", "recorded_wall", postgresql_using="brin"),
    )
    Table(
        f"{prefix}gaps",
        metadata,
        Column("topic", ID, primary_key=True),
        Column("partition", Integer, primary_key=True),
        required("offset", BigInteger),
        one_of("reason", "deleted", "gap", "recreated", "truncated"),
        required("detail", Text, server_default=""),
        required("found_wall", TIME, server_default=func.now()),
    )
    Table(
        f"{prefix}dead_letters",
        metadata,
        identity(),
        required("partition", Integer),
        required("key", Text),
        required("topic", Text),
        required("offset", BigInteger),
        Column("event_id", Text),
        Column("type", Text),
        Column("headers", Text),
        required("value", LargeBinary),
        required("error", Text),
        required("count", Integer, server_default="1"),
        one_of("state", "waiting", "replay", "done", server_default="waiting"),
        required("set_aside_wall", TIME, server_default=func.now()),
        required("changed_wall", TIME, server_default=func.now()),
        Index(f"{prefix}dead_letters_open", "partition", "key", "id", postgresql_where=text("state <> 'done'")),
    )
