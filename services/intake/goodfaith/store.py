"""Tables of the good-faith mechanism: counting in the fold, the daily judgement, and the routes' queries.

Every change to a standing locks its row first (``_standings``), so the judgement, declarations and decisions of staff
come one after the other. ``accounts.good_faith``, which the API reads, changes in the same transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from services.intake.goodfaith import domain as goodfaith
from services.intake.goodfaith.domain import (
    ChangeKind,
    CountedItem,
    Counts,
    GoodFaithStanding,
    OutcomeChange,
    Verdict,
    WindowFigures,
)
from services.intake.kernel import domain, outbox, store
from services.intake.kernel.ids import new_id
from services.intake.misuse import domain as misuse
from services.intake.misuse import store as misuse_store
from shared import clock, declarations, policy
from shared.events import AccountNotice, Record
from shared.refusals import Refused

PROFILE: Final = "ipp"
"""Accounts, unlike items, have no profile: like penalties, they are judged by the newest policy of this one."""
CHUNK: Final = 100
"""Accounts judged in one transaction."""
MISSES_TOLD: Final = 10
SYSTEM: Final = "a-system"


def terms() -> policy.GoodFaith:
    """The mechanism's terms in force."""
    return policy.current(PROFILE).good_faith


def fit(account: domain.Account, rules: policy.Policy | None = None) -> bool:
    """Whether the account may take part at all: verified, neither suspended nor closed, under no measure that bars it.

    Args:
        rules: policy by which misuse is judged.
    """
    barred = account.misuse in (rules or policy.current(PROFILE)).misuse.bars
    return account.identity_verified and account.status == "open" and not barred


# ------------------------------------------------------------------------------------------------------------ the fold

_COUNTED: Final = """
    select i.id, i.taken_down, g.account, g.reason, g.day, g.outcome, g.revision, g.ground
    from items i left join good_faith_items g on g.item = i.id where i.id = any(%s)"""
_WRITE_ITEMS: Final = """
    insert into good_faith_items (item, account, reason, day, outcome, revision, ground, serious)
    select item, account, reason, day::date, outcome, revision, ground, serious
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bool[])
        as n(item, account, reason, day, outcome, revision, ground, serious)
    on conflict (item) do update set account = excluded.account, reason = excluded.reason, day = excluded.day,
        outcome = excluded.outcome, revision = excluded.revision, ground = excluded.ground, serious = excluded.serious"""
# commutative, in key order, and only its owner writes a partition's rows
_ADD_DAYS: Final = """
    insert into good_faith_days as d (account, day, reason, partition, settled, upheld, taken_down, restored)
    select account, day::date, reason, partition, settled, upheld, taken_down, restored
    from unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[])
        as n(account, day, reason, partition, settled, upheld, taken_down, restored)
    on conflict (account, day, reason, partition) do update set settled = d.settled + excluded.settled,
        upheld = d.upheld + excluded.upheld, taken_down = d.taken_down + excluded.taken_down,
        restored = d.restored + excluded.restored, touched = true"""


def settle(connection: sa.Connection, turns: Sequence[OutcomeChange]) -> None:
    """Count items that entered a settled state or left one. Runs after the read model's items are written."""
    known: dict[str, CountedItem] = {}
    taken_down: dict[str, bool] = {}
    for item, down, account, reason, day, outcome, revision, ground in connection.exec_driver_sql(
        _COUNTED, ([turn.item for turn in turns],)
    ):
        taken_down[item] = down
        if revision is not None:
            known[item] = CountedItem(item, account, reason, day, outcome, revision, ground)
    rows, sums = goodfaith.settle(turns, known, taken_down)
    if rows:
        connection.exec_driver_sql(
            _WRITE_ITEMS,
            (
                [row.item for row in rows],
                [row.account for row in rows],
                [row.reason for row in rows],
                [row.day.isoformat() for row in rows],
                [row.outcome for row in rows],
                [row.revision for row in rows],
                [row.ground for row in rows],
                [row.serious for row in rows],
            ),
        )
    if sums:
        connection.exec_driver_sql(
            _ADD_DAYS,
            (
                [bucket.account for bucket in sums],
                [bucket.day.isoformat() for bucket in sums],
                [bucket.reason for bucket in sums],
                [bucket.partition for bucket in sums],
                [counts.settled for counts in sums.values()],
                [counts.upheld for counts in sums.values()],
                [counts.taken_down for counts in sums.values()],
                [counts.restored for counts in sums.values()],
            ),
        )


# ------------------------------------------------------------------------------------------------------------- figures


class Window(NamedTuple):
    """The sums of a window, and its first day."""

    figures: WindowFigures
    first: dt.date


