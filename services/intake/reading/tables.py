"""Tables of the read model."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Index, Integer, Table, Text, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, required

timeline = Table(
    "timeline",
    metadata,
    Column("item", ID, primary_key=True),
    Column("revision", Integer, primary_key=True),
    required("type", Text),
    required("state", Text),
    required("by", Text),
    Column("code", Text),
    required("at", TIME),
)
messages = Table(
    "messages",
    metadata,
    Column("id", ID, primary_key=True),
    required("party", ID),
    Column("claim", ID),
    required("kind", Text),
    required("items", ARRAY(Text)),
    required("channel", Text),
    required("template", Text),
    required("version", Integer),
    required("digest", Text),
    required("sent_at", TIME),
    Column("about", Text),
    Column("read_at", TIME),
    Index("messages_party", "party", "sent_at", "id"),
    Index("messages_unread", "party", postgresql_where=text("read_at is null")),
)
