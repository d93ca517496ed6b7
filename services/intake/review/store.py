"""The review queue's tables. Leases are taken with ``for update skip locked``: no two reviewers get the same case."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.intake.kernel import domain, requests
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import not_found
from services.intake.kernel.weighed import AUDITED, STATE_SHOWN
from services.intake.review import domain as review
from services.intake.review.domain import (
    NO_DEADLINE,
    AcceptedDecision,
    Case,
    CaseChange,
    DecisionContext,
    EarlierDecision,
)
from shared.db import columns
from shared.events import Lane, State
from shared.refusals import Refused

Row = dict[str, Any]

_CASE = """c.item, c.claim, c.listing, c.complainant, c.principal, c.seller, c.right_type, c.reason, c.severity, c.profile,
    c.policy, c.lane, c.state, c.code, c.revision, c.rank, nullif(c.due, '9999-01-01T00:00:00Z') as due, c.since,
    case when c.expires_wall > now() then c.reviewer end as reviewer, case when c.expires_wall > now() then c.expires_wall end as expires,
    case when c.assigned_wall > now() then c.assignee end as assignee, c.command is not null as decided"""
_STATE: Final = f"(select {STATE_SHOWN} from items i where i.id = c.item)"
"""The state of a case as it is shown: neither a filter nor what comes with it tells what an audit is about."""
_FREE: Final = "c.command is null and (c.expires_wall is null or c.expires_wall <= now())"
_FREED: Final = "lease = null, reviewer = null, leased_wall = null, expires_wall = null, seen = null"
_HELD: Final = "c.lease = %s and c.reviewer = %s and c.expires_wall > now() and c.command is null"


def _all(result: sa.CursorResult[Any]) -> list[Row]:
    return [dict(row) for row in result.mappings()]


# ----------------------------------------------------------------------------------------------------------- in the fold

# the join skips revisions that the read model has passed, so a record replayed late does not bring a case back
_ENTER: Final = """
    insert into cases (item, claim, listing, complainant, principal, seller, right_type, reason, severity, profile, policy,
        lane, state, code, revision, entered, rank, due, since)
    select n.* from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
            %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::smallint[],
            %s::timestamptz[], %s::timestamptz[])
        as n(item, claim, listing, complainant, principal, seller, right_type, reason, severity, profile, policy, lane, state,
            code, revision, entered, rank, due, since)
    join items i on i.id = n.item and i.revision = n.revision
    on conflict (item) do update set seller = excluded.seller, state = excluded.state, code = excluded.code,
        revision = excluded.revision, entered = excluded.entered, rank = excluded.rank, due = excluded.due,
        since = excluded.since, looks = 0, lease = null, reviewer = null, leased_wall = null, expires_wall = null, seen = null,
        assignee = null, assigned_wall = null, command = null
    where cases.revision < excluded.revision"""
_STAY: Final = """
    update cases c set seller = coalesce(n.seller, c.seller), code = n.code, revision = n.revision,
        rank = least(c.rank, n.rank), due = n.due
    from unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::smallint[], %s::timestamptz[])
        as n(item, seller, code, revision, rank, due)
    where c.item = n.item and c.revision < n.revision"""
_LEAVE: Final = """
    delete from cases c using unnest(%s::text[], %s::int[]) as n(item, revision)
    where c.item = n.item and c.revision < n.revision"""
_APPLIED: Final = """
    with done as (
        update review_decisions set outcome = 'applied' where command = any(%s) and outcome = 'filed'
        returning id, item, state, decision
    )
    update review_decisions d set appeal = done.decision from done
    where done.state = 'APPEALED' and d.item = done.item and d.id <> done.id and d.state <> 'APPEALED'
        and d.kind <> 'proposal' and d.outcome = 'applied' and d.appeal is null"""
_REFUSED: Final = """
    with done as (
        update review_decisions set outcome = 'refused' where command = any(%s) and outcome = 'filed' returning command
    )
    update cases c set command = null from done where c.command = done.command"""


def fold(connection: sa.Connection, moves: Iterable[CaseChange]) -> None:
    """Write cases, after the read model's items: one statement each to enter, stay and leave, in key order."""
    enter: list[tuple[Any, ...]] = []
    stay: list[tuple[Any, ...]] = []
    leave: list[tuple[Any, ...]] = []
    for move in sorted(moves, key=lambda move: move.change.item):
        c = move.change
        if not move.is_case:
            leave.append((c.item, c.revision))
        elif move.entered is None:
            stay.append((c.item, c.seller, c.code, c.revision, move.rank, move.due))
        else:
            enter.append(
                (
                    c.item,
                    c.claim,
                    c.listing,
                    c.complainant,
                    c.principal,
                    c.seller,
                    c.right_type,
                    c.reason,
                    c.severity,
                    c.profile,
                    c.policy,
                    c.lane,
                    c.state.value,
                    c.code,
                    c.revision,
                    move.entered,
                    move.rank,
                    move.due,
                    move.at,
                )
            )
    for statement, rows in ((_ENTER, enter), (_STAY, stay), (_LEAVE, leave)):
        if rows:
            connection.exec_driver_sql(statement, columns(rows))


