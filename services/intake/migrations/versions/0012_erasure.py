"""Accounts that were erased.

Revision ID: 0012
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None so far."""
    op.execute("alter table accounts add column erased_at timestamptz")


def downgrade() -> None:
    """What was erased stays so; that it was is in the account's history."""
    op.execute("alter table accounts drop column erased_at")
