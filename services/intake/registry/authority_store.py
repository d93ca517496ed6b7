"""Tables of authorisations. One comes into force only by the word of both sides, or by an accepted power of attorney.

Changes of one agent's authorisations for one principal exclude each other. One that waits has the status ``ended`` and
a ``pending_reason``: a process of 0.2.0 knows no other status by which nobody may file.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.intake.evidence import store as evidence_store
from services.intake.kernel import domain, outbox, requests, right_jobs, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.outbox import notice
from services.intake.kernel.refusals import not_found
from services.intake.kernel.store import Row, wall_ms
from services.intake.registry import domain as registry
from services.intake.registry.store import LIMIT, SYSTEM, exclude
from services.intake.registry.tables import authorisation_changes, authorisations
from services.intake.review import store as review_store
from shared import clock
from shared.refusals import Refused

_A: Final = authorisations.c
_SHOWN: Final = {
    "status": sa.case((_A.pending_reason.is_not(None), "pending"), else_=_A.status),
    "pending_reason": sa.case(
        ((_A.pending_reason == "proof_missing") & _A.documents_at.is_not(None), "proof_unseen"), else_=_A.pending_reason
    ),
}
_ROW: Final = sa.select(*(_SHOWN.get(column.name, column).label(column.name) for column in _A))


def ask(
    connection: sa.Connection, me: str, grant: requests.Authorise, partitions: int, *, id: str | None = None
) -> Row:
    """Ask the other side for an authorisation: a principal an agent, or an agent a principal. Until then it waits.

    Raises:
        Refused: no such account, a right that is not the principal's, a principal that is suspended, an end in the past,
            or too much that waits.
    """
    named = registry.territory(grant.territory)
    other, field = registry.sides(me, grant.agent, grant.principal)
    by_principal = field == "agent"
    agent, principal = (other, me) if by_principal else (me, other)
    exclude(connection, f"authorisations of {me}")
    now, wall = clock.read(connection)
    # wait for a suspension that is being recorded
    connection.exec_driver_sql("select from accounts where id = %s for share", (me,))
    people = store.accounts(connection, [agent, principal])
    domain.check_lends(people[me], now.date())
    there = people.get(other)
    if there is None or there.status == "closed" or there.role != "holder":
        raise Refused(
            422,
            "unknown_agent" if by_principal else "unknown_principal",
            "There is no such holder.",
            field=field,
            cure="It opens an account first, as a holder.",
        )
    owned = store.rights(connection, grant.rights or ())
    for index, right in enumerate(grant.rights or ()):
        if right not in owned or owned[right].owner != principal:
            raise Refused(
                422,
                "right_not_owned",
                "The principal has no such right.",
                field=f"rights[{index}]",
                cure="The principal registers the right first.",
            )
    registry.check_grant_ends(grant.expires_at, now)
    waits = connection.exec_driver_sql(
        "select count(*) from authorisations where asked_by = %s and pending_reason is not null", (me,)
    ).scalar_one()
    registry.check_waiting(waits)
    id = id or new_id("u", wall_ms(wall))
    connection.execute(
        sa.insert(authorisations).values(
            id=id,
            agent=agent,
            principal=principal,
            rights=None if grant.rights is None else list(grant.rights),
            territory=None if named is None else list(named),
            expires_at=grant.expires_at,
            status="ended",
            granted_at=now,
            basis=None,
            asked_by=me,
            pending_reason="agent_consent" if by_principal else "proof_missing",
        )
    )
    _note(connection, id, "asked", me, now)
    told = notice(other, "authorisation_offered" if by_principal else "authorisation_asked", id, now, wall)
    outbox.publish_accounts(connection, [told], partitions)
    _prove(connection, id, me, grant.evidence, now)
    return _row(connection, id)


def _row(connection: sa.Connection, id: str, *, lock: bool = False) -> Row:
    query = _ROW.where(_A.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise not_found()
    return dict(row)


def shown(connection: sa.Connection, id: str, me: Account) -> Row:
    """An authorisation that the caller has given, received or asked for, or any for staff.

    Raises:
        Refused: 404.
    """
    row = _row(connection, id)
    if me.id not in (row["agent"], row["principal"]) and not me.sees_all:
        raise not_found()
    return row


def _locked(connection: sa.Connection, id: str, me: Account) -> Row:
    """The same, locked: until the transaction ends, nobody else changes what the agent may do for the principal.

    Raises:
        Refused: 404.
    """
    row = shown(connection, id, me)
    exclude(connection, "authorisations {agent} {principal}".format(**row))  # they never change
    return _row(connection, id, lock=True)


def list_authorisations(
    connection: sa.Connection, me: Account, after: str, limit: int, status: str | None = None
) -> list[Row]:
    """Authorisations given, received or asked for, by id."""
    query = _ROW.where(_A.id > after)
    if not me.sees_all:
        query = query.where((_A.agent == me.id) | (_A.principal == me.id))
    if status == "pending":
        query = query.where(_A.pending_reason.is_not(None))
    elif status is not None:
        query = query.where(_A.status == status, _A.pending_reason.is_(None))
    return [dict(row) for row in connection.execute(query.order_by(_A.id).limit(limit)).mappings()]


def history(connection: sa.Connection, id: str, limit: int = 100) -> list[Row]:
    """What happened to an authorisation, latest first."""
    rows = connection.exec_driver_sql(
        """select kind, by, at, code, documents, seen from authorisation_changes
        where authorisation = %s order by id desc limit %s""",
        (id, limit),
    )
    return [dict(row) for row in rows.mappings()]


def _note(connection: sa.Connection, id: str, kind: str, by: str, at: dt.datetime, **rests: Any) -> None:
    connection.execute(sa.insert(authorisation_changes).values(authorisation=id, kind=kind, by=by, at=at, **rests))


def _set(connection: sa.Connection, id: str, **values: Any) -> None:
    connection.execute(sa.update(authorisations).where(_A.id == id).values(**values))


def prove(connection: sa.Connection, id: str, body: requests.NameDocuments, me: Account) -> bool:
    """Name documents in an authorisation. One of kind ``authority`` has it wait for a reviewer, also after a refusal.

    Raises:
        Refused: 404; 403 for anybody but the agent; 409, it does not wait for a power of attorney; a document that is
            not the caller's.
    """
    now, _ = clock.read(connection)
    row = _locked(connection, id, me)
    registry.check_proves(row["pending_reason"], me.id, row["agent"])
    _prove(connection, id, me.id, body.evidence, now)
    return True


def _prove(connection: sa.Connection, id: str, me: str, documents: Sequence[str], now: dt.datetime) -> None:
    named = evidence_store.name_in(connection, documents, me, id, "authorisation", now)
    if any("authority" in document.kinds for document in named):
        _set(connection, id, documents_at=now, pending_reason="proof_missing")
        _note(connection, id, "documents", me, now, documents=[document.id for document in named])


def answer(connection: sa.Connection, id: str, body: requests.Consent, me: Account, partitions: int) -> bool:
    """The side that was asked consents, and the authorisation is in force; or either side ends the matter.

    Raises:
        Refused: 404; 403, one's own request; 409, it does not wait; a principal that is suspended; its end has passed.
    """
    row = _locked(connection, id, me)
    now, wall = clock.read(connection)
    asked = None
    if row["pending_reason"] is not None:
        asked = row["principal"] if row["asked_by"] == row["agent"] else row["agent"]
    registry.check_consent(asked, me.id, body.accept)
    if body.accept:
        _come_into_force(connection, row, "principal", now, wall, partitions)
        _note(connection, id, "accepted", me.id, now)
        return True
    _set(connection, id, pending_reason=None)
    _note(connection, id, "declined", me.id, now)
    others = {row["agent"], row["principal"]} - {me.id}
    told = [notice(account, "authorisation_declined", id, now, wall) for account in sorted(others)]
    outbox.publish_accounts(connection, told, partitions)
    return True


def decide(connection: sa.Connection, id: str, body: requests.DecideRight, me: Account, partitions: int) -> bool:
    """Record a reviewer's decision on a power of attorney, and what it rests on. The principal is told of it.

    If refused, it waits until the agent names further documents or the principal confirms.

    Raises:
        Refused: 404; 409, no power of attorney waits; a conflict of interest; nothing that it could rest on.
    """
    row = _locked(connection, id, me)
    now, wall = clock.read(connection)
    if row["pending_reason"] not in ("proof_missing", "proof_unseen", "refused"):
        raise Refused(409, "not_pending", "No power of attorney waits here.", cure="Look at the authorisation again.")
    for account in (row["agent"], row["principal"]):
        review_store.check_unbiased(connection, me, account)
    named = evidence_store.lock_named(connection, id)
    registry.check_power(body.accept, body.code, body.documents, body.seen, named)
    rests: dict[str, Any] = {"documents": body.documents or None, "seen": body.seen}
    if not body.accept:
        assert body.code is not None
        _set(connection, id, pending_reason="refused", documents_at=None)
        _note(connection, id, "refused", me.id, now, code=body.code, **rests)
        told = notice(row["agent"], "authorisation_refused", id, now, wall, code=body.code)
        outbox.publish_accounts(connection, [told], partitions)
        return True
    _come_into_force(connection, row, "power_of_attorney", now, wall, partitions)
    _note(connection, id, "accepted", me.id, now, **rests)
    told = notice(row["principal"], "authorisation_by_power", id, now, wall)
    outbox.publish_accounts(connection, [told], partitions)
    return True


def _come_into_force(
    connection: sa.Connection, row: Row, basis: str, now: dt.datetime, wall: dt.datetime, partitions: int
) -> None:
    """Let the agent file. Items put on hold for lack of an authorisation are told that there is one again.

    Raises:
        Refused: the principal is suspended or closed, the agent is closed, or the end has passed meanwhile.
    """
    agent, principal = pair = (row["agent"], row["principal"])
    # wait for a suspension that is being recorded
    connection.exec_driver_sql("select from accounts where id = any(%s) order by id for share", ([agent, principal],))
    people = store.accounts(connection, pair)
    domain.check_lends(people[principal], now.date())
    domain.check_open(people[agent])
    registry.check_grant_ends(row["expires_at"], now)
    before = store.grants(connection, [pair]).get(pair, [])
    _set(connection, row["id"], status="active", pending_reason=None, basis=basis, granted_at=now)
    after = store.grants(connection, [pair]).get(pair, [])
    touched = _claimed(
        connection,
        pair,
        lambda right: right_jobs.covers(after, right, now) and not right_jobs.covers(before, right, now),
    )
    outbox.publish_accounts(connection, [notice(agent, "authorisation_given", row["id"], now, wall)], partitions)
    right_jobs.queue(connection, *((right, *pair) for right in touched))


def end(connection: sa.Connection, id: str, me: Account, status: str, partitions: int) -> bool:
    """End an authorisation, and tell open items filed under it that no other one covers. False: it had already ended.

    Either side may: an agent need not act for anybody.

    Raises:
        Refused: 404.
    """
    row = _locked(connection, id, me)
    now, wall = clock.read(connection)
    if row["pending_reason"] is None and row["status"] != "active":
        return False
    pair = (row["agent"], row["principal"])
    _set(connection, id, status=status, pending_reason=None)
    _note(connection, id, status, me.id, now)
    others = {row["agent"]} if status == "expired" else {*pair} - {me.id}
    if row["pending_reason"] is None:
        left = store.grants(connection, [pair]).get(pair, [])
        touched = _claimed(connection, pair, lambda right: not right_jobs.covers(left, right, now))
        right_jobs.queue(connection, *((right, *pair) for right in touched))
    kind = f"authorisation_{status}" if row["pending_reason"] is None else "authorisation_declined"
    told = [notice(account, kind, id, now, wall) for account in sorted(others)]
    outbox.publish_accounts(connection, told, partitions)
    return True


def _claimed(connection: sa.Connection, pair: tuple[str, str], wanted: Callable[[domain.Right], bool]) -> list[str]:
    """Rights that the agent has claimed for the principal and that ``wanted`` selects."""
    ids = connection.exec_driver_sql(
        "select distinct right_id from claims where complainant = %s and principal = %s", pair
    ).scalars()
    return sorted(id for id, right in store.rights(connection, ids).items() if wanted(right))


def expire(connection: sa.Connection, partitions: int) -> int:
    """Record that authorisations have expired, and have their items told. Returns how many."""
    now, _ = clock.read(connection)
    ended = connection.exec_driver_sql(
        "select id from authorisations where status = 'active' and expires_at <= %s order by id limit %s", (now, LIMIT)
    ).scalars()
    return sum(end(connection, id, SYSTEM, "expired", partitions) for id in list(ended))
