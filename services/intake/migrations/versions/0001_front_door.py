"""Accounts, contacts, rights, claims, the door, and the read model of items.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# ids are compared byte by byte: faster, and their order is that of creation
TABLES = """
create table accounts (
    id text collate "C" primary key,
    role text not null check (role in ('holder', 'seller', 'reviewer', 'operator', 'upstream')),
    kind text not null check (kind in ('person', 'company')),
    identity_verified bool not null default false,
    good_faith bool not null default false,
    registered bool not null default false,
    opened_at timestamptz not null,
    opened_by text
);

-- a token is shown once; what is kept is the SHA-256 of it
create table tokens (
    digest bytea primary key,
    account text collate "C" not null references accounts,
    expires_wall timestamptz not null,
    created_wall timestamptz not null default now()
);
create index tokens_account on tokens (account);

-- contacts are encrypted under a key of their subject, which is itself wrapped: without its row they are noise
create table subject_keys (
    account text collate "C" primary key references accounts,
    wrapped bytea not null
);
create table contacts (
    account text collate "C" primary key references accounts,
    sealed bytea not null,
    changed_wall timestamptz not null default now()
);

create table rights (
    id text collate "C" primary key,
    owner text collate "C" not null references accounts,
    right_type text not null,
    number text,
    status text not null check (status in ('active', 'expired', 'lost', 'pending')),
    expires_at timestamptz,
    proof text,
    registered_at timestamptz not null
);
create index rights_owner on rights (owner, id);
create index rights_expiry on rights (expires_at) where status = 'active' and expires_at is not null;

-- rights null: all rights of the principal
create table authorisations (
    id text collate "C" primary key,
    agent text collate "C" not null references accounts,
    principal text collate "C" not null references accounts,
    rights text[],
    expires_at timestamptz,
    status text not null default 'active' check (status in ('active', 'ended', 'expired')),
    granted_at timestamptz not null
);
create index authorisations_agent on authorisations (agent, principal);
create index authorisations_principal on authorisations (principal);
create index authorisations_expiry on authorisations (expires_at) where status = 'active' and expires_at is not null;

-- one row an accepted request: what the idempotency key stood for, and the answer that was given
create table submissions (
    account text collate "C" not null,
    idempotency_key text collate "C" not null,
    digest bytea not null,
    resource text not null,
    answer text not null,
    accepted_at timestamptz not null,
    primary key (account, idempotency_key)
);

-- terms: what all items of the claim have in common, as an ItemSubmitted without its item
create table claims (
    id text collate "C" primary key,
    complainant text collate "C" not null,
    principal text collate "C" not null,
    right_id text collate "C" not null,
    right_type text not null,
    reason text not null,
    profile text not null,
    lane text not null,
    size int not null,
    channel text not null,
    accepted_at timestamptz not null,
    terms text not null
);
create index claims_complainant on claims (complainant, id);
create index claims_principal on claims (principal, id) where principal <> complainant;
create index claims_right on claims (right_id);

-- read model; an item's id begins as its claim's does (domain.new_claim_ids), so a claim's items are a range of the key.
-- told: 1 once the seller was to be notified, 2 once the holder was to answer a counter (release of contact data).
create table items (
    id text collate "C" primary key,
    claim text collate "C" not null,
    listing text collate "C" not null,
    on_site bool not null,
    link text not null,
    state text not null default 'RECEIVED',
    revision int not null default 0,
    seller text collate "C",
    told smallint not null default 0,
    changed_at timestamptz not null,
    last text
) with (fillfactor = 55);
create index items_seller on items (seller, id) where seller is not null;

create table timeline (
    item text collate "C" not null,
    revision int not null,
    type text not null,
    state text not null,
    by text not null,
    code text,
    at timestamptz not null,
    primary key (item, revision)
);

create table commands (
    id text collate "C" primary key,
    claim text collate "C" not null,
    item text collate "C" not null,
    kind text not null,
    by text collate "C" not null,
    role text not null,
    accepted_at timestamptz not null,
    status text not null default 'accepted' check (status in ('accepted', 'applied', 'refused')),
    code text,
    detail text
) with (fillfactor = 80);
create index commands_item on commands (item, id);

create table messages (
    id text collate "C" primary key,
    party text collate "C" not null,
    claim text collate "C" not null,
    kind text not null,
    items text[] not null,
    channel text not null,
    template text not null,
    version int not null,
    digest text not null,
    sent_at timestamptz not null
);
create index messages_party on messages (party, sent_at, id);

-- accepted and not yet published; submissions wait here in lanes, commands never wait
create table door (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('submit', 'command')),
    lane text not null,
    complainant text collate "C" not null,
    partition int not null,
    claim text collate "C" not null,
    item text collate "C" not null,
    listing text collate "C" not null,
    on_site bool not null default true,
    type text,
    payload text,
    accepted_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
create index door_commands on door (partition, accepted_at, id) where kind = 'command';
create index door_lanes on door (lane, partition, complainant, id) where kind = 'submit';
create index door_items on door (item) where kind = 'submit';

-- items that an account filed, by hour, for the quota
create table usage (
    account text collate "C" not null,
    hour timestamptz not null,
    items bigint not null,
    primary key (account, hour)
) with (fillfactor = 70);

-- up to which business time an upstream's partition has been read to its end
create table inbound_progress (
    topic text not null,
    partition int not null,
    upto timestamptz not null,
    primary key (topic, partition)
) with (fillfactor = 50);
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(runtime_v1())
    op.execute(runtime_v1("inbound_"))
    op.execute(TABLES)


def downgrade() -> None:
    """There is no way back to nothing but dropping the schema."""
    raise NotImplementedError("drop the schema instead")
