"""Evidence is sealed: each document has a key, wrapped under the installation's, which goes before the document does.

Revision ID: 0023
"""

from alembic import op

revision = "0023"
down_revision = "0022"
phase = "expand"


def upgrade() -> None:
    """What was stored before stays as it is until it goes."""
    op.execute("alter table evidence add column sealed boolean not null default false, add column key bytea")


def downgrade() -> None:
    """What is sealed cannot be opened any more."""
    op.execute("alter table evidence drop column sealed, drop column key")
