"""Pictures that listings show.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
phase = "expand"


def upgrade() -> None:
    """Create the table."""
    op.execute(
        "create table pictures (sha256 text collate \"C\" primary key check (sha256 ~ '^[0-9a-f]{64}$'),"
        " media text not null, data bytea not null)"
    )
    op.execute("comment on table pictures is 'What listings show, by hash.'")
