create table account_domains (
    id text collate "C" primary key,
    account text collate "C" not null references accounts (id),
    domain text not null,
    token text not null,
    state text not null default 'pending' check (state in ('pending', 'verified', 'failed', 'removed')),
    reason text,
    named_wall timestamptz not null,
    asked_wall timestamptz,
    due_wall timestamptz,
    tries integer not null default 0,
    since_wall timestamptz,
    seen_wall timestamptz,
    unique (account, domain)
);
create index account_domains_due on account_domains (due_wall) where due_wall is not null;
