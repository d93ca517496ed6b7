"""What triage made of items, and the records of accounts that it looks at.

Revision ID: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Unknown for what is there; accounts get their record when they are judged next."""
    op.execute("alter table items add column triage text")
    op.execute("alter table accounts add column record text")


def downgrade() -> None:
    """The columns alone."""
    op.execute("alter table items drop column triage")
    op.execute("alter table accounts drop column record")
