"""The context of the trace that what is to be told belongs to, and what is announced.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing is traced yet."""
    op.execute("alter table message_items add column traceparent text")
    op.execute("alter table announcements add column traceparent text")


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
