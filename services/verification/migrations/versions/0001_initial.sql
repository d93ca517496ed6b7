create table items (
    item text collate "C" primary key,
    partition int not null,
    claim text not null,
    listing text collate "C" not null,
    right_id text collate "C" not null,
    reason text collate "C" not null,
    state text not null,
    original text collate "C",
    blocks boolean not null,
    waits boolean not null,
    next_due timestamptz,
    revision int not null,
    body text not null
) with (fillfactor = 80);
create index items_due on items (partition, next_due) where next_due is not null;
create index items_blocking on items (listing, right_id, reason) where blocks;
create index items_waiting on items (listing) where waits;
create index items_duplicates on items (original) where original is not null;
create index items_failed on items (listing) where state in ('REJECTED', 'RESTORED');
create table listings (
    listing text collate "C" primary key,
    body text not null
);
create table upheld (
    item text collate "C" not null,
    owner text collate "C" not null,
    claim text not null,
    listing text collate "C" not null,
    right_id text collate "C" not null,
    reason text not null,
    profile text not null,
    upheld_at timestamptz not null,
    title text not null,
    picture text,
    primary key (item, owner)
);
create index upheld_owner on upheld (owner, upheld_at desc);
create table recurrences (
    listing text collate "C" not null,
    right_id text collate "C" not null,
    item text collate "C",
    primary key (listing, right_id)
);

