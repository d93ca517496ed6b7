"""What accounts filed by day, and the brakes that this has put on.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
phase = "expand"


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """create table filing_days (
            account text collate "C" not null references accounts (id),
            day date not null,
            by_topic boolean not null,
            items integer not null,
            held integer not null,
            primary key (account, day, by_topic)
        )"""
    )
    op.execute("comment on column filing_days.by_topic is 'filed by an upstream''s topic'")
    # else those who file much would be held back for having no history
    op.execute(
        """insert into filing_days (account, day, by_topic, items, held)
        select complainant, (accepted_at at time zone 'UTC')::date, false, least(sum(size), 2000000000), 0 from claims
        where accepted_at > (select coalesce(max(accepted_at), now()) from claims) - interval '28 days' group by 1, 2"""
    )
    op.execute(
        """create table brakes (
            account text collate "C" primary key references accounts (id),
            since timestamptz not null,
            until date not null,
            released date,
            complained_at timestamptz,
            decided_at timestamptz,
            decided_by text,
            decision text check (decision in ('release', 'confirm')),
            code text
        )"""
    )
    op.execute(
        "create index brakes_complained on brakes (account) where complained_at is not null and decided_at is null"
    )
