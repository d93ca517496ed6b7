"""What becomes of a message after it was sent: by which channels it was tried, what came back.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """See services/notification/store.py and channels.py."""
    op.execute("""
        alter table messages
            add column route text not null default 'email' check (route in ('email', 'webhook')),
            add column tried text[] not null default '{}',
            add column address text,
            add column delivered_at timestamptz,
            drop constraint messages_state_check,
            add constraint messages_state_check check (state in ('queued', 'sending', 'sent', 'delivered', 'failed'))
    """)
    op.execute("drop index messages_due")
    op.execute("create index messages_due on messages (route, due_wall) where state in ('queued', 'sending')")
    op.execute("""
        create table deliveries (
            id bigint generated always as identity primary key,
            message text collate "C" not null,
            party text not null,
            channel text not null,
            state text not null,
            reason text,
            at timestamptz not null
        ) with (autovacuum_vacuum_insert_scale_factor = 0.05)
    """)
    op.execute("create index deliveries_message on deliveries (message)")
    op.execute("create index messages_party on messages (party, opened_wall, id)")
    op.execute("""
        create table bouncing (
            party text primary key,
            address text not null,
            reason text not null,
            since timestamptz not null,
            since_wall timestamptz not null
        )
    """)


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
