"""Which topics the cursors are valid for."""

from alembic import op

from shared.runtime.ddl import topic_ids

revision = "0017"
down_revision = "0016"
phase = "expand"


def upgrade() -> None:
    """None is known yet: the workers note those that they find."""
    op.execute(topic_ids())
    op.execute(topic_ids("inbound_"))


def downgrade() -> None:
    """The tables alone."""
    op.execute("drop table inbound_topic_ids")
    op.execute("drop table topic_ids")
