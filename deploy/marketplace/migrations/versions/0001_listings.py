"""Listings, and the queue of what comes by HTTP."""

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None

LISTINGS = """
create table listings (
    listing text collate "C" primary key,
    partition int not null,
    seller text not null,
    title text not null,
    locale text not null,
    entity text,
    ended boolean not null,
    measure text not null check (measure in ('none', 'suspended', 'removed')),
    seq int not null
) with (fillfactor = 80);
comment on column listings.ended is 'the seller has taken it away';
comment on column listings.measure is 'what Goodfaith has had done: the page is there when none and not ended';
comment on column listings.seq is 'highest command that was carried out';

create table queue (
    id bigint generated always as identity primary key,
    partition int not null,
    kind text not null check (kind in ('seed', 'command')),
    body text not null
);
comment on table queue is 'What came by HTTP, until the worker that owns the partition takes it in.';
create table answers (
    command text collate "C" primary key,
    listing text not null,
    seq int not null,
    result text,
    asked_wall timestamptz not null default now()
);
comment on table answers is 'HTTP adapter: commands by idempotency key; result null until carried out.';
"""


def upgrade() -> None:
    """Create the tables."""
    for statements in (runtime_v1(), LISTINGS):
        op.get_bind().exec_driver_sql(statements)
