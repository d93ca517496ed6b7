"""Which topics the cursors are valid for."""

from alembic import op

from shared.runtime.ddl import topic_ids

revision = "0007"
down_revision = "0006"
phase = "expand"


def upgrade() -> None:
    """None is known yet: the workers note those that they find."""
    op.execute(topic_ids())
    op.execute(topic_ids("ledger_"))


def downgrade() -> None:
    """The tables alone."""
    op.execute("drop table ledger_topic_ids")
    op.execute("drop table topic_ids")
