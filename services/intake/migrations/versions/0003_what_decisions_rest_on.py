"""What decisions on rights and identities rest on, and who accepted a right. Rights of 0.2.0 say by which rules.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
phase = "expand"


def upgrade() -> None:
    """Add the columns. The default is for processes of 0.2.0, which do not know the column and accept by their rules."""
    op.execute(
        "alter table rights add column accepted text default 'rules_0_2_0'"
        " check (accepted in ('person', 'canary', 'rules_0_2_0')), add column documents_at timestamptz"
    )
    for table in ("right_changes", "account_changes"):
        op.execute(f"alter table {table} add column documents text[], add column seen text")
