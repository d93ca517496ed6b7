"""Items that wait for the end of their account's suspension."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from services.intake.kernel import right_jobs, store
from shared import clock

RELEASE: Final = 500
"""Items released in one transaction."""
_RELEASABLE: Final = """
    select h.item from held_items h join accounts a on a.id = h.complainant
    where a.misuse <> 'suspension' or a.misuse_until <= %s order by h.id limit %s"""
_MOVE: Final = """
    with gone as (delete from held_items where item = any(%s) returning *)
    insert into admission_queue (kind, lane, complainant, partition, claim, item, listing, on_site, accepted_at, traceparent)
    select 'submit', lane, complainant, partition, claim, item, listing, on_site, %s, traceparent from gone order by id returning item"""
_RIGHT_CHANGED: Final = """i.id = any(%s) and (c.complainant <> c.principal or exists (
    select from rights r where r.id = c.right_id and (r.status <> 'active' or r.owner <> c.principal)))"""


def release(connection: sa.Connection, partitions: int, limit: int = RELEASE) -> int:
    """Move items whose account is no longer suspended to the admission queue, in filing order. Returns how many.

    Their time of right is now. After that they are told what became of their rights meanwhile.
    """
    ready = connection.exec_driver_sql(_RELEASABLE, (clock.read(connection)[0].date(), 1)).rowcount
    if not ready:
        return 0
    now, wall = store.enter_admission(connection)
    items = list(connection.exec_driver_sql(_RELEASABLE, (now.date(), limit)).scalars())
    moved = list(connection.exec_driver_sql(_MOVE, (items, now)).scalars())
    right_jobs.tell_items(connection, _RIGHT_CHANGED, (moved,), now, wall, partitions)
    return len(moved)


def waiting(connection: sa.Connection, account: str) -> int:
    """Number of an account's items that wait for its suspension to end."""
    return connection.exec_driver_sql("select count(*) from held_items where complainant = %s", (account,)).scalar_one()  # type: ignore[no-any-return]
