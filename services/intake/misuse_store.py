"""Tables of misuse by complainants: the daily judgement, findings, complaints, and what the door asks for.

Whoever changes an account's measures locks its row in ``accounts`` first, so that the judgement, a finding and a decision come one after
the other; what the door reads (``accounts.misuse``) follows in the same transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from services.intake import domain, misuse, registry_store, store
from services.intake.misuse import Change, Facts, Measure
from shared import clock, policy
from shared.events import AccountNotice

SYSTEM: Final = "a-system"
GROUNDS_TOLD: Final = 10
USAGE_KEPT: Final = dt.timedelta(days=30)
_DAY: Final = dt.timedelta(days=1)


class Basis(Struct, frozen=True, kw_only=True):
    """The numbers that a measure stands on: the window (both days included), its facts, and the policy by which they were weighed."""

    window_from: dt.date
    window_to: dt.date
    facts: Facts
    policy: str
    finding: str | None = None


# -------------------------------------------------------------------------------------------------------------- figures

_GROUNDS: Final = """
    select g.account, g.ground, g.serious, count(*) from good_faith_items g
    join unnest(%s::text[], %s::date[]) as n(account, after) on n.account = g.account
    where g.ground is not null and g.outcome is not null and g.day > n.after and g.day <= %s group by 1, 2, 3"""
_SETTLED: Final = """
    select account, sum(settled)::bigint from good_faith_days where account = any(%s) and day > %s and day <= %s group by 1"""
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

    Notices on which a reversed measure stood are held against nobody any more: they count as never having been unfounded.
    """
    out = upto - terms.window.exact
    accounts = sorted(known)
    after = {account: max(out, _forgiven(known[account])) for account in accounts}
    grounds: dict[str, list[tuple[str, bool, int]]] = {}
    for account, ground, serious, count in connection.exec_driver_sql(
        _GROUNDS, (accounts, [after[account] for account in accounts], upto)
    ):
        grounds.setdefault(account, []).append((ground, serious, count))
    findings: dict[str, dict[str, int]] = {}
    fresh: dict[str, int] = {}
    since = {account: moment for account in accounts if (moment := misuse.last_step(known[account])) is not None}
    # today's count as well: a person made them, and knows why
    for account, kind, at in connection.exec_driver_sql(
        """select account, kind, at from misuse_findings where account = any(%s) and state = 'in_force' and kind <> 'none'
        and day > %s""",
        (accounts, out),
    ):
        found = findings.setdefault(account, {})
        found[kind] = found.get(kind, 0) + 1
        fresh[account] = fresh.get(account, 0) + (account in since and at > since[account])
    concerned = sorted(grounds.keys() | findings.keys())
    if not concerned:
        return dict.fromkeys(accounts, Facts())
    sums = connection.exec_driver_sql(_SETTLED, (concerned, out, upto))
    settled: dict[str, int] = {row[0]: row[1] for row in sums}
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
        )
        for account in accounts
    }


def _forgiven(measures: Iterable[Measure]) -> dt.date:
    """The last day whose notices count no more, because a measure that stood on them was reversed."""
    days = (m.day - _DAY for m in measures if m.state == "reversed" and m.finding is None)
    return max(days, default=dt.date.min)


def basis(facts_: Facts, upto: dt.date, rules: policy.Policy, finding: str | None = None) -> Basis:
    """As kept with a measure and shown."""
    return Basis(
        window_from=upto - rules.misuse.window.exact + _DAY,
        window_to=upto,
        facts=facts_,
        policy=rules.version,
        finding=finding,
    )


def basis_now(connection: sa.Connection, account: str, day: dt.date, rules: policy.Policy) -> Basis:
    """An account's figures up to and with ``day``."""
    known = {account: measures(connection, [account]).get(account, [])}
    return basis(facts(connection, known, day, rules.misuse)[account], day, rules)


# ------------------------------------------------------------------------------------------------------------- measures

_MEASURE: Final = "id, kind, day, at, until, items, prior, finding, state, ended"


def measures(connection: sa.Connection, accounts: Sequence[str]) -> dict[str, list[Measure]]:
    """Measures by account, in their order."""
    found: dict[str, list[Measure]] = {}
    for account, *row in connection.exec_driver_sql(
        f"select account, {_MEASURE} from misuse_measures where account = any(%s) order by account, at, id",
        (list(accounts),),
    ):
        found.setdefault(account, []).append(Measure(*row))
    return found


