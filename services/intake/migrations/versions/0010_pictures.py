"""Pictures of listings are compared with those of rights: the queue, and what was found.

Revision ID: 0010
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
phase = "expand"


def upgrade() -> None:
    """Create the table."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
