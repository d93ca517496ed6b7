"""At which hour of the day an account wants receipts and outcomes together.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody does yet."""
    op.execute(
        "alter table channels add column digest_hour int check (digest_hour between 0 and 23), add column digest_zone text,"
        " add check ((digest_hour is null) = (digest_zone is null))"
    )


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
