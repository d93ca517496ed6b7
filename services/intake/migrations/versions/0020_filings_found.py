"""Filings are found: those that wait in the door, a partition's of some days, and the last one in its log.

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
        op.execute("drop index concurrently if exists event_log_filings")
        op.execute(
            "create index concurrently event_log_filings on event_log (partition, seq) where type = 'goodfaith.claim.filed.v1'"
        )
