"""Accounts' keys, the entities that they make, and where those stand.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENTITIES = """
create table seller_keys (
    kind text not null check (kind in ('registration', 'payment', 'device')),
    digest text collate "C" not null,
    seller text collate "C" not null,
    primary key (kind, digest, seller)
);
create index seller_keys_seller on seller_keys (seller);
comment on table seller_keys is 'Keys of accounts, as the marketplace told of them last (marketplace.sellers). Written by ledger.';

create table entity_work (
    id bigint generated always as identity primary key,
    seller text collate "C" not null,
    kind text,
    digest text collate "C"
);
comment on table entity_work is 'Marks: the account''s history or (with kind) its hold of a key has changed. Written by ledger in the transaction of the change, deleted by entities in that of the count.';

create table common_keys (
    kind text not null,
    digest text collate "C" not null,
    primary key (kind, digest)
);
comment on table common_keys is 'Keys that more accounts share than the policy lets link; looked at anew when an account gets or loses one.';

create table entities (
    entity text collate "C" primary key,
    general_points int not null,
    serious_strikes int not null,
    violations int not null,
    next_change timestamptz,
    grounds text not null,
    last timestamptz,
    warned timestamptz[] not null,
    counted_at timestamptz not null
);
create index entities_next on entities (next_change) where next_change is not null;
comment on table entities is 'Where a business of two accounts and more stands, as of counted_at; exact until next_change, when it is counted anew.';
comment on column entities.grounds is 'JSON: times for which thresholds were reached (sanctions.Ground)';
comment on column entities.last is 'last violation in force of any of its accounts';
comment on column entities.warned is 'when its accounts were warned, as far as that is not taken back';

create table entity_members (
    seller text collate "C" primary key,
    entity text collate "C" not null references entities deferrable initially deferred,
    entries int not null
);
create index entity_members_entity on entity_members (entity);
comment on column entity_members.entries is 'standings.entries of the account when the entity was counted: higher by now, and it must be counted again';

create table relinked (
    id bigint generated always as identity primary key,
    partition int not null,
    seller text collate "C" not null
);
comment on table relinked is 'Accounts whose entity has changed, until the ledger''s worker that owns the partition takes them in.';

create table entity_rules (
    one boolean primary key default true check (one),
    rules text not null
);
comment on table entity_rules is 'The rules that entities were counted by: when others are in force, all are counted anew.';

create view ledger_queue as select from relinked union all select from seller_receipts;
comment on view ledger_queue is 'Whether the ledger''s worker has anything to take in.';

alter table standings add column entity text collate "C", add column entity_points int not null default 0,
    add column entity_strikes int not null default 0, add column entity_violations int not null default 0,
    add column entity_grounds text;
comment on column standings.entity is 'the business that the account is one of, as far as the ledger''s worker has taken it in; with what it stands at';
comment on column standings.entity_grounds is 'JSON: sanctions.Entity, as far as the ledger''s worker has taken it in';
comment on column standings.repeat_offender is 'the account or its entity has as many violations as the policy says';
"""


def upgrade() -> None:
    """Nobody is linked yet."""
    op.get_bind().exec_driver_sql(ENTITIES)
