"""Sanctions of sellers that an operator has lifted.

Revision ID: 0013
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LIFTS = """
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
comment on table lifts is 'What operators asked enforcement to lift. That it is lifted is enforcement''s word.';
comment on column lifts.note is 'what the operator wrote: for staff, in clear; no personal data';
"""


def upgrade() -> None:
    """None was lifted yet."""
    op.get_bind().exec_driver_sql(LIFTS)


def downgrade() -> None:
    """What was written is forgotten; the event log knows who lifted what."""
    op.execute("drop table lifts")
