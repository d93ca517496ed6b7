"""The queue of queries to registers, and what their answers do. Times are wall time: a register knows no other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final, NamedTuple

import sqlalchemy as sa

from services.intake.kernel import outbox, right_jobs, store
from services.intake.kernel.outbox import notice
from services.intake.kernel.store import Row
from services.intake.registry import entries
from services.intake.registry import store as registry_store
from services.intake.registry.entries import Entry, Result
from services.intake.registry.tables import register_queries
from shared import clock

STOOD: Final = dt.timedelta(hours=1)
"""A name must have stood for so long when it was verified: else who verified it may have looked at another."""
_TAKE: Final = """
    update register_queries q set due_wall = now() + %s * interval '1 s', tries = tries + 1 from (
        select right_id from register_queries where state = 'waiting' and due_wall <= now()
        order by due_wall limit %s for update skip locked) n
    where q.right_id = n.right_id
    returning q.right_id, q.register, q.number, q.since_wall < now() - %s * interval '1 s' as late"""
_POSTPONE: Final = """
    update register_queries set error = %s, due_wall = now() + least(600, 2 ^ least(tries, 10)) * interval '1 s'
    where right_id = %s and state = 'waiting'"""
_NAMED: Final = """
    select c.named_wall is not null and exists (
        select from account_changes h where h.account = a.id and h.kind = 'verified' and h.at_wall > c.named_wall + %s
        and (h.documents is not null or h.seen is not null) and not exists (
            select from account_changes l where l.account = a.id and l.kind = 'verification_withdrawn'
            and l.at_wall > h.at_wall)) as verified
    from accounts a join contacts c on c.account = a.id where a.id = %s and a.identity_verified"""
_REFUSED: Final = """
    select exists (select from rights r join right_changes h on h.right_id = r.id and h.kind in ('refused', 'lost')
        where r.owner = %s and r.register = %s and r.right_type = 'trademark' and r.number = %s)"""


class Query(NamedTuple):
    """A register is asked for a right's number. ``late``: it has not answered for so long that a person decides."""

    right: str
    register: str
    number: str
    late: bool


def ask(connection: sa.Connection, right: Row) -> None:
    """Have a right's register asked, if it waits for proof."""
    if right["pending_reason"] in ("proof_missing", "proof_unseen") and right["right_type"] == "trademark":
        values = {"right_id": right["id"], "register": right["register"], "number": right["number"]}
        connection.execute(sa.insert(register_queries).values(values))


def take(connection: sa.Connection, limit: int, lease_s: float, give_up_s: float) -> list[Query]:
    """Take due queries; each becomes due again after ``lease_s``."""
    return [Query(*row) for row in connection.exec_driver_sql(_TAKE, (lease_s, limit, give_up_s))]


def failed(connection: sa.Connection, right: str, error: str) -> None:
    """There was no answer: ask again later, after 2 to 600 seconds."""
    connection.exec_driver_sql(_POSTPONE, (error, right))


def silent(connection: sa.Connection, right: str, error: str) -> None:
    """There was no answer for too long: the right is left to a person, and its history says so."""
    if _end(connection, right, "silent", error):
        now, _ = clock.read(connection)
        registry_store.note(connection, right, "register_silent", registry_store.SYSTEM.id, now)


def _end(connection: sa.Connection, right: str, state: str, result: str) -> bool:
    column = "result" if state == "answered" else "error"
    done = connection.exec_driver_sql(
        f"update register_queries set state = %s, {column} = %s where right_id = %s and state = 'waiting'",
        (state, result, right),
    )
    return bool(done.rowcount)


def waiting(connection: sa.Connection) -> tuple[int, dt.datetime | None]:
    """How many queries wait, and since when the oldest does."""
    count, since = connection.exec_driver_sql(
        "select count(*), min(since_wall) from register_queries where state = 'waiting'"
    ).one()
    return count, since


def is_verified(connection: sa.Connection, account: str) -> bool:
    """Whether a person verified the account's identity by the name that it has now."""
    return bool(connection.exec_driver_sql(_NAMED, (STOOD, account)).scalar())


def answered(
    connection: sa.Connection,
    query: Query,
    entry: Entry | None,
    name_of: Callable[[list[tuple[str, bytes, bytes]]], str | None],
    partitions: int,
) -> Result | None:
    """A register has answered: accept the right, or leave it to a person. None: another process was quicker.

    It takes no right from anybody, brings back none that was refused, and looks at no number but the one asked for.

    Args:
        name_of: opens the sealed contact of the owner's account, which is read once the right cannot pass on.
    """
    right = registry_store.locked(connection, query.right)
    now, wall = clock.read(connection)
    if right["pending_reason"] not in ("proof_missing", "proof_unseen"):
        result: Result = "not_waiting"
    else:
        verified = None
        if is_verified(connection, right["owner"]):
            verified = name_of(store.sealed_contacts(connection, [right["owner"]]))
        result = entries.judge(entry, query.number, right["mark"], verified, now.date())
        if result == "accepted":
            result = _stands_against(connection, right) or result
    if not _end(connection, query.right, "answered", result):
        return None
    by = registry_store.SYSTEM.id
    if result != "accepted":
        if result != "not_waiting":
            registry_store.note(connection, query.right, "register_answered", by, now, code=result)
        return result
    assert entry is not None
    ends = right["expires_at"]
    if entry.ends is not None:
        ends = dt.datetime.combine(entry.ends, dt.time(), dt.UTC)
    status = registry_store.accept_by_register(connection, right["id"], ends, now)
    seen = f"register:{query.register}:{query.number}"
    registry_store.note(
        connection,
        right["id"],
        "accepted",
        by,
        now,
        was=right["pending_reason"],
        now=status,
        code="register",
        seen=seen,
    )
    outbox.publish_accounts(connection, [notice(right["owner"], "right_accepted", right["id"], now, wall)], partitions)
    right_jobs.queue_right(connection, right["id"])
    return result


def _stands_against(connection: sa.Connection, right: Row) -> Result | None:
    """Why a person decides although the register has said yes."""
    if registry_store.is_registered(connection, right):
        return "right_registered_elsewhere"
    key = (right["owner"], right["register"], right["number"])
    if connection.exec_driver_sql(_REFUSED, key).scalar_one():
        return "refused_before"
    kind = connection.exec_driver_sql("select kind from accounts where id = %s", (right["owner"],)).scalar_one()
    # people share names; of companies, a register of companies sees to it
    return None if kind == "company" else "not_a_company"
