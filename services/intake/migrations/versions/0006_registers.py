"""Registers are asked for a right's entry: the queue of queries, and rights that a register's answer accepted.

Revision ID: 0006
"""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
phase = "expand"


def upgrade() -> None:
    """Create the table, and widen who may accept a right."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
