"""Tables of misuse by complainants: the daily judgement, findings, complaints, and held items.

Every change to an account's measures locks its row in ``accounts`` first, so the judgement, findings and decisions
come one after the other. ``accounts.misuse``, which the API reads, changes in the same transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import Document
from services.intake.kernel import domain, outbox, requests, right_jobs, store
from services.intake.kernel.domain import Account, Refused
from services.intake.misuse import domain as misuse
from services.intake.misuse.domain import Change, Facts, Measure
from services.intake.review import store as review_store
from shared import clock, policy
from shared.events import ENDED, AccountNotice

SYSTEM: Final = "a-system"
GROUNDS_TOLD: Final = 10
_DAY: Final = dt.timedelta(days=1)


class Basis(Struct, frozen=True, kw_only=True):
    """The figures that a measure is based on: the window (both days included), its facts, and their policy."""

    window_from: dt.date
    window_to: dt.date
    facts: Facts
    policy: str
    finding: str | None = None


_BASIS: Final = msgspec.json.Decoder(Basis)


# -------------------------------------------------------------------------------------------------------------- figures

_GROUNDS: Final = """
    select g.account, g.ground, g.serious, count(*) from good_faith_items g
    join unnest(%s::text[], %s::date[]) as n(account, after) on n.account = g.account
    where g.ground is not null and g.outcome is not null and g.day > n.after and g.day <= %s group by 1, 2, 3"""
_SETTLED: Final = """
    select account, sum(settled)::bigint from good_faith_days where account = any(%s) and day > %s and day <= %s group by 1"""
# the ids of a claim's items are its own id with another last part (domain.new_claim_ids)
_CLAIMS: Final = """
    select g.account, count(distinct substr(g.item, 3, 23)) from good_faith_items g
    join unnest(%s::text[], %s::date[]) as n(account, after) on n.account = g.account
    where g.ground = any(%s) and g.outcome is not null and g.day > n.after and g.day <= %s group by 1"""
_AGAIN: Final = """
    select g.account, g.ground, g.serious, count(*) from good_faith_items g
    join unnest(%s::text[], %s::date[], %s::timestamptz[]) as n(account, after, since) on n.account = g.account
    join items i on i.id = g.item join claims c on c.id = i.claim
    where g.ground is not null and g.outcome is not null and g.day > n.after and g.day <= %s and c.accepted_at > n.since
    group by 1, 2, 3"""


def facts(
    connection: sa.Connection, known: Mapping[str, Sequence[Measure]], upto: dt.date, terms: policy.Misuse
) -> dict[str, Facts]:
    """What accounts are judged by, over the window that ends with ``upto``.

    Notices that a reversed measure was based on are no longer held against anyone: they count as never unfounded.
    """
    out = upto - terms.window.exact
    accounts = sorted(known)
    forgiven = {account: at for account in accounts if (at := _forgiven(known[account])) is not None}
    after = {account: max(out, forgiven[account].date() - _DAY) if account in forgiven else out for account in accounts}
    grounds: dict[str, list[tuple[str, bool, int]]] = {}
    for account, ground, serious, count in connection.exec_driver_sql(
        _GROUNDS, (accounts, [after[account] for account in accounts], upto)
    ):
        grounds.setdefault(account, []).append((ground, serious, count))
    findings: dict[str, dict[str, int]] = {}
    fresh: dict[str, int] = {}
    since = {account: moment for account in accounts if (moment := misuse.last_step(known[account])) is not None}
    # today's findings count as well: a person made them, and knows why
    for account, kind, at in connection.exec_driver_sql(
        """select account, kind, at from misuse_findings where account = any(%s) and state = 'in_force' and kind <> 'none'
        and day > %s""",
        (accounts, out),
    ):
        if account in forgiven and at <= forgiven[account]:
            continue
        found = findings.setdefault(account, {})
        found[kind] = found.get(kind, 0) + 1
        fresh[account] = fresh.get(account, 0) + (account in since and at > since[account])
    concerned = sorted(grounds.keys() | findings.keys())
    if not concerned:
        return dict.fromkeys(accounts, Facts())
    sums = connection.exec_driver_sql(_SETTLED, (concerned, out, upto))
    settled: dict[str, int] = {row[0]: row[1] for row in sums}
    filed = [account for account in concerned if account in grounds]
    found_claims = connection.exec_driver_sql(
        _CLAIMS, (filed, [after[account] for account in filed], misuse.counted(terms), upto)
    )
    claims: dict[str, int] = {row[0]: row[1] for row in found_claims}
    asked = [account for account in concerned if account in since]
    again: dict[str, int] = {}
    if asked:
        for account, ground, serious, count in connection.exec_driver_sql(
            _AGAIN, (asked, [after[account] for account in asked], [since[account] for account in asked], upto)
        ):
            counted = misuse.weight_of(ground, serious, terms) > 0
            again[account] = again.get(account, 0) + (count if counted else 0)
    return {
        account: misuse.facts_of(
            settled.get(account, 0),
            grounds.get(account, ()),
            findings.get(account, {}),
            terms,
            again.get(account, 0) + fresh.get(account, 0),
            claims.get(account, 0),
        )
        for account in accounts
    }


def _forgiven(measures: Iterable[Measure]) -> dt.datetime | None:
    """Until when findings no longer count, because a measure based on them was reversed.

    Notices no longer count up to the day before.
    """
    return max((m.at for m in measures if m.state == "reversed" and m.finding is None), default=None)


def basis(facts_: Facts, upto: dt.date, rules: policy.Policy, finding: str | None = None) -> Basis:
    """Build the basis that is kept with a measure and shown."""
    return Basis(
        window_from=upto - rules.misuse.window.exact + _DAY,
        window_to=upto,
        facts=facts_,
        policy=rules.version,
        finding=finding,
    )


def basis_now(connection: sa.Connection, account: str, day: dt.date, rules: policy.Policy) -> Basis:
    """An account's figures up to and including ``day``."""
    known = {account: measures(connection, [account]).get(account, [])}
    return basis(facts(connection, known, day, rules.misuse)[account], day, rules)


