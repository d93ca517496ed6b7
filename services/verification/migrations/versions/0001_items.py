"""The runtime's tables, items, and what the marketplace says of its listings."""

from alembic import op

from shared.runtime.ddl import runtime_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    op.execute(runtime_v1())
    op.execute(
        """
        -- body: the item's whole state (services.verification.lifecycle.Item) as JSON; the columns beside it are what is
        -- searched by. blocks: open or upheld, so that another claim on the same listing, right and reason is a duplicate.
        -- next_due: earliest deadline; a timer is this row, fired by the partition's owner up to its watermark.
        create table items (
            item text collate "C" primary key,
            partition int not null,
            claim text not null,
            listing text collate "C" not null,
            right_id text collate "C" not null,
            reason text collate "C" not null,
            state text not null,
            original text collate "C",
            blocks boolean not null,
            waits boolean not null,
            next_due timestamptz,
            revision int not null,
            body text not null
        ) with (fillfactor = 80);
        create index items_due on items (partition, next_due) where next_due is not null;
        create index items_blocking on items (listing, right_id, reason) where blocks;
        create index items_waiting on items (listing) where waits;
        create index items_duplicates on items (original) where original is not null;

        -- the latest that the marketplace said of each listing
        create table listings (
            listing text collate "C" primary key,
            body text not null
        );
        """
    )


def downgrade() -> None:
    """There is no way back from the first revision."""
    raise NotImplementedError
