"""Domains that accounts control, as a signal for reviewers.

Revision ID: 0011
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
phase = "expand"


def upgrade() -> None:
    """Create the table."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
