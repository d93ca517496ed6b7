"""Tables of the good-faith mechanism."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

good_faith_items = Table(
    "good_faith_items",
    metadata,
    Column("item", ID, primary_key=True),
    required("account", ID),
    required("reason", ID),
    required("day", Date),
    one_of("outcome", "upheld", "countered", "lifted", "declined", nullable=True),
    required("revision", Integer),
    Column("ground", Text),
    required("serious", Boolean, server_default="false"),
    Index(
        "good_faith_items_ground", "account", "day", postgresql_where=text("ground is not null and outcome is not null")
    ),
)
good_faith_days = Table(
    "good_faith_days",
    metadata,
    Column("account", ID, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("reason", ID, primary_key=True),
    Column("partition", Integer, primary_key=True),
    required("settled", Integer),
    required("upheld", Integer),
    required("taken_down", Integer),
    required("restored", Integer),
    required("touched", Boolean, server_default="true"),
    Index("good_faith_days_day", "day", "account"),
    Index("good_faith_days_touched", "account", postgresql_where=text("touched")),
)
good_faith_standings = Table(
    "good_faith_standings",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    one_of("state", "out", "in", "warned", server_default="out"),
    one_of("how", "declaration", "statistic", "staff", nullable=True),
    Column("since", Date),
    Column("demote_on", Date),
    Column("barred_until", Date),
    Index("good_faith_standings_members", "account", postgresql_where=text("state <> 'out'")),
    Index("good_faith_standings_barred", "barred_until", postgresql_where=text("barred_until is not null")),
)
good_faith_history = Table(
    "good_faith_history",
    metadata,
    identity(),
    required("account", ID, ForeignKey("accounts.id")),
    required("day", Date),
    required("at", TIME),
    required("kind", Text),
    required("by", Text),
    required("state", Text),
    Column("demote_on", Date),
    Column("barred_until", Date),
    required("basis", Text),
    Index("good_faith_history_account", "account", "id"),
)
good_faith_declarations = Table(
    "good_faith_declarations",
    metadata,
    identity(),
    required("account", ID, ForeignKey("accounts.id")),
    required("version", ID),
    required("sha256", Text),
    required("executed_at", TIME),
    required("sealed", LargeBinary),
    Index("good_faith_declarations_account", "account", "id"),
)
good_faith_due = Table(
    "good_faith_due",
    metadata,
    Column("account", ID, primary_key=True),
)
good_faith_run = Table(
    "good_faith_run",
    metadata,
    Column("one", Boolean, CheckConstraint("one"), primary_key=True, server_default="true"),
    Column("day", Date),
)
