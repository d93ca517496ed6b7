"""Validate the checks that 0004 and 0006 widened: apart from them, so that no table is locked while it is read.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
phase = "expand"


def upgrade() -> None:
    """Validate them. Rows that were there before satisfy them, because the checks before were narrower."""
    op.execute("alter table evidence_links validate constraint evidence_links_about_kind_check")
    op.execute("alter table rights validate constraint rights_accepted_check")
