"""What sellers are under.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SELLERS = """
create table sellers (
    seller text collate "C" primary key,
    partition int not null,
    measures text not null,
    until timestamptz,
    seq int not null
) with (fillfactor = 80);
comment on table sellers is 'Sellers on whom a command was carried out. No row: free.';
comment on column sellers.measures is 'all that are in force, with commas between';
comment on column sellers.until is 'when they are planned to become fewer, to be shown';
comment on column sellers.seq is 'highest command that was carried out';
create index listings_seller on listings (seller);
create table seller_answers (
    command text collate "C" primary key,
    seller text not null,
    seq int not null,
    result text,
    asked_wall timestamptz not null default now()
);
comment on table seller_answers is 'HTTP adapter: as answers, for commands on sellers.';
alter table queue drop constraint queue_kind_check;
alter table queue add constraint queue_kind_check check (kind in ('seed', 'command', 'sellers', 'seller_command'));
"""


def upgrade() -> None:
    """All are free."""
    op.get_bind().exec_driver_sql(SELLERS)
