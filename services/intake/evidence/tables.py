"""Tables of evidence."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, ForeignKey, Index, LargeBinary, Table, Text, func, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, identity, one_of, required

evidence = Table(
    "evidence",
    metadata,
    Column("id", ID, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    required("kinds", ARRAY(Text)),
    required("digest", LargeBinary),
    required("size", BigInteger),
    required("media", Text),
    Column("name", Text),
    one_of("state", "arriving", "kept", "going", "gone", server_default="arriving"),
    required("uploaded_at", TIME),
    required("changed_wall", TIME, server_default=func.now()),
    required("looked_wall", TIME, server_default=func.now()),
    Column("forged", ID, ForeignKey("misuse_findings.id")),
    required("sealed", Boolean, server_default="false"),
    Column("key", LargeBinary),
    Index("evidence_digest", "account", "digest", unique=True, postgresql_where=text("state = 'kept'")),
    Index("evidence_account", "account", "id"),
    Index("evidence_moving", "changed_wall", postgresql_where=text("state in ('arriving', 'going')")),
    Index("evidence_looked", "looked_wall", postgresql_where=text("state = 'kept'")),
)
evidence_links = Table(
    "evidence_links",
    metadata,
    Column("document", ID, ForeignKey("evidence.id"), primary_key=True),
    Column("about", ID, primary_key=True),
    one_of("about_kind", "claim", "right", "account", "authorisation"),
    required("owner", ID),
    required("kinds", ARRAY(Text)),
    required("linked_at", TIME),
    Index("evidence_links_about", "about", "document"),
)
evidence_reads = Table(
    "evidence_reads",
    metadata,
    identity(),
    required("document", ID),
    required("reader", ID),
    one_of("what", "link", "file"),
    required("at_wall", TIME, server_default=func.now()),
    Index("evidence_reads_document", "document", "id"),
)
