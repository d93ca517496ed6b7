"""Complaints about measures, and decisions on them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

import msgspec
import sqlalchemy as sa

from services.intake.evidence import store as evidence_store
from services.intake.kernel import outbox, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import not_found
from services.intake.misuse import domain as misuse
from services.intake.misuse import store as misuse_store
from services.intake.misuse.domain import MeasureChange, MisuseMeasure
from services.intake.misuse.figures import MeasureBasis
from services.intake.misuse.store import RecordedChange
from services.intake.review import store as review_store
from shared import clock, policy
from shared.refusals import Refused

_BASIS: Final = msgspec.json.Decoder(MeasureBasis)


def file(
    connection: sa.Connection,
    id: str,
    me: Account,
    body: requests.ComplainOfMeasure,
    seal: Callable[[bytes, bytes], bytes],
    new_key: Callable[[], bytes],
) -> None:
    """File the account's complaint about a measure against it.

    Args:
        seal: encrypts a text under the account's (wrapped) key.

    Raises:
        Refused: 404, or it cannot be complained about (any more).
    """
    misuse_store.lock(connection, [me.id])
    now, _ = clock.read(connection)
    measure = next((m for m in misuse_store.measures(connection, [me.id]).get(me.id, ()) if m.id == id), None)
    if measure is None:
        raise not_found()
    known = connection.exec_driver_sql("select from misuse_complaints where measure = %s", (id,)).rowcount > 0
    text = connection.exec_driver_sql("select basis from misuse_measures where id = %s", (id,)).scalar_one()
    terms = policy.load(_BASIS.decode(text).policy).misuse
    misuse.check_complaint(measure, known, now, terms)
    sealed = None
    if body.statement is not None:
        sealed = seal(store.subject_key(connection, me.id, new_key), body.statement.encode())
    connection.exec_driver_sql(
        "insert into misuse_complaints (measure, account, at, sealed) values (%s, %s, %s, %s)", (id, me.id, now, sealed)
    )
    evidence_store.name_in(connection, body.evidence, me.id, me.id, "account", now)
    misuse_store.note(connection, me.id, id, "complained", me.id, now, text)


def decide(
    connection: sa.Connection, id: str, body: requests.DecideMeasure, me: Account, rules: policy.Policy, partitions: int
) -> tuple[str, list[MeasureChange]]:
    """Decide a complaint. Returns the account, and what followed.

    A reversed measure, and what followed from it, count as never taken.

    Raises:
        Refused: 404; no complaint is open; the measure is reversed; the reviewer made or seconded a finding that
            counted; a conflict of interest; no such code.
    """
    account = connection.exec_driver_sql("select account from misuse_measures where id = %s", (id,)).scalar()
    if account is None:
        raise not_found()
    if body.code not in rules.appeals.reasons:
        raise Refused(
            422,
            "unknown_code",
            "There is no such reason for a decision on a complaint.",
            field="code",
            cure=f"Use one of: {', '.join(sorted(rules.appeals.reasons))}.",
        )
    misuse_store.judge_soon(connection, account)
    misuse_store.lock(connection, [account])
    now, wall = clock.read(connection)
    open_ = connection.exec_driver_sql(
        "select from misuse_complaints where measure = %s and state = 'open' for update", (id,)
    ).rowcount
    if not open_:
        raise Refused(409, "no_complaint", "No complaint against the measure is open.", cure="Nothing to do.")
    review_store.check_unbiased(connection, me, account)
    known = misuse_store.measures(connection, [account])
    measure = next(m for m in known[account] if m.id == id)
    misuse.check_standing(measure)
    for pair in _found_by(connection, account, measure):
        misuse.check_decider(me.id, pair)
    state = "confirmed" if body.decision == "confirm" else "reversed"
    connection.exec_driver_sql(
        "update misuse_complaints set state = %s, by = %s, code = %s, decided_at = %s where measure = %s",
        (state, me.id, body.code, now, id),
    )
    if body.decision == "confirm":
        text = connection.exec_driver_sql("select basis from misuse_measures where id = %s", (id,)).scalar_one()
        misuse_store.note(connection, account, id, "confirmed", me.id, now, text)
        told = outbox.notice(account, "misuse_confirmed", id, now, wall, code=body.code)
        outbox.publish_accounts(connection, [told], partitions)
        return str(account), []
    if measure.finding is not None:
        connection.exec_driver_sql("update misuse_findings set state = 'reversed' where id = %s", (measure.finding,))
        connection.exec_driver_sql("update evidence set forged = null where forged = %s", (measure.finding,))
    kept = {
        row.id: _BASIS.decode(row.basis)
        for row in connection.exec_driver_sql("select id, basis from misuse_measures where account = %s", (account,))
    }
    made = [
        RecordedChange(account, change, kept[change.measure.id])
        for change in misuse.reverse(known[account], id, now.date())
    ]
    # complaints about measures that fell with it need no decision of their own
    connection.exec_driver_sql(
        """update misuse_complaints set state = 'reversed', by = %s, code = %s, decided_at = %s
        where state = 'open' and measure = any(%s)""",
        (me.id, body.code, now, [one.change.measure.id for one in made]),
    )
    misuse_store.write(connection, now, wall, made, known, me.id, partitions)
    return str(account), [one.change for one in made]


def _found_by(connection: sa.Connection, account: str, measure: MisuseMeasure) -> list[tuple[str, str | None]]:
    """Who made and who seconded the findings that a measure is based on: its own, or those in its figures."""
    rows = connection.exec_driver_sql(
        """select f.by, f.second from misuse_measures m join misuse_findings f on f.account = m.account
        where m.id = %s and f.account = %s and f.kind <> 'none' and f.state in ('in_force', 'reversed')
        and case when m.finding is null then f.at <= m.at and f.day >= (m.basis::json ->> 'window_from')::date
            else f.id = m.finding end""",
        (measure.id, account),
    )
    return [(row.by, row.second) for row in rows]


def open_complaints(connection: sa.Connection, after: tuple[dt.datetime, str] | None, limit: int) -> list[store.Row]:
    """Open complaints, oldest first; the statement is sealed under ``wrapped`` (None: erased)."""
    at, id = after or (None, None)
    rows = connection.exec_driver_sql(
        """select c.measure, c.account, m.kind, m.finding, c.at, c.sealed, k.wrapped from misuse_complaints c
        join misuse_measures m on m.id = c.measure left join subject_keys k on k.account = c.account
        where c.state = 'open' and (%s::timestamptz is null or (c.at, c.measure) > (%s, %s)) order by c.at, c.measure limit %s""",
        (at, at, id, limit),
    )
    return store.all_rows(rows)
