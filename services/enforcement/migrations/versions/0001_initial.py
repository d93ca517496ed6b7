"""The runtime's tables, and in `0001_initial.sql` holds, ledgers, sanctions, entities and statements of reasons.

Revision ID: 0001
"""

from pathlib import Path

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None
phase = "expand"


def upgrade() -> None:
    """Create the tables."""
    for prefix in ("", "ledger_"):
        op.get_bind().exec_driver_sql(runtime_v1(prefix))
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace("%", "%%"))
