"""Tables of the review queue."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Table, Text, func, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

cases = Table(
    "cases",
    metadata,
    Column("item", ID, primary_key=True),
    required("claim", ID),
    required("listing", ID),
    required("complainant", ID),
    required("principal", ID),
    Column("seller", ID),
    required("right_type", Text),
    required("reason", Text),
    required("severity", Text),
    required("profile", Text),
    required("policy", Text),
    required("lane", Text),
    required("state", Text),
    Column("code", Text),
    required("revision", Integer),
    required("entered", Integer),
    required("rank", SmallInteger),
    required("due", TIME),
    required("since", TIME),
    required("looks", SmallInteger, server_default="0"),
    Column("lease", LargeBinary),
    Column("reviewer", ID),
    Column("leased_wall", TIME),
    Column("expires_wall", TIME),
    Column("seen", Integer),
    Column("assignee", ID),
    Column("assigned_wall", TIME),
    Column("command", ID),
    Index("cases_order", "rank", "due", "item"),
    Index("cases_state", "state", "rank", "due", "item"),
    Index("cases_claim", "claim", "item"),
    Index("cases_lease", "lease", postgresql_where=text("lease is not null")),
    Index("cases_reviewer", "reviewer", postgresql_where=text("lease is not null")),
    Index("cases_assignee", "assignee", "rank", "due", "item", postgresql_where=text("assignee is not null")),
    Index("cases_command", "command", postgresql_where=text("command is not null")),
)
review_decisions = Table(
    "review_decisions",
    metadata,
    identity(),
    required("item", ID),
    required("claim", ID),
    required("entered", Integer),
    required("state", Text),
    required("reviewer", ID),
    required("role", Text),
    required("decision", Text),
    Column("code", Text),
    one_of("kind", "proposal", "decision", "break_glass"),
    Column("command", ID),
    one_of("outcome", "filed", "applied", "refused", server_default="filed"),
    Column("agreed", Boolean),
    one_of("appeal", "confirm", "reverse", nullable=True),
    Column("leased_wall", TIME),
    required("decided_wall", TIME, server_default=func.now()),
    required("decided_at", TIME),
    Index("review_decisions_item", "item"),
    Index("review_decisions_command", "command", postgresql_where=text("command is not null")),
    Index("review_decisions_day", "decided_at", "reviewer"),
)
review_skips = Table(
    "review_skips",
    metadata,
    Column("item", ID, primary_key=True),
    Column("reviewer", ID, primary_key=True),
    required("until_wall", TIME),
    Index("review_skips_until", "until_wall"),
)
review_conflicts = Table(
    "review_conflicts",
    metadata,
    Column("reviewer", ID, ForeignKey("accounts.id"), primary_key=True),
    Column("account", ID, primary_key=True),
    Column("own", Boolean, primary_key=True),
    required("declared_wall", TIME, server_default=func.now()),
)
review_notes = Table(
    "review_notes",
    metadata,
    Column("id", ID, primary_key=True),
    required("item", ID),
    required("by", ID),
    required("text", Text),
    required("at", TIME),
    Index("review_notes_item", "item", "id"),
)
