"""Of one right in a register one registration is in force; what is only pending keeps nobody out.

Revision ID: 0026
"""

from alembic import op

revision = "0026"
down_revision = "0025"
phase = "expand"


def upgrade() -> None:
    """The version before asks the table under a lock first, and the index has the last word for both versions."""
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists rights_in_force")
        op.execute(
            "create unique index concurrently rights_in_force on rights (register, right_type, number)"
            " where register is not null and number is not null and status in ('active', 'expired')"
        )
        op.execute("drop index concurrently if exists rights_waiting")
        op.execute(
            "create index concurrently rights_waiting on rights (register, right_type, number, owner)"
            " where register is not null and number is not null and status = 'pending'"
        )
        op.execute("drop index concurrently if exists rights_number")