def figures(connection: sa.Connection, accounts: Iterable[str], day: dt.date, months: int) -> dict[str, Window]:
    """Sums of the window that ends with ``day``, by account."""
    after = goodfaith.left_after(day, months)
    wanted = sorted(set(accounts))
    found: dict[str, list[tuple[str, Counts]]] = {account: [] for account in wanted}
    rows = connection.exec_driver_sql(
        """select account, reason, sum(settled)::bigint, sum(upheld)::bigint, sum(taken_down)::bigint, sum(restored)::bigint
        from good_faith_days where account = any(%s) and day > %s and day <= %s group by account, reason""",
        (wanted, after, day),
    )
    for account, reason, *counts in rows:
        found[account].append((reason, Counts(*counts)))
    first = after + dt.timedelta(days=1)
    return {account: Window(goodfaith.figures_of(sums), first) for account, sums in found.items()}


class StandingBasis(Struct, frozen=True, kw_only=True):
    """The figures that a judgement is based on: the window (both days included), sums, thresholds, policy."""

    window_from: dt.date
    window_to: dt.date
    overall: Counts
    reasons: dict[str, Counts]
    verdict: Literal["meets", "misses", "too_few"]
    misses: list[goodfaith.Miss]
    takedown_rate: str
    counter_rate: str
    min_items: int
    reason_min_items: int
    policy: str


def basis(sums: WindowFigures, first: dt.date, day: dt.date, verdict: Verdict) -> StandingBasis:
    """Build the basis that the history keeps and the API shows."""
    now = policy.current(PROFILE)
    return StandingBasis(
        window_from=first,
        window_to=day,
        overall=sums.overall,
        reasons=sums.reasons,
        verdict=verdict.kind,
        misses=list(verdict.misses),
        takedown_rate=now.good_faith.takedown_rate.text,
        counter_rate=now.good_faith.counter_rate.text,
        min_items=now.good_faith.min_items,
        reason_min_items=now.good_faith.reason_min_items,
        policy=now.version,
    )


def basis_now(connection: sa.Connection, account: str, day: dt.date) -> StandingBasis:
    """An account's figures up to and including ``day``."""
    sums, first = figures(connection, [account], day, terms().window_months)[account]
    return basis(sums, first, day, goodfaith.judge(sums, terms()))


# ----------------------------------------------------------------------------------------------------------- standings

_STANDING: Final = "state, how, since, demote_on, barred_until"


def standing(connection: sa.Connection, account: str) -> GoodFaithStanding:
    """The account's standing."""
    row = connection.exec_driver_sql(
        f"select {_STANDING} from good_faith_standings where account = %s", (account,)
    ).one_or_none()
    return GoodFaithStanding() if row is None else GoodFaithStanding(*row)


def _standings(connection: sa.Connection, accounts: Sequence[str]) -> dict[str, GoodFaithStanding]:
    """Lock the standings of existing accounts, in key order; missing ones are created."""
    connection.exec_driver_sql(
        """insert into good_faith_standings (account) select id from accounts where id = any(%s) order by id
        on conflict do nothing""",
        (list(accounts),),
    )
    rows = connection.exec_driver_sql(
        f"select account, {_STANDING} from good_faith_standings where account = any(%s) order by account for update",
        (list(accounts),),
    )
    return {account: GoodFaithStanding(*standing) for account, *standing in rows}


class StandingChange(Struct, frozen=True):
    """A change to store: of which account, and the figures that it is based on."""

    account: str
    kind: ChangeKind
    standing: GoodFaithStanding
    basis: StandingBasis


