"""Filings are found: those that wait in the door, and a partition's of some days.

Revision ID: 0020
"""

from alembic import op

revision = "0020"
down_revision = "0019"
phase = "expand"


def upgrade() -> None:
    """Built beside the traffic; one that was cut off is begun anew."""
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists claims_told")
        op.execute("create index concurrently claims_told on claims (told_partition, accepted_at)")
        op.execute("drop index concurrently if exists door_filings")
        op.execute("create index concurrently door_filings on door (partition, id) where kind = 'filing'")
