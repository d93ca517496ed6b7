"""The queue of comparisons of pictures, and what they found."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, func, text

from services.intake.kernel.tables import metadata
from shared.columns import ID, TIME, one_of, required

picture_checks = Table(
    "picture_checks",
    metadata,
    Column("item", ID, primary_key=True),
    required("right_id", ID, ForeignKey("rights.id")),
    one_of("state", "waiting", "compared", "given_up", server_default="waiting"),
    required("since_wall", TIME, server_default=func.now()),
    required("due_wall", TIME, server_default=func.now()),
    required("tries", Integer, server_default="0"),
    Column("body", Text),
    Index("picture_checks_due", "due_wall", postgresql_where=text("state = 'waiting'")),
)
