create table listings (
    listing text collate "C" primary key,
    partition int not null,
    seller text not null,
    title text not null,
    locale text not null,
    entity text,
    ended boolean not null,
    measure text not null check (measure in ('none', 'suspended', 'removed')),
    seq int not null,
    image_hash text
) with (fillfactor = 80);
create index listings_seller on listings (seller);
comment on column listings.ended is 'the seller has removed it';
comment on column listings.measure is 'measure that Goodfaith ordered; the page exists when none and not ended';
comment on column listings.seq is 'highest command that was carried out';
create table queue (
    id bigint generated always as identity primary key,
    partition int not null,
    kind text not null check (kind in ('seed', 'command', 'sellers', 'seller_command')),
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
create table sellers (
    seller text collate "C" primary key,
    partition int not null,
    measures text not null,
    until timestamptz,
    seq int not null
) with (fillfactor = 80);
comment on table sellers is 'Sellers on whom a command was carried out. No row: free.';
comment on column sellers.measures is 'all that are in force, with commas between';
comment on column sellers.until is 'when they are planned to become fewer, for display';
comment on column sellers.seq is 'highest command that was carried out';
create table seller_answers (
    command text collate "C" primary key,
    seller text not null,
    seq int not null,
    result text,
    asked_wall timestamptz not null default now()
);
comment on table seller_answers is 'HTTP adapter: as answers, for commands on sellers.';

