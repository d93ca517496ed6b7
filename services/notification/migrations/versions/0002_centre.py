"""Messages handed to the marketplace's message centre, and its receipts.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "expand"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        create table centre (
            message text collate "C" primary key,
            party text not null,
            handed_at timestamptz not null,
            template text not null,
            version int not null,
            digest text not null,
            locale text not null,
            edition text not null,
            rendered_at timestamptz,
            result text check (result in ('delivered', 'refused')),
            answered_at timestamptz,
            read_at timestamptz
        )""")
    op.execute(
        "comment on table centre is 'Messages handed to the marketplace''s message centre, and its receipts."
        " Written by senders, then the worker.'"
    )
    op.execute("comment on column centre.result is 'what the marketplace answered first, in time'")
