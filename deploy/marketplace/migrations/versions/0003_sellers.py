"""Sellers' keys come by the queue as listings do.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """They are published and not kept: who tells of them knows them."""
    op.execute("alter table queue drop constraint queue_kind_check")
    op.execute("alter table queue add constraint queue_kind_check check (kind in ('seed', 'command', 'sellers'))")


def downgrade() -> None:
    """What waits is let go."""
    op.execute("delete from queue where kind = 'sellers'")
    op.execute("alter table queue drop constraint queue_kind_check")
    op.execute("alter table queue add constraint queue_kind_check check (kind in ('seed', 'command'))")
