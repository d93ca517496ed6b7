"""Statements of reasons, on their way to the transparency database and after it."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
create table statements (
    puid text collate "C" primary key,
    item text collate "C" not null,
    revision int not null,
    policy text not null,
    body text not null,
    state text not null default 'waiting' check (state in ('waiting', 'sent', 'refused')),
    next_wall timestamptz not null default now(),
    tries int not null default 0,
    error text,
    made_wall timestamptz not null default now(),
    ended_wall timestamptz,
    unique (item, revision)
) with (fillfactor = 80);
create index statements_due on statements (next_wall) where state = 'waiting';
create index statements_open on statements (state) where state <> 'sent';
comment on table statements is 'One statement of reasons for each hold that an item took under a policy that asks for statements.';
comment on column statements.revision is 'revision of the item that took the hold';
comment on column statements.next_wall is 'when it is due; a taker moves it ahead: its lease';
comment on column statements.state is 'refused: the database will not have it as it is; a person looks at it (goodfaith statements)';
comment on column statements.error is 'why it was not sent at the last try, or was refused';
"""


def upgrade() -> None:
    """Create the table."""
    op.get_bind().exec_driver_sql(STATEMENTS)
