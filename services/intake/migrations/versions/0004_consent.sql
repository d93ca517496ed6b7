-- one that waits has the status 'ended': processes of 0.2.0, which do not know the other columns, let nobody file by it
alter table authorisations
    add column basis text default 'rules_0_2_0' check (basis in ('principal', 'power_of_attorney', 'rules_0_2_0')),
    add column asked_by text collate "C",
    add column pending_reason text check (pending_reason in ('agent_consent', 'proof_missing', 'refused')),
    add column documents_at timestamptz;
comment on column authorisations.basis is 'null: it waits, or came to nothing; the default is for processes of 0.2.0';

alter table rights add column offered_to text collate "C", add column offered_by text collate "C";
comment on column rights.offered_to is 'account that owns the right once it consents';

create table authorisation_changes (
    id bigint generated always as identity primary key,
    authorisation text collate "C" not null references authorisations (id),
    kind text not null,
    by text collate "C" not null,
    at timestamptz not null,
    code text,
    documents text[],
    seen text
);
create index authorisation_changes_authorisation on authorisation_changes (authorisation, id);

-- no row has the new value, and the constraint only widens
-- squawk-ignore ban-drop-constraint
alter table evidence_links drop constraint evidence_links_about_kind_check;
alter table evidence_links add constraint evidence_links_about_kind_check
    check (about_kind in ('claim', 'right', 'account', 'authorisation')) not valid;

create policy offered on rights for select to goodfaith_intake_party using (
    offered_to = (select current_setting('goodfaith.account', true)));
create policy party on authorisation_changes for select to goodfaith_intake_party using (
    exists (select from authorisations a where a.id = authorisation_changes.authorisation));
create policy service on authorisation_changes to goodfaith_intake using (true) with check (true);
alter table authorisation_changes enable row level security;
