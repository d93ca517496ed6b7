"""The review queue: cases, leases on them, decisions by item, skips, conflicts of interest, notes.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
-- one row an item that rests in a state that a person decides; kept by the read model's fold.
-- entered: revision at which it came to rest; rank, due: order (0: escalated); due year 9999: no deadline.
-- lease: digest of the token, the reviewer's until expires_wall; seen: revision when it was taken.
-- assignee: handed over to, until assigned_wall. command: decided, and on its way to the item's owner.
create table cases (
    item text collate "C" primary key,
    claim text collate "C" not null,
    listing text collate "C" not null,
    complainant text collate "C" not null,
    principal text collate "C" not null,
    seller text collate "C",
    right_type text not null,
    reason text not null,
    severity text not null,
    profile text not null,
    policy text not null,
    lane text not null,
    state text not null,
    code text,
    revision int not null,
    entered int not null,
    rank smallint not null,
    due timestamptz not null,
    since timestamptz not null,
    looks smallint not null default 0,
    lease bytea,
    reviewer text collate "C",
    leased_wall timestamptz,
    expires_wall timestamptz,
    seen int,
    assignee text collate "C",
    assigned_wall timestamptz,
    command text collate "C"
) with (fillfactor = 60);
create index cases_order on cases (rank, due, item);
create index cases_state on cases (state, rank, due, item);
create index cases_claim on cases (claim, item);
create index cases_lease on cases (lease) where lease is not null;
create index cases_reviewer on cases (reviewer) where lease is not null;
create index cases_assignee on cases (assignee, rank, due, item) where assignee is not null;
create index cases_command on cases (command) where command is not null;

-- every decision of a person, proposals included; agreed: the decision that came of a proposal was the same;
-- appeal: what a complaint made of it later
create table review_decisions (
    id bigint generated always as identity primary key,
    item text collate "C" not null,
    claim text collate "C" not null,
    entered int not null,
    state text not null,
    reviewer text collate "C" not null,
    role text not null,
    decision text not null,
    code text,
    kind text not null check (kind in ('proposal', 'decision', 'break_glass')),
    command text collate "C",
    outcome text not null default 'filed' check (outcome in ('filed', 'applied', 'refused')),
    agreed bool,
    appeal text check (appeal in ('confirm', 'reverse')),
    leased_wall timestamptz,
    decided_wall timestamptz not null default now(),
    decided_at timestamptz not null
) with (fillfactor = 85);
create index review_decisions_item on review_decisions (item);
create index review_decisions_command on review_decisions (command) where command is not null;
create index review_decisions_day on review_decisions (decided_at, reviewer);

-- a case is not offered to who skipped it, for a time
create table review_skips (
    item text collate "C" not null,
    reviewer text collate "C" not null,
    until_wall timestamptz not null,
    primary key (item, reviewer)
);
create index review_skips_until on review_skips (until_wall);

-- accounts about which a reviewer may not decide; own: declared by itself, else set by an operator
create table review_conflicts (
    reviewer text collate "C" not null references accounts,
    account text collate "C" not null,
    own bool not null,
    declared_wall timestamptz not null default now(),
    primary key (reviewer, account, own)
);

create table review_notes (
    id text collate "C" primary key,
    item text collate "C" not null,
    by text collate "C" not null,
    text text not null,
    at timestamptz not null
);
create index review_notes_item on review_notes (item, id);

-- what rests in such a state already, and what people have decided so far
insert into cases (item, claim, listing, complainant, principal, seller, right_type, reason, severity, profile, policy, lane,
    state, code, revision, entered, rank, due, since)
select i.id, i.claim, i.listing, c.complainant, c.principal, i.seller, c.right_type, c.reason,
    coalesce(i.last::json ->> 'severity', 'general'), c.profile, i.last::json ->> 'policy', c.lane, i.state,
    i.last::json ->> 'code', i.revision, i.revision, case c.lane when 'express' then 1 when 'standard' then 2 else 3 end,
    coalesce((i.last::json ->> 'due')::timestamptz, '9999-01-01T00:00:00Z'), i.changed_at
from items i join claims c on c.id = i.claim
where i.state in ('UNDER_REVIEW', 'COUNTERED', 'PLATFORM_REVIEW', 'APPEALED') and i.last is not null;
insert into review_decisions (item, claim, entered, state, reviewer, role, decision, kind, command, outcome, decided_wall, decided_at)
select item, claim, 0, '', by, role, '', case role when 'operator' then 'break_glass' else 'decision' end, id, status, accepted_at,
    accepted_at
from commands where kind = 'decide' and status = 'applied';
"""


def upgrade() -> None:
    """Create the tables, and put into the queue what waits already."""
    op.execute(TABLES)


def downgrade() -> None:
    """Who decided what would be forgotten."""
    raise NotImplementedError("restore a backup instead")
