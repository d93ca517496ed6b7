"""First publication of works that are in no register, and names that accounts had before.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
phase = "expand"


def upgrade() -> None:
    """Add the columns and the table."""
    op.execute("alter table rights add column published_on date, add column published_where text")
    op.execute(
        """create table former_names (
            id bigint generated always as identity primary key,
            account text collate "C" not null references accounts (id),
            sealed bytea not null,
            until_wall timestamptz not null default now())"""
    )
    op.execute("create index former_names_account on former_names (account, id)")
