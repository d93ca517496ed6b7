"""Tokens have a name, and a revoked one stays known: one that the settings give does not return at the next start.

Revision ID: 0029
"""

from alembic import op

revision = "0029"
down_revision = "0028"
phase = "expand"


def upgrade() -> None:
    """Rows of the version before have no name, and it deletes what is revoked."""
    op.execute("alter table tokens add column name text not null default ''")
    op.execute("alter table tokens add column revoked_wall timestamptz")