def _lock(connection: sa.Connection, accounts: Iterable[str]) -> None:
    connection.exec_driver_sql(
        "select from accounts where id = any(%s) order by id for update", (sorted(set(accounts)),)
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
    """Write changes down: measures, history, what the door reads, and a notice to the account."""
    day = now.date()
    after: dict[str, dict[str, Measure]] = {}
    for one in made:
        measure, text = one.change.measure, msgspec.json.encode(one.basis).decode()
        after.setdefault(one.account, {m.id: m for m in known.get(one.account, ())})[measure.id] = measure
        connection.exec_driver_sql(
            f"""insert into misuse_measures (account, basis, {_MEASURE}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (id) do update set state = excluded.state, ended = excluded.ended""",
            (
                one.account, text, measure.id, measure.kind, measure.day, measure.at, measure.until, measure.items, measure.prior,
                measure.finding, measure.state, measure.ended,
            ),
        )  # fmt: skip
        note(connection, one.account, measure.id, one.change.kind, by, now, text)
    for account, found in sorted(after.items()):
        at = misuse.current(found.values(), day)
        connection.exec_driver_sql(
            "update accounts set misuse = %s, misuse_items = %s, misuse_until = %s where id = %s",
            (
                "clear" if at is None else at.kind, None if at is None else at.items, None if at is None else at.until, account,
            ),
        )  # fmt: skip
        # whether it may take part in the good-faith mechanism is looked at in the next turn
        connection.exec_driver_sql(
            "insert into good_faith_due (account) values (%s) on conflict do nothing", (account,)
        )
    if tell:
        store.tell_accounts(connection, [_notice(one, now, wall) for one in made], partitions)


def note(
    connection: sa.Connection, account: str, measure: str, kind: str, by: str, now: dt.datetime, basis_: str
) -> None:
    """Enter what happened to a measure into the account's history."""
    connection.exec_driver_sql(
        "insert into misuse_history (account, measure, day, at, kind, by, basis) values (%s, %s, %s, %s, %s, %s, %s)",
        (account, measure, now.date(), now, kind, by, basis_),
    )


def _notice(one: _Made, now: dt.datetime, wall: dt.datetime) -> AccountNotice:
    measure, given = one.change.measure, one.basis
    told: dict[str, int | float | str] = {
        "window_from": given.window_from.isoformat(),
        "window_to": given.window_to.isoformat(),
        "unfounded": given.facts.items,
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
        if measure.until is not None:
            told["until"] = measure.until.isoformat()
        last = measure.at + policy.load(given.policy).misuse.complaint.exact
        told["complain_until"] = last.date().isoformat()
    return AccountNotice(
        notice=domain.new_id("n", store.wall_ms(wall)), account=one.account, kind=f"misuse_{one.change.kind}",
        about=measure.id, figures=told, at=now,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the daily turn


def judge(
    connection: sa.Connection,
    accounts: Sequence[str],
    now: dt.datetime,
    wall: dt.datetime,
    rules: policy.Policy,
    partitions: int,
) -> list[Change]:
    """Judge accounts by their figures up to yesterday; returns the changes. Those that nothing is held against cost a look."""
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
    # anew, under the lock: somebody may have made a finding or decided meanwhile
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


def used(connection: sa.Connection, account: str, day: dt.date) -> int:
    """Items that an account under a quota has filed on a day."""
    found = connection.exec_driver_sql("select items from misuse_usage where account = %s and day = %s", (account, day))
    return found.scalar() or 0


def held(connection: sa.Connection, account: str) -> int:
    """Items of an account that wait for the end of a suspension."""
    return connection.exec_driver_sql("select count(*) from door_held where complainant = %s", (account,)).scalar_one()  # type: ignore[no-any-return]


def history(connection: sa.Connection, account: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """What happened to the account's measures, latest first."""
    found = connection.exec_driver_sql(
        """select id, measure, day, at, kind, by, basis from misuse_history
        where account = %s and (%s::bigint is null or id < %s) order by id desc limit %s""",
        (account, before, before, limit),
    )
    return [dict(row) for row in found.mappings()]


# --------------------------------------------------------------------------------------------------------- what is held

RELEASE: Final = 500
"""Items released in one transaction: the door is closed meanwhile."""
_RELEASABLE: Final = """
    select h.item from door_held h join accounts a on a.id = h.complainant
    where a.misuse <> 'suspension' or a.misuse_until <= %s order by h.id limit %s"""
_MOVE: Final = """
    with gone as (delete from door_held where item = any(%s) returning *)
    insert into door (kind, lane, complainant, partition, claim, item, listing, on_site, accepted_at)
    select 'submit', lane, complainant, partition, claim, item, listing, on_site, %s from gone order by id returning item"""
_RIGHT_CHANGED: Final = """i.id = any(%s) and (c.complainant <> c.principal or exists (
    select from rights r where r.id = c.right_id and (r.status <> 'active' or r.owner <> c.principal)))"""


def release(connection: sa.Connection, partitions: int, limit: int = RELEASE) -> int:
    """Put items whose account is not suspended any more into the door, in the order in which they were filed. Returns how many.

    Their time of right is now. What became of their rights meanwhile they are told after that.
    """
    ready = connection.exec_driver_sql(_RELEASABLE, (clock.read(connection)[0].date(), 1)).rowcount
    if not ready:
        return 0
    now, wall = store.close_door(connection)
    items = list(connection.exec_driver_sql(_RELEASABLE, (now.date(), limit)).scalars())
    moved = list(connection.exec_driver_sql(_MOVE, (items, now)).scalars())
    registry_store.tell_items(connection, _RIGHT_CHANGED, (moved,), now, wall, partitions)
    return len(moved)
