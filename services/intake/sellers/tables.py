"""The table of operators' requests to lift sanctions."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, required

lifts = Table(
    "lifts",
    metadata,
    Column("command", ID, primary_key=True),
    required("seller", Text),
    required("sanction", ID),
    required("by", Text),
    required("reason", Text),
    Column("note", Text, comment="what the operator wrote: for staff, in clear; no personal data"),
    required("at", TIME),
    Index("lifts_sanction", "sanction"),
    comment="Requests of operators to lift sanctions. Enforcement decides.",
)
