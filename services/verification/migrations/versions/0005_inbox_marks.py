"""What was read is kept as marks where an inbox forgets ids (``goodfaith prune``).

Revision ID: 0005
"""

from alembic import op

from shared.runtime.ddl import runtime_v2

revision = "0005"
down_revision = "0004"
phase = "expand"


def upgrade() -> None:
    """Nothing is forgotten yet."""
    op.execute(runtime_v2())
