"""A measure knows the warning that it came in the place of; what an account served as a part of its business is kept at hand."""

from alembic import op

revision = "0005"
down_revision = "0004"

AFTER = """
alter table sanctions add column after timestamptz;
comment on column sanctions.after is
    'when the warning was given that a later violation turned into it; null: it was imposed for the threshold';
drop index sanctions_open;
create index sanctions_open on sanctions (seller) where state = 'in_force' or stands or (measures = '' and state <> 'lifted')
    or (scope = 'entity' and cause in ('timer', 'operator'));
"""


def upgrade() -> None:
    """Measures that were imposed before know of no warning."""
    op.get_bind().exec_driver_sql(AFTER)
