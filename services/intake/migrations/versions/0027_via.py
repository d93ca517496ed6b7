"""What an upstream filed for another account says so.

Revision ID: 0027
"""

from alembic import op

revision = "0027"
down_revision = "0026"
phase = "expand"


def upgrade() -> None:
    """Null: the account filed it itself, or it was filed before this was kept."""
    for table in ("claims", "commands"):
        op.execute(f'alter table {table} add column via text collate "C"')


def downgrade() -> None:
    """The table of submissions still has whose key each was filed under."""
    for table in ("claims", "commands"):
        op.execute(f"alter table {table} drop column via")