# ------------------------------------------------------------------------------------------------------------- measures

_MEASURE: Final = "id, kind, day, at, until, items, prior, finding, state, ended"


def measures(connection: sa.Connection, accounts: Sequence[str]) -> dict[str, list[Measure]]:
    """Measures by account, oldest first."""
    found: dict[str, list[Measure]] = {}
    for account, *row in connection.exec_driver_sql(
        f"select account, {_MEASURE} from misuse_measures where account = any(%s) order by account, at, id",
        (list(accounts),),
    ):
        found.setdefault(account, []).append(Measure(*row))
    return found


def _lock(connection: sa.Connection, accounts: Iterable[str]) -> None:
    connection.exec_driver_sql(
        "select from accounts where id = any(%s) order by id for no key update", (sorted(set(accounts)),)
    )


class _Made(Struct, frozen=True):
    account: str
    change: Change
    basis: Basis


def _write(
    connection: sa.Connection,
    now: dt.datetime,
    wall: dt.datetime,
    made: Sequence[_Made],
    known: Mapping[str, Sequence[Measure]],
    by: str,
    partitions: int,
    *,
    tell: bool = True,
) -> None:
    """Store changes: measures, history, ``accounts.misuse``, and a notice to the account."""
    day = now.date()
    after: dict[str, dict[str, Measure]] = {}
    for one in made:
        measure, text = one.change.measure, msgspec.json.encode(one.basis).decode()
        after.setdefault(one.account, {m.id: m for m in known.get(one.account, ())})[measure.id] = measure
        connection.exec_driver_sql(
            f"""insert into misuse_measures (account, basis, {_MEASURE}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (id) do update set state = excluded.state, ended = excluded.ended""",
            (
                one.account,
                text,
                measure.id,
                measure.kind,
                measure.day,
                measure.at,
                measure.until,
                measure.items,
                measure.prior,
                measure.finding,
                measure.state,
                measure.ended,
            ),
        )
        note(connection, one.account, measure.id, one.change.kind, by, now, text)
    for account, found in sorted(after.items()):
        at = misuse.current(found.values(), day)
        connection.exec_driver_sql(
            "update accounts set misuse = %s, misuse_items = %s, misuse_until = %s where id = %s",
            (
                "clear" if at is None else at.kind,
                None if at is None else at.items,
                None if at is None else at.until,
                account,
            ),
        )
        # the next run decides whether it may still take part in the good-faith mechanism
        connection.exec_driver_sql(
            "insert into good_faith_due (account) values (%s) on conflict do nothing", (account,)
        )
    if tell:
        outbox.tell_accounts(connection, [_notice(one, now, wall) for one in made], partitions)


