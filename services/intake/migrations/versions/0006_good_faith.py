"""The good-faith takedown mechanism: what items count as, sums by day, standings, their history, declarations.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
-- the listing was down by this item at some time
alter table items add column taken_down bool not null default false;

-- what an item is counted as; outcome null: it was counted, and has left its settled state
create table good_faith_items (
    item text collate "C" primary key,
    account text collate "C" not null,
    reason text collate "C" not null,
    day date not null,
    outcome text check (outcome in ('upheld', 'countered', 'lifted', 'declined')),
    revision int not null
);

-- sums by the business day of settlement. A partition's rows are written by its owner alone: workers that count the same
-- account's items never wait for one another. touched: changed since the account was last judged.
create table good_faith_days (
    account text collate "C" not null,
    day date not null,
    reason text collate "C" not null,
    partition int not null,
    settled int not null,
    upheld int not null,
    taken_down int not null,
    restored int not null,
    touched bool not null default true,
    primary key (account, day, reason, partition)
) with (fillfactor = 70);
create index good_faith_days_day on good_faith_days (day, account);
create index good_faith_days_touched on good_faith_days (account) where touched;

create table good_faith_standings (
    account text collate "C" primary key references accounts,
    state text not null default 'out' check (state in ('out', 'in', 'warned')),
    how text check (how in ('declaration', 'statistic', 'staff')),
    since date,
    demote_on date,
    barred_until date
);
create index good_faith_standings_members on good_faith_standings (account) where state <> 'out';
create index good_faith_standings_barred on good_faith_standings (barred_until) where barred_until is not null;

-- basis: the numbers that the change stood on, as JSON
create table good_faith_history (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts,
    day date not null,
    at timestamptz not null,
    kind text not null,
    by text not null,
    state text not null,
    demote_on date,
    barred_until date,
    basis text not null
);
create index good_faith_history_account on good_faith_history (account, id);

-- sealed: who signed, and in what capacity, under the account's own key, like its contact
create table good_faith_declarations (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts,
    version text collate "C" not null,
    sha256 text not null,
    executed_at timestamptz not null,
    sealed bytea not null
);
create index good_faith_declarations_account on good_faith_declarations (account, id);

-- accounts to be judged, and through which business day they have been found
create table good_faith_due (account text collate "C" primary key);
create table good_faith_run (one bool primary key default true check (one), day date);
insert into good_faith_run default values;
"""

# items and members that were there before: by what the read model says of them (`removal` = on_notice: every notified item was down)
FILL = """
update items set taken_down = true where last::json ->> 'held' = 'true' or id in (
    select item from timeline where state in ('NOTIFIED', 'UPHELD', 'UPHELD_BY_DEFAULT', 'UPHELD_AFTER_COUNTER'));
insert into good_faith_items (item, account, reason, day, outcome, revision)
    select i.id, c.complainant, c.reason, (e.at at time zone 'UTC')::date,
        case when starts_with(i.state, 'UPHELD') then 'upheld' when not i.taken_down then 'declined'
            when i.state = 'RESTORED' then 'countered'
            when i.state = 'WITHDRAWN' and i.last::json ->> 'code' = 'settled' then 'upheld'
            when i.state = 'WITHDRAWN' and i.last::json ->> 'code' = 'error' then 'countered' else 'lifted' end,
        e.revision
    from items i join claims c on c.id = i.claim cross join lateral (
        select t.revision, t.at from timeline t where t.item = i.id and t.revision > coalesce((
            select max(o.revision) from timeline o where o.item = i.id and o.state <> i.state), 0)
        order by case i.state when 'WITHDRAWN' then -t.revision else t.revision end limit 1) e
    where i.state in ('LAPSED', 'REJECTED', 'RESTORED', 'WITHDRAWN', 'UPHELD', 'UPHELD_BY_DEFAULT', 'UPHELD_AFTER_COUNTER');
insert into good_faith_days (account, day, reason, partition, settled, upheld, taken_down, restored)
    select account, day, reason, 0, count(*), count(*) filter (where outcome = 'upheld'),
        count(*) filter (where outcome <> 'declined'), count(*) filter (where outcome = 'countered')
    from good_faith_items group by account, day, reason;
insert into good_faith_standings (account, state, how) select id, 'in', 'staff' from accounts where good_faith;
"""


def upgrade() -> None:
    """Create, and count what has been settled so far."""
    op.execute(TABLES)
    op.execute(FILL.replace(":", "\\:"))


def downgrade() -> None:
    """The mechanism is forgotten; who was in it stays so."""
    op.execute(
        "drop table good_faith_run, good_faith_due, good_faith_declarations, good_faith_history, good_faith_standings,"
        " good_faith_days, good_faith_items"
    )
    op.execute("alter table items drop column taken_down")
