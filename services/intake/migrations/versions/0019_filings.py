"""Each claim is told on ``intake.filings``, by a row of the door of its own kind.

A kind of its own: what the version before takes from the door is `submit` and `command`, so that it leaves these rows alone.

Revision ID: 0019
"""

from alembic import op

revision = "0019"
down_revision = "0018"
phase = "expand"

FILINGS = """
alter table claims add column told_partition int;
comment on column claims.told_partition is
    'partition of intake.filings on which it is told; null: a version before accepted it, and it is not told yet';
-- squawk-ignore ban-drop-constraint
alter table door drop constraint door_kind_check; -- a wider one takes its place
alter table door add constraint door_kind_check check (kind in ('submit', 'command', 'filing')) not valid;
"""


def upgrade() -> None:
    """Nothing is told yet: the worker does it (``store.tell_untold``)."""
    op.execute(FILINGS)
