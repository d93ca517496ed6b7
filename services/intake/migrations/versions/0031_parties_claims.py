"""Row-level security of claims and items, once no version runs that copies into them: COPY does not go together with it.

Revision ID: 0031
"""

from alembic import op

revision = "0031"
down_revision = "0030"
phase = "contract"


def upgrade() -> None:
    """The policies are there."""
    for table in ("claims", "items"):
        op.execute(f"alter table {table} enable row level security")


def downgrade() -> None:
    """The policies stay."""
    for table in ("claims", "items"):
        op.execute(f"alter table {table} disable row level security")
