"""Where a right is registered.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Unknown for the rights that are there."""
    op.execute("alter table rights add column register text")


def downgrade() -> None:
    """The number alone stays."""
    op.execute("alter table rights drop column register")
