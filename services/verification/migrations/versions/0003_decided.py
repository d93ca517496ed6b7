"""What was decided against the complainant on a listing: triage looks at it."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Few items end so: the index stays small."""
    op.execute("create index items_failed on items (listing) where state in ('REJECTED', 'RESTORED')")


def downgrade() -> None:
    """The index alone."""
    op.execute("drop index items_failed")
