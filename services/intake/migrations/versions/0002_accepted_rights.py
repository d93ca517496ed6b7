"""Who accepted a right, and what the decision rests on. Rights of 0.2.0 stay as they are, and say by which rules.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "expand"


def upgrade() -> None:
    """Add the columns. The default is for processes of 0.2.0, which do not know the column and accept by their rules."""
    op.execute(
        "alter table rights add column accepted text default 'rules_0_2_0'"
        " check (accepted in ('person', 'canary', 'rules_0_2_0')), add column documents_at timestamptz"
    )
    op.execute("alter table right_changes add column documents text[]")
    op.execute("alter table right_changes add column seen text")
