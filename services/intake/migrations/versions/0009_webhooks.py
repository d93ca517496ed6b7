"""How accounts want to be told, and their webhooks.

Revision ID: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Addresses and secrets are sealed with the subject's key: without it nothing of them is left."""
    op.execute("""
        create table channels (
            account text collate "C" primary key references accounts,
            preferred text[] not null default '{}',
            revision int not null default 0
        )
    """)
    op.execute("""
        create table webhooks (
            id text collate "C" primary key,
            account text collate "C" not null references accounts,
            sealed bytea not null,
            kinds text[] not null default '{}',
            status text not null default 'enabled' check (status in ('enabled', 'disabled')),
            reason text check (reason in ('owner', 'gone', 'failing')),
            generation int not null default 1,
            made_at timestamptz not null,
            changed_at timestamptz not null
        )
    """)
    op.execute("create index webhooks_account on webhooks (account, id)")


def downgrade() -> None:
    """The tables alone: accounts are told by e-mail again."""
    op.execute("drop table webhooks, channels")
