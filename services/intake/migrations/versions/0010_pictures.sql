create table picture_checks (
    item text collate "C" primary key,
    right_id text collate "C" not null references rights (id),
    state text not null default 'waiting' check (state in ('waiting', 'compared', 'given_up')),
    since_wall timestamptz not null default now(),
    due_wall timestamptz not null default now(),
    tries integer not null default 0,
    body text
);
create index picture_checks_due on picture_checks (due_wall) where state = 'waiting';
