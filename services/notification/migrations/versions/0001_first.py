"""Runtime, messages and what they tell, announcements.

Revision ID: 0001
"""

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """See services/notification/store.py for who writes what."""
    op.execute(runtime_v1())
    op.execute("""
        create table message_items (
            item text collate "C" not null,
            revision int not null,
            kind text not null,
            party text not null,
            claim text not null,
            claim_size int not null,
            partition int not null,
            listing text not null,
            opened_wall timestamptz not null,
            message text,
            facts text not null,
            primary key (item, revision, kind, party)
        ) with (autovacuum_vacuum_insert_scale_factor = 0.05)
    """)
    # small: only what is in no message yet
    op.execute("create index message_items_pending on message_items (opened_wall) where message is null")
    op.execute("""
        create table messages (
            id text collate "C" primary key,
            claim text not null,
            party text not null,
            kind text not null,
            items text[] not null,
            revisions int[] not null,
            state text not null default 'queued' check (state in ('queued', 'sending', 'sent', 'failed')),
            opened_wall timestamptz not null,
            queued_wall timestamptz not null default clock_timestamp(),
            due_wall timestamptz not null default clock_timestamp(),
            holder text,
            attempts int not null default 0,
            repeats int not null default 0,
            tries int not null default 0,
            channel text,
            result text,
            template text,
            version int,
            digest text,
            sent_at timestamptz,
            sent_wall timestamptz
        ) with (fillfactor = 70)
    """)
    op.execute("create index messages_claim on messages (claim)")
    op.execute("create index messages_due on messages (due_wall) where state in ('queued', 'sending')")
    op.execute("create index messages_oldest on messages (opened_wall) where state in ('queued', 'sending')")
    op.execute("""
        create table announcements (
            id bigint generated always as identity primary key,
            partition int not null,
            listing text not null,
            message text not null,
            type text not null,
            payload text not null
        ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
    """)


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
