"""The demo marketplace's tables."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, Table, Text, func

from shared.columns import ID, TIME, identity, one_of, required
from shared.runtime.tables import runtime_tables

metadata = MetaData(schema="marketplace")
runtime_tables(metadata)

listings = Table(
    "listings",
    metadata,
    Column("listing", ID, primary_key=True),
    required("partition", Integer),
    required("seller", Text),
    required("title", Text),
    required("locale", Text),
    Column("entity", Text),
    required("ended", Boolean, comment="the seller has removed it"),
    one_of(
        "measure",
        "none",
        "suspended",
        "removed",
        comment="measure that Goodfaith ordered; the page exists when none and not ended",
    ),
    required("seq", Integer, comment="highest command that was carried out"),
    Column("image_hash", Text),
    Column("content", Text, comment="what the page shows, as JSON"),
    Index("listings_seller", "seller"),
)
queue = Table(
    "queue",
    metadata,
    identity(),
    required("partition", Integer),
    one_of("kind", "seed", "command", "sellers", "seller_command"),
    required("body", Text),
    comment="What came by HTTP, until the worker that owns the partition takes it in.",
)
pictures = Table(
    "pictures",
    metadata,
    Column("sha256", ID, CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'"), primary_key=True),
    required("media", Text),
    required("data", LargeBinary),
    comment="What listings show, by hash.",
)
answers = Table(
    "answers",
    metadata,
    Column("command", ID, primary_key=True),
    required("listing", Text),
    required("seq", Integer),
    Column("result", Text),
    required("asked_wall", TIME, server_default=func.now()),
    comment="HTTP adapter: commands by idempotency key; result null until carried out.",
)
sellers = Table(
    "sellers",
    metadata,
    Column("seller", ID, primary_key=True),
    required("partition", Integer),
    required("measures", Text, comment="all that are in force, with commas between"),
    Column("until", TIME, comment="when they are planned to become fewer, for display"),
    required("seq", Integer, comment="highest command that was carried out"),
    comment="Sellers on whom a command was carried out. No row: free.",
)
centre = Table(
    "centre",
    metadata,
    Column("message", ID, primary_key=True),
    required("seller", Text),
    required("kind", Text),
    required("language", Text),
    required("subject", Text),
    required("body", Text),
    comment="The message centre: what its sellers read.",
)
centre_habits = Table(
    "centre_habits",
    metadata,
    Column("seller", ID, primary_key=True),
    one_of("habit", "reads", "refuses", "silent", "twice"),
    comment="What tests ask for: the seller reads at once, or the centre refuses, never answers, or answers twice.",
)
seller_answers = Table(
    "seller_answers",
    metadata,
    Column("command", ID, primary_key=True),
    required("seller", Text),
    required("seq", Integer),
    Column("result", Text),
    required("asked_wall", TIME, server_default=func.now()),
    comment="HTTP adapter: as answers, for commands on sellers.",
)
