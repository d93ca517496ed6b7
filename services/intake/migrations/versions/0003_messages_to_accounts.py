"""Messages that are about the account itself, not about a claim.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there are all about claims."""
    op.execute("alter table messages alter column claim drop not null")
    op.execute("alter table messages add column about text")


def downgrade() -> None:
    """There is no way back once there are any."""
    raise NotImplementedError("drop the schema instead")
