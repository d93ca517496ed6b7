"""Row-level security: what the door reads for a party, it reads as a role that sees no rows but that party's.

The service's own role sees all rows, as before: a policy that is simply true costs a query nothing.

Revision ID: 0028
"""

from alembic import op

revision = "0028"
down_revision = "0027"
phase = "expand"

ACCOUNT = "(select current_setting('goodfaith.account', true))"
PARTY = {
    "claims": f"complainant = {ACCOUNT} or principal = {ACCOUNT} or party_sells_in(id, {ACCOUNT})",
    "items": f"""seller = {ACCOUNT} or exists (
        select from claims c where c.id = items.claim and {ACCOUNT} in (c.complainant, c.principal))""",
    "timeline": "exists (select from items i where i.id = timeline.item)",
    "commands": "exists (select from items i where i.id = commands.item)",
    "messages": f"party = {ACCOUNT}",
    "rights": f"owner = {ACCOUNT}",
    "right_changes": "exists (select from rights r where r.id = right_changes.right_id)",
    "authorisations": f"{ACCOUNT} in (agent, principal)",
}
# a policy that asked for items itself would never end, for that of items asks for claims
SELLS_IN = """
create function party_sells_in(claim text, account text) returns boolean
language sql stable security definer cost 10000 set search_path = intake, pg_temp as $$
    select exists (select from items i where i.seller = $2
        and i.id between 'i-' || substr($1, 3, 23) || '000' and 'i-' || substr($1, 3, 23) || 'ZZZ')
$$
"""


def upgrade() -> None:
    """The roles are there: ``shared.migrate`` has made them."""
    op.execute(SELLS_IN)
    op.execute("revoke execute on function party_sells_in from public")
    op.execute("grant execute on function party_sells_in to goodfaith_intake_party")
    op.execute("create policy streams on claims for select to goodfaith_streams using (true)")
    for table, mine in PARTY.items():
        op.execute(f"create policy service on {table} to goodfaith_intake using (true) with check (true)")
        op.execute(f"create policy party on {table} for select to goodfaith_intake_party using ({mine})")
        # the version before copies into the others, which row-level security forbids: the contraction has them
        if table not in ("claims", "items"):
            op.execute(f"alter table {table} enable row level security")


def downgrade() -> None:
    """What a party may read is then decided by the queries alone."""
    op.execute("drop policy streams on claims")
    for table in PARTY:
        op.execute(f"alter table {table} disable row level security")
        op.execute(f"drop policy party on {table}")
        op.execute(f"drop policy service on {table}")
    op.execute("drop function party_sells_in")
