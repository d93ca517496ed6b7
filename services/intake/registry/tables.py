"""Tables of rights and authorisations, and their history."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Date, ForeignKey, Index, Integer, Table, Text, func, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

rights = Table(
    "rights",
    metadata,
    Column("id", ID, primary_key=True),
    required("owner", ID, ForeignKey("accounts.id")),
    required("right_type", Text),
    Column("number", Text),
    one_of("status", "active", "expired", "lost", "pending"),
    Column("expires_at", TIME),
    Column("proof", Text),
    required("registered_at", TIME),
    Column("register", Text),
    Column("mark", Text),
    Column("registrant", Text),
    Column("classes", ARRAY(Text)),
    Column("territory", ARRAY(Text)),
    one_of(
        "pending_reason", "proof_missing", "right_registered_elsewhere", "mark_mixed_script", "refused", nullable=True
    ),
    Column("warned_for", TIME),
    Column("documents_at", TIME),
    one_of("accepted", "person", "register", "canary", "rules_0_2_0", nullable=True, server_default="rules_0_2_0"),
    Column("published_on", Date),
    Column("published_where", Text),
    Column("offered_to", ID, comment="account that owns the right once it consents"),
    Column("offered_by", ID),
    Index("rights_owner", "owner", "id"),
    Index("rights_expiry", "expires_at", postgresql_where=text("status = 'active' and expires_at is not null")),
    Index("rights_pending", "id", postgresql_where=text("status = 'pending'")),
    Index(
        "rights_in_force",
        "register",
        "right_type",
        "number",
        unique=True,
        postgresql_where=text("register is not null and number is not null and status in ('active', 'expired')"),
    ),
    Index(
        "rights_waiting",
        "register",
        "right_type",
        "number",
        "owner",
        postgresql_where=text("register is not null and number is not null and status = 'pending'"),
    ),
)
authorisations = Table(
    "authorisations",
    metadata,
    Column("id", ID, primary_key=True),
    required("agent", ID, ForeignKey("accounts.id")),
    required("principal", ID, ForeignKey("accounts.id")),
    Column("rights", ARRAY(Text)),
    Column("expires_at", TIME),
    one_of("status", "active", "ended", "expired", server_default="active"),
    required("granted_at", TIME),
    Column("territory", ARRAY(Text)),
    one_of(
        "basis",
        "principal",
        "power_of_attorney",
        "rules_0_2_0",
        nullable=True,
        server_default="rules_0_2_0",
        comment="null: it waits, or came to nothing; the default is for processes of 0.2.0",
    ),
    Column("asked_by", ID),
    one_of("pending_reason", "agent_consent", "proof_missing", "refused", nullable=True),
    Column("documents_at", TIME),
    Index("authorisations_agent", "agent", "principal"),
    Index("authorisations_principal", "principal"),
    Index("authorisations_expiry", "expires_at", postgresql_where=text("status = 'active' and expires_at is not null")),
)
authorisation_changes = Table(
    "authorisation_changes",
    metadata,
    identity(),
    required("authorisation", ID, ForeignKey("authorisations.id")),
    required("kind", Text),
    required("by", ID),
    required("at", TIME),
    Column("code", Text),
    Column("documents", ARRAY(Text)),
    Column("seen", Text),
    Index("authorisation_changes_authorisation", "authorisation", "id"),
)
register_queries = Table(
    "register_queries",
    metadata,
    Column("right_id", ID, ForeignKey("rights.id"), primary_key=True),
    required("register", Text),
    required("number", Text),
    one_of("state", "waiting", "answered", "silent", server_default="waiting"),
    required("since_wall", TIME, server_default=func.now()),
    required("due_wall", TIME, server_default=func.now()),
    required("tries", Integer, server_default="0"),
    Column("error", Text),
    Column("result", Text),
    Index("register_queries_due", "due_wall", postgresql_where=text("state = 'waiting'")),
)
right_changes = Table(
    "right_changes",
    metadata,
    identity(),
    required("right_id", ID, ForeignKey("rights.id")),
    required("kind", Text),
    required("by", ID),
    required("at", TIME),
    Column("was", Text),
    Column("now", Text),
    Column("code", Text),
    Column("documents", ARRAY(Text)),
    Column("seen", Text),
    Index("right_changes_right", "right_id", "id"),
)
