"""Evidence: documents, what they were named in, and who has read them.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# state: arriving (its bytes may or may not be stored), kept, going (to be deleted), gone (a tombstone, without the name).
# looked_wall: when the clean-up is to look at it next.
TABLES = """
create table evidence (
    id text collate "C" primary key,
    account text collate "C" not null references accounts,
    kinds text[] not null,
    digest bytea not null,
    size bigint not null,
    media text not null,
    name text,
    state text not null default 'arriving' check (state in ('arriving', 'kept', 'going', 'gone')),
    uploaded_at timestamptz not null,
    changed_wall timestamptz not null default now(),
    looked_wall timestamptz not null default now()
);
create unique index evidence_digest on evidence (account, digest) where state = 'kept';
create index evidence_account on evidence (account, id);
create index evidence_moving on evidence (changed_wall) where state in ('arriving', 'going');
create index evidence_looked on evidence (looked_wall) where state = 'kept';

create table evidence_links (
    document text collate "C" not null references evidence,
    about text collate "C" not null,
    about_kind text not null check (about_kind in ('claim', 'right', 'account')),
    owner text collate "C" not null,
    kinds text[] not null,
    linked_at timestamptz not null,
    primary key (document, about)
);
create index evidence_links_about on evidence_links (about, document);

-- who has read what; never changed
create table evidence_reads (
    id bigint generated always as identity primary key,
    document text collate "C" not null,
    reader text collate "C" not null,
    what text not null check (what in ('link', 'file')),
    at_wall timestamptz not null default now()
);
create index evidence_reads_document on evidence_reads (document, id);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """The objects in the store stay."""
    op.execute("drop table evidence_reads, evidence_links, evidence")
