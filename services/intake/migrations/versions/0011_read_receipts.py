"""Messages that a party says it has read.

Revision ID: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What is there has not been read, as far as anybody has said."""
    op.execute("alter table messages add column read_at timestamptz")
    op.execute("create index messages_unread on messages (party) where read_at is null")


def downgrade() -> None:
    """What was read is forgotten."""
    op.execute("alter table messages drop column read_at")