def applied(connection: sa.Connection, commands: Sequence[str]) -> None:
    """Note decisions that were carried out. One on a complaint is also recorded with the decisions before it."""
    connection.exec_driver_sql(_APPLIED, (sorted(commands),))


def refused(connection: sa.Connection, commands: Sequence[str]) -> None:
    """Note commands that the items' owner refused. Their cases are free again."""
    connection.exec_driver_sql(_REFUSED, (sorted(commands),))


# ------------------------------------------------------------------------------------------------- in the group commit


def lock_cases(connection: sa.Connection, items: Iterable[str], people: Iterable[str]) -> DecisionContext:
    """Lock the items' cases, in key order, and read what determines who may decide them."""
    ids = sorted(set(items))
    found = DecisionContext()
    for row in connection.exec_driver_sql(
        f"""select c.item, c.state, c.entered, c.reason, c.severity, c.policy, c.lease, c.reviewer,
            coalesce(c.expires_wall > now(), false) as live, c.seen, c.leased_wall, c.command,
            case when {AUDITED} then i.last::jsonb -> 'audit' ->> 'outcome' end as audited
        from cases c left join items i on i.id = c.item where c.item = any(%s) order by c.item for update of c""",
        (ids,),
    ).mappings():
        lease = row["lease"]
        found.cases[row["item"]] = Case(**{**row, "lease": None if lease is None else bytes(lease)})
    for item, *rest in connection.exec_driver_sql(
        """select item, entered, reviewer, decision, kind from review_decisions
        where item = any(%s) and outcome <> 'refused' order by id""",
        (ids,),
    ):
        found.past.setdefault(item, []).append(EarlierDecision(*rest))
    found.conflicts = conflicts_of(connection, people)
    return found


def keep(connection: sa.Connection, decisions: Sequence[AcceptedDecision]) -> None:
    """Store decisions, end their leases, and note for settled proposals whether they agree with the outcome."""
    rows = [
        (
            d.item,
            d.claim,
            d.entered,
            d.state,
            d.reviewer,
            d.role,
            d.decision,
            d.code,
            d.kind,
            d.command,
            d.agreed,
            d.leased_wall,
            d.at,
        )
        for d in decisions
    ]
    connection.exec_driver_sql(
        """insert into review_decisions (item, claim, entered, state, reviewer, role, decision, code, kind, command, agreed,
            leased_wall, decided_at)
        select * from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
            %s::text[], %s::text[], %s::bool[], %s::timestamptz[], %s::timestamptz[])""",
        columns(rows),
    )
    connection.exec_driver_sql(
        f"""update cases c set command = coalesce(c.command, n.command), looks = c.looks + n.looks, {_FREED},
            assignee = null, assigned_wall = null
        from unnest(%s::text[], %s::text[], %s::int[]) as n(item, command, looks) where c.item = n.item""",
        columns([(d.item, d.command, int(d.kind == "proposal")) for d in decisions]),
    )
    settled = [(d.item, d.entered, d.decision) for d in decisions if d.settles]
    if settled:
        connection.exec_driver_sql(
            """update review_decisions d set agreed = d.decision = n.decision
            from unnest(%s::text[], %s::int[], %s::text[]) as n(item, entered, decision)
            where d.item = n.item and d.entered = n.entered and d.kind = 'proposal'""",
            columns(settled),
        )


