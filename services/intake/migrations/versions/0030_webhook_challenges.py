"""Webhooks that their owners have yet to confirm.

Revision ID: 0030
"""

from alembic import op

revision = "0030"
down_revision = "0029"
phase = "expand"

CHALLENGES = """
-- While a row is here, the webhook is not used. asks: how often a code was asked for; calls: calls made with this code, tries:
-- codes given that were wrong; due_wall: when it is called next (null: not any more); result: of the last call.
create table webhook_challenges (
    webhook text collate "C" primary key references webhooks on delete cascade,
    asks int not null default 1,
    asked_wall timestamptz not null,
    expires_wall timestamptz not null,
    due_wall timestamptz,
    calls int not null default 0,
    tries int not null default 0,
    result text
)
"""
ASKS = """
-- Codes that were asked for within a day, also for webhooks that are gone by now. host: a keyed hash.
create table webhook_asks (
    account text collate "C" not null,
    host bytea not null,
    at_wall timestamptz not null
)
"""


def upgrade() -> None:
    """The version before takes a webhook that is not confirmed for one that its owner has put out of use."""
    op.execute(CHALLENGES)
    op.execute("create index webhook_challenges_due on webhook_challenges (due_wall) where due_wall is not null")
    op.execute(ASKS)
    op.execute("create index webhook_asks_account on webhook_asks (account, at_wall)")
    op.execute("create index webhook_asks_host on webhook_asks (host, at_wall)")


def downgrade() -> None:
    """What nobody confirmed stays out of use until its owner enables it."""
    op.execute("drop table webhook_asks, webhook_challenges")