def note(
    connection: sa.Connection, account: str, measure: str, kind: str, by: str, now: dt.datetime, basis_: str
) -> None:
    """Add what happened to a measure to the account's history."""
    connection.exec_driver_sql(
        "insert into misuse_history (account, measure, day, at, kind, by, basis) values (%s, %s, %s, %s, %s, %s, %s)",
        (account, measure, now.date(), now, kind, by, basis_),
    )


def _notice(one: _Made, now: dt.datetime, wall: dt.datetime) -> AccountNotice:
    measure, given = one.change.measure, one.basis
    terms = policy.load(given.policy).misuse
    told: dict[str, int | float | str] = {
        "window_from": given.window_from.isoformat(),
        "window_to": given.window_to.isoformat(),
        "unfounded": given.facts.items,
        "claims": given.facts.notices,
        "settled": given.facts.settled,
        "weight": given.facts.weight,
        "policy": given.policy,
    }
    if given.facts.grounds:
        shown = list(given.facts.grounds.items())[:GROUNDS_TOLD]
        told["because"] = ", ".join(f"{ground} {count}" for ground, count in shown)
    if measure.finding is not None:
        told["finding"] = measure.finding
    if one.change.kind in ("warned", "limited", "suspended"):
        if measure.items is not None:
            told["items_a_day"] = measure.items
        step = next((step for step in terms.steps if step.measure == measure.kind), None)
        if measure.finding is None and step is not None:
            after = [one.measure for one in terms.steps[terms.steps.index(step) + 1 :]]
            if after:
                told["next"] = ", ".join(after)
            told["rule"] = f"{step.notices} claims, {step.number} items, {step.share.text}, weight {step.weight}"
        if measure.until is not None:
            told["until"] = measure.until.isoformat()
        last = measure.at + terms.complaint.exact
        told["complain_until"] = last.date().isoformat()
    return AccountNotice(
        notice=domain.new_id("n", store.wall_ms(wall)),
        account=one.account,
        kind=f"misuse_{one.change.kind}",
        about=measure.id,
        figures=told,
        at=now,
    )


# ------------------------------------------------------------------------------------------------------- the daily run


def judge(
    connection: sa.Connection,
    accounts: Sequence[str],
    now: dt.datetime,
    wall: dt.datetime,
    rules: policy.Policy,
    partitions: int,
) -> list[Change]:
    """Judge accounts by their figures up to yesterday; returns the changes. Clean accounts cost only a read."""
    upto = now.date() - _DAY
    terms = rules.misuse
    known = measures(connection, accounts)
    found = facts(connection, {account: known.get(account, ()) for account in accounts}, upto, terms)
    first = terms.steps[0] if terms.steps else None
    matter = [
        account
        for account in accounts
        if any(m.state == "on" for m in known.get(account, ()))
        or (first is not None and misuse.reaches(found[account], first))
    ]
    if not matter:
        return []
    _lock(connection, matter)
    there = set(connection.exec_driver_sql("select id from accounts where id = any(%s)", (matter,)).scalars())
    # again, under the lock: someone may have made a finding or a decision meanwhile
    known = measures(connection, matter)
    found = facts(connection, {account: known.get(account, ()) for account in matter}, upto, terms)
    made = [
        _Made(account, change, basis(found[account], upto, rules))
        for account in sorted(there & set(matter))
        for change in misuse.review(
            known.get(account, ()), found[account], now, domain.new_id("m", store.wall_ms(wall)), terms
        )
    ]
    _write(connection, now, wall, made, known, SYSTEM, partitions)
    return [one.change for one in made]


