"""The message centre.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
phase = "expand"


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        create table centre (
            message text collate "C" primary key,
            seller text not null,
            kind text not null,
            language text not null,
            subject text not null,
            body text not null
        )""")
    op.execute("comment on table centre is 'The message centre: what its sellers read.'")
    op.execute("""
        create table centre_habits (
            seller text collate "C" primary key,
            habit text not null check (habit in ('reads', 'refuses', 'silent', 'twice'))
        )""")
    op.execute(
        "comment on table centre_habits is 'What tests ask for: the seller reads at once, or the centre refuses, never"
        " answers, or answers twice.'"
    )
