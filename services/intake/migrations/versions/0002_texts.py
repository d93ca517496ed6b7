"""What the parties say in their own words, sealed; and by which change of its item a command was applied.

Revision ID: 0002
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "expand"


def upgrade() -> None:
    """Create the table and the columns."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
