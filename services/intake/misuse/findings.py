"""Reviewers' findings about an account's intent, and what follows from them."""

from __future__ import annotations

import datetime as dt
from typing import Final

import sqlalchemy as sa

from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import Document
from services.intake.kernel import outbox, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.refusals import not_found
from services.intake.misuse import domain as misuse
from services.intake.misuse import figures
from services.intake.misuse import store as misuse_store
from services.intake.misuse.domain import MeasureChange
from services.intake.misuse.store import RecordedChange
from services.intake.review import store as review_store
from shared import clock, policy
from shared.events import ENDED
from shared.refusals import Refused

RESTS_MOST: Final = 200
_FINDING: Final = "id, account, kind, state, document, claim, code, by, second, day, at"
_SELECT: Final = f"""
    select {_FINDING}, (select m.id from misuse_measures m where m.finding = f.id limit 1) as measure from misuse_findings f"""


def record(
    connection: sa.Connection,
    account: str,
    body: requests.FindMisuse,
    me: Account,
    rules: policy.Policy,
    partitions: int,
) -> tuple[str, list[MeasureChange]]:
    """Record a reviewer's finding. It counts at once, or once a second reviewer agrees.

    Returns its id, and what followed.

    Raises:
        Refused: 404; what it rests on is missing or not the account's; it is known; a conflict of interest.
    """
    misuse_store.judge_soon(connection, account)
    misuse_store.lock(connection, [account])
    now, wall = clock.read(connection)
    who = store.existing(connection, account)
    review_store.check_unbiased(connection, me, account)
    if who.role != "holder":
        raise Refused(422, "not_a_holder", "Only holders file notices.", cure="Name the account that filed.")
    if body.document is None and (body.kind == "forged_document" or body.claim is None):
        raise Refused(
            422,
            "no_reference",
            "The finding must name the document or claim that it is based on.",
            field="document",
            cure="Name the document or, unless the finding is a forged document, the claim.",
        )
    if body.document is not None:
        row = connection.exec_driver_sql(
            "select account, kinds from evidence where id = %s and state = 'kept' for update", (body.document,)
        ).one_or_none()
        if row is None or row.account != account:
            raise Refused(
                422, "unknown_document", "The account has no such document.", field="document", cure="Check the id."
            )
        kinds = tuple(row.kinds)
    if body.claim is not None:
        by = connection.exec_driver_sql("select complainant from claims where id = %s", (body.claim,)).scalar()
        if by != account:
            raise Refused(
                422, "unknown_claim", "The account has filed no such claim.", field="claim", cure="Check the id."
            )
    known = connection.exec_driver_sql(
        """select id from misuse_findings where account = %s and kind = %s and state in ('proposed', 'in_force')
        and document is not distinct from %s and (kind = 'forged_document' or claim is not distinct from %s)""",
        (account, body.kind, body.document, body.claim),
    ).scalar()
    if known is not None:
        raise Refused(
            409,
            "finding_known",
            f"This finding exists already: {known}.",
            cure="Look at it, and second it if it waits for a second reviewer.",
        )
    id = new_id("f", store.wall_ms(wall))
    state = "proposed" if body.kind in rules.misuse.four_eyes else "in_force"
    connection.exec_driver_sql(
        f"insert into misuse_findings ({_FINDING}) values (%s, %s, %s, %s, %s, %s, %s, %s, null, %s, %s)",
        (id, account, body.kind, state, body.document, body.claim, body.code, me.id, now.date(), now),
    )
    if body.document is not None:
        # kept for the person who decides a complaint, as long as the account exists
        evidence_store.tie(connection, [(Document(body.document, account, kinds), account, "account")], now)
    made: list[MeasureChange] = []
    if state == "in_force":
        made = _in_force(connection, id, now, wall, rules, me.id, partitions)
    return id, made