# ------------------------------------------------------------------------------------------------------------- findings

RESTS_MOST: Final = 200
_FINDING: Final = "id, account, kind, state, document, claim, code, by, second, day, at"


def find(
    connection: sa.Connection,
    account: str,
    body: requests.FindMisuse,
    me: Account,
    rules: policy.Policy,
    partitions: int,
) -> tuple[str, list[Change]]:
    """Record a reviewer's finding. It counts at once, or once a second reviewer agrees.

    Returns its id, and what followed.

    Raises:
        Refused: 404; what it rests on is missing or not the account's; it is known; a conflict of interest.
    """
    _queue(connection, account)
    _lock(connection, [account])
    now, wall = clock.read(connection)
    who = store.accounts(connection, [account]).get(account)
    if who is None:
        raise domain.not_found()
    review_store.check_unbiased(connection, me, account)
    if who.role != "holder":
        raise Refused(422, "not_a_holder", "Only holders file notices.", cure="Name the account that filed.")
    if body.document is None and (body.kind == "forged_document" or body.claim is None):
        raise Refused(
            422,
            "no_reference",
            "The finding must name what it rests on.",
            field="document",
            cure="Name the document, or for other findings than a forged document the claim.",
        )
    if body.document is not None:
        row = connection.exec_driver_sql(
            "select account, kinds from evidence where id = %s and state = 'kept' for update", (body.document,)
        ).one_or_none()
        if row is None or row[0] != account:
            raise Refused(
                422, "unknown_document", "The account has no such document.", field="document", cure="Check the id."
            )
        kinds = tuple(row[1])
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
            409, "finding_known", f"There is such a finding: {known}.", cure="Look at it, and second it if it waits."
        )
    id = domain.new_id("f", store.wall_ms(wall))
    state = "proposed" if body.kind in rules.misuse.four_eyes else "in_force"
    connection.exec_driver_sql(
        f"insert into misuse_findings ({_FINDING}) values (%s, %s, %s, %s, %s, %s, %s, %s, null, %s, %s)",
        (id, account, body.kind, state, body.document, body.claim, body.code, me.id, now.date(), now),
    )
    if body.document is not None:
        # kept for the person who decides a complaint, as long as the account exists
        evidence_store.tie(connection, [(Document(body.document, account, kinds), account, "account")], now)
    made: list[Change] = []
    if state == "in_force":
        made = _in_force(connection, id, now, wall, rules, me.id, partitions)
    return id, made


def second(
    connection: sa.Connection, id: str, agree: bool, me: Account, rules: policy.Policy, partitions: int
) -> list[Change]:
    """Record whether a second reviewer agrees with a finding: it counts from now on, or never. Returns what followed.

    Raises:
        Refused: 404; it is not waiting for a second reviewer; it is the reviewer's own; a conflict of interest.
    """
    account = connection.exec_driver_sql("select account from misuse_findings where id = %s", (id,)).scalar()
    if account is None:
        raise domain.not_found()
    _queue(connection, account)
    _lock(connection, [account])
    now, wall = clock.read(connection)
    state, by = connection.exec_driver_sql("select state, by from misuse_findings where id = %s", (id,)).one()
    if state != "proposed":
        raise Refused(409, "not_proposed", f"The finding is {state}.", cure="Nothing is left to do.")
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
) -> list[Change]:
    """Apply what follows from a finding at once: mark a forged document, and begin the policy's measure."""
    account, kind, document, claim, code = connection.exec_driver_sql(
        "select account, kind, document, claim, code from misuse_findings where id = %s", (id,)
    ).one()
    if kind == "none":
        return []
    about = {name: value for name, value in (("document", document), ("claim", claim)) if value is not None}
    told = outbox.notice(account, "misuse_found", id, now, wall, finding=kind, code=code, **about)
    outbox.tell_accounts(connection, [told], partitions)
    if kind != "forged_document":
        return []
    connection.exec_driver_sql("update evidence set forged = %s where id = %s", (id, document))
    change = misuse.at_once(id, now, domain.new_id("m", store.wall_ms(wall)), rules.misuse)
    if change is None:
        return []
    known = measures(connection, [account])
    upto = now.date()
    sums = facts(connection, {account: known.get(account, ())}, upto, rules.misuse)[account]
    _write(connection, now, wall, [_Made(account, change, basis(sums, upto, rules, id))], known, by, partitions)
    return [change]


