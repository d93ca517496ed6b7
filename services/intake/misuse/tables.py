"""Tables of misuse by complainants: findings, measures, complaints, and the items that a quota holds."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

misuse_findings = Table(
    "misuse_findings",
    metadata,
    Column("id", ID, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    one_of("kind", "forged_document", "knowingly_false", "none"),
    one_of("state", "proposed", "in_force", "refused", "reversed"),
    Column("document", ID),
    Column("claim", ID),
    required("code", Text),
    required("by", Text),
    Column("second", Text),
    required("day", Date),
    required("at", TIME),
    Index("misuse_findings_account", "account", "day"),
    Index(
        "misuse_findings_document",
        "document",
        unique=True,
        postgresql_where=text("kind = 'forged_document' and state in ('proposed', 'in_force')"),
    ),
)
misuse_measures = Table(
    "misuse_measures",
    metadata,
    Column("id", ID, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    one_of("kind", "warning", "quota", "suspension"),
    one_of("state", "on", "over", "lifted", "reversed", "fallen", server_default="on"),
    required("day", Date),
    required("at", TIME),
    Column("until", Date),
    Column("items", Integer),
    Column("prior", ID, ForeignKey("misuse_measures.id")),
    Column("finding", ID, ForeignKey("misuse_findings.id")),
    Column("ended", Date),
    required("basis", Text),
    Index("misuse_measures_account", "account", "id"),
    Index("misuse_measures_on", "account", postgresql_where=text("state = 'on'")),
)
misuse_complaints = Table(
    "misuse_complaints",
    metadata,
    Column("measure", ID, ForeignKey("misuse_measures.id"), primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    required("at", TIME),
    Column("sealed", LargeBinary),
    one_of("state", "open", "confirmed", "reversed", server_default="open"),
    Column("by", Text),
    Column("code", Text),
    Column("decided_at", TIME),
    Index("misuse_complaints_open", "at", "measure", postgresql_where=text("state = 'open'")),
)
misuse_history = Table(
    "misuse_history",
    metadata,
    identity(),
    required("account", ID, ForeignKey("accounts.id")),
    required("measure", ID, ForeignKey("misuse_measures.id")),
    required("day", Date),
    required("at", TIME),
    required("kind", Text),
    required("by", Text),
    required("basis", Text),
    Index("misuse_history_account", "account", "id"),
)
misuse_usage = Table(
    "misuse_usage",
    metadata,
    Column("account", ID, primary_key=True),
    Column("day", Date, primary_key=True),
    required("items", Integer),
)
held_items = Table(
    "held_items",
    metadata,
    Column("item", ID, primary_key=True),
    Column("id", BigInteger, Identity(always=True)),
    required("lane", Text),
    required("complainant", ID),
    required("partition", Integer),
    required("claim", ID),
    required("listing", ID),
    required("on_site", Boolean),
    required("accepted_at", TIME),
    Column("traceparent", Text),
    Index("held_items_complainant", "complainant", "id"),
)
