"""Sanctions, and what the marketplace is told of sellers."""

from alembic import op

revision = "0003"
down_revision = "0002"

SANCTIONS = """
create table sanctions (
    seller text collate "C" not null,
    number int not null,
    sanction text collate "C" not null unique,
    scope text not null check (scope in ('own', 'entity')),
    ledger text not null check (ledger in ('general', 'serious')),
    level int not null check (level > 0),
    measures text not null,
    withheld text not null,
    entry text not null,
    claim text not null,
    began timestamptz not null,
    ends timestamptz,
    state text not null check (state in ('in_force', 'lifted', 'ended')),
    cause text not null,
    over_at timestamptz,
    stands boolean not null,
    reason text,
    primary key (seller, number),
    check ((state = 'in_force') = (over_at is null))
) with (fillfactor = 80);
create index sanctions_open on sanctions (seller) where state = 'in_force' or stands or (measures = '' and state <> 'lifted');
comment on table sanctions is 'Answers to thresholds that a standing reached (services/enforcement/sanctions.py). Never deleted.';
comment on column sanctions.scope is 'whose standing reached the threshold: the seller''s or its entity''s';
comment on column sanctions.level is 'number of the threshold in the policy, from 1';
comment on column sanctions.measures is 'sorted, with commas between; empty: a warning';
comment on column sanctions.withheld is 'measures that a prior warning stands in the place of';
comment on column sanctions.entry is 'ledger entry that crossed the threshold when the sanction began';
comment on column sanctions.ends is 'when its days are over; null: until the standing falls below the threshold, or it is lifted';
comment on column sanctions.cause is 'of the last change: events.SanctionChanged';
comment on column sanctions.stands is 'the threshold is answered by it, in force or not: no other sanction is due for the same crossing';
comment on column sanctions.reason is 'code that an operator gave for lifting it';

alter table standings add column front text not null default '{}',
    add column due_at timestamptz default '2000-01-01Z',
    add column sanctions int not null default 0,
    add column seq int not null default 0,
    add column measures text not null default '',
    add column until timestamptz,
    add column confirmed int not null default 0,
    add column result text not null default 'done' check (result in ('done', 'unknown_seller')),
    add column resend_at timestamptz,
    add column tries int not null default 0,
    add check (confirmed <= seq);
alter table standings alter column due_at drop default;
drop index standings_next;
create index standings_due on standings (partition, due_at) where due_at is not null;
create index standings_resend on standings (partition, resend_at) where resend_at is not null;
comment on column standings.front is 'JSON: thresholds that are reached, and since when (sanctions.Front)';
comment on column standings.due_at is 'when the seller is judged anew: next_change, or the end of a sanction''s days';
comment on column standings.sanctions is 'sanctions ever made for the seller: numbers the next one';
comment on column standings.seq is 'of the latest command to the marketplace; 0 before the first';
comment on column standings.measures is 'that command''s: all that are in force, sorted, with commas between';
comment on column standings.until is 'that command''s: when they become fewer by themselves';
comment on column standings.confirmed is 'highest seq with a receipt; below seq a command is under way';
comment on column standings.resend_at is 'wall time at which the command under way is sent again';

create table seller_deliveries (
    command text collate "C" primary key,
    seller text not null,
    partition int not null,
    seq int not null,
    body text not null,
    next_wall timestamptz not null default now(),
    tries int not null default 0,
    error text
) with (fillfactor = 70);
create index seller_deliveries_due on seller_deliveries (next_wall);
comment on table seller_deliveries is 'As deliveries, for commands on sellers; body: the command as JSON.';
create table seller_receipts (
    id bigint generated always as identity primary key,
    partition int not null,
    command text not null,
    seller text not null,
    seq int not null,
    result text not null
);
comment on table seller_receipts is 'As receipts, for the ledger''s worker.';
"""


def upgrade() -> None:
    """Create the tables; every seller that is there is judged at once."""
    op.get_bind().exec_driver_sql(SANCTIONS)
