"""Misuse by complainants: why an item was unfounded, findings, measures, their history, complaints, quotas, and what waits.

Revision ID: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
-- why a settled item was unfounded (services/intake/misuse/domain.py); kept while the item is open again. serious: its reason is.
-- What was settled before this migration has none, and is held against nobody.
alter table good_faith_items add column ground text, add column serious bool not null default false;
create index good_faith_items_ground on good_faith_items (account, day) where ground is not null and outcome is not null;

-- what the door reads: the most severe measure that runs, its quota, and the first day on which it runs no more
alter table accounts add column misuse text not null default 'clear' check (misuse in ('clear', 'warning', 'quota', 'suspension')),
    add column misuse_items int, add column misuse_until date;

-- what a reviewer found out about an account's intent. proposed: waits for a second pair of eyes
create table misuse_findings (
    id text collate "C" primary key,
    account text collate "C" not null references accounts,
    kind text not null check (kind in ('forged_document', 'knowingly_false', 'none')),
    state text not null check (state in ('proposed', 'in_force', 'refused', 'reversed')),
    document text collate "C",
    claim text collate "C",
    code text not null,
    by text not null,
    second text,
    day date not null,
    at timestamptz not null
);
create index misuse_findings_account on misuse_findings (account, day);
create unique index misuse_findings_document on misuse_findings (document) where kind = 'forged_document' and state in ('proposed', 'in_force');
alter table evidence add column forged text collate "C" references misuse_findings;

-- prior: the measure that it followed. until: first day on which it runs no more; null: until the record is good again.
-- state: on; over (its time), lifted (the record is good again), reversed (on complaint), fallen (what it stood on was reversed)
create table misuse_measures (
    id text collate "C" primary key,
    account text collate "C" not null references accounts,
    kind text not null check (kind in ('warning', 'quota', 'suspension')),
    state text not null default 'on' check (state in ('on', 'over', 'lifted', 'reversed', 'fallen')),
    day date not null,
    at timestamptz not null,
    until date,
    items int,
    prior text collate "C" references misuse_measures,
    finding text collate "C" references misuse_findings,
    ended date,
    basis text not null
);
create index misuse_measures_account on misuse_measures (account, id);
create index misuse_measures_on on misuse_measures (account) where state = 'on';

-- statement: sealed under the account's own key
create table misuse_complaints (
    measure text collate "C" primary key references misuse_measures,
    account text collate "C" not null references accounts,
    at timestamptz not null,
    sealed bytea,
    state text not null default 'open' check (state in ('open', 'confirmed', 'reversed')),
    by text,
    code text,
    decided_at timestamptz
);
create index misuse_complaints_open on misuse_complaints (at, measure) where state = 'open';

create table misuse_history (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts,
    measure text collate "C" not null references misuse_measures,
    day date not null,
    at timestamptz not null,
    kind text not null,
    by text not null,
    basis text not null
);
create index misuse_history_account on misuse_history (account, id);

-- items that an account under a quota has filed on a business day (UTC)
create table misuse_usage (
    account text collate "C" not null,
    day date not null,
    items int not null,
    primary key (account, day)
) with (fillfactor = 70);

-- submissions of accounts whose processing is suspended: they enter the door when that ends
create table door_held (
    item text collate "C" primary key,
    id bigint generated always as identity,
    lane text not null,
    complainant text collate "C" not null,
    partition int not null,
    claim text collate "C" not null,
    listing text collate "C" not null,
    on_site bool not null,
    accepted_at timestamptz not null
);
create index door_held_complainant on door_held (complainant, id);
"""


def upgrade() -> None:
    """Create."""
    op.execute(TABLES)


def downgrade() -> None:
    """What waits enters the door; the rest is forgotten."""
    op.execute(
        "insert into door (kind, lane, complainant, partition, claim, item, listing, on_site, accepted_at)"
        " select 'submit', lane, complainant, partition, claim, item, listing, on_site, accepted_at from door_held order by id"
    )
    op.execute("alter table evidence drop column forged")
    op.execute(
        "drop table door_held, misuse_usage, misuse_history, misuse_complaints, misuse_measures, misuse_findings"
    )
    op.execute("alter table accounts drop column misuse, drop column misuse_items, drop column misuse_until")
    op.execute("alter table good_faith_items drop column ground, drop column serious")
