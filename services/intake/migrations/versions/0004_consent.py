"""Agents and new owners consent: what an authorisation rests on, its history, and to whom a right is offered.

Revision ID: 0004
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
phase = "expand"


def upgrade() -> None:
    """Add the columns and the table."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
