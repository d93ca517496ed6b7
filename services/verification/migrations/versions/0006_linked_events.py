"""Events are linked: what a log published where, and what a reader has applied of it.

Revision ID: 0006
"""

from alembic import op

from shared.runtime.ddl import linked_events

revision = "0006"
down_revision = "0005"
phase = "expand"


def upgrade() -> None:
    """A version without links works on: its rows say so (`partitions.linked` is false)."""
    op.execute(linked_events())