# --------------------------------------------------------------------------------------------------------------- leases


def take(
    connection: sa.Connection, me: Account, wanted: requests.TakeLease, token: bytes, *, lease_s: float
) -> list[Row]:
    """Lease the most urgent free cases that the reviewer may decide, handed-over ones first.

    Raises:
        Refused: 409, the reviewer would hold too many.
    """
    # one at a time per reviewer, so that the count below stays true
    connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended('review:' || %s, 0))", (me.id,))
    held = connection.exec_driver_sql(
        "select count(*) from cases where lease is not null and reviewer = %s and expires_wall > now()", (me.id,)
    ).scalar_one()
    if held + wanted.count > review.HELD_MAX:
        raise Refused(
            409,
            "too_many_leases",
            f"You hold {held} cases; the limit is {review.HELD_MAX}.",
            field="count",
            cure="Decide them, or give them back.",
        )
    fits, values = _filters(
        state=wanted.state,
        reason=wanted.reason,
        right_type=wanted.right_type,
        severity=wanted.severity,
        lane=wanted.lane,
        profile=wanted.profile,
        claim=wanted.claim,
    )
    may = f"""{_FREE} and {fits}
        and not exists (select from review_conflicts x where x.reviewer = %s and x.account in (c.complainant, c.principal, c.seller))
        and %s not in (c.complainant, c.principal, coalesce(c.seller, ''))
        and not exists (select from review_skips s where s.item = c.item and s.reviewer = %s and s.until_wall > now())
        and not exists (select from review_decisions d where d.item = c.item and d.reviewer = %s and d.outcome <> 'refused'
            and (c.state = 'APPEALED' or (d.kind = 'proposal' and d.entered = c.entered)))"""
    may_values = (*values, me.id, me.id, me.id, me.id)
    first = None
    for whose, whose_values in (
        ("c.assignee = %s", (me.id,)),
        ("(c.assignee is null or c.assigned_wall <= now())", ()),
    ):
        first = connection.exec_driver_sql(
            f"""select c.item, c.claim, {_STATE} as state from cases c where {whose} and {may}
            order by c.rank, c.due, c.item limit 1 for update of c skip locked""",
            (*whose_values, *may_values),
        ).one_or_none()
        if first is not None:
            break
    if first is None:
        return []
    items = [first.item]
    if wanted.count > 1:
        items += connection.exec_driver_sql(
            f"""select c.item from cases c where c.claim = %s and {_STATE} = %s and c.item <> %s
                and (c.assignee is null or c.assignee = %s or c.assigned_wall <= now()) and {may}
            order by c.item limit %s for update of c skip locked""",
            (first.claim, first.state, first.item, me.id, *may_values, wanted.count - 1),
        ).scalars()
    return _all(
        connection.exec_driver_sql(
            f"""with c as (
                update cases set lease = %s, reviewer = %s, leased_wall = now(), expires_wall = now() + %s * interval '1 second',
                    seen = revision, assignee = null, assigned_wall = null
                where item = any(%s) returning *
            ) select {_CASE} from c order by c.item""",
            (token, me.id, lease_s, items),
        )
    )


