"""Tables of rights. Jobs tell open items what their changes mean (``right_jobs``, row 22).

A change of a right's status locks first the number in the register and then the right's row (``locked``), and decides
by what the row says then. Nothing here holds up filing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import kinds_of
from services.intake.kernel import domain, outbox, requests, right_jobs, store
from services.intake.kernel.domain import Account
from services.intake.kernel.outbox import notice
from services.intake.kernel.refusals import not_found
from services.intake.kernel.store import Row
from services.intake.registry import domain as registry
from services.intake.registry.tables import right_changes, rights
from services.intake.review import store as review_store
from shared import clock
from shared.refusals import Refused

LIMIT: Final = 100
"""Rights, or authorisations, ended in one transaction of the ``expire`` job."""
WARNINGS: Final = 500
SYSTEM: Final = Account("a-system", "operator")
_UNSEEN: Final = (rights.c.pending_reason == "proof_missing") & rights.c.documents_at.is_not(None)
_SHOWN: Final = {
    "pending_reason": sa.case((_UNSEEN, "proof_unseen"), else_=rights.c.pending_reason),
    "accepted": sa.case((rights.c.status.in_(("active", "expired")), rights.c.accepted)),
}
"""Columns that say more, or less, than is stored: only a reviewer is wanting; a right in force was accepted."""
_RIGHT: Final = sa.select(
    *(_SHOWN.get(column.name, column).label(column.name) for column in rights.c if column.name != "warned_for")
)
_SAME: Final = "register = %s and right_type = %s and number = %s"
_COUNTS: Final = f"{_SAME} and status in ('active', 'expired')"
"""The registration of a right that counts, as in the unique index: an unproven one keeps nobody else out."""
_WAITS: Final = f"{_SAME} and status = 'pending' and pending_reason in ('proof_missing', 'mark_mixed_script')"


Accepted = Literal["person", "canary", "register"]
"""Who accepted a right. Those of an earlier version's rules have ``rules_0_2_0``, the column's default."""


class Registration(NamedTuple):
    """A registration of a right in a register."""

    right: str
    owner: str


def moment(at: dt.datetime) -> str:
    """A time as text, for notices and the history."""
    return at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


# -------------------------------------------------------------------------------------------------------------- rights


def add_right(
    connection: sa.Connection,
    id: str,
    owner: str,
    right: requests.RegisterRight,
    by: str,
    partitions: int,
    *,
    accepted: Accepted | None = None,
    documents: Sequence[str] = (),
) -> Row:
    """Register a right whose form is already checked: pending with a reason, or in force.

    Args:
        accepted: whoever registers it may accept it, and does; ``right.seen`` says by what.
        documents: of its ownership, for a reviewer.

    Raises:
        Refused: the owner has already registered it.
    """
    now, wall = clock.read(connection)
    elsewhere = False
    if right.register is not None and right.number is not None:
        key = (right.register, right.right_type, right.number)
        other = _registered(connection, *key)
        own = connection.exec_driver_sql(
            f"select id from rights where {_WAITS} and owner = %s order by id limit 1", (*key, owner)
        ).scalar()
        if other is not None and other.owner == owner:
            own = other.right
        if own is not None:
            raise Refused(
                409, "right_exists", "You have registered this right already.", field="number", cure=f"Use {own}."
            )
        elsewhere = other is not None
    because = registry.pending_because(accepted is not None, right.mark, elsewhere)
    status = "pending" if because is not None else _status(right.expires_at, now)
    connection.execute(
        sa.insert(rights).values(
            id=id,
            owner=owner,
            right_type=right.right_type,
            register=right.register,
            number=right.number,
            status=status,
            expires_at=right.expires_at,
            proof=right.proof,
            registered_at=now,
            mark=right.mark,
            registrant=right.registrant,
            classes=None if right.classes is None else list(right.classes),
            territory=None if right.territory is None else list(right.territory),
            published_on=None if right.published is None else right.published.on,
            published_where=None if right.published is None else right.published.where,
            pending_reason=because,
            accepted=None if because is not None else accepted,
            documents_at=now if documents else None,
        )
    )
    said = "proof_unseen" if documents and because == "proof_missing" else because
    note(connection, id, "registered", by, now, now=status, code=said, documents=documents, seen=right.seen)
    if elsewhere:
        outbox.publish_accounts(connection, [notice(owner, "right_registered_elsewhere", id, now, wall)], partitions)
    return right_row(connection, id)


def _registered(connection: sa.Connection, register: str, right_type: str, number: str) -> Registration | None:
    """The registration that counts. Locks the number until the transaction ends."""
    _lock_number(connection, register, right_type, number)
    row = connection.exec_driver_sql(
        f"select id, owner from rights where register is not null and number is not null and {_COUNTS}",
        (register, right_type, number),
    ).one_or_none()
    return None if row is None else Registration(row.id, row.owner)


def _lock_number(connection: sa.Connection, register: str, right_type: str, number: str) -> None:
    exclude(connection, f"right {register} {right_type} {number}")


def exclude(connection: sa.Connection, what: str) -> None:
    """Take an advisory lock until the transaction ends. Others that exclude the same wait for it."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (what,))


