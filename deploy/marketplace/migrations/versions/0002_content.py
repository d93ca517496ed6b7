"""What a listing's page shows.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "expand"


def upgrade() -> None:
    """Add the column."""
    op.execute("alter table listings add column content text")
    op.execute("comment on column listings.content is 'what the page shows, as JSON'")
