create table accounts (
    id text collate "C" primary key,
    role text not null check (role in ('holder', 'seller', 'reviewer', 'operator', 'upstream')),
    kind text not null check (kind in ('person', 'company')),
    identity_verified boolean not null default false,
    good_faith boolean not null default false,
    registered boolean not null default false,
    opened_at timestamptz not null,
    opened_by text,
    status text not null default 'open' check (status in ('open', 'suspended', 'closed')),
    email_confirmed_at timestamptz,
    record text,
    misuse text not null default 'clear' check (misuse in ('clear', 'warning', 'quota', 'suspension')),
    misuse_items int,
    misuse_until date,
    erased_at timestamptz,
    canary boolean not null default false
);
create table tokens (
    digest bytea primary key,
    account text collate "C" not null references accounts(id),
    expires_wall timestamptz not null,
    created_wall timestamptz not null default now(),
    name text not null default '',
    revoked_wall timestamptz
);
create index tokens_account on tokens (account);
create table subject_keys (
    account text collate "C" primary key references accounts(id),
    wrapped bytea not null
);
create table contacts (
    account text collate "C" primary key references accounts(id),
    sealed bytea not null,
    changed_wall timestamptz not null default now()
);
create table rights (
    id text collate "C" primary key,
    owner text collate "C" not null references accounts(id),
    right_type text not null,
    number text,
    status text not null check (status in ('active', 'expired', 'lost', 'pending')),
    expires_at timestamptz,
    proof text,
    registered_at timestamptz not null,
    register text,
    mark text,
    registrant text,
    classes text[],
    territory text[],
    pending_reason text check (pending_reason in ('proof_missing', 'right_registered_elsewhere', 'mark_mixed_script', 'refused')),
    warned_for timestamptz
);
create index rights_owner on rights (owner, id);
create index rights_expiry on rights (expires_at) where ((status = 'active') and (expires_at is not null));
create index rights_pending on rights (id) where status = 'pending';
create unique index rights_in_force on rights (register, right_type, number) where ((register is not null) and (number is not null) and status in ('active', 'expired'));
create index rights_waiting on rights (register, right_type, number, owner) where ((register is not null) and (number is not null) and (status = 'pending'));
create table authorisations (
    id text collate "C" primary key,
    agent text collate "C" not null references accounts(id),
    principal text collate "C" not null references accounts(id),
    rights text[],
    expires_at timestamptz,
    status text not null default 'active' check (status in ('active', 'ended', 'expired')),
    granted_at timestamptz not null,
    territory text[]
);
create index authorisations_agent on authorisations (agent, principal);
create index authorisations_principal on authorisations (principal);
create index authorisations_expiry on authorisations (expires_at) where ((status = 'active') and (expires_at is not null));
create table submissions (
    account text collate "C" not null,
    idempotency_key text collate "C" not null,
    digest bytea not null,
    resource text not null,
    answer text not null,
    accepted_at timestamptz not null,
    primary key (account, idempotency_key)
);
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
    terms text not null,
    told_partition int not null,
    via text collate "C"
);
create index claims_complainant on claims (complainant, id);
create index claims_principal on claims (principal, id) where principal <> complainant;
create index claims_told on claims (told_partition, accepted_at);
create index claims_right_id on claims (right_id, id);
comment on column claims.told_partition is 'partition of filings on which it is published';
create table items (
    id text collate "C" primary key,
    claim text collate "C" not null,
    listing text collate "C" not null,
    on_site boolean not null,
    link text not null,
    state text not null default 'RECEIVED',
    revision int not null default 0,
    seller text collate "C",
    told smallint not null default 0,
    changed_at timestamptz not null,
    last text,
    taken_down boolean not null default false,
    triage text
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
    detail text,
    via text collate "C"
) with (fillfactor = 80);
create index commands_item on commands (item, id);
create table messages (
    id text collate "C" primary key,
    party text collate "C" not null,
    claim text collate "C",
    kind text not null,
    items text[] not null,
    channel text not null,
    template text not null,
    version int not null,
    digest text not null,
    sent_at timestamptz not null,
    about text,
    read_at timestamptz
);
create index messages_party on messages (party, sent_at, id);
create index messages_unread on messages (party) where read_at is null;
create table admission_queue (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('submit', 'command', 'account', 'filing')),
    lane text not null,
    complainant text collate "C" not null,
    partition int not null,
    claim text collate "C" not null,
    item text collate "C" not null,
    listing text collate "C" not null,
    on_site boolean not null default true,
    type text,
    payload text,
    accepted_at timestamptz not null,
    traceparent text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
