"""Tables of accounts' histories, confirmation codes, channels and webhooks."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

account_changes = Table(
    "account_changes",
    metadata,
    identity(),
    required("account", ID, ForeignKey("accounts.id")),
    required("kind", Text),
    required("by", ID),
    required("at", TIME),
    Column("code", Text),
    Column("documents", ARRAY(Text)),
    Column("seen", Text),
    Column("at_wall", TIME, server_default=func.now()),
    Index("account_changes_account", "account", "id"),
)
email_codes = Table(
    "email_codes",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    required("notice", ID),
    Column("digest", LargeBinary),
    Column("expires_at", TIME),
    required("tries", Integer),
    required("requested_at", TIME),
    required("requests", Integer),
    required("since", TIME),
    Index("email_codes_notice", "notice"),
)
account_domains = Table(
    "account_domains",
    metadata,
    Column("id", ID, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    required("domain", Text),
    required("token", Text),
    one_of("state", "pending", "verified", "failed", "removed", server_default="pending"),
    Column("reason", Text),
    required("named_wall", TIME),
    Column("asked_wall", TIME),
    Column("due_wall", TIME),
    required("tries", Integer, server_default="0"),
    Column("since_wall", TIME),
    Column("seen_wall", TIME),
    UniqueConstraint("account", "domain"),
    Index("account_domains_due", "due_wall", postgresql_where=text("due_wall is not null")),
)
fed_sellers = Table(
    "fed_sellers",
    metadata,
    Column("seller", ID, primary_key=True),
    required("revision", BigInteger),
    Column("gone_at", TIME, comment="when we learned that the marketplace had erased the seller"),
    Column("tried_wall", TIME, comment="when its erasure was last tried"),
    Index(
        "fed_sellers_gone",
        text("tried_wall nulls first"),
        "seller",
        postgresql_where=text("gone_at is not null"),
    ),
    comment="How far the feed of sellers' contacts was taken in, by seller.",
)
channels = Table(
    "channels",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    required("preferred", ARRAY(Text), server_default="{}"),
    required("revision", Integer, server_default="0"),
    Column("digest_hour", Integer, CheckConstraint("digest_hour >= 0 and digest_hour <= 23")),
    Column("digest_zone", Text),
    CheckConstraint("(digest_hour is null) = (digest_zone is null)"),
)
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", ID, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    required("sealed", LargeBinary),
    required("kinds", ARRAY(Text), server_default="{}"),
    one_of("status", "enabled", "disabled", server_default="enabled"),
    one_of("reason", "owner", "gone", "failing", nullable=True),
    required("generation", Integer, server_default="1"),
    required("made_at", TIME),
    required("changed_at", TIME),
    Index("webhooks_account", "account", "id"),
)
webhook_challenges = Table(
    "webhook_challenges",
    metadata,
    Column("webhook", ID, ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    required("asks", Integer, server_default="1"),
    required("asked_wall", TIME),
    required("expires_wall", TIME),
    Column("due_wall", TIME),
    required("calls", Integer, server_default="0"),
    required("tries", Integer, server_default="0"),
    Column("result", Text),
    Index("webhook_challenges_due", "due_wall", postgresql_where=text("due_wall is not null")),
)
webhook_asks = Table(
    "webhook_asks",
    metadata,
    required("account", ID),
    required("host", LargeBinary),
    required("at_wall", TIME),
    Index("webhook_asks_account", "account", "at_wall"),
    Index("webhook_asks_host", "host", "at_wall"),
)
