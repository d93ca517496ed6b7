"""Row 22: jobs tell open items what changed about a right or an authorisation, a bounded number of claims at a time.

A change of a right queues a job in the same transaction, and holds up nobody else. A claim that is being filed at that
moment may still read the right as it was, and commit after the change. So a job must not begin before such
transactions have ended, or it would miss the claim. Two steps ensure this without a lock:

1. ``pick_up`` notes its own transaction id on every new job. The change is committed by then, so every transaction that
   may have read the old right has a lower id: filing takes its id before it reads (``store.enter_admission``).
2. ``tell_next`` runs a job once no transaction with a lower id is running.

Each item is told what holds at that moment for the right *and* its authorisation: a right that comes back does not
release an item whose agent may no longer act, nor the other way round.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any, Final

import sqlalchemy as sa

from services.intake.kernel import domain, outbox, store
from services.intake.kernel.ids import new_id
from services.intake.kernel.store import wall_ms
from shared import events
from shared.events import State

ITEMS: Final = 500
"""Items looked at in one transaction, or those of a single claim if it has more."""
_CLAIMS: Final = 200
_UNTOUCHED: Final = tuple(sorted(events.SETTLED - {State.DUPLICATE}))
"""States to which a right's change means nothing, and which only a command ends. A duplicate may reopen by itself."""
_QUEUE: Final = """
    insert into right_jobs (right_id, agent, principal)
    select * from unnest(%s::text[], %s::text[], %s::text[]) order by 1, 2, 3
    on conflict (right_id, agent, principal) do update set again = right_jobs.after is not null"""
# a job restored into another cluster carries an id that this one has not reached yet: it is picked up again
_PICK_UP: Final = """
    update right_jobs as j set after = pg_current_xact_id() from (
        select right_id, agent, principal from right_jobs
        where after is null or after > pg_snapshot_xmax(pg_current_snapshot()) order by 1, 2, 3 for update skip locked
    ) as n where (j.right_id, j.agent, j.principal) = (n.right_id, n.agent, n.principal)"""
_TAKE: Final = """
    select right_id, agent, principal, next, again from right_jobs where after <= pg_snapshot_xmin(pg_current_snapshot())
    order by turn, since_wall limit 1 for update skip locked"""
_THIS: Final = "where right_id = %s and agent = %s and principal = %s"


def queue(connection: sa.Connection, *jobs: tuple[str, str, str]) -> None:
    """Queue jobs (right, agent, principal) that tell the items of matching claims. The last two may be empty: any."""
    if jobs:
        rights, agents, principals = map(list, zip(*jobs, strict=True))
        connection.exec_driver_sql(_QUEUE, (rights, agents, principals))


def queue_right(connection: sa.Connection, right: str) -> None:
    """Queue a job for all claims that refer to a right."""
    queue(connection, (right, "", ""))


def queue_in_force(connection: sa.Connection, jobs: Collection[tuple[str, str, str]]) -> None:
    """Queue those of the jobs whose right is in force, although items have just been found to lack it.

    To an item that waits for its listing it means nothing that its right was accepted, so it is told again.
    """
    rights = connection.exec_driver_sql(
        "select id from rights where id = any(%s) and status = 'active'", (sorted({right for right, _, _ in jobs}),)
    )
    in_force = set(rights.scalars())
    queue(connection, *(job for job in jobs if job[0] in in_force))


def pick_up(connection: sa.Connection) -> int:
    """Note on new jobs when they may run. Must be the transaction's first statement. Returns how many."""
    return connection.exec_driver_sql(_PICK_UP).rowcount


def tell_next(connection: sa.Connection, partitions: int) -> int | None:
    """Do the next part of the longest-waiting job. Returns how many items were told; None: nothing to do yet."""
    job = connection.exec_driver_sql(_TAKE).one_or_none()
    if job is None:
        return None
    right, agent, principal, after, again = job
    now, wall = store.enter_admission(connection)
    # filtered here: a right may have any number of other agents' claims, and a statement must read a bounded number
    read = connection.exec_driver_sql(
        "select id, complainant, principal, size from claims where right_id = %s and id > %s order by id limit %s",
        (right, after, _CLAIMS),
    ).all()
    claims: list[str] = []
    count = 0
    for id, complainant, owner, size in read:
        if not agent or (complainant, owner) == (agent, principal):
            if claims and count + size > ITEMS:
                break
            claims.append(id)
            count += size
        after = id
    told = tell_items(connection, "c.id = any(%s)", (claims,), now, wall, partitions)
    key = (right, agent, principal)
    if len(read) == _CLAIMS or (read and after != read[-1].id):
        connection.exec_driver_sql(f"update right_jobs set next = %s, turn = turn + 1 {_THIS}", (after, *key))
    elif again:
        connection.exec_driver_sql(
            f"update right_jobs set next = '', again = false, after = null, turn = turn + 1 {_THIS}", key
        )
    else:
        connection.exec_driver_sql(f"delete from right_jobs {_THIS}", key)
    return told


def oldest(connection: sa.Connection) -> float:
    """Unix time since which the oldest job has waited, in wall time; 0: no job waits."""
    return float(connection.exec_driver_sql("select extract(epoch from min(since_wall)) from right_jobs").scalar() or 0)


def tell_items(
    connection: sa.Connection,
    where: str,
    values: tuple[Any, ...],
    now: dt.datetime,
    wall: dt.datetime,
    partitions: int,
) -> int:
    """Queue a ``ChangeRight`` with what holds now for each open item that ``where`` selects. Returns how many.

    Call ``enter_admission`` first. Settled items are left out, unless a command that may reopen them is under way: the
    read model may lag, and whether the change matters to an item is for its owner to decide. Items that wait for the
    end of a suspension are told then (``misuse.held.release``).
    """
    rows = connection.exec_driver_sql(
        f"""select i.id, i.claim, i.listing, c.lane, c.complainant, c.principal, c.right_id
        from claims c join items i on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
        where {where}
            and (i.state <> all(%s) or exists (
                select from commands k where k.item = i.id and k.status = 'accepted' and k.kind <> 'change_right'))
            and not exists (select from held_items h where h.item = i.id)""",
        (*values, list(_UNTOUCHED)),
    ).all()
    known = store.rights(connection, {row.right_id for row in rows})
    by_agents = [row for row in rows if row.complainant != row.principal]
    granted = store.grants(connection, {(row.complainant, row.principal) for row in by_agents})
    found: dict[tuple[str, str, str], domain.RightStanding | None] = {}
    made = []
    for item, claim, listing, lane, complainant, principal, id in rows:
        authority = (complainant, principal, id)
        if authority not in found:
            right = known[id]
            covered = complainant == principal or covers(granted.get((complainant, principal), ()), right, now)
            found[authority] = domain.right_standing(
                owns=right.owner == principal, status=right.status_at(now), covered=covered
            )
        status = found[authority]
        if status is None:
            continue
        command = events.ChangeRight(
            command=new_id("k", wall_ms(wall)),
            item=item,
            claim=claim,
            listing=listing,
            by="a-system",
            role="system",
            accepted_at=now,
            status=status,
            materials=domain.proven_by_right(status),
        )
        made.append(outbox.QueuedCommand("change_right", lane, complainant, command))
    outbox.put_commands(connection, made, partitions)
    return len(made)


def covers(granted: Iterable[domain.Authorisation], right: domain.Right, now: dt.datetime) -> bool:
    """Whether one of the authorisations covers the right."""
    return any(grant.covers(right, now) for grant in granted)
