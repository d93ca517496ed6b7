"""What near copies of upheld listings are found by (row 20)."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Items that are upheld from now on are known here; those from before are not looked for."""
    op.execute(
        """
        -- upheld items by whom they are about (a seller, a business), with title and picture of the listing as then known;
        -- gone as soon as the item is upheld no more
        create table upheld (
            item text collate "C" not null,
            owner text collate "C" not null,
            claim text not null,
            listing text collate "C" not null,
            right_id text collate "C" not null,
            reason text not null,
            profile text not null,
            upheld_at timestamptz not null,
            title text not null,
            picture text,
            primary key (item, owner)
        );
        create index upheld_owner on upheld (owner, upheld_at desc);

        -- listings that recurrence has nothing to say about any more, by right: found already (item: whose near copy it is), or
        -- a claim about it has ended, and so whoever owns the right knows it
        create table recurrences (
            listing text collate "C" not null,
            right_id text collate "C" not null,
            item text collate "C",
            primary key (listing, right_id)
        );
        """
    )


def downgrade() -> None:
    """Forget them."""
    op.execute("drop table upheld; drop table recurrences")