create index admission_queue_commands on admission_queue (partition, accepted_at, id) where kind in ('command', 'account');
create index admission_queue_lanes on admission_queue (lane, partition, complainant, id) where kind = 'submit';
create index admission_queue_items on admission_queue (item) where kind = 'submit';
create index admission_queue_filings on admission_queue (partition, id) where kind = 'filing';
create table usage (
    account text collate "C" not null,
    hour timestamptz not null,
    items bigint not null,
    primary key (account, hour)
) with (fillfactor = 70);
create table inbound_progress (
    topic text not null,
    partition int not null,
    upto timestamptz not null,
    primary key (topic, partition)
) with (fillfactor = 50);
create table misuse_findings (
    id text collate "C" primary key,
    account text collate "C" not null references accounts(id),
    kind text not null check (kind in ('forged_document', 'knowingly_false', 'none')),
    state text not null check (state in ('proposed', 'in_force', 'refused', 'reversed')),
    document text collate "C",
    claim text collate "C",
    code text not null,
    by text not null,
    second text,
    day date not null,
    at timestamptz not null
);
create index misuse_findings_account on misuse_findings (account, day);
create unique index misuse_findings_document on misuse_findings (document) where ((kind = 'forged_document') and state in ('proposed', 'in_force'));
create table evidence (
    id text collate "C" primary key,
    account text collate "C" not null references accounts(id),
    kinds text[] not null,
    digest bytea not null,
    size bigint not null,
    media text not null,
    name text,
    state text not null default 'arriving' check (state in ('arriving', 'kept', 'going', 'gone')),
    uploaded_at timestamptz not null,
    changed_wall timestamptz not null default now(),
    looked_wall timestamptz not null default now(),
    forged text collate "C" references misuse_findings(id),
    sealed boolean not null default false,
    key bytea
);
create unique index evidence_digest on evidence (account, digest) where state = 'kept';
create index evidence_account on evidence (account, id);
create index evidence_moving on evidence (changed_wall) where state in ('arriving', 'going');
create index evidence_looked on evidence (looked_wall) where state = 'kept';
create table evidence_links (
    document text collate "C" not null references evidence(id),
    about text collate "C" not null,
    about_kind text not null check (about_kind in ('claim', 'right', 'account')),
    owner text collate "C" not null,
    kinds text[] not null,
    linked_at timestamptz not null,
    primary key (document, about)
);
create index evidence_links_about on evidence_links (about, document);
create table evidence_reads (
    id bigint generated always as identity primary key,
    document text collate "C" not null,
    reader text collate "C" not null,
    what text not null check (what in ('link', 'file')),
    at_wall timestamptz not null default now()
);
create index evidence_reads_document on evidence_reads (document, id);
create table account_changes (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts(id),
    kind text not null,
    by text collate "C" not null,
    at timestamptz not null,
    code text
);
create index account_changes_account on account_changes (account, id);
create table email_codes (
    account text collate "C" primary key references accounts(id),
    notice text collate "C" not null,
    digest bytea,
    expires_at timestamptz,
    tries int not null,
    requested_at timestamptz not null,
    requests int not null,
    since timestamptz not null
);
create index email_codes_notice on email_codes (notice);
create table right_changes (
    id bigint generated always as identity primary key,
    right_id text collate "C" not null references rights(id),
    kind text not null,
    by text collate "C" not null,
    at timestamptz not null,
    was text,
    now text,
    code text
);
create index right_changes_right on right_changes (right_id, id);
create table good_faith_items (
    item text collate "C" primary key,
    account text collate "C" not null,
    reason text collate "C" not null,
    day date not null,
    outcome text check (outcome in ('upheld', 'countered', 'lifted', 'declined')),
    revision int not null,
    ground text,
    serious boolean not null default false
);
create index good_faith_items_ground on good_faith_items (account, day) where ((ground is not null) and (outcome is not null));
create table good_faith_days (
    account text collate "C" not null,
    day date not null,
    reason text collate "C" not null,
    partition int not null,
    settled int not null,
    upheld int not null,
    taken_down int not null,
    restored int not null,
    touched boolean not null default true,
    primary key (account, day, reason, partition)
) with (fillfactor = 70);
create index good_faith_days_day on good_faith_days (day, account);
create index good_faith_days_touched on good_faith_days (account) where touched;
create table good_faith_standings (
    account text collate "C" primary key references accounts(id),
    state text not null default 'out' check (state in ('out', 'in', 'warned')),
    how text check (how in ('declaration', 'statistic', 'staff')),
    since date,
    demote_on date,
    barred_until date
);
create index good_faith_standings_members on good_faith_standings (account) where state <> 'out';
create index good_faith_standings_barred on good_faith_standings (barred_until) where barred_until is not null;
create table good_faith_history (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts(id),
    day date not null,
    at timestamptz not null,
    kind text not null,
    by text not null,
    state text not null,
    demote_on date,
    barred_until date,
    basis text not null
);
create index good_faith_history_account on good_faith_history (account, id);
create table good_faith_declarations (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts(id),
    version text collate "C" not null,
    sha256 text not null,
    executed_at timestamptz not null,
    sealed bytea not null
);
create index good_faith_declarations_account on good_faith_declarations (account, id);
create table good_faith_due (
    account text collate "C" primary key
);
create table good_faith_run (
    one boolean default true primary key check (one),
    day date
);
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
    agreed boolean,
    appeal text check (appeal in ('confirm', 'reverse')),
    leased_wall timestamptz,
    decided_wall timestamptz not null default now(),
    decided_at timestamptz not null
) with (fillfactor = 85);
create index review_decisions_item on review_decisions (item);
create index review_decisions_command on review_decisions (command) where command is not null;
create index review_decisions_day on review_decisions (decided_at, reviewer);
create table review_skips (
    item text collate "C" not null,
    reviewer text collate "C" not null,
    until_wall timestamptz not null,
    primary key (item, reviewer)
);
create index review_skips_until on review_skips (until_wall);
create table review_conflicts (
    reviewer text collate "C" not null references accounts(id),
    account text collate "C" not null,
    own boolean not null,
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
create table channels (
    account text collate "C" primary key references accounts(id),
    preferred text[] not null default '{}',
    revision int not null default 0,
    digest_hour int check ((digest_hour >= 0) and (digest_hour <= 23)),
    digest_zone text,
    check ((digest_hour is null) = (digest_zone is null))
);
create table webhooks (
    id text collate "C" primary key,
    account text collate "C" not null references accounts(id),
    sealed bytea not null,
    kinds text[] not null default '{}',
    status text not null default 'enabled' check (status in ('enabled', 'disabled')),
    reason text check (reason in ('owner', 'gone', 'failing')),
    generation int not null default 1,
    made_at timestamptz not null,
    changed_at timestamptz not null
);
create index webhooks_account on webhooks (account, id);
create table misuse_measures (
    id text collate "C" primary key,
    account text collate "C" not null references accounts(id),
    kind text not null check (kind in ('warning', 'quota', 'suspension')),
    state text not null default 'on' check (state in ('on', 'over', 'lifted', 'reversed', 'fallen')),
    day date not null,
    at timestamptz not null,
    until date,
    items int,
    prior text collate "C" references misuse_measures(id),
    finding text collate "C" references misuse_findings(id),
    ended date,
    basis text not null
);
create index misuse_measures_account on misuse_measures (account, id);
create index misuse_measures_on on misuse_measures (account) where state = 'on';
create table misuse_complaints (
    measure text collate "C" primary key references misuse_measures(id),
    account text collate "C" not null references accounts(id),
    at timestamptz not null,
    sealed bytea,
    state text not null default 'open' check (state in ('open', 'confirmed', 'reversed')),
    by text,
    code text,
    decided_at timestamptz
);
create index misuse_complaints_open on misuse_complaints (at, measure) where state = 'open';
create table misuse_history (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts(id),
    measure text collate "C" not null references misuse_measures(id),
    day date not null,
    at timestamptz not null,
    kind text not null,
    by text not null,
    basis text not null
);
create index misuse_history_account on misuse_history (account, id);
create table misuse_usage (
    account text collate "C" not null,
    day date not null,
    items int not null,
    primary key (account, day)
) with (fillfactor = 70);
create table held_items (
    item text collate "C" primary key,
    id bigint generated always as identity,
    lane text not null,
    complainant text collate "C" not null,
    partition int not null,
    claim text collate "C" not null,
    listing text collate "C" not null,
    on_site boolean not null,
    accepted_at timestamptz not null,
    traceparent text
);
create index held_items_complainant on held_items (complainant, id);
create table lifts (
    command text collate "C" primary key,
    seller text not null,
    sanction text collate "C" not null,
    by text not null,
    reason text not null,
    note text,
    at timestamptz not null
);
create index lifts_sanction on lifts (sanction);
comment on table lifts is 'Requests of operators to lift sanctions. Enforcement decides.';
comment on column lifts.note is 'what the operator wrote: for staff, in clear; no personal data';
create table right_jobs (
    right_id text collate "C" not null,
    agent text collate "C" not null default '',
    principal text collate "C" not null default '',
    after xid8,
    next text collate "C" not null default '',
    again boolean not null default false,
    turn bigint not null default 0,
    since_wall timestamptz not null default now(),
    primary key (right_id, agent, principal)
) with (fillfactor = 50);
create table admission_time (
    one boolean default true primary key check (one),
    upto timestamptz,
    turn bigint not null default 0
) with (fillfactor = 10);
create table webhook_challenges (
    webhook text collate "C" primary key references webhooks(id) on delete cascade,
    asks int not null default 1,
    asked_wall timestamptz not null,
    expires_wall timestamptz not null,
    due_wall timestamptz,
    calls int not null default 0,
    tries int not null default 0,
    result text
);
create index webhook_challenges_due on webhook_challenges (due_wall) where due_wall is not null;
create table webhook_asks (
    account text collate "C" not null,
    host bytea not null,
    at_wall timestamptz not null
);
create index webhook_asks_account on webhook_asks (account, at_wall);
create index webhook_asks_host on webhook_asks (host, at_wall);
-- what the stream views look for in the log
create index event_log_filings on event_log (partition, seq) where type = 'goodfaith.claim.filed.v1';
create index event_log_accounts on event_log (partition, seq) where type in (
    'goodfaith.account.notice.v1', 'goodfaith.account.channels.v1', 'goodfaith.message.read.v1',
    'goodfaith.account.erased.v1', 'goodfaith.sanction.lift.v1');

-- a policy that asked for items itself would never end, for that of items asks for claims
create function party_sells_in(claim text, account text) returns boolean
language sql stable security definer cost 10000 set search_path = intake, pg_temp as $$
    select exists (select from items i where i.seller = $2
        and i.id between 'i-' || substr($1, 3, 23) || '000' and 'i-' || substr($1, 3, 23) || 'ZZZ')
$$;
revoke execute on function party_sells_in from public;
grant execute on function party_sells_in to goodfaith_intake_party;

-- row-level security (docs/decisions/0061): a party's role sees its own rows, the service's own role all of them
create policy party on claims for select to goodfaith_intake_party using (
    complainant = (select current_setting('goodfaith.account', true))
    or principal = (select current_setting('goodfaith.account', true))
    or party_sells_in(id, (select current_setting('goodfaith.account', true))));
create policy party on items for select to goodfaith_intake_party using (
    seller = (select current_setting('goodfaith.account', true)) or exists (
        select from claims c where c.id = items.claim
            and (select current_setting('goodfaith.account', true)) in (c.complainant, c.principal)));
create policy party on timeline for select to goodfaith_intake_party using (
    exists (select from items i where i.id = timeline.item));
create policy party on commands for select to goodfaith_intake_party using (
    exists (select from items i where i.id = commands.item));
create policy party on messages for select to goodfaith_intake_party using (
    party = (select current_setting('goodfaith.account', true)));
create policy party on rights for select to goodfaith_intake_party using (
    owner = (select current_setting('goodfaith.account', true)));
create policy party on right_changes for select to goodfaith_intake_party using (
    exists (select from rights r where r.id = right_changes.right_id));
create policy party on authorisations for select to goodfaith_intake_party using (
    (select current_setting('goodfaith.account', true)) in (agent, principal));
create policy service on claims to goodfaith_intake using (true) with check (true);
create policy service on items to goodfaith_intake using (true) with check (true);
create policy service on timeline to goodfaith_intake using (true) with check (true);
create policy service on commands to goodfaith_intake using (true) with check (true);
create policy service on messages to goodfaith_intake using (true) with check (true);
create policy service on rights to goodfaith_intake using (true) with check (true);
create policy service on right_changes to goodfaith_intake using (true) with check (true);
create policy service on authorisations to goodfaith_intake using (true) with check (true);
create policy streams on claims for select to goodfaith_streams using (true);
alter table claims enable row level security;
alter table items enable row level security;
alter table timeline enable row level security;
alter table commands enable row level security;
alter table messages enable row level security;
alter table rights enable row level security;
alter table right_changes enable row level security;
alter table authorisations enable row level security;

insert into good_faith_run default values;
insert into admission_time default values;