def prolong(connection: sa.Connection, me: Account, token: bytes, *, lease_s: float, hold_s: float) -> list[Row]:
    """Extend a lease on what it still covers, to at most ``hold_s`` seconds after it was taken.

    Raises:
        Refused: 409, there is no such lease.
    """
    rows = _all(
        connection.exec_driver_sql(
            f"""with c as (
                update cases c set expires_wall = greatest(c.expires_wall, least(now() + %s * interval '1 second',
                    c.leased_wall + %s * interval '1 second'))
                where {_HELD} returning c.*
            ) select {_CASE} from c order by c.item""",
            (lease_s, hold_s, token, me.id),
        )
    )
    if not rows:
        raise review.lease_lost()
    return rows


def _mine(connection: sa.Connection, me: Account, token: bytes, items: Sequence[str] | None) -> list[Row]:
    """Lock the named cases, or all, that a lease covers.

    Raises:
        Refused: 409, it does not cover all that are named, or covers nothing.
    """
    named = None if items is None else sorted(set(items))
    rows = _all(
        connection.exec_driver_sql(
            f"""select c.item, c.complainant, c.principal, c.seller, c.state, c.entered from cases c
            where {_HELD} and (%s::text[] is null or c.item = any(%s)) order by c.item for update""",
            (token, me.id, named, named),
        )
    )
    if not rows or (named is not None and len(rows) < len(named)):
        raise review.lease_lost()
    return rows


def give_back(connection: sa.Connection, me: Account, token: bytes, items: Sequence[str] | None) -> None:
    """End a lease, or take cases out of it."""
    ids = [row["item"] for row in _mine(connection, me, token, items)]
    connection.exec_driver_sql(f"update cases set {_FREED} where item = any(%s)", (ids,))


def skip(connection: sa.Connection, me: Account, token: bytes, items: Sequence[str] | None, *, skip_s: float) -> None:
    """Give cases back. The reviewer is not offered them again for ``skip_s`` seconds."""
    ids = [row["item"] for row in _mine(connection, me, token, items)]
    connection.exec_driver_sql(f"update cases set {_FREED} where item = any(%s)", (ids,))
    connection.exec_driver_sql(
        """insert into review_skips (item, reviewer, until_wall)
        select item, %s, now() + %s * interval '1 second' from unnest(%s::text[]) as n(item)
        on conflict (item, reviewer) do update set until_wall = excluded.until_wall""",
        (me.id, skip_s, ids),
    )


def hand_over(
    connection: sa.Connection, me: Account, token: bytes, items: Sequence[str] | None, to: str, *, hand_over_s: float
) -> None:
    """Hand cases over to another person, who is offered them first; after ``hand_over_s`` seconds anyone is.

    Raises:
        Refused: 409, no such lease; 422, the other person may not decide them.
    """
    rows = _mine(connection, me, token, items)
    role = connection.exec_driver_sql("select role from accounts where id = %s", (to,)).scalar()
    if role not in ("reviewer", "operator") or to == me.id:
        raise Refused(
            422,
            "not_a_reviewer",
            "There is no other reviewer with this id.",
            field="to",
            cure="Name a reviewer's account.",
        )
    theirs = lock_cases(connection, [row["item"] for row in rows], [to])
    for row in rows:
        try:
            review.check_conflict(
                to, (row["complainant"], row["principal"], row["seller"]), theirs.conflicts.get(to, ())
            )
        except Refused as refused:
            raise _not_theirs() from refused
        if review.barred(to, row["state"], row["entered"], theirs.past.get(row["item"], [])):
            raise _not_theirs()
    ids = [row["item"] for row in rows]
    connection.exec_driver_sql(
        f"""update cases set {_FREED}, assignee = %s, assigned_wall = now() + %s * interval '1 second'
        where item = any(%s)""",
        (to, hand_over_s, ids),
    )
    # cases handed over on purpose are offered even if they were skipped once
    connection.exec_driver_sql("delete from review_skips where item = any(%s) and reviewer = %s", (ids, to))