def _write(
    connection: sa.Connection,
    now: dt.datetime,
    wall: dt.datetime,
    made: Sequence[StandingChange],
    by: str,
    partitions: int,
) -> None:
    """Store changes: standing, ``accounts.good_faith``, history, and a notice to the account."""
    day = now.date()
    for change in made:
        at = change.standing
        connection.exec_driver_sql(
            """update good_faith_standings set state = %s, how = %s, since = %s, demote_on = %s, barred_until = %s
            where account = %s""",
            (at.state, at.how, at.since, at.demote_on, at.barred_until, change.account),
        )
        connection.exec_driver_sql(
            "update accounts set good_faith = %s where id = %s and good_faith <> %s",
            (at.member, change.account, at.member),
        )
        connection.exec_driver_sql(
            """insert into good_faith_history (account, day, at, kind, by, state, demote_on, barred_until, basis)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            (
                change.account,
                day,
                now,
                change.kind,
                by,
                at.state,
                at.demote_on,
                at.barred_until,
                msgspec.json.encode(change.basis).decode(),
            ),
        )
    outbox.publish_accounts(connection, [_notice(change, now, wall) for change in made], partitions)


def _notice(change: StandingChange, now: dt.datetime, wall: dt.datetime) -> AccountNotice:
    given, at = change.basis, change.standing
    told: dict[str, int | float | str] = {
        "window_from": given.window_from.isoformat(),
        "window_to": given.window_to.isoformat(),
        "settled": given.overall.settled,
        "upheld": given.overall.upheld,
        "taken_down": given.overall.taken_down,
        "restored": given.overall.restored,
        "takedown_rate": given.takedown_rate,
        "counter_rate": given.counter_rate,
    }
    if given.misses:
        told["misses"] = ", ".join(
            f"{miss.reason or 'overall'} {miss.rate} {miss.part}/{miss.whole}" for miss in given.misses[:MISSES_TOLD]
        )
    if at.demote_on is not None:
        told["demote_on"] = at.demote_on.isoformat()
    if at.barred_until is not None:
        told["barred_until"] = at.barred_until.isoformat()
    return AccountNotice(
        notice=new_id("n", store.wall_ms(wall)),
        account=change.account,
        kind=f"good_faith_{change.kind}",
        figures=told,
        at=now,
    )


# ------------------------------------------------------------------------------------------------------- the daily run


FIND_DUE: Final = """
    insert into good_faith_due (account)
    select account from good_faith_days where touched and day <= %s
    union select account from good_faith_days where day > %s and day <= %s
    union select account from good_faith_standings where state <> 'out'
    union select account from good_faith_standings where barred_until <= %s
    union select account from good_faith_days where day > %s and day <= %s
    union select account from misuse_measures where state = 'on'
    order by 1 on conflict do nothing"""


def find_due(connection: sa.Connection, rules: policy.Misuse | None = None) -> bool:
    """Find the accounts to judge, once per business day (UTC), in one of the workers. Returns whether it did.

    These are the accounts whose sums changed since they were last judged, or lose a day as a window moves on (of
    this mechanism, or of ``rules``), those that take part, those whose bar ends, and those under a measure: never all.
    """
    run = connection.exec_driver_sql("select day from good_faith_run for update skip locked").one_or_none()
    if run is None:
        return False
    today = clock.read(connection)[0].date()
    if run.day is not None and run.day >= today:
        return False
    upto = today - dt.timedelta(days=1)
    months = terms().window_months
    judged_upto = upto if run.day is None else run.day - dt.timedelta(days=1)
    window = (rules or policy.current(PROFILE).misuse).window.exact
    connection.exec_driver_sql(
        FIND_DUE,
        (
            upto,
            goodfaith.left_after(judged_upto, months),
            goodfaith.left_after(upto, months),
            today,
            judged_upto - window,
            upto - window,
        ),
    )
    connection.exec_driver_sql("update good_faith_run set day = %s", (today,))
    return True


def judge_due(
    connection: sa.Connection, partitions: int, limit: int = CHUNK, rules: policy.Policy | None = None
) -> tuple[int, list[ChangeKind], list[misuse.MeasureChange]]:
    """Judge some of the due accounts, by their figures up to yesterday; other workers take others.

    Args:
        rules: policy by which misuse is judged.

    Returns:
        how many were judged, and the changes made to standings and to measures against misuse.
    """
    now, wall = clock.read(connection)
    upto = now.date() - dt.timedelta(days=1)
    due = list(
        connection.exec_driver_sql(
            """delete from good_faith_due where account in (
                select account from good_faith_due order by account limit %s for update skip locked) returning account""",
            (limit,),
        ).scalars()
    )
    if not due:
        return 0, [], []
    due.sort()
    # locked in the same order as in the fold; the sums are read after that, so no change is missed
    connection.exec_driver_sql(
        """with those as materialized (
            select account, day, reason, partition from good_faith_days where account = any(%s) and touched and day <= %s
            order by account, day, reason, partition for update)
        update good_faith_days d set touched = false from those t
        where d.account = t.account and d.day = t.day and d.reason = t.reason and d.partition = t.partition""",
        (due, upto),
    )
    given = terms()
    known = store.accounts(connection, due)
    sums = figures(connection, due, upto, given.window_months)
    store.keep_records(connection, {account: record(sums[account].figures) for account in due if account in known})
    # a row is created only where it may say something
    there = set(
        connection.exec_driver_sql("select account from good_faith_standings where account = any(%s)", (due,)).scalars()
    )
    verdicts = {account: goodfaith.judge(sums[account].figures, given) for account in due}
    matter = [
        account for account in due if account in there or (account in known and verdicts[account].kind == "meets")
    ]
    made: list[StandingChange] = []
    for account, before in _standings(connection, matter).items():
        figures_, first = sums[account]
        # one after the other, so that each entry of the history shows the standing it led to
        after, kinds = goodfaith.review(before, fit(known[account], rules), verdicts[account], now.date(), given)
        for number, kind in enumerate(kinds):
            last = number == len(kinds) - 1
            shown = after if last else msgspec.structs.replace(before, barred_until=None)
            made.append(StandingChange(account, kind, shown, basis(figures_, first, upto, verdicts[account])))
    _write(connection, now, wall, made, SYSTEM, partitions)
    # after the standings, which are always locked before the account
    measures = misuse_store.judge(connection, due, now, wall, rules or policy.current(PROFILE), partitions)
    return len(due), [change.kind for change in made], measures


def record(sums: WindowFigures) -> Record:
    """An account's figures as its claims carry them."""
    counts = sums.overall
    return Record(
        settled=counts.settled,
        upheld=counts.upheld,
        countered=counts.restored,
        declined=counts.settled - counts.taken_down,
    )


# -------------------------------------------------------------------------------------------------- joining and leaving


def execute(
    connection: sa.Connection,
    account: str,
    declaration: declarations.Declaration,
    seal: Callable[[bytes], bytes],
    new_key: Callable[[], bytes],
    partitions: int,
    rules: policy.Policy | None = None,
) -> dt.datetime:
    """Store an executed declaration and admit the account. Returns when.

    Args:
        seal: encrypts the signatory under the account's (wrapped) key.
        rules: policy by which misuse is judged.

    Raises:
        Refused: suspended, under a measure that bars it, not verified, barred, or this version was executed already.
    """
    now, wall = clock.read(connection)
    before = _standings(connection, [account])[account]
    who = store.accounts(connection, [account])[account]
    domain.check_open(who)
    if who.identity_verified and not fit(who, rules):
        raise Refused(
            409,
            "under_measure",
            "While a measure against misuse is in force the account may not join the mechanism.",
            cure="GET /v1/misuse says which, until when, and how to complain about it.",
        )
    after, kind = goodfaith.join(before, fit(who, rules), now.date())
    known = connection.exec_driver_sql(
        "select from good_faith_declarations where account = %s and version = %s", (account, declaration.version)
    ).rowcount
    if kind == "declared" and before.how == "declaration" and known:
        raise Refused(
            409,
            "already_declared",
            "This declaration was executed before, and the account takes part.",
            cure="Nothing to do.",
        )
    sealed = seal(store.subject_key(connection, account, new_key))
    connection.exec_driver_sql(
        """insert into good_faith_declarations (account, version, sha256, executed_at, sealed) values (%s, %s, %s, %s, %s)""",
        (account, declaration.version, declaration.sha256, now, sealed),
    )
    shown = StandingChange(account, kind, after, basis_now(connection, account, now.date()))
    _write(connection, now, wall, [shown], account, partitions)
    return now


def leave(connection: sa.Connection, account: str, partitions: int) -> None:
    """Let the account leave of its own accord.

    Raises:
        Refused: it is not in.
    """
    now, wall = clock.read(connection)
    after, kind = goodfaith.leave(_standings(connection, [account])[account], now.date(), terms())
    shown = StandingChange(account, kind, after, basis_now(connection, account, now.date()))
    _write(connection, now, wall, [shown], account, partitions)


def by_staff(connection: sa.Connection, account: str, member: bool, by: str, partitions: int) -> None:
    """Admit or remove an account on the word of a reviewer or operator. An unknown account is ignored."""
    now, wall = clock.read(connection)
    before = _standings(connection, [account]).get(account)
    if before is None:
        return
    after, kind = goodfaith.by_staff(before, member, now.date())
    if kind is not None:
        shown = StandingChange(account, kind, after, basis_now(connection, account, now.date()))
        _write(connection, now, wall, [shown], by, partitions)


# ------------------------------------------------------------------------------------------------------------- reading


def history(connection: sa.Connection, account: str, before: int | None, limit: int) -> list[store.Row]:
    """Changes to the account's standing, latest first."""
    rows = connection.exec_driver_sql(
        """select id, day, at, kind, by, state, demote_on, barred_until, basis from good_faith_history
        where account = %s and (%s::bigint is null or id < %s) order by id desc limit %s""",
        (account, before, before, limit),
    )
    return [dict(row) for row in rows.mappings()]


def executed(connection: sa.Connection, account: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Declarations that the account executed, latest first; who signed is sealed under ``wrapped`` (None: erased)."""
    rows = connection.exec_driver_sql(
        """select d.id, d.version, d.sha256, d.executed_at, d.sealed, k.wrapped from good_faith_declarations d
        left join subject_keys k using (account) where d.account = %s and (%s::bigint is null or d.id < %s)
        order by d.id desc limit %s""",
        (account, before, before, limit),
    )
    return [dict(row) for row in rows.mappings()]
