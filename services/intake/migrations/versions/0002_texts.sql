create table texts (
    id text collate "C" primary key,
    claim text collate "C" not null,
    account text collate "C" not null references accounts (id),
    kind text not null check (kind in ('explanation', 'counter', 'response', 'complaint')),
    sealed bytea not null
);
comment on column texts.id is 'of the claim or item explained, or of the request''s first command';
create index texts_claim on texts (claim, id);
create index texts_account on texts (account, id);

alter table commands add column text text collate "C", add column revision integer;
comment on column commands.text is 'id in texts; the commands of one request share it';
comment on column commands.revision is 'of the item, by which it was applied';

-- row-level security, as for what is claimed (docs/decisions/0061); which texts are released is decided by the service
create policy party on texts for select to goodfaith_intake_party using (
    exists (select from claims c where c.id = texts.claim));
create policy service on texts to goodfaith_intake using (true) with check (true);
alter table texts enable row level security;
