"""The last watermark is kept: it never goes back, and nothing is accepted at or before it.

Revision ID: 0025
"""

from alembic import op

revision = "0025"
down_revision = "0024"
phase = "expand"

DOOR_TIME = """
-- one row. upto: everything accepted up to here is committed (business time). turn: how often the door has been closed.
create table door_time (
    one bool primary key default true check (one),
    upto timestamptz,
    turn bigint not null default 0
) with (fillfactor = 10);
insert into door_time default values;
"""


def upgrade() -> None:
    """Workers of the version before find their watermarks themselves, and do not read it."""
    op.execute(DOOR_TIME)
