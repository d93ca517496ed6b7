"""The context of the trace that a command to the marketplace belongs to, and its receipt (HTTP adapter)."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing is traced yet."""
    op.get_bind().exec_driver_sql("alter table deliveries add column traceparent text")
    op.get_bind().exec_driver_sql("alter table receipts add column traceparent text")
