"""Tables of measures against misuse by complainants, and the daily judgement.

Every change to an account's measures locks its row in ``accounts`` first, so the judgement, findings and decisions
come one after the other. ``accounts.misuse``, which the API reads, changes in the same transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from services.intake.kernel import outbox
from services.intake.kernel import store as kernel_store
from services.intake.kernel.ids import new_id
from services.intake.kernel.store import wall_ms
from services.intake.misuse import domain as misuse
from services.intake.misuse import figures
from services.intake.misuse.domain import MeasureChange, MisuseMeasure
from services.intake.misuse.figures import MeasureBasis
from shared import policy
from shared.events import AccountNotice

SYSTEM: Final = "a-system"
GROUNDS_TOLD: Final = 10
_DAY: Final = dt.timedelta(days=1)
_MEASURE: Final = "id, kind, day, at, until, items, prior, finding, state, ended"


def measures(connection: sa.Connection, accounts: Sequence[str]) -> dict[str, list[MisuseMeasure]]:
    """Measures by account, oldest first."""
    found: dict[str, list[MisuseMeasure]] = {}
    for account, *row in connection.exec_driver_sql(
        f"select account, {_MEASURE} from misuse_measures where account = any(%s) order by account, at, id",
        (list(accounts),),
    ):
        found.setdefault(account, []).append(MisuseMeasure(*row))
    return found


def lock(connection: sa.Connection, accounts: Iterable[str]) -> None:
    """Lock accounts, in key order, until the transaction ends."""
    connection.exec_driver_sql(
        "select from accounts where id = any(%s) order by id for no key update", (sorted(set(accounts)),)
    )


class RecordedChange(Struct, frozen=True):
    """A change to store: of which account, and the figures that it is based on."""

    account: str
    change: MeasureChange
    basis: MeasureBasis


def write(
    connection: sa.Connection,
    now: dt.datetime,
    wall: dt.datetime,
    made: Sequence[RecordedChange],
    known: Mapping[str, Sequence[MisuseMeasure]],
    by: str,
    partitions: int,
) -> None:
    """Store changes: measures, history, ``accounts.misuse``, and a notice to the account."""
    day = now.date()
    after: dict[str, dict[str, MisuseMeasure]] = {}
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
    outbox.publish_accounts(connection, [_notice(one, now, wall) for one in made], partitions)


def note(
    connection: sa.Connection, account: str, measure: str, kind: str, by: str, now: dt.datetime, basis_: str
) -> None:
    """Add what happened to a measure to the account's history."""
    connection.exec_driver_sql(
        "insert into misuse_history (account, measure, day, at, kind, by, basis) values (%s, %s, %s, %s, %s, %s, %s)",
        (account, measure, now.date(), now, kind, by, basis_),
    )


def _notice(one: RecordedChange, now: dt.datetime, wall: dt.datetime) -> AccountNotice:
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
        notice=new_id("n", wall_ms(wall)),
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
) -> list[MeasureChange]:
    """Judge accounts by their figures up to yesterday; returns the changes. Clean accounts cost only a read."""
    upto = now.date() - _DAY
    terms = rules.misuse
    known = measures(connection, accounts)
    found = figures.facts(connection, {account: known.get(account, ()) for account in accounts}, upto, terms)
    first = terms.steps[0] if terms.steps else None
    matter = [
        account
        for account in accounts
        if any(m.state == "on" for m in known.get(account, ()))
        or (first is not None and misuse.reaches(found[account], first))
    ]
    if not matter:
        return []
    lock(connection, matter)
    there = set(connection.exec_driver_sql("select id from accounts where id = any(%s)", (matter,)).scalars())
    # again, under the lock: someone may have made a finding or a decision meanwhile
    known = measures(connection, matter)
    found = figures.facts(connection, {account: known.get(account, ()) for account in matter}, upto, terms)
    made = [
        RecordedChange(account, change, figures.basis(found[account], upto, rules))
        for account in sorted(there & set(matter))
        for change in misuse.review(known.get(account, ()), found[account], now, new_id("m", wall_ms(wall)), terms)
    ]
    write(connection, now, wall, made, known, SYSTEM, partitions)
    return [one.change for one in made]


def judge_soon(connection: sa.Connection, account: str) -> None:
    """Queue an account for judgement, of misuse and of good faith, because something about it changed.

    Call it before locking the account: it waits for a running judgement instead of deadlocking with it.
    """
    connection.exec_driver_sql(
        "insert into good_faith_due (account) select id from accounts where id = %s on conflict do nothing", (account,)
    )


# -------------------------------------------------------------------------------------------------------------- reading


def basis_now(connection: sa.Connection, account: str, day: dt.date, rules: policy.Policy) -> MeasureBasis:
    """An account's figures up to and including ``day``."""
    known = {account: measures(connection, [account]).get(account, [])}
    return figures.basis(figures.facts(connection, known, day, rules.misuse)[account], day, rules)


_ROW: Final = """
    select m.id, m.kind, m.state, m.day, m.at, m.until, m.items, m.prior, m.finding, m.ended, m.basis, c.state as complaint,
        c.at as complained_at, c.code as complaint_code, c.decided_at
    from misuse_measures m left join misuse_complaints c on c.measure = m.id"""


def measure_rows(connection: sa.Connection, account: str, limit: int) -> list[kernel_store.Row]:
    """The account's measures, latest first, each with its basis and what became of a complaint."""
    found = connection.exec_driver_sql(
        f"{_ROW} where m.account = %s order by m.at desc, m.id desc limit %s", (account, limit)
    )
    return kernel_store.all_rows(found)


def measure_row(connection: sa.Connection, id: str) -> kernel_store.Row:
    """One measure."""
    return dict(connection.exec_driver_sql(f"{_ROW} where m.id = %s", (id,)).mappings().one())


def used(connection: sa.Connection, account: str, day: dt.date) -> int:
    """Items that an account under a quota has filed on a day."""
    found = connection.exec_driver_sql("select items from misuse_usage where account = %s and day = %s", (account, day))
    return found.scalar() or 0


def history(connection: sa.Connection, account: str, before: int | None, limit: int) -> list[kernel_store.Row]:
    """History of the account's measures, latest first."""
    found = connection.exec_driver_sql(
        """select id, measure, day, at, kind, by, basis from misuse_history
        where account = %s and (%s::bigint is null or id < %s) order by id desc limit %s""",
        (account, before, before, limit),
    )
    return kernel_store.all_rows(found)
