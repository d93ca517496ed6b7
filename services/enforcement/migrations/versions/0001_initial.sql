create table listings (
    listing text collate "C" primary key,
    partition int not null,
    holds int not null check (holds >= 0),
    seq int not null,
    action text not null check (action in ('', 'suspend', 'remove', 'restore')),
    confirmed int not null,
    result text not null check (result in ('done', 'unknown_listing')),
    resend_at timestamptz,
    tries int not null default 0,
    check (confirmed <= seq)
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
comment on column holds.waits is 'seq of the command whose receipt is reported to the item; reported once listings.confirmed >= waits';
comment on column holds.seller is 'seller whose violation was declared last';
comment on column holds.violation is 'the violation is in force, as declared on violations';
create table deliveries (
    command text collate "C" primary key,
    listing text not null,
    partition int not null,
    seq int not null,
    action text not null,
    next_wall timestamptz not null default now(),
    tries int not null default 0,
    error text,
    traceparent text
) with (fillfactor = 70);
create index deliveries_due on deliveries (next_wall);
comment on table deliveries is 'HTTP adapter: commands that the marketplace has not answered yet. A taker moves next_wall ahead: its lease.';
create table receipts (
    id bigint generated always as identity primary key,
    partition int not null,
    command text not null,
    listing text not null,
    seq int not null,
    result text not null,
    traceparent text
);
comment on table receipts is 'HTTP adapter: answers on their way to the worker that owns the partition, which deletes them as it takes them in.';
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
    tail text not null,
    open_grounds text not null default '{}',
    due_at timestamptz,
    sanctions int not null default 0,
    seq int not null default 0,
    measures text not null default '',
    until timestamptz,
    confirmed int not null default 0,
    result text not null default 'done' check (result in ('done', 'unknown_seller')),
    resend_at timestamptz,
    tries int not null default 0,
    entity text collate "C",
    entity_points int not null default 0,
    entity_strikes int not null default 0,
    entity_violations int not null default 0,
    entity_grounds text,
    check (confirmed <= seq)
) with (fillfactor = 80);
create index standings_repeat on standings (seller) where repeat_offender;
create index standings_due on standings (partition, due_at) where due_at is not null;
create index standings_resend on standings (partition, resend_at) where resend_at is not null;
comment on table standings is 'A seller''s standing as of changed_at; exact until next_change, when the worker recomputes it.';
comment on column standings.general_points is 'sum(points) of ledger_entries of ledger general with expires_at > now';
comment on column standings.serious_strikes is 'sum(points) of ledger_entries of ledger serious with expires_at > now';
comment on column standings.violations is 'violations in force with at within the policy''s repeat_offender.within (365 days)';
comment on column standings.repeat_offender is 'the account or its entity has as many violations as the policy says';
comment on column standings.general_level is 'thresholds reached (policy: penalties.general.thresholds); 1 at least while a violation counts';
comment on column standings.entries is 'entries ever written for the seller: numbers the next one';
comment on column standings.tail is 'JSON: what assessing one more violation after all others needs (penalties.Tail)';
comment on column standings.open_grounds is 'JSON: thresholds that are reached, and since when (sanctions.OpenGrounds)';
comment on column standings.due_at is 'when the seller is judged again: next_change, or the end of a sanction''s days';
comment on column standings.sanctions is 'sanctions ever made for the seller: numbers the next one';
comment on column standings.seq is 'of the latest command to the marketplace; 0 before the first';
comment on column standings.measures is 'that command''s: all that are in force, sorted, with commas between';
comment on column standings.until is 'that command''s: when they become fewer by themselves';
comment on column standings.confirmed is 'highest seq with a receipt; below seq a command is under way';
comment on column standings.resend_at is 'wall time at which the command under way is sent again';
comment on column standings.entity is 'the business that the account is one of, as far as the ledger''s worker has taken it in; with what it stands at';
comment on column standings.entity_grounds is 'JSON: sanctions.EntityRecord, as far as the ledger''s worker has taken it in';
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
comment on column violations.severity is 'serious when one of its items in force is';
comment on column violations.at is 'earliest of its items in force (the last known when none is)';
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
    reverses text unique references ledger_entries(entry),
    effective_at timestamptz not null,
    expires_at timestamptz not null,
    recorded_wall timestamptz not null default now(),
    check ((kind = 'reversal') = (reverses is not null)),
    check (((kind = 'reversal') and (points <= 0)) or ((kind = 'violation') and (points >= 0)))
);
create index ledger_entries_seller on ledger_entries (seller, expires_at);
comment on table ledger_entries is 'Append-only. Standing = sum(points) where expires_at > now: a reversal has the negated points and the expiry of what it reverses.';
create table statements (
    puid text collate "C" primary key,
    item text collate "C" not null,
    revision int not null,
    policy text not null,
    body text not null,
    state text not null default 'waiting' check (state in ('waiting', 'sent', 'refused')),
    next_wall timestamptz not null default now(),
    tries int not null default 0,
    error text,
    made_wall timestamptz not null default now(),
    ended_wall timestamptz,
    unique (item, revision)
) with (fillfactor = 80);
create index statements_due on statements (next_wall) where state = 'waiting';
create index statements_open on statements (state) where state <> 'sent';
comment on table statements is 'One statement of reasons for each hold that an item took under a policy that asks for statements.';
comment on column statements.revision is 'revision of the item that took the hold';
comment on column statements.state is 'refused: the transparency database rejects it as it is; a person looks at it (goodfaith statements)';
comment on column statements.next_wall is 'when it is due; a taker moves it ahead: its lease';
comment on column statements.error is 'why it was not sent at the last try, or was refused';
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
    after timestamptz,
    primary key (seller, number),
    check ((state = 'in_force') = (over_at is null))
) with (fillfactor = 80);
create index sanctions_open on sanctions (seller) where ((state = 'in_force') or stands or ((measures = '') and (state <> 'lifted')) or ((scope = 'entity') and cause in ('timer', 'operator')));
comment on table sanctions is 'Answers to thresholds that a standing reached (services/enforcement/sanctions.py). Never deleted.';
comment on column sanctions.scope is 'whose standing reached the threshold: the seller''s or its entity''s';
comment on column sanctions.level is 'number of the threshold in the policy, from 1';
comment on column sanctions.measures is 'sorted, with commas between; empty: a warning';
comment on column sanctions.withheld is 'measures that a prior warning replaces';
comment on column sanctions.entry is 'ledger entry that crossed the threshold when the sanction began';
comment on column sanctions.ends is 'when its days are over; null: until the standing falls below the threshold, or it is lifted';
comment on column sanctions.cause is 'of the last change: events.SanctionChanged';
comment on column sanctions.stands is 'the threshold is answered by it, in force or not: no other sanction is due for the same crossing';
comment on column sanctions.reason is 'code that an operator gave for lifting it';
comment on column sanctions.after is 'when the warning was given that a later violation turned into it; null: it was imposed for the threshold';
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
create table seller_keys (
    kind text not null check (kind in ('registration', 'payment', 'device')),
    digest text collate "C" not null,
    seller text collate "C" not null,
    primary key (kind, digest, seller)
);
create index seller_keys_seller on seller_keys (seller);
comment on table seller_keys is 'Keys of accounts, as last reported by the marketplace (marketplace.sellers). Written by ledger.';
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
comment on table common_keys is 'Keys that more accounts share than the policy lets link; checked again when an account gets or loses one.';
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
comment on table entities is 'Where a business of two accounts and more stands, as of counted_at; exact until next_change, when it is counted again.';
comment on column entities.grounds is 'JSON: times for which thresholds were reached (sanctions.Ground)';
comment on column entities.last is 'last violation in force of any of its accounts';
comment on column entities.warned is 'when its accounts were warned, as far as that is not taken back';
create table entity_members (
    seller text collate "C" primary key,
    entity text collate "C" not null references entities(entity) deferrable initially deferred,
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
    one boolean default true primary key check (one),
    rules text not null
);
comment on table entity_rules is 'The rules by which entities were counted: when others are in force, all are counted again.';
create view ledger_queue as select from relinked union all select from seller_receipts;
comment on view ledger_queue is 'Whether the ledger''s worker has anything to take in.';
create function ledger_entries_kept() returns trigger language plpgsql as
    $$ begin raise exception 'ledger entries are reversed, never changed or deleted'; end $$;
create trigger kept before update or delete or truncate on ledger_entries
    for each statement execute function ledger_entries_kept();
