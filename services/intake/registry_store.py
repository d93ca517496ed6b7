"""Tables of rights and authorisations, and what their changes tell open items (row 22) and accounts.

What changes the standing of open items closes the door first (``store.close_door``), so that no claim slips in between with
the standing of before. Each item is told what holds now of the right *and* the authorisation behind it: a right that comes
back does not release an item whose agent has no authorisation any more, and the other way round.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.intake import domain, evidence_store, registry, requests, store
from services.intake.domain import Account, Refused
from services.intake.store import Row, wall_ms
from shared import clock, events

LIMIT: Final = 20
"""Rights or authorisations ended in one transaction of the ``expire`` job: the door is closed meanwhile."""
WARNINGS: Final = 500
SYSTEM: Final = Account("a-system", "operator")
_RIGHT: Final = """id, owner, right_type, register, number, status, expires_at, proof, registered_at, mark, registrant, classes,
    territory, pending_reason"""
_ELSEWHERE: Final = """register = %s and right_type = %s and number = %s and status <> 'lost'
    and coalesce(pending_reason, '') not in ('right_registered_elsewhere', 'refused')"""
"""The registration of a right that counts, as the unique index has it."""


def notice(
    account: str, kind: str, about: str | None, now: dt.datetime, wall: dt.datetime, **figures: int | float | str
) -> events.AccountNotice:
    """A notice to an account."""
    return events.AccountNotice(
        notice=domain.new_id("n", wall_ms(wall)), account=account, kind=kind, about=about, figures=figures, at=now
    )


def moment(at: dt.datetime) -> str:
    """A time as a figure."""
    return at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


# -------------------------------------------------------------------------------------------------------------- rights


def add_right(
    connection: sa.Connection, id: str, owner: str, right: requests.RegisterRight, by: str, partitions: int
) -> Row:
    """Register a right, its form already checked: in force, or pending with the reason.

    Raises:
        Refused: the owner has registered it already.
    """
    now, wall = clock.read(connection)
    elsewhere = False
    if right.register is not None and right.number is not None:
        other = _registered(connection, right.register, right.right_type, right.number)
        if other is not None and other[1] == owner:
            raise Refused(
                409, "right_exists", "You have registered this right already.", field="number", cure=f"Use {other[0]}."
            )
        elsewhere = other is not None
    because = registry.pending_because(right.proof is not None, right.mark, elsewhere)
    status = "pending" if because is not None else _status(right.expires_at, now)
    connection.exec_driver_sql(
        f"insert into rights ({_RIGHT}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            id, owner, right.right_type, right.register, right.number, status, right.expires_at, right.proof, now, right.mark,
            right.registrant, None if right.classes is None else list(right.classes),
            None if right.territory is None else list(right.territory), because,
        ),
    )  # fmt: skip
    _note(connection, id, "registered", by, now, now=status, code=because)
    if elsewhere:
        store.tell_accounts(connection, [notice(owner, "right_registered_elsewhere", id, now, wall)], partitions)
    return right_row(connection, id)


def _registered(connection: sa.Connection, register: str, right_type: str, number: str) -> tuple[str, str] | None:
    """(right, owner) of the registration that counts. Until the transaction ends nobody else decides about this number."""
    connection.exec_driver_sql(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"right {register} {right_type} {number}",)
    )
    row = connection.exec_driver_sql(
        f"select id, owner from rights where register is not null and number is not null and {_ELSEWHERE}",
        (register, right_type, number),
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def _status(expires_at: dt.datetime | None, now: dt.datetime) -> str:
    return "expired" if expires_at is not None and expires_at <= now else "active"


def right_row(connection: sa.Connection, id: str, *, lock: bool = False) -> Row:
    """A right.

    Raises:
        Refused: 404.
    """
    rows = connection.exec_driver_sql(
        f"select {_RIGHT} from rights where id = %s" + (" for update" if lock else ""), (id,)
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise domain.not_found()
    return dict(row)


def own_right(connection: sa.Connection, id: str, me: Account, *, lock: bool = False, staff: bool = False) -> Row:
    """A right of the caller, or any for an operator (``staff``: and a reviewer).

    Raises:
        Refused: 404.
    """
    row = right_row(connection, id, lock=lock)
    if row["owner"] != me.id and me.role != "operator" and not (staff and me.sees_all):
        raise domain.not_found()
    return row


def list_rights(connection: sa.Connection, me: Account, after: str, limit: int, status: str | None = None) -> list[Row]:
    """Rights by id."""
    rows = connection.exec_driver_sql(
        f"""select {_RIGHT} from rights where (%s or owner = %s) and id > %s and (%s::text is null or status = %s)
        order by id limit %s""",
        (me.sees_all, me.id, after, status, status, limit),
    )
    return [dict(row) for row in rows.mappings()]


def history(connection: sa.Connection, id: str, limit: int = 100) -> list[Row]:
    """What happened to a right, latest first."""
    rows = connection.exec_driver_sql(
        "select kind, by, at, was, now, code from right_changes where right_id = %s order by id desc limit %s",
        (id, limit),
    )
    return [dict(row) for row in rows.mappings()]


def _note(
    connection: sa.Connection,
    id: str,
    kind: str,
    by: str,
    at: dt.datetime,
    *,
    was: str | None = None,
    now: str | None = None,
    code: str | None = None,
) -> None:
    connection.exec_driver_sql(
        "insert into right_changes (right_id, kind, by, at, was, now, code) values (%s, %s, %s, %s, %s, %s, %s)",
        (id, kind, by, at, was, now, code),
    )


def change_right(
    connection: sa.Connection,
    id: str,
    status: str,
    expires_at: dt.datetime | None,
    partitions: int,
    *,
    by: str,
    only_from: str | None = None,
) -> int:
    """Row 22: write the right's status down and tell all its items. Returns how many.

    Args:
        only_from: do nothing unless this is the status now (two workers may both see that a right's time has passed).

    A right that an operator brings into force is lost to another account that had it.
    """
    now, wall = store.close_door(connection)
    before = right_row(connection, id, lock=True)
    if only_from is not None and before["status"] != only_from:
        return 0
    if status != "lost" and before["status"] in ("lost", "pending"):
        _take_over(connection, before, now, wall, partitions, by)
    connection.exec_driver_sql(
        "update rights set status = %s, expires_at = %s, pending_reason = null where id = %s",
        (status, expires_at, id),
    )
    _note(connection, id, status, by, now, was=before["status"], now=status)
    if by == SYSTEM.id:
        told = notice(before["owner"], f"right_{status}", id, now, wall, **_ends(expires_at))
        store.tell_accounts(connection, [told], partitions)
    return tell_items(connection, "c.right_id = %s", (id,), now, wall, partitions)


def _ends(expires_at: dt.datetime | None) -> dict[str, str]:
    return {} if expires_at is None else {"expires_at": moment(expires_at)}


def _take_over(
    connection: sa.Connection, right: Row, now: dt.datetime, wall: dt.datetime, partitions: int, by: str
) -> None:
    """A right comes into force that another account has: that registration is lost, and its items are told."""
    if right["register"] is None or right["number"] is None:
        return
    other = _registered(connection, right["register"], right["right_type"], right["number"])
    if other is None or other[0] == right["id"]:
        return
    was = right_row(connection, other[0], lock=True)["status"]
    connection.exec_driver_sql("update rights set status = 'lost' where id = %s", (other[0],))
    _note(connection, other[0], "lost", by, now, was=was, now="lost", code="right_registered_elsewhere")
    store.tell_accounts(connection, [notice(other[1], "right_lost", other[0], now, wall)], partitions)
    tell_items(connection, "c.right_id = %s", (other[0],), now, wall, partitions)


def renew_right(connection: sa.Connection, id: str, body: requests.RenewRight, me: Account, partitions: int) -> int:
    """The register has renewed it: a later end, and its items are told. Returns how many.

    Raises:
        Refused: 404, or no renewal.
    """
    now, wall = store.close_door(connection)
    right = own_right(connection, id, me, lock=True)
    registry.check_renewal(right["status"], right["expires_at"], body.expires_at, now)
    status = "active" if right["status"] == "expired" else right["status"]
    connection.exec_driver_sql(
        "update rights set status = %s, expires_at = %s, proof = coalesce(%s, proof) where id = %s",
        (status, body.expires_at, body.proof, id),
    )
    was = None if right["expires_at"] is None else moment(right["expires_at"])
    _note(connection, id, "renewed", me.id, now, was=was, now=moment(body.expires_at))
    return tell_items(connection, "c.right_id = %s", (id,), now, wall, partitions)


def assign_right(connection: sa.Connection, id: str, body: requests.AssignRight, me: Account, partitions: int) -> int:
    """The right has passed to another account. The old owner has lost it: items of claims filed for it are told so.

    The new owner claims anew: a claim is its complainant's word, and does not pass on. Returns how many were told.

    Raises:
        Refused: 404, or nobody to assign it to.
    """
    now, wall = store.close_door(connection)
    right = own_right(connection, id, me, lock=True)
    there = store.accounts(connection, [body.to]).get(body.to)
    if there is None or there.role != "holder" or there.status == "closed":
        raise Refused(
            422, "unknown_account", "There is no such holder.", field="to", cure="The new owner opens an account first."
        )
    if body.to == right["owner"]:
        raise Refused(422, "owns_already", "The account owns the right.", field="to", cure="Name another account.")
    connection.exec_driver_sql(
        "update rights set owner = %s, proof = coalesce(%s, proof) where id = %s", (body.to, body.proof, id)
    )
    _note(connection, id, "assigned", me.id, now, was=right["owner"], now=body.to)
    told = [notice(right["owner"], "right_assigned", id, now, wall), notice(body.to, "right_received", id, now, wall)]
    store.tell_accounts(connection, told, partitions)
    return tell_items(connection, "c.right_id = %s", (id,), now, wall, partitions)


def rename_right(connection: sa.Connection, id: str, body: requests.RenameRight, me: Account, _partitions: int) -> int:
    """The owner's name has changed in the register. The history says that it did, not from what to what; no item is told.

    Raises:
        Refused: 404.
    """
    now, _ = clock.read(connection)
    own_right(connection, id, me, lock=True)
    connection.exec_driver_sql(
        "update rights set registrant = %s, proof = coalesce(%s, proof) where id = %s",
        (body.registrant, body.proof, id),
    )
    _note(connection, id, "renamed", me.id, now)
    return 0


def prove_right(connection: sa.Connection, id: str, body: requests.NameDocuments, me: Account, partitions: int) -> int:
    """Name documents in a right. One of kind ``ownership`` brings a right into force that waited for nothing else, and its items are told.

    Raises:
        Refused: 404, or 422 for a document that is not the caller's.
    """
    now, wall = store.close_door(connection)
    right = own_right(connection, id, me, lock=True)
    documents = evidence_store.name_in(connection, body.evidence, me.id, id, "right", now)
    proof = next((document.id for document in documents if "ownership" in document.kinds), None)
    if proof is None or right["proof"] is not None:
        return 0
    waited = right["pending_reason"] == "proof_missing"
    status = _status(right["expires_at"], now) if waited else right["status"]
    because = None if waited else right["pending_reason"]
    connection.exec_driver_sql(
        "update rights set proof = %s, status = %s, pending_reason = %s where id = %s", (proof, status, because, id)
    )
    _note(connection, id, "proven", me.id, now, was=right["status"], now=status)
    return tell_items(connection, "c.right_id = %s", (id,), now, wall, partitions)


def decide_right(connection: sa.Connection, id: str, body: requests.DecideRight, me: Account, partitions: int) -> int:
    """A reviewer's decision on a pending right; returns how many items were told.

    Accepted, it is in force, and another account's registration of it is lost. Refused, it stays pending, for good.

    Raises:
        Refused: 404, or it is not pending.
    """
    now, wall = store.close_door(connection)
    right = right_row(connection, id, lock=True)
    if right["status"] != "pending":
        raise Refused(409, "not_pending", f"The right is {right['status']}.", cure="Look at the right again.")
    if not body.accept:
        connection.exec_driver_sql("update rights set pending_reason = 'refused' where id = %s", (id,))
        _note(connection, id, "refused", me.id, now, was=right["pending_reason"], code=body.code)
        code = {} if body.code is None else {"code": body.code}
        store.tell_accounts(connection, [notice(right["owner"], "right_refused", id, now, wall, **code)], partitions)
        return 0
    _take_over(connection, right, now, wall, partitions, me.id)
    status = _status(right["expires_at"], now)
    connection.exec_driver_sql("update rights set status = %s, pending_reason = null where id = %s", (status, id))
    _note(connection, id, "accepted", me.id, now, was=right["pending_reason"], now=status)
    store.tell_accounts(connection, [notice(right["owner"], "right_accepted", id, now, wall)], partitions)
    return tell_items(connection, "c.right_id = %s", (id,), now, wall, partitions)


# ------------------------------------------------------------------------------------------------------ authorisations

_GRANT: Final = "id, agent, principal, rights, territory, expires_at, status, granted_at"


def add_authorisation(connection: sa.Connection, principal: str, grant: requests.Authorise, partitions: int) -> Row:
    """Let an agent file; items that were put on hold for want of an authorisation are told that there is one again.

    Raises:
        Refused: no such agent, or a right that is not the principal's.
    """
    named = registry.territory(grant.territory)
    now, wall = store.close_door(connection)
    there = store.accounts(connection, [grant.agent]).get(grant.agent)
    if there is None or there.status == "closed":
        raise Refused(
            422, "unknown_agent", "There is no such account.", field="agent", cure="The agent opens an account first."
        )
    owned = store.rights(connection, grant.rights or ())
    for place, right in enumerate(grant.rights or ()):
        if right not in owned or owned[right].owner != principal:
            raise Refused(
                422,
                "right_not_owned",
                "You have no such right.",
                field=f"rights[{place}]",
                cure="Register the right first.",
            )
    if grant.expires_at is not None and grant.expires_at <= now:
        raise Refused(
            422,
            "expired",
            "The authorisation's time has passed.",
            field="expires_at",
            cure="Give an end in the future.",
        )
    pair = (grant.agent, principal)
    before = store.grants(connection, [pair]).get(pair, [])
    id = domain.new_id("u", wall_ms(wall))
    row: Row = {
        "id": id, "agent": grant.agent, "principal": principal, "rights": None if grant.rights is None else list(grant.rights),
        "territory": None if named is None else list(named), "expires_at": grant.expires_at, "status": "active",
        "granted_at": now,
    }  # fmt: skip
    connection.exec_driver_sql(
        f"insert into authorisations ({_GRANT}) values (%s, %s, %s, %s, %s, %s, %s, %s)", tuple(row.values())
    )
    after = store.grants(connection, [pair]).get(pair, [])
    touched = _claimed(connection, pair, lambda right: _covered(after, right, now) and not _covered(before, right, now))
    store.tell_accounts(connection, [notice(grant.agent, "authorisation_given", id, now, wall)], partitions)
    tell_items(connection, *_under(pair, touched), now, wall, partitions)
    return row


def list_authorisations(connection: sa.Connection, me: Account, after: str, limit: int) -> list[Row]:
    """Authorisations given or received, by id."""
    rows = connection.exec_driver_sql(
        f"""select {_GRANT} from authorisations where (%s or agent = %s or principal = %s) and id > %s
        order by id limit %s""",
        (me.sees_all, me.id, me.id, after, limit),
    )
    return [dict(row) for row in rows.mappings()]


def end_authorisation(connection: sa.Connection, id: str, me: Account, status: str, partitions: int) -> int:
    """End an authorisation and tell the open items that were filed under it and no other covers. Returns how many.

    Raises:
        Refused: 404.
    """
    now, wall = store.close_door(connection)
    row = connection.exec_driver_sql(
        """update authorisations set status = %s where id = %s and status = 'active' and (%s or principal = %s)
        returning agent, principal""",
        (status, id, me.sees_all, me.id),
    ).one_or_none()
    if row is None:
        known = connection.exec_driver_sql(
            "select from authorisations where id = %s and (%s or principal = %s)", (id, me.sees_all, me.id)
        ).rowcount
        if known:
            return 0
        raise domain.not_found()
    pair = (row[0], row[1])
    left = store.grants(connection, [pair]).get(pair, [])
    touched = _claimed(connection, pair, lambda right: not _covered(left, right, now))
    store.tell_accounts(connection, [notice(pair[0], f"authorisation_{status}", id, now, wall)], partitions)
    return tell_items(connection, *_under(pair, touched), now, wall, partitions)


def _covered(granted: Iterable[domain.Authorisation], right: domain.Right, now: dt.datetime) -> bool:
    return any(grant.covers(right, now) for grant in granted)


def _claimed(connection: sa.Connection, pair: tuple[str, str], wanted: Any) -> list[str]:
    """Rights that the agent has claimed for the principal, and that are wanted."""
    ids = connection.exec_driver_sql(
        "select distinct right_id from claims where complainant = %s and principal = %s", pair
    ).scalars()
    return sorted(id for id, right in store.rights(connection, ids).items() if wanted(right))


def _under(pair: tuple[str, str], rights: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    return "c.complainant = %s and c.principal = %s and c.right_id = any(%s)", (*pair, list(rights))


# ------------------------------------------------------------------------------------------------------- what is told


def tell_items(
    connection: sa.Connection,
    where: str,
    values: tuple[Any, ...],
    now: dt.datetime,
    wall: dt.datetime,
    partitions: int,
) -> int:
    """A ``ChangeRight`` for every item whose claim fits, with what holds now; the door must be closed. Returns how many.

    Items that wait for the end of a suspension are told then (``misuse_store.release``).
    Whether it means anything to an item is for the item's owner to say: the read model may be behind.
    """
    rows = connection.exec_driver_sql(
        f"""select i.id, i.claim, i.listing, c.lane, c.complainant, c.principal, c.right_id
        from claims c join items i on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
        where {where} and i.state not in ('WITHDRAWN', 'LINK_INVALID')
            and not exists (select from door_held h where h.item = i.id)""",
        values,
    ).all()
    known = store.rights(connection, {row[6] for row in rows})
    granted = store.grants(connection, {(row[4], row[5]) for row in rows if row[4] != row[5]})
    found: dict[tuple[str, str, str], registry.Standing | None] = {}
    made = []
    for item, claim, listing, lane, complainant, principal, id in rows:
        behind = (complainant, principal, id)
        if behind not in found:
            right = known[id]
            covered = complainant == principal or _covered(granted.get((complainant, principal), ()), right, now)
            found[behind] = registry.standing(
                owns=right.owner == principal, status=right.status_at(now), covered=covered
            )
        status = found[behind]
        if status is None:
            continue
        command = events.ChangeRight(
            command=domain.new_id("k", wall_ms(wall)), item=item, claim=claim, listing=listing, by="a-system",
            role="system", accepted_at=now, status=status,
        )  # fmt: skip
        made.append(("change_right", lane, complainant, command))
    store.put_commands(connection, made, partitions)
    return len(made)


# ------------------------------------------------------------------------------------------------------------ the job


def expire(connection: sa.Connection, partitions: int, warn: dt.timedelta) -> int:
    """Write down rights and authorisations whose time has passed, tell their items, and warn owners ahead of it.

    Returns how many rights and authorisations that was.
    """
    now, wall = clock.read(connection)
    warned = warn_owners(connection, now, wall, warn, partitions)
    gone = list(
        connection.exec_driver_sql(
            "select id, expires_at from rights where status = 'active' and expires_at <= %s order by id limit %s",
            (now, LIMIT),
        )
    )
    for id, expires_at in gone:
        change_right(connection, id, "expired", expires_at, partitions, by=SYSTEM.id, only_from="active")
    ended = list(
        connection.exec_driver_sql(
            "select id from authorisations where status = 'active' and expires_at <= %s order by id limit %s",
            (now, LIMIT),
        ).scalars()
    )
    for id in ended:
        end_authorisation(connection, id, SYSTEM, "expired", partitions)
    return warned + len(gone) + len(ended)


def warn_owners(
    connection: sa.Connection, now: dt.datetime, wall: dt.datetime, warn: dt.timedelta, partitions: int
) -> int:
    """Tell owners of rights that expire within ``warn``: once for each date. Returns how many."""
    rows = connection.exec_driver_sql(
        """update rights as r set warned_for = n.expires_at from (
            select id, expires_at from rights where status = 'active' and expires_at > %s and expires_at <= %s
                and warned_for is distinct from expires_at order by expires_at limit %s for update skip locked) as n
        where r.id = n.id returning r.id, r.owner, r.expires_at""",
        (now, now + warn, WARNINGS),
    ).all()
    told = [notice(owner, "right_expiring", id, now, wall, **_ends(expires_at)) for id, owner, expires_at in rows]
    store.tell_accounts(connection, told, partitions)
    return len(told)
