"""What is needed to make a message again: its language, the edition of its template, and as of when it was made.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Messages from before were in English."""
    op.execute(
        "alter table messages add column locale text not null default 'en', add column edition text not null default '',"
        " add column rendered_at timestamptz"
    )


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
