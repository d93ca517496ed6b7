"""Erases a subject in one transaction. Idempotent, so it can be repeated after any failure."""

from __future__ import annotations

import datetime as dt
from typing import Final

import sqlalchemy as sa

from services.intake.accounts import domains_store, erasure, webhooks_store
from services.intake.accounts import store as accounts_store
from services.intake.accounts.erasure import Erased, Matter
from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import keeping
from services.intake.kernel import outbox, store
from services.intake.kernel.refusals import not_found
from shared import events, policy
from shared.events import SETTLED, State
from shared.refusals import Refused

_PARTY: Final = """
    select i.state, i.changed_at from items i where i.seller = %s
    union all select i.state, i.changed_at from claims c join items i
        on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
    where c.id in (select id from claims where complainant = %s union select id from claims where principal = %s)"""


def matters(connection: sa.Connection, account: str, now: dt.datetime, rules: policy.Policy) -> dict[Matter, int]:
    """Count what the subject is party to that may still need its data."""
    open_items, appealable = connection.exec_driver_sql(
        f"""select count(*) filter (where state <> all(%s)), count(*) filter (where state = any(%s) and changed_at > %s)
        from ({_PARTY}) as p""",
        (
            [str(state) for state in SETTLED],
            # nobody can appeal a withdrawal
            [str(state) for state in SETTLED - {State.WITHDRAWN}],
            now - rules.appeals.within.exact,
            account,
            account,
            account,
        ),
    ).one()
    complaints = connection.exec_driver_sql(
        "select count(*) from misuse_complaints where account = %s and state = 'open'", (account,)
    ).scalar_one()
    return {"open_items": open_items, "open_complaints": complaints, "appealable_items": appealable}


def check_own(connection: sa.Connection, account: str) -> None:
    """Check that an account may have its own key destroyed, by the policy for erasures. It cannot be forced.

    Locks the account.

    Raises:
        Refused: 409, something forbids it.
    """
    rules = policy.current("ipp")
    now, _ = store.enter_admission(connection)
    connection.exec_driver_sql("select from accounts where id = %s for update", (account,))
    erasure.check_own(matters(connection, account, now, rules), rules.erasure)


def erase(
    connection: sa.Connection,
    account: str,
    *,
    by: str,
    partitions: int,
    force: bool = False,
    reason: str | None = None,
    dry_run: bool = False,
) -> Erased:
    """Destroy the subject's key, and with it all that is sealed under it; close the account; publish an event.

    The event has ids only.

    Args:
        by: the actor, an account or ``operator``.
        reason: code for why it is forced.
        dry_run: change nothing.

    Raises:
        Refused: 404; 409, something forbids it; 422.
    """
    rules = policy.current("ipp")
    now, _ = store.enter_admission(connection)
    row = connection.exec_driver_sql(
        "select status, erased_at from accounts where id = %s for update", (account,)
    ).one_or_none()
    if row is None:
        raise not_found()
    if account == by:
        raise Refused(
            422,
            "own_account",
            "You cannot erase the account that you are using.",
            field="account",
            cure="Ask another operator.",
        )
    if row.erased_at is not None:
        kept = _kept(connection, account)
        return Erased(account=account, done=True, already=True, documents_kept=kept)
    found = matters(connection, account, now, rules)
    counts: dict[str, int] = {str(matter): count for matter, count in found.items() if count}
    if dry_run:
        kept = _kept(connection, account)
        return Erased(account=account, done=False, already=False, matters=counts, documents_kept=kept)
    forced = erasure.check(found, rules.erasure, force=force, reason=reason)
    keys = connection.exec_driver_sql("select count(*) from subject_keys where account = %s", (account,)).scalar_one()
    store.erase_contact(connection, account)
    hooks = connection.exec_driver_sql("select count(*) from webhooks where account = %s", (account,)).scalar_one()
    webhooks_store.forget(connection, account, partitions)
    domains_store.forget(connection, account)
    connection.exec_driver_sql("delete from email_codes where account = %s", (account,))
    tokens = connection.exec_driver_sql("delete from tokens where account = %s", (account,)).rowcount
    connection.exec_driver_sql(
        "update accounts set status = 'closed', email_confirmed_at = null, erased_at = %s where id = %s", (now, account)
    )
    going, kept = evidence_store.let_go(connection, account, now, keeping())
    accounts_store.note(connection, account, "erased", by, now, reason)
    event = events.AccountErased(
        account=account, by=by, forced=forced, reason=reason, open_items=found["open_items"], at=now
    )
    outbox.publish_accounts(connection, [event], partitions)
    return Erased(
        account=account,
        done=True,
        already=False,
        forced=forced,
        matters=counts,
        contact=bool(keys),
        tokens=tokens,
        webhooks=hooks,
        documents_going=going,
        documents_kept=kept,
    )


def _kept(connection: sa.Connection, account: str) -> int:
    count: int = connection.exec_driver_sql(
        "select count(*) from evidence where account = %s and state = 'kept'", (account,)
    ).scalar_one()
    return count
