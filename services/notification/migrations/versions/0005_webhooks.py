"""Webhooks as a channel: who has which, how they fare, and what is under way to them.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """See services/notification/webhook_store.py."""
    op.execute("""
        create table channels (
            party text collate "C" primary key,
            revision int not null,
            preferred text[] not null,
            webhooks text not null
        )
    """)
    op.execute("""
        create table endpoints (
            id text collate "C" primary key,
            party text not null,
            generation int not null,
            state text not null default 'enabled' check (state in ('enabled', 'disabled')),
            failures int not null default 0,
            since_wall timestamptz,
            until_wall timestamptz,
            proven boolean not null default false,
            holder text,
            lease_wall timestamptz not null default '-infinity',
            due_wall timestamptz not null default 'infinity'
        ) with (fillfactor = 50)
    """)
    op.execute("create index endpoints_due on endpoints (proven, due_wall) where state = 'enabled'")
    op.execute("""
        create table webhook_deliveries (
            endpoint text collate "C" not null,
            message text collate "C" not null,
            party text not null,
            kind text not null,
            state text not null default 'queued' check (state in ('queued', 'sending', 'delivered', 'failed', 'dropped')),
            result text,
            tries int not null default 0,
            attempts int not null default 0,
            repeats int not null default 0,
            replays int not null default 0,
            made_wall timestamptz not null default clock_timestamp(),
            began_wall timestamptz not null default clock_timestamp(),
            due_wall timestamptz not null default clock_timestamp(),
            ended_wall timestamptz,
            log text[] not null default '{}',
            primary key (message, endpoint)
        ) with (fillfactor = 70)
    """)
    op.execute("""
        create index webhook_deliveries_due on webhook_deliveries (endpoint, due_wall)
        where state in ('queued', 'sending')
    """)
    op.execute("create index webhook_deliveries_made on webhook_deliveries (endpoint, made_wall, message)")


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
