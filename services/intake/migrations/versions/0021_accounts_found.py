"""The last event on accounts in a partition's log is found, however many items came after it.

Revision ID: 0021
"""

from alembic import op

revision = "0021"
down_revision = "0020"
phase = "expand"


def upgrade() -> None:
    """Built beside the traffic; one that was cut off is begun anew."""
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists event_log_accounts")
        op.execute(
            "create index concurrently event_log_accounts on event_log (partition, seq) where type in"
            " ('goodfaith.account.notice.v1', 'goodfaith.account.channels.v1', 'goodfaith.message.read.v1',"
            " 'goodfaith.account.erased.v1', 'goodfaith.sanction.lift.v1')"
        )
