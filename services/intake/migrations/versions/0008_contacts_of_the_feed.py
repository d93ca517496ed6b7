"""Contact data that came from the marketplace, and how far its feed of a seller was taken in.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
phase = "expand"


def upgrade() -> None:
    """Add the column and the table. Contacts that exist are the accounts' own."""
    op.execute("alter table contacts add column fed boolean not null default false")
    op.execute(
        "comment on column contacts.fed is 'it came from the marketplace''s feed; false: from the account itself'"
    )
    op.execute(
        'create table fed_sellers (seller text collate "C" primary key, revision bigint not null,'
        " gone_at timestamptz, tried_wall timestamptz)"
    )
    op.execute("comment on table fed_sellers is 'How far the feed of sellers'' contacts was taken in, by seller.'")
    op.execute("comment on column fed_sellers.gone_at is 'when we learned that the marketplace had erased the seller'")
    op.execute("comment on column fed_sellers.tried_wall is 'when its erasure was last tried'")
    op.execute(
        "create index fed_sellers_gone on fed_sellers (tried_wall nulls first, seller) where gone_at is not null"
    )