def _not_theirs() -> Refused:
    return Refused(
        422, "not_theirs_to_decide", "That person may not decide this case.", field="to", cure="Name another reviewer."
    )


# -------------------------------------------------------------------------------------------------------------- reading


def _filters(**wanted: Any) -> tuple[str, tuple[Any, ...]]:
    given = {name: value for name, value in wanted.items() if value is not None}
    names = (_STATE if name == "state" else f"c.{name}" for name in given)
    return " and ".join(["true", *(f"{name} = %s" for name in names)]), tuple(given.values())


def list_cases(
    connection: sa.Connection,
    *,
    after: tuple[int, dt.datetime, str] | None,
    limit: int,
    free: bool | None = None,
    reviewer: str | None = None,
    **wanted: Any,
) -> list[Row]:
    """Cases in the order in which they are offered."""
    fits, values = _filters(**wanted)
    if after is not None:
        fits, values = f"{fits} and (c.rank, c.due, c.item) > (%s, %s, %s)", (*values, *after)
    if free is not None:
        fits = f"{fits} and {'' if free else 'not '}({_FREE})"
    if reviewer is not None:
        fits, values = f"{fits} and c.reviewer = %s and c.expires_wall > now()", (*values, reviewer)
    return _all(
        connection.exec_driver_sql(
            f"select {_CASE} from cases c where {fits} order by c.rank, c.due, c.item limit %s", (*values, limit)
        )
    )


def get_case(connection: sa.Connection, item: str) -> Row:
    """One case.

    Raises:
        Refused: 404.
    """
    rows = _all(connection.exec_driver_sql(f"select {_CASE} from cases c where c.item = %s", (item,)))
    if not rows:
        raise not_found()
    return rows[0]


def key_of(row: Row) -> tuple[int, dt.datetime, str]:
    """A case's position in the order."""
    return row["rank"], row["due"] or NO_DEADLINE, row["item"]


def add_note(connection: sa.Connection, id: str, item: str, by: str, text: str, at: dt.datetime) -> Row:
    """Store a note on an item.

    Raises:
        Refused: 404.
    """
    added = connection.exec_driver_sql(
        "insert into review_notes (id, item, by, text, at) select %s, id, %s, %s, %s from items where id = %s",
        (id, by, text, at, item),
    ).rowcount
    if not added:
        raise not_found()
    return {"id": id, "item": item, "by": by, "text": text, "at": at}


def notes(connection: sa.Connection, item: str, after: str, limit: int) -> list[Row]:
    """Notes on an item, oldest first."""
    return _all(
        connection.exec_driver_sql(
            "select id, item, by, text, at from review_notes where item = %s and id > %s order by id limit %s",
            (item, after, limit),
        )
    )


# ------------------------------------------------------------------------------------------------------------ conflicts


def conflicts_of(connection: sa.Connection, people: Iterable[str]) -> dict[str, set[str]]:
    """Accounts that each person may not decide about."""
    found: dict[str, set[str]] = {}
    for reviewer, account in connection.exec_driver_sql(
        "select reviewer, account from review_conflicts where reviewer = any(%s)", (sorted(set(people)),)
    ):
        found.setdefault(reviewer, set()).add(account)
    return found


def check_unbiased(connection: sa.Connection, me: Account, *parties: str) -> None:
    """Check that a person decides neither about their own account nor about one they have an interest in.

    Raises:
        Refused: 403.
    """
    review.check_conflict(me.id, parties, conflicts_of(connection, [me.id]).get(me.id, ()))


def declared(connection: sa.Connection, reviewer: str) -> tuple[list[str], list[str]]:
    """A reviewer's conflicts: (declared by the reviewer, set by an operator)."""
    both: tuple[list[str], list[str]] = ([], [])
    for account, own in connection.exec_driver_sql(
        "select account, own from review_conflicts where reviewer = %s order by account", (reviewer,)
    ):
        both[0 if own else 1].append(account)
    return both