def _status(expires_at: dt.datetime | None, now: dt.datetime) -> str:
    return "expired" if expires_at is not None and expires_at <= now else "active"


def right_row(connection: sa.Connection, id: str, *, lock: bool = False) -> Row:
    """A right.

    Raises:
        Refused: 404.
    """
    query = _RIGHT.where(rights.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise not_found()
    return dict(row)


def locked(connection: sa.Connection, id: str) -> Row:
    """Lock a right: until the transaction ends, nobody else changes its status or that of another registration of it.

    Raises:
        Refused: 404.
    """
    right = right_row(connection, id)
    if right["register"] is not None and right["number"] is not None:  # they never change
        _lock_number(connection, right["register"], right["right_type"], right["number"])
    return right_row(connection, id, lock=True)


def own_right(connection: sa.Connection, id: str, me: Account, *, lock: bool = False, staff: bool = False) -> Row:
    """A right of the caller, or any right for an operator (``staff``: also for a reviewer).

    Raises:
        Refused: 404.
    """
    row = locked(connection, id) if lock else right_row(connection, id)
    if row["owner"] != me.id and me.role != "operator" and not (staff and me.sees_all):
        raise not_found()
    return row


def shown_right(connection: sa.Connection, id: str, me: Account) -> Row:
    """A right of the caller, one that is offered to it, or any right for staff.

    Raises:
        Refused: 404.
    """
    row = right_row(connection, id)
    if me.id not in (row["owner"], row["offered_to"]) and not me.sees_all:
        raise not_found()
    return row


def list_rights(connection: sa.Connection, me: Account, after: str, limit: int, status: str | None = None) -> list[Row]:
    """Rights by id, also those that are offered to the caller."""
    query = _RIGHT.where(rights.c.id > after)
    if not me.sees_all:
        query = query.where((rights.c.owner == me.id) | (rights.c.offered_to == me.id))
    if status is not None:
        query = query.where(rights.c.status == status)
    return [dict(row) for row in connection.execute(query.order_by(rights.c.id).limit(limit)).mappings()]


def history(connection: sa.Connection, id: str, limit: int = 100) -> list[Row]:
    """What happened to a right, latest first."""
    rows = connection.exec_driver_sql(
        """select kind, by, at, was, now, code, documents, seen from right_changes
        where right_id = %s order by id desc limit %s""",
        (id, limit),
    )
    return [dict(row) for row in rows.mappings()]


def _was_in_force(connection: sa.Connection, id: str) -> bool:
    return bool(
        connection.exec_driver_sql(
            "select exists (select from right_changes where right_id = %s and now in ('active', 'expired'))", (id,)
        ).scalar()
    )


def is_registered(connection: sa.Connection, right: Row) -> bool:
    """Whether another registration of a right that the caller has locked is in force."""
    other = _registered(connection, right["register"], right["right_type"], right["number"])
    return other is not None and other.right != right["id"]


def accept_by_register(connection: sa.Connection, id: str, ends: dt.datetime | None, now: dt.datetime) -> str:
    """Bring a right into force that its register confirmed, with the end that it names. Returns the status."""
    status = _status(ends, now)
    _set(connection, id, status=status, pending_reason=None, accepted="register", expires_at=ends)
    return status


def note(
    connection: sa.Connection,
    id: str,
    kind: str,
    by: str,
    at: dt.datetime,
    *,
    was: str | None = None,
    now: str | None = None,
    code: str | None = None,
    documents: Sequence[str] = (),
    seen: str | None = None,
) -> None:
    """Add to a right's history."""
    connection.execute(
        sa.insert(right_changes).values(
            right_id=id,
            kind=kind,
            by=by,
            at=at,
            was=was,
            now=now,
            code=code,
            documents=list(documents) or None,
            seen=seen,
        )
    )


def _set(connection: sa.Connection, id: str, **values: Any) -> None:
    """Change columns of a right."""
    connection.execute(sa.update(rights).where(rights.c.id == id).values(**values))


def change_right(connection: sa.Connection, id: str, body: requests.ChangeRight, me: Account, partitions: int) -> bool:
    """Row 22: set the right's status, and have its items told. False: it was so already, so nothing is written.

    If an operator brings a right into force that another account had, that account loses it.

    Raises:
        Refused: 404; the caller may not bring it into force; 422, it has expired or ends too late; a conflict of
            interest.
    """
    now, wall = clock.read(connection)
    right = own_right(connection, id, me, lock=True)
    expires_at = right["expires_at"] if body.expires_at is msgspec.UNSET else body.expires_at
    registry.check_status(
        right["status"],
        body.status,
        expires_at,
        now,
        operator=me.role == "operator",
        changed=expires_at != right["expires_at"],
        was_in_force=right["status"] != "lost" or _was_in_force(connection, id),
    )
    if (body.status, expires_at) == (right["status"], right["expires_at"]):
        return False
    if me.role == "operator":
        review_store.check_unbiased(connection, me, right["owner"])
    if body.status != "lost" and right["status"] == "lost":
        _take_over(connection, right, now, wall, partitions, me)
    _write_status(connection, right, body.status, expires_at, me.id, now)
    return True


def _write_status(
    connection: sa.Connection, right: Row, status: str, expires_at: dt.datetime | None, by: str, now: dt.datetime
) -> None:
    _set(connection, right["id"], status=status, expires_at=expires_at, pending_reason=None)
    note(connection, right["id"], status, by, now, was=right["status"], now=status)
    right_jobs.queue_right(connection, right["id"])


def _expire_right(connection: sa.Connection, id: str, partitions: int) -> bool:
    """Record that a right has expired, and tell its owner. False: another worker did, or it now has a later end."""
    right = locked(connection, id)
    now, wall = clock.read(connection)
    if right["status"] != "active" or right["expires_at"] is None or right["expires_at"] > now:
        return False
    _write_status(connection, right, "expired", right["expires_at"], SYSTEM.id, now)
    told = notice(right["owner"], "right_expired", id, now, wall, **_ends(right["expires_at"]))
    outbox.publish_accounts(connection, [told], partitions)
    return True


def _ends(expires_at: dt.datetime | None) -> dict[str, str]:
    return {} if expires_at is None else {"expires_at": moment(expires_at)}


def _take_over(
    connection: sa.Connection, right: Row, now: dt.datetime, wall: dt.datetime, partitions: int, me: Account
) -> None:
    """Take a right that comes into force from the account that has it, and have that registration's items told.

    Raises:
        Refused: 403, a conflict of interest with that account.
    """
    if right["register"] is None or right["number"] is None:
        return
    other = _registered(connection, right["register"], right["right_type"], right["number"])
    if other is None or other.right == right["id"]:
        return
    review_store.check_unbiased(connection, me, other.owner)
    was = right_row(connection, other.right, lock=True)["status"]
    _set(connection, other.right, status="lost")
    note(connection, other.right, "lost", me.id, now, was=was, now="lost", code="right_registered_elsewhere")
    outbox.publish_accounts(connection, [notice(other.owner, "right_lost", other.right, now, wall)], partitions)
    right_jobs.queue_right(connection, other.right)


def renew_right(connection: sa.Connection, id: str, body: requests.RenewRight, me: Account, _partitions: int) -> bool:
    """The register has renewed a right: record a later end. Its items are told if it had expired.

    Raises:
        Refused: 404, or it is not a renewal.
    """
    now, _ = clock.read(connection)
    right = own_right(connection, id, me, lock=True)
    registry.check_renewal(right["status"], right["expires_at"], body.expires_at, now)
    was = right["expires_at"]
    # it may have expired without that being recorded yet
    back = right["status"] == "expired" or (right["status"] == "active" and was is not None and was <= now)
    status = "active" if back else right["status"]
    _set(connection, id, status=status, expires_at=body.expires_at, proof=sa.func.coalesce(body.proof, rights.c.proof))
    note(connection, id, "renewed", me.id, now, was=None if was is None else moment(was), now=moment(body.expires_at))
    if back:
        right_jobs.queue_right(connection, id)
    return True


def assign_right(connection: sa.Connection, id: str, body: requests.AssignRight, me: Account, partitions: int) -> bool:
    """Offer a right to another account, to which it passes once that account consents.

    False: it is offered to it already. An offer takes the place of the one before.

    Raises:
        Refused: 404, nobody to assign it to, or a suspended owner, whose rights would pass to an account that is not.
    """
    now, wall = clock.read(connection)
    right = own_right(connection, id, me, lock=True)
    if me.role == "operator":
        review_store.check_unbiased(connection, me, right["owner"], body.to)
    _check_passes(connection, right, me.role == "operator", now)
    to = store.accounts(connection, [body.to]).get(body.to)
    if to is None or to.role != "holder" or to.status == "closed":
        raise Refused(
            422, "unknown_account", "There is no such holder.", field="to", cure="The new owner opens an account first."
        )
    if body.to == right["owner"]:
        raise Refused(422, "owns_already", "The account owns the right.", field="to", cure="Name another account.")
    if right["offered_to"] == body.to:
        return False
    proof = sa.func.coalesce(body.proof, rights.c.proof)
    _set(connection, id, offered_to=body.to, offered_by=me.id, proof=proof)
    note(connection, id, "offered", me.id, now, was=right["owner"], now=body.to)
    told = [notice(body.to, "right_offered", id, now, wall)]
    if right["offered_to"] is not None:
        told.append(notice(right["offered_to"], "right_offer_ended", id, now, wall))
    outbox.publish_accounts(connection, told, partitions)
    return True


def _check_passes(connection: sa.Connection, right: Row, by_operator: bool, now: dt.datetime) -> None:
    """Check that a right may pass from its owner. By an operator it may: a court has decided, or a business was sold.

    Raises:
        Refused: 403, the owner is suspended.
    """
    # wait for a suspension that is being recorded
    connection.exec_driver_sql("select from accounts where id = %s for share", (right["owner"],))
    if not by_operator:
        domain.check_lends(store.accounts(connection, [right["owner"]])[right["owner"]], now.date())


def answer_offer(connection: sa.Connection, id: str, body: requests.Consent, me: Account, partitions: int) -> bool:
    """The account to which a right is offered consents or declines; who offered it may withdraw it by declining.

    By consent the old owner has lost the right, and items of claims filed for it are told. The new owner files its own
    claims: a claim is its complainant's word, and does not pass on.

    Raises:
        Refused: 404; 403, only the new owner consents; 409, nothing is offered; an account that is suspended.
    """
    now, wall = clock.read(connection)
    right = locked(connection, id)
    if me.id not in (right["owner"], right["offered_to"]) and me.role != "operator":
        raise not_found()
    registry.check_consent(right["offered_to"], me.id, body.accept)
    offer = {"offered_to": None, "offered_by": None}
    if not body.accept:
        _set(connection, id, **offer)
        note(connection, id, "declined", me.id, now, was=right["offered_to"])
        others = {right["owner"], right["offered_to"]} - {me.id}
        told = [notice(account, "right_offer_ended", id, now, wall) for account in sorted(others)]
        outbox.publish_accounts(connection, told, partitions)
        return True
    people = store.accounts(connection, [me.id, right["offered_by"]])
    domain.check_open(people[me.id])
    _check_passes(connection, right, people[right["offered_by"]].role == "operator", now)
    _set(connection, id, owner=me.id, **offer)
    note(connection, id, "assigned", me.id, now, was=right["owner"], now=me.id)
    told = [notice(right["owner"], "right_assigned", id, now, wall), notice(me.id, "right_received", id, now, wall)]
    outbox.publish_accounts(connection, told, partitions)
    right_jobs.queue_right(connection, id)
    return True


def rename_right(connection: sa.Connection, id: str, body: requests.RenameRight, me: Account, _partitions: int) -> bool:
    """The owner's name has changed in the register. The history says that it did, without the names. No item is told.

    Raises:
        Refused: 404.
    """
    now, _ = clock.read(connection)
    right = own_right(connection, id, me, lock=True)
    if body.registrant == right["registrant"] and body.proof in (None, right["proof"]):
        return False
    _set(connection, id, registrant=body.registrant, proof=sa.func.coalesce(body.proof, rights.c.proof))
    note(connection, id, "renamed", me.id, now)
    return True


def prove_right(connection: sa.Connection, id: str, body: requests.NameDocuments, me: Account, partitions: int) -> bool:
    """Name documents in a right. Proof of it has a pending one wait for a reviewer, also after a refusal.

    Raises:
        Refused: 404, or 422 for a document that is not the caller's.
    """
    now, wall = clock.read(connection)
    right = own_right(connection, id, me, lock=True)
    documents = evidence_store.name_in(connection, body.evidence, me.id, id, "right", now)
    registry.check_views(right["right_type"], evidence_store.views_of(connection, id), needed=False)
    new = kinds_of(documents)
    proof = None
    if registry.proves(right["right_type"], right["number"], new, evidence_store.kinds_of_right(connection, id)):
        proof = next(document.id for document in documents if registry.PROOFS & set(document.kinds))
    if proof is None or not (right["status"] == "pending" or right["proof"] is None):
        return True
    was = because = right["pending_reason"]
    if was is not None:
        other = None
        if right["register"] is not None and right["number"] is not None:
            other = _registered(connection, right["register"], right["right_type"], right["number"])
        because = registry.pending_because(False, right["mark"], other is not None)
        _set(connection, id, pending_reason=because)
    _set(connection, id, proof=proof, documents_at=now)
    said = "proof_unseen" if because == "proof_missing" else because
    note(connection, id, "documents", me.id, now, was=was, code=said, documents=[one.id for one in documents])
    if because == "right_registered_elsewhere" != was:
        outbox.publish_accounts(
            connection, [notice(right["owner"], "right_registered_elsewhere", id, now, wall)], partitions
        )
    return True


def decide_right(connection: sa.Connection, id: str, body: requests.DecideRight, me: Account, partitions: int) -> bool:
    """Record a reviewer's decision on a pending right, and what it rests on.

    If accepted, it comes into force, and another account's registration of it is lost. If refused, it stays pending
    until its owner names further documents.

    Raises:
        Refused: 404; it is not pending; a conflict of interest; nothing that it could rest on.
    """
    now, wall = clock.read(connection)
    right = locked(connection, id)
    if right["status"] != "pending":
        raise Refused(409, "not_pending", f"The right is {right['status']}.", cure="Look at the right again.")
    review_store.check_unbiased(connection, me, right["owner"])
    named = evidence_store.lock_named(connection, id)
    unregistered = registry.unregistered(right["right_type"], right["number"])
    registry.check_decision(body.accept, body.code, body.documents, body.seen, named, unregistered=unregistered)
    rests: dict[str, Any] = {"was": right["pending_reason"], "documents": body.documents, "seen": body.seen}
    if not body.accept:
        assert body.code is not None
        _set(connection, id, pending_reason="refused", accepted=None, documents_at=None)
        note(connection, id, "refused", me.id, now, code=body.code, **rests)
        told = notice(right["owner"], "right_refused", id, now, wall, code=body.code)
        outbox.publish_accounts(connection, [told], partitions)
        return True
    _take_over(connection, right, now, wall, partitions, me)
    status = _status(right["expires_at"], now)
    _set(connection, id, status=status, pending_reason=None, accepted="person")
    note(connection, id, "accepted", me.id, now, now=status, **rests)
    outbox.publish_accounts(connection, [notice(right["owner"], "right_accepted", id, now, wall)], partitions)
    right_jobs.queue_right(connection, id)
    return True


# ------------------------------------------------------------------------------------------------------------ the job


def expire(connection: sa.Connection, partitions: int, warn: dt.timedelta) -> int:
    """Record that rights have expired, have their items told, and warn owners ahead of it.

    Returns how many rights have expired or been warned about.
    """
    now, wall = clock.read(connection)
    warned = warn_owners(connection, now, wall, warn, partitions)
    gone = list(
        connection.exec_driver_sql(
            "select id from rights where status = 'active' and expires_at <= %s order by id limit %s", (now, LIMIT)
        ).scalars()
    )
    return warned + sum(_expire_right(connection, id, partitions) for id in gone)


def warn_owners(
    connection: sa.Connection, now: dt.datetime, wall: dt.datetime, warn: dt.timedelta, partitions: int
) -> int:
    """Warn owners of rights that expire within ``warn``, once for each date. Returns how many."""
    rows = connection.exec_driver_sql(
        """update rights as r set warned_for = n.expires_at from (
            select id, expires_at from rights where status = 'active' and expires_at > %s and expires_at <= %s
                and warned_for is distinct from expires_at order by expires_at limit %s for update skip locked) as n
        where r.id = n.id returning r.id, r.owner, r.expires_at""",
        (now, now + warn, WARNINGS),
    ).all()
    told = [notice(owner, "right_expiring", id, now, wall, **_ends(expires_at)) for id, owner, expires_at in rows]
    outbox.publish_accounts(connection, told, partitions)
    return len(told)
