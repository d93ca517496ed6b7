"""Which accounts are canaries.

Revision ID: 0016
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None was."""
    op.execute("alter table accounts add column canary bool not null default false")


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