def _queue(connection: sa.Connection, account: str) -> None:
    """Queue the account for judgement.

    Call it before locking the account: it waits for a running judgement instead of deadlocking with it.
    """
    connection.exec_driver_sql(
        "insert into good_faith_due (account) select id from accounts where id = %s on conflict do nothing", (account,)
    )


def findings(
    connection: sa.Connection, account: str, before: tuple[dt.datetime, str] | None, limit: int
) -> list[store.Row]:
    """Findings about an account, latest first, each with the rights and claims that rest on its document."""
    at, id = before or (None, None)
    rows = connection.exec_driver_sql(
        f"""select {_FINDING}, (select m.id from misuse_measures m where m.finding = f.id limit 1) as measure from misuse_findings f
        where account = %s and (%s::timestamptz is null or (at, id) < (%s, %s)) order by at desc, id desc limit %s""",
        (account, at, at, id, limit),
    )
    return [{**row, **_rests(connection, row["document"])} for row in rows.mappings().all()]


def finding(connection: sa.Connection, id: str) -> store.Row:
    """One finding.

    Raises:
        Refused: 404.
    """
    row = (
        connection.exec_driver_sql(
            f"""select {_FINDING}, (select m.id from misuse_measures m where m.finding = f.id limit 1) as measure
        from misuse_findings f where id = %s""",
            (id,),
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise domain.not_found()
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


# ----------------------------------------------------------------------------------------------------------- complaints


def complain(
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
    _lock(connection, [me.id])
    now, _ = clock.read(connection)
    measure = next((m for m in measures(connection, [me.id]).get(me.id, ()) if m.id == id), None)
    if measure is None:
        raise domain.not_found()
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
    note(connection, me.id, id, "complained", me.id, now, text)


def decide(
    connection: sa.Connection, id: str, body: requests.DecideMeasure, me: Account, rules: policy.Policy, partitions: int
) -> tuple[str, list[Change]]:
    """Decide a complaint. Returns the account, and what followed.

    A reversed measure, and what followed from it, count as never taken.

    Raises:
        Refused: 404; no complaint is open; the measure is reversed; the reviewer made or seconded a finding that
            counted; a conflict of interest; no such code.
    """
    account = connection.exec_driver_sql("select account from misuse_measures where id = %s", (id,)).scalar()
    if account is None:
        raise domain.not_found()
    if body.code not in rules.appeals.reasons:
        raise Refused(
            422,
            "unknown_code",
            "There is no such reason for a decision on a complaint.",
            field="code",
            cure=f"Use one of: {', '.join(sorted(rules.appeals.reasons))}.",
        )
    _queue(connection, account)
    _lock(connection, [account])
    now, wall = clock.read(connection)
    open_ = connection.exec_driver_sql(
        "select from misuse_complaints where measure = %s and state = 'open' for update", (id,)
    ).rowcount
    if not open_:
        raise Refused(409, "no_complaint", "No complaint against the measure is open.", cure="Nothing is left to do.")
    review_store.check_unbiased(connection, me, account)
    known = measures(connection, [account])
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
        note(connection, account, id, "confirmed", me.id, now, text)
        told = outbox.notice(account, "misuse_confirmed", id, now, wall, code=body.code)
        outbox.tell_accounts(connection, [told], partitions)
        return str(account), []
    if measure.finding is not None:
        connection.exec_driver_sql("update misuse_findings set state = 'reversed' where id = %s", (measure.finding,))
        connection.exec_driver_sql("update evidence set forged = null where forged = %s", (measure.finding,))
    kept = {
        row[0]: _BASIS.decode(row[1])
        for row in connection.exec_driver_sql("select id, basis from misuse_measures where account = %s", (account,))
    }
    made = [
        _Made(account, change, kept[change.measure.id]) for change in misuse.reverse(known[account], id, now.date())
    ]
    # complaints about measures that fell with it need no decision of their own
    connection.exec_driver_sql(
        """update misuse_complaints set state = 'reversed', by = %s, code = %s, decided_at = %s
        where state = 'open' and measure = any(%s)""",
        (me.id, body.code, now, [one.change.measure.id for one in made]),
    )
    _write(connection, now, wall, made, known, me.id, partitions)
    return str(account), [one.change for one in made]


def _found_by(connection: sa.Connection, account: str, measure: Measure) -> list[tuple[str, str | None]]:
    """Who made and who seconded the findings that a measure is based on: its own, or those in its figures."""
    rows = connection.exec_driver_sql(
        """select f.by, f.second from misuse_measures m join misuse_findings f on f.account = m.account
        where m.id = %s and f.account = %s and f.kind <> 'none' and f.state in ('in_force', 'reversed')
        and case when m.finding is null then f.at <= m.at and f.day >= (m.basis::json ->> 'window_from')::date
            else f.id = m.finding end""",
        (measure.id, account),
    )
    return [(row[0], row[1]) for row in rows]


def complaints(connection: sa.Connection, after: tuple[dt.datetime, str] | None, limit: int) -> list[store.Row]:
    """Open complaints, oldest first; the statement is sealed under ``wrapped`` (None: erased)."""
    at, id = after or (None, None)
    rows = connection.exec_driver_sql(
        """select c.measure, c.account, m.kind, m.finding, c.at, c.sealed, k.wrapped from misuse_complaints c
        join misuse_measures m on m.id = c.measure left join subject_keys k on k.account = c.account
        where c.state = 'open' and (%s::timestamptz is null or (c.at, c.measure) > (%s, %s)) order by c.at, c.measure limit %s""",
        (at, at, id, limit),
    )
    return [dict(row) for row in rows.mappings()]


# -------------------------------------------------------------------------------------------------------------- reading

_ROW: Final = """
    select m.id, m.kind, m.state, m.day, m.at, m.until, m.items, m.prior, m.finding, m.ended, m.basis, c.state as complaint,
        c.at as complained_at, c.code as complaint_code, c.decided_at
    from misuse_measures m left join misuse_complaints c on c.measure = m.id"""


def rows(connection: sa.Connection, account: str, limit: int) -> list[store.Row]:
    """The account's measures, latest first, each with its basis and what became of a complaint."""
    found = connection.exec_driver_sql(
        f"{_ROW} where m.account = %s order by m.at desc, m.id desc limit %s", (account, limit)
    )
    return [dict(row) for row in found.mappings()]


def row(connection: sa.Connection, id: str) -> store.Row:
    """One measure."""
    return dict(connection.exec_driver_sql(f"{_ROW} where m.id = %s", (id,)).mappings().one())


def used(connection: sa.Connection, account: str, day: dt.date) -> int:
    """Items that an account under a quota has filed on a day."""
    found = connection.exec_driver_sql("select items from misuse_usage where account = %s and day = %s", (account, day))
    return found.scalar() or 0


def held(connection: sa.Connection, account: str) -> int:
    """Number of an account's items that wait for its suspension to end."""
    return connection.exec_driver_sql("select count(*) from held_items where complainant = %s", (account,)).scalar_one()  # type: ignore[no-any-return]


def history(connection: sa.Connection, account: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """History of the account's measures, latest first."""
    found = connection.exec_driver_sql(
        """select id, measure, day, at, kind, by, basis from misuse_history
        where account = %s and (%s::bigint is null or id < %s) order by id desc limit %s""",
        (account, before, before, limit),
    )
    return [dict(row) for row in found.mappings()]


# --------------------------------------------------------------------------------------------------------- what is held

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
