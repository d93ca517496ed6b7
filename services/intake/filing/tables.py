"""Tables of filing: idempotency keys, usage, and how far the reader of the inbound topics has come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, one_of, required

submissions = Table(
    "submissions",
    metadata,
    Column("account", ID, primary_key=True),
    Column("idempotency_key", ID, primary_key=True),
    required("digest", LargeBinary),
    required("resource", Text),
    required("answer", Text),
    required("accepted_at", TIME),
)
usage = Table(
    "usage",
    metadata,
    Column("account", ID, primary_key=True),
    Column("hour", TIME, primary_key=True),
    required("items", BigInteger),
)
filing_days = Table(
    "filing_days",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("by_topic", Boolean, primary_key=True, comment="filed by an upstream's topic"),
    required("items", Integer),
    required("held", Integer),
)
brakes = Table(
    "brakes",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    required("since", TIME),
    required("until", Date),
    Column("released", Date),
    Column("complained_at", TIME),
    Column("decided_at", TIME),
    Column("decided_by", Text),
    one_of("decision", "release", "confirm", nullable=True),
    Column("code", Text),
    Index("brakes_complained", "account", postgresql_where=text("complained_at is not null and decided_at is null")),
)
inbound_progress = Table(
    "inbound_progress",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    required("upto", TIME),
)