def declare(connection: sa.Connection, reviewer: str, accounts: Sequence[str], *, own: bool) -> None:
    """Replace the conflicts that a reviewer declared (``own``) or that an operator set. Leases on their cases end.

    Raises:
        Refused: 422, there is no such reviewer.
    """
    role = connection.exec_driver_sql("select role from accounts where id = %s", (reviewer,)).scalar()
    if role not in ("reviewer", "operator"):
        raise Refused(
            422, "not_a_reviewer", "There is no such reviewer.", field="reviewer", cure="Name a reviewer's account."
        )
    connection.exec_driver_sql(
        "delete from review_conflicts where reviewer = %s and own = %s and account <> all(%s)",
        (reviewer, own, list(accounts)),
    )
    connection.exec_driver_sql(
        """insert into review_conflicts (reviewer, account, own) select %s, n.account, %s from unnest(%s::text[]) as n(account)
        on conflict do nothing""",
        (reviewer, own, sorted(set(accounts))),
    )
    connection.exec_driver_sql(
        f"""with mine as (
            select c.item from cases c where c.lease is not null and c.reviewer = %s and exists (
                select from review_conflicts x where x.reviewer = %s and x.account in (c.complainant, c.principal, c.seller))
            order by c.item for update
        ) update cases set {_FREED} from mine where cases.item = mine.item""",
        (reviewer, reviewer),
    )


# -------------------------------------------------------------------------------------------------------------- figures


def depth(connection: sa.Connection) -> list[Row]:
    """What waits, by state and lane."""
    return _all(
        connection.exec_driver_sql(
            f"""select c.state, c.lane, count(*) filter (where {_FREE}) as free,
                count(*) filter (where c.command is null and c.expires_wall > now()) as leased,
                count(*) filter (where c.command is not null) as decided, count(*) filter (where c.rank = 0) as escalated,
                min(c.since) filter (where c.command is null) as oldest,
                nullif(min(c.due) filter (where c.command is null), '9999-01-01T00:00:00Z') as due
            from cases c group by c.state, c.lane order by c.state, c.lane"""
        )
    )


def by_day(
    connection: sa.Connection,
    *,
    since: dt.datetime,
    until: dt.datetime,
    reviewer: str | None,
    after: tuple[str, dt.date] | None,
    limit: int,
) -> list[Row]:
    """What each reviewer did on each day (UTC, business time)."""
    return _all(
        connection.exec_driver_sql(
            """select * from (
                select d.reviewer, (d.decided_at at time zone 'utc')::date as day,
                    count(*) filter (where d.kind <> 'proposal' and d.outcome <> 'refused') as decided,
                    count(*) filter (where d.kind = 'break_glass' and d.outcome <> 'refused') as without_lease,
                    count(*) filter (where d.kind = 'proposal') as proposed,
                    count(*) filter (where d.outcome = 'refused') as refused,
                    round((percentile_cont(0.5) within group (order by extract(epoch from d.decided_wall - d.leased_wall))
                        filter (where d.leased_wall is not null))::numeric, 3)::float8 as median_s,
                    count(*) filter (where d.agreed) as agreed, count(d.agreed) as compared,
                    count(*) filter (where d.appeal = 'confirm') as confirmed, count(d.appeal) as appealed
                from review_decisions d
                where d.decided_at >= %s and d.decided_at < %s and (%s::text is null or d.reviewer = %s)
                group by 1, 2) as f
            where %s::text is null or (f.reviewer, f.day) > (%s, %s) order by f.reviewer, f.day limit %s""",
            (since, until, reviewer, reviewer, *((after[0], *after) if after else (None, None, None)), limit),
        )
    )


def forget_skips(connection: sa.Connection) -> None:
    """Delete skips whose time has passed."""
    connection.exec_driver_sql("delete from review_skips where until_wall <= now()")


STATES: Final[tuple[State, ...]] = tuple(state for state in State if state in review.REVIEWABLE)
LANES: Final[tuple[Lane, ...]] = domain.LANES
