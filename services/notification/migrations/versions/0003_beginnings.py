"""When the windows begin that a message begins: with the sending, the delivery, the reading, or when it is deemed received.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """What was sent so far began its windows with the sending."""
    op.execute("""
        alter table messages
            add column begins text check (begins in ('sent', 'delivered', 'read')),
            add column deemed_at timestamptz,
            add column read_at timestamptz,
            add column begun_at timestamptz,
            add column begun_by text check (begun_by in ('sent', 'delivered', 'read', 'deemed'))
    """)
    op.execute("""
        update messages set begins = 'sent', begun_at = sent_at, begun_by = 'sent'
        where sent_at is not null and kind in ('seller_notice', 'counter_forwarded', 'counter_defect', 'info_request')
    """)
    # small: what has not begun and is to be deemed
    op.execute("create index messages_deemed on messages (deemed_at) where begun_at is null and deemed_at is not null")


def downgrade() -> None:
    """There is no way back: restore a backup."""
    raise NotImplementedError
