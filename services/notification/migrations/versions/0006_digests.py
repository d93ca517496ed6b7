"""Parties that are told once a day, and what waits for them.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """See services/notification/digests.py."""
    op.execute("""
        create table digests (
            account text collate "C" primary key,
            revision int not null,
            hour int check (hour between 0 and 23),
            zone text,
            next_at timestamptz
        )
    """)
    op.execute("create index digests_next on digests (next_at) where next_at is not null")
    op.execute("alter table message_items add column held boolean not null default false")
    op.execute("drop index message_items_pending")
    op.execute("create index message_items_pending on message_items (opened_wall) where message is null and not held")
    op.execute(
        "create index message_items_held on message_items (party, opened_wall, item, revision) where message is null and held"
    )


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