def second(
    connection: sa.Connection, id: str, agree: bool, me: Account, rules: policy.Policy, partitions: int
) -> list[MeasureChange]:
    """Record whether a second reviewer agrees with a finding: it counts from now on, or never. Returns what followed.

    Raises:
        Refused: 404; it is not waiting for a second reviewer; it is the reviewer's own; a conflict of interest.
    """
    account = connection.exec_driver_sql("select account from misuse_findings where id = %s", (id,)).scalar()
    if account is None:
        raise not_found()
    misuse_store.judge_soon(connection, account)
    misuse_store.lock(connection, [account])
    now, wall = clock.read(connection)
    state, by = connection.exec_driver_sql("select state, by from misuse_findings where id = %s", (id,)).one()
    if state != "proposed":
        raise Refused(409, "not_proposed", f"The finding is {state}.", cure="Nothing to do.")
    if by == me.id:
        raise Refused(403, "own_finding", "You made the finding.", cure="Another reviewer seconds it.")
    review_store.check_unbiased(connection, me, account)
    connection.exec_driver_sql(
        "update misuse_findings set state = %s, second = %s, day = %s, at = %s where id = %s",
        ("in_force" if agree else "refused", me.id, now.date(), now, id),
    )
    return _in_force(connection, id, now, wall, rules, me.id, partitions) if agree else []


def _in_force(
    connection: sa.Connection,
    id: str,
    now: dt.datetime,
    wall: dt.datetime,
    rules: policy.Policy,
    by: str,
    partitions: int,
) -> list[MeasureChange]:
    """Apply what follows from a finding at once: mark a forged document, and begin the policy's measure."""
    account, kind, document, claim, code = connection.exec_driver_sql(
        "select account, kind, document, claim, code from misuse_findings where id = %s", (id,)
    ).one()
    if kind == "none":
        return []
    about = {name: value for name, value in (("document", document), ("claim", claim)) if value is not None}
    told = outbox.notice(account, "misuse_found", id, now, wall, finding=kind, code=code, **about)
    outbox.publish_accounts(connection, [told], partitions)
    if kind != "forged_document":
        return []
    connection.exec_driver_sql("update evidence set forged = %s where id = %s", (id, document))
    change = misuse.at_once(id, now, new_id("m", store.wall_ms(wall)), rules.misuse)
    if change is None:
        return []
    known = misuse_store.measures(connection, [account])
    upto = now.date()
    sums = figures.facts(connection, {account: known.get(account, ())}, upto, rules.misuse)[account]
    misuse_store.write(
        connection,
        now,
        wall,
        [RecordedChange(account, change, figures.basis(sums, upto, rules, id))],
        known,
        by,
        partitions,
    )
    return [change]


def list_findings(
    connection: sa.Connection, account: str, before: tuple[dt.datetime, str] | None, limit: int
) -> list[store.Row]:
    """Findings about an account, latest first, each with the rights and claims that rest on its document."""
    at, id = before or (None, None)
    rows = connection.exec_driver_sql(
        f"""{_SELECT} where account = %s and (%s::timestamptz is null or (at, id) < (%s, %s)) order by at desc, id desc limit %s""",
        (account, at, at, id, limit),
    )
    return [{**row, **_rests(connection, row["document"])} for row in store.all_rows(rows)]


def get(connection: sa.Connection, id: str) -> store.Row:
    """One finding.

    Raises:
        Refused: 404.
    """
    row = store.one_row(connection.exec_driver_sql(f"{_SELECT} where id = %s", (id,)))
    if row is None:
        raise not_found()
    return {**row, **_rests(connection, row["document"])}


def _rests(connection: sa.Connection, document: str | None) -> dict[str, list[str]]:
    """Rights and claims that name a document and are still of consequence, up to 200 of each."""
    if document is None:
        return {"rights": [], "claims": []}
    rights = connection.exec_driver_sql(
        """select id from rights where status <> 'lost' and id in (select about from evidence_links where document = %s and about_kind = 'right')
        union select id from rights where status <> 'lost' and proof = %s order by 1 limit %s""",
        (document, document, RESTS_MOST),
    )
    claims = connection.exec_driver_sql(
        """select distinct i.claim from evidence_links l join claims c on c.id = l.about join items i
            on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
        where l.document = %s and l.about_kind = 'claim' and i.state <> all(%s) order by 1 limit %s""",
        (document, sorted(state.value for state in ENDED), RESTS_MOST),
    )
    return {"rights": list(rights.scalars()), "claims": list(claims.scalars())}
