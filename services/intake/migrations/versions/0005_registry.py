"""States of accounts, codes by e-mail, territories, and what the registry keeps of a right.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ACCOUNTS = """
alter table accounts add column status text not null default 'open' check (status in ('open', 'suspended', 'closed'));
alter table accounts add column email_confirmed_at timestamptz;
create table account_changes (
    id bigint generated always as identity primary key,
    account text collate "C" not null references accounts,
    kind text not null,
    by text collate "C" not null,
    at timestamptz not null,
    code text
);
create index account_changes_account on account_changes (account, id);

-- an address that is to be confirmed; of the code its digest only, made when the message is sent
create table email_codes (
    account text collate "C" primary key references accounts,
    notice text collate "C" not null,
    digest bytea,
    expires_at timestamptz,
    tries int not null,
    requested_at timestamptz not null,
    requests int not null,
    since timestamptz not null
);
create index email_codes_notice on email_codes (notice);
"""

RIGHTS = """
alter table authorisations add column territory text[];
alter table rights add column mark text, add column registrant text, add column classes text[], add column territory text[],
    add column pending_reason text
        check (pending_reason in ('proof_missing', 'right_registered_elsewhere', 'mark_mixed_script', 'refused')),
    add column warned_for timestamptz;
update rights set pending_reason = 'proof_missing' where status = 'pending';
update rights set territory = array[upper(register)] where register in ('us', 'eu', 'cn');

-- of registrations of one right the earliest counts; later ones wait for a reviewer
update rights as r set status = 'pending', pending_reason = 'right_registered_elsewhere'
where register is not null and number is not null and status <> 'lost' and exists (
    select from rights o where o.register = r.register and o.right_type = r.right_type and o.number = r.number
        and o.status <> 'lost' and o.id < r.id);
create unique index rights_number on rights (register, right_type, number)
    where register is not null and number is not null and status <> 'lost'
        and coalesce(pending_reason, '') not in ('right_registered_elsewhere', 'refused');
create index rights_pending on rights (id) where status = 'pending';

create table right_changes (
    id bigint generated always as identity primary key,
    right_id text collate "C" not null references rights,
    kind text not null,
    by text collate "C" not null,
    at timestamptz not null,
    was text,
    now text,
    code text
);
create index right_changes_right on right_changes (right_id, id);
"""


def upgrade() -> None:
    """Accounts that are there are open; rights keep their status, but for registrations of one right beyond the first."""
    op.execute(ACCOUNTS)
    op.execute(RIGHTS)


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
