"""What a listing's picture looks like.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Unknown for the listings that are there."""
    op.execute("alter table listings add column image_hash text")


def downgrade() -> None:
    """Titles stay."""
    op.execute("alter table listings drop column image_hash")
