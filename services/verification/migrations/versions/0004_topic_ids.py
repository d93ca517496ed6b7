"""Which topics the cursors are valid for."""

from alembic import op

from shared.runtime.ddl import topic_ids

revision = "0004"
down_revision = "0003"
phase = "expand"


def upgrade() -> None:
    """None is known yet: the workers note those that they find."""
    op.execute(topic_ids())


def downgrade() -> None:
    """The tables alone."""
    op.execute("drop table topic_ids")
