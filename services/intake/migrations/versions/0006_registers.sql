create table register_queries (
    right_id text collate "C" primary key references rights (id),
    register text not null,
    number text not null,
    state text not null default 'waiting' check (state in ('waiting', 'answered', 'silent')),
    since_wall timestamptz not null default now(),
    due_wall timestamptz not null default now(),
    tries integer not null default 0,
    error text,
    result text
);
create index register_queries_due on register_queries (due_wall) where state = 'waiting';

-- no row has the new value, and the constraint only widens
-- squawk-ignore ban-drop-constraint
alter table rights drop constraint rights_accepted_check;
alter table rights add constraint rights_accepted_check
    check (accepted in ('person', 'register', 'canary', 'rules_0_2_0')) not valid;

-- whether a name is the one that was verified: unknown (null) of what was there before
alter table contacts add column named_wall timestamptz;
alter table account_changes add column at_wall timestamptz;
alter table account_changes alter column at_wall set default now();
