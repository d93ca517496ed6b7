"""Holds, deliveries and penalty ledgers."""

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None

HOLDS = """
create table listings (
    listing text collate "C" primary key,
    partition int not null,
    holds int not null check (holds >= 0),
    seq int not null,
    action text not null check (action in ('', 'suspend', 'remove', 'restore')),
    confirmed int not null check (confirmed <= seq),
    result text not null check (result in ('done', 'unknown_listing')),
    resend_at timestamptz,
    tries int not null default 0
) with (fillfactor = 80);
create index listings_resend on listings (partition, resend_at) where resend_at is not null;
comment on table listings is 'A listing with or after a hold. To be down exactly while holds > 0; at rest when confirmed = seq.';
comment on column listings.holds is 'rows of table holds with this listing and held';
comment on column listings.seq is 'of the latest command to the marketplace; 0 before the first';
comment on column listings.confirmed is 'highest seq with a receipt; below seq a command is under way';
comment on column listings.result is 'result of the confirmed command';
comment on column listings.resend_at is 'wall time at which the command under way is sent again';

create table holds (
    item text collate "C" primary key,
    listing text collate "C" not null,
    claim text not null,
    revision int not null,
    held boolean not null,
    waits int not null,
    seller text,
    violation boolean not null
) with (fillfactor = 80);
create index holds_listing on holds (listing, waits);
comment on table holds is 'Every item that ever had a hold or a violation (or a later revision without either).';
comment on column holds.revision is 'highest revision of the item that was folded in (events that only tell of times are left out)';
comment on column holds.held is 'the item holds the listing';
comment on column holds.waits is 'seq of the command whose receipt the item is told; it was told when listings.confirmed >= waits';
comment on column holds.seller is 'seller whose violation was declared last';
comment on column holds.violation is 'the violation is in force, as declared on enforcement.violations';

create table deliveries (
    command text collate "C" primary key,
    listing text not null,
    partition int not null,
    seq int not null,
    action text not null,
    next_wall timestamptz not null default now(),
    tries int not null default 0,
    error text
) with (fillfactor = 70);
create index deliveries_due on deliveries (next_wall);
comment on table deliveries is 'HTTP adapter: commands that the marketplace has not answered yet. A taker moves next_wall ahead: its lease.';
create table receipts (
    id bigint generated always as identity primary key,
    partition int not null,
    command text not null,
    listing text not null,
    seq int not null,
    result text not null
);
comment on table receipts is 'HTTP adapter: answers on their way to the worker that owns the partition, which deletes them as it takes them in.';
"""

LEDGER = """
create table standings (
    seller text collate "C" primary key,
    partition int not null,
    general_points int not null,
    serious_strikes int not null,
    violations int not null,
    repeat_offender boolean not null,
    general_level int not null,
    general_consequence text,
    serious_level int not null,
    serious_consequence text,
    next_change timestamptz,
    changed_at timestamptz not null,
    entries int not null,
    tail text not null
) with (fillfactor = 80);
create index standings_next on standings (partition, next_change) where next_change is not null;
create index standings_repeat on standings (seller) where repeat_offender;
comment on table standings is 'A seller''s standing as of changed_at; exact until next_change, when the worker recomputes it.';
comment on column standings.general_points is 'sum(points) of ledger_entries of ledger general with expires_at > now';
comment on column standings.serious_strikes is 'sum(points) of ledger_entries of ledger serious with expires_at > now';
comment on column standings.violations is 'violations in force with at within the policy''s repeat_offender.within (365 days)';
comment on column standings.general_level is 'thresholds reached (policy: penalties.general.thresholds); 1 at least while a violation counts';
comment on column standings.entries is 'entries ever written for the seller: numbers the next one';
comment on column standings.tail is 'JSON: what assessing one more violation after all others needs (penalties.Tail)';

create table violations (
    seller text collate "C" not null,
    claim text collate "C" not null,
    in_force boolean not null,
    severity text not null check (severity in ('general', 'serious')),
    at timestamptz not null,
    entry text,
    ledger text,
    points int,
    effective_at timestamptz,
    expires_at timestamptz,
    primary key (seller, claim)
) with (fillfactor = 80);
comment on table violations is 'A violation: one seller x one claim. In force while one of its items is.';
comment on column violations.at is 'earliest of its items in force (the last known when none is)';
comment on column violations.severity is 'serious when one of its items in force is';
comment on column violations.entry is 'its unreversed entry in ledger_entries: set exactly while in force; ledger, points and times are that entry''s';

create table violation_items (
    seller text collate "C" not null,
    claim text collate "C" not null,
    item text collate "C" not null,
    listing text not null,
    revision int not null,
    in_force boolean not null,
    severity text not null,
    at timestamptz not null,
    primary key (seller, claim, item)
) with (fillfactor = 80);

create table ledger_entries (
    entry text collate "C" primary key,
    seller text collate "C" not null,
    claim text not null,
    ledger text not null check (ledger in ('general', 'serious')),
    kind text not null check (kind in ('violation', 'reversal')),
    points int not null,
    reverses text unique references ledger_entries,
    effective_at timestamptz not null,
    expires_at timestamptz not null,
    recorded_wall timestamptz not null default now(),
    check ((kind = 'reversal') = (reverses is not null)),
    check ((kind = 'reversal' and points <= 0) or (kind = 'violation' and points >= 0))
);
create index ledger_entries_seller on ledger_entries (seller, expires_at);
comment on table ledger_entries is 'Append-only. Standing = sum(points) where expires_at > now: a reversal has the negated points and the expiry of what it reverses.';
create function ledger_entries_kept() returns trigger language plpgsql as
    $$ begin raise exception 'ledger entries are reversed, never changed or deleted'; end $$;
create trigger kept before update or delete or truncate on ledger_entries
    for each statement execute function ledger_entries_kept();
"""


def upgrade() -> None:
    """Create the tables."""
    for statements in (runtime_v1(), runtime_v1("ledger_"), HOLDS, LEDGER):
        op.get_bind().exec_driver_sql(statements)
