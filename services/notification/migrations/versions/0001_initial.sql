create table message_items (
    item text collate "C" not null,
    revision int not null,
    kind text not null,
    party text not null,
    claim text not null,
    claim_size int not null,
    partition int not null,
    listing text not null,
    opened_wall timestamptz not null,
    message text,
    facts text not null,
    held boolean not null default false,
    traceparent text,
    primary key (item, revision, kind, party)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
create index message_items_pending on message_items (opened_wall) where ((message is null) and (not held));
create index message_items_held on message_items (party, opened_wall, item, revision) where ((message is null) and held);
create table messages (
    id text collate "C" primary key,
    claim text not null,
    party text not null,
    kind text not null,
    items text[] not null,
    revisions int[] not null,
    state text not null default 'queued' check (state in ('queued', 'sending', 'sent', 'delivered', 'failed')),
    opened_wall timestamptz not null,
    queued_wall timestamptz not null default clock_timestamp(),
    due_wall timestamptz not null default clock_timestamp(),
    holder text,
    attempts int not null default 0,
    repeats int not null default 0,
    tries int not null default 0,
    channel text,
    result text,
    template text,
    version int,
    digest text,
    sent_at timestamptz,
    sent_wall timestamptz,
    route text not null default 'email' check (route in ('email', 'webhook')),
    tried text[] not null default '{}',
    address text,
    delivered_at timestamptz,
    begins text check (begins in ('sent', 'delivered', 'read')),
    deemed_at timestamptz,
    read_at timestamptz,
    begun_at timestamptz,
    begun_by text check (begun_by in ('sent', 'delivered', 'read', 'deemed')),
    locale text not null default 'en',
    edition text not null default '',
    rendered_at timestamptz
) with (fillfactor = 70);
create index messages_claim on messages (claim);
create index messages_oldest on messages (opened_wall) where state in ('queued', 'sending');
create index messages_due on messages (route, due_wall) where state in ('queued', 'sending');
create index messages_party on messages (party, opened_wall, id);
create index messages_deemed on messages (deemed_at) where ((begun_at is null) and (deemed_at is not null));
create table announcements (
    id bigint generated always as identity primary key,
    partition int not null,
    listing text not null,
    message text not null,
    type text not null,
    payload text not null,
    traceparent text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create table deliveries (
    id bigint generated always as identity primary key,
    message text collate "C" not null,
    party text not null,
    channel text not null,
    state text not null,
    reason text,
    at timestamptz not null
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
create index deliveries_message on deliveries (message);
create table bouncing (
    party text primary key,
    address text not null,
    reason text not null,
    since timestamptz not null,
    since_wall timestamptz not null
);
create table channels (
    party text collate "C" primary key,
    revision int not null,
    preferred text[] not null,
    webhooks text not null
);
create table endpoints (
    id text collate "C" primary key,
    party text not null,
    generation int not null,
    state text not null default 'enabled' check (state in ('enabled', 'disabled')),
    failures int not null default 0,
    since_wall timestamptz,
    until_wall timestamptz,
    proven boolean not null default false,
    holder text,
    lease_wall timestamptz not null default '-infinity'::timestamptz,
    due_wall timestamptz not null default 'infinity'::timestamptz
) with (fillfactor = 50);
create index endpoints_due on endpoints (proven, due_wall) where state = 'enabled';
create table webhook_deliveries (
    endpoint text collate "C" not null,
    message text collate "C" not null,
    party text not null,
    kind text not null,
    state text not null default 'queued' check (state in ('queued', 'sending', 'delivered', 'failed', 'dropped')),
    result text,
    tries int not null default 0,
    attempts int not null default 0,
    repeats int not null default 0,
    replays int not null default 0,
    made_wall timestamptz not null default clock_timestamp(),
    began_wall timestamptz not null default clock_timestamp(),
    due_wall timestamptz not null default clock_timestamp(),
    ended_wall timestamptz,
    log text[] not null default '{}',
    primary key (message, endpoint)
) with (fillfactor = 70);
create index webhook_deliveries_due on webhook_deliveries (endpoint, due_wall) where state in ('queued', 'sending');
create index webhook_deliveries_made on webhook_deliveries (endpoint, made_wall, message);
create table digests (
    account text collate "C" primary key,
    revision int not null,
    hour int check ((hour >= 0) and (hour <= 23)),
    zone text,
    next_at timestamptz
);
create index digests_next on digests (next_at) where next_at is not null;

