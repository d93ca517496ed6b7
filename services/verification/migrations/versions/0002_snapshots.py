"""What listings show, and what they showed when items were filed on them.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "expand"


def upgrade() -> None:
    """Add the columns and the table."""
    op.execute(
        """
        alter table listings add column bulk text, add column digest text collate "C", add column seen_at timestamptz,
            add column filed boolean not null default false
        """
    )
    op.execute(
        """
        create table snapshots (
            listing text collate "C" not null,
            digest text collate "C" not null,
            body text not null,
            bulk text,
            seen_at timestamptz,
            until timestamptz not null,
            filed boolean not null,
            primary key (listing, digest)
        )
        """
    )
    for column, text in (
        ("listings.bulk", "what it shows, as far as no rule reads it"),
        ("listings.digest", "of what it shows"),
        ("listings.seen_at", "since when it shows that, as far as is known"),
        ("listings.filed", "an item is judged on what it shows now"),
        ("snapshots.filed", "an item is judged on it"),
    ):
        op.execute(f"comment on column {column} is '{text}'")
    op.execute(
        "comment on table snapshots is 'What listings showed before, from the first item on that was filed on them.'"
    )
