"""Verification's tables."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, Table, Text, false, text

from shared.columns import ID, TIME, required
from shared.runtime.tables import runtime_tables

metadata = MetaData(schema="verification")
runtime_tables(metadata)

items = Table(
    "items",
    metadata,
    Column("item", ID, primary_key=True),
    required("partition", Integer),
    required("claim", Text),
    required("listing", ID),
    required("right_id", ID),
    required("reason", ID),
    required("state", Text),
    Column("original", ID),
    required("blocks", Boolean),
    required("waits", Boolean),
    Column("next_due", TIME),
    required("revision", Integer),
    required("body", Text),
    Index("items_due", "partition", "next_due", postgresql_where=text("next_due is not null")),
    Index("items_blocking", "listing", "right_id", "reason", postgresql_where=text("blocks")),
    Index("items_waiting", "listing", postgresql_where=text("waits")),
    Index("items_duplicates", "original", postgresql_where=text("original is not null")),
    Index("items_failed", "listing", postgresql_where=text("state in ('REJECTED', 'RESTORED')")),
)
listings = Table(
    "listings",
    metadata,
    Column("listing", ID, primary_key=True),
    required("body", Text),
    Column("bulk", Text, comment="what it shows, as far as no rule reads it"),
    Column("digest", ID, comment="of what it shows"),
    Column("seen_at", TIME, comment="since when it shows that, as far as is known"),
    required("filed", Boolean, server_default=false(), comment="an item is judged on what it shows now"),
)
snapshots = Table(
    "snapshots",
    metadata,
    Column("listing", ID, primary_key=True),
    Column("digest", ID, primary_key=True),
    required("body", Text),
    Column("bulk", Text),
    Column("seen_at", TIME),
    required("until", TIME),
    required("filed", Boolean, comment="an item is judged on it"),
    comment="What listings showed before, from the first item on that was filed on them.",
)
upheld = Table(
    "upheld",
    metadata,
    Column("item", ID, primary_key=True),
    Column("owner", ID, primary_key=True),
    required("claim", Text),
    required("listing", ID),
    required("right_id", ID),
    required("reason", Text),
    required("profile", Text),
    required("upheld_at", TIME),
    required("title", Text),
    Column("picture", Text),
    Index("upheld_owner", "owner", text("upheld_at desc")),
)
recurrences = Table(
    "recurrences",
    metadata,
    Column("listing", ID, primary_key=True),
    Column("right_id", ID, primary_key=True),
    Column("item", ID),
)
