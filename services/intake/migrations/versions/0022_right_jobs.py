"""Changes of rights reach open items by jobs of bounded transactions; a right's claims are read in order of their ids.

Revision ID: 0022
"""

from alembic import op

revision = "0022"
down_revision = "0021"
phase = "expand"

JOBS = """
-- Items of a right's claims that must be told what holds now. agent and principal narrow it to the claims that one account
-- filed for another; empty: all of them. after: transaction that picked the job up (right_jobs.py says why); null: none yet.
-- next: claims up to this id have been told. again: the right has changed since, so the job starts over when it is done.
create table right_jobs (
    right_id text collate "C" not null,
    agent text collate "C" not null default '',
    principal text collate "C" not null default '',
    after xid8,
    next text collate "C" not null default '',
    again bool not null default false,
    turn bigint not null default 0,
    since_wall timestamptz not null default now(),
    primary key (right_id, agent, principal)
) with (fillfactor = 50);
"""


def upgrade() -> None:
    """The version before tells items itself, and needs neither the table nor the order of the index."""
    op.execute(JOBS)
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists claims_right_id")
        op.execute("create index concurrently claims_right_id on claims (right_id, id)")
        op.execute("drop index concurrently if exists claims_right")
