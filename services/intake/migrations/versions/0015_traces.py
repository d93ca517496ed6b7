"""The context of the trace that a request at the door belongs to, until it is published.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is traced yet."""
    op.execute("alter table door add column traceparent text")
    op.execute("alter table door_held add column traceparent text")


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
