"""Tables of filing: idempotency keys, usage, and how far the reader of the inbound topics has come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, required

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
inbound_progress = Table(
    "inbound_progress",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    required("upto", TIME),
)
