"""The tables of the brake: what accounts filed by day, the brakes that stand, and complaints about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa

from services.intake.filing import brake
from services.intake.filing.brake import Counters
from services.intake.filing.quotas import ASKS_LATER
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filing
from services.intake.kernel.refusals import not_found
from services.intake.kernel.store import Row, all_rows
from services.intake.review import store as review_store
from shared.events import BrakeReason
from shared.policy import Brake
from shared.refusals import Refused

_FILED: Final = """
    select account, sum(items) filter (where day = %(day)s) as today, max(items) filter (where day <= %(before)s) as best
    from (select account, day, sum(items) as items from filing_days
        where account = any(%(accounts)s) and day > %(since)s group by account, day) as days
    group by account"""
_BRAKES: Final = """
    select account, since, until, released, complained_at, decided_at, decided_by, decision, code from brakes"""


class Counted(NamedTuple):
    """An accepted claim that counts: items, and why it was held back, if it was."""

    account: str
    items: int
    reason: BrakeReason | None


def terms_of(filing: Filing) -> Brake | None:
    """The terms by which the brake looks at a claim; None: it does not, as at the system's own (row 20) or a canary's."""
    if filing.recurs is not None or filing.rules is None or filing.account.canary:
        return None
    return filing.rules.brake


class Brakes:
    """The counters of the accounts in one commit. They grow as it accepts."""

    def __init__(self, day: dt.date, by_topic: bool, known: Mapping[str, Counters]) -> None:
        self.day: Final = day
        self.by_topic: Final = by_topic
        self.known: Final = known
        self._now = dict(known)

    def ask(self, filing: Filing) -> BrakeReason | None:
        """Why a claim is held back; None: it is not."""
        if (terms := terms_of(filing)) is None:
            return None
        return brake.held_back(self._now[filing.account.id], len(filing.listings), self.day, terms)

    def took(self, filing: Filing, reason: BrakeReason | None) -> None:
        """Count an accepted claim."""
        if (terms := terms_of(filing)) is not None:
            id = filing.account.id
            self._now[id] = brake.filed(self._now[id], len(filing.listings), reason, self.day, terms)

    def until(self, account: str) -> dt.date | None:
        """First day on which the brake that stands now does not."""
        return self._now[account].until


def counters(
    connection: sa.Connection, people: Mapping[str, Account], day: dt.date, terms: Brake
) -> dict[str, Counters]:
    """What is known of accounts."""
    # days of late do not count: else an account could double what rules decide of its claims every day
    before = day - terms.lasts.exact
    given = {"accounts": sorted(people), "day": day, "since": day - terms.window.exact, "before": before}
    days = {row.account: row for row in connection.exec_driver_sql(_FILED, given)}
    stand = {
        row.account: row for row in connection.exec_driver_sql(f"{_BRAKES} where account = any(%s)", (sorted(people),))
    }
    found = {}
    for id, person in people.items():
        filed, one = days.get(id), stand.get(id)
        found[id] = Counters(
            settled=0 if person.record is None else person.record.settled,
            today=0 if filed is None else int(filed.today or 0),
            best=0 if filed is None else int(filed.best or 0),
            until=None if one is None else one.until,
            released=None if one is None else one.released,
        )
    return found


def load(connection: sa.Connection, filings: Sequence[Filing], now: dt.datetime) -> Brakes | None:
    """The counters of those who file under a policy with a brake; None, without a query, if nobody does.

    Until the commit, nobody else files for these accounts in the same way. An upstream's batch, which may take long,
    holds up no requests: what both file at the same moment may exceed what rules decide, once.
    """
    looked_at = [(one.account, terms) for one in filings if (terms := terms_of(one)) is not None]
    if not looked_at:
        return None
    day = now.astimezone(dt.UTC).date()
    people = {account.id: account for account, _ in looked_at}
    terms = max((terms for _, terms in looked_at), key=lambda terms: terms.window.exact)
    by_topic = any(one.channel in ASKS_LATER for one in filings)
    connection.exec_driver_sql(
        """insert into filing_days (account, day, by_topic, items, held)
        select account, %s, %s, 0, 0 from unnest(%s::text[]) as n(account)
        order by account on conflict (account, day, by_topic) do update set items = filing_days.items""",
        (day, by_topic, sorted(people)),
    )
    return Brakes(day, by_topic, counters(connection, people, day, terms))


def write(connection: sa.Connection, brakes: Brakes, now: dt.datetime, filed: Iterable[Counted]) -> None:
    """Add what accounts have filed, and the brakes that this has put on."""
    sums: dict[str, list[int]] = {}
    put_on: dict[str, dt.date] = {}
    for one in filed:
        sums.setdefault(one.account, [0, 0])[one.reason is not None] += one.items
        until = brakes.until(one.account)
        if one.reason == "rate" and until is not None and until != brakes.known[one.account].until:
            put_on[one.account] = until
    if sums:
        connection.exec_driver_sql(
            """update filing_days d set items = d.items + n.items, held = d.held + n.held
            from unnest(%s::text[], %s::int[], %s::int[]) as n(account, items, held)
            where d.account = n.account and d.day = %s and d.by_topic = %s""",
            (
                list(sums),
                [free for free, _ in sums.values()],
                [held for _, held in sums.values()],
                brakes.day,
                brakes.by_topic,
            ),
        )
    if put_on:
        connection.exec_driver_sql(
            """insert into brakes (account, since, until) select n.account, %s, n.until
            from unnest(%s::text[], %s::date[]) as n(account, until) order by n.account
            on conflict (account) do update set since = excluded.since, until = excluded.until, released = null,
                complained_at = case when brakes.decided_at is null then brakes.complained_at end,
                decided_at = null, decided_by = null, decision = null, code = null""",
            (now, list(put_on), list(put_on.values())),
        )


# ------------------------------------------------------------------------------------------- explaining and complaining


class Standing(NamedTuple):
    """An account's counters, what it has had held back today, and the brake that was put on last, if any."""

    counters: Counters
    held: int
    brake: Row | None


def standing(connection: sa.Connection, person: Account, day: dt.date, terms: Brake) -> Standing:
    """Where an account stands."""
    found = counters(connection, {person.id: person}, day, terms)[person.id]
    held = connection.exec_driver_sql(
        "select sum(held)::int from filing_days where account = %s and day = %s", (person.id, day)
    ).scalar()
    rows = all_rows(connection.exec_driver_sql(f"{_BRAKES} where account = %s", (person.id,)))
    return Standing(found, held or 0, rows[0] if rows else None)


def complain(connection: sa.Connection, me: Account, now: dt.datetime, terms: Brake) -> None:
    """Complain about what holds the account's claims back: a brake, or probation. A person decides.

    Raises:
        Refused: 409, nothing holds them back, or a complaint is open or was decided.
    """
    day = now.astimezone(dt.UTC).date()
    found = standing(connection, me, day, terms).counters
    if brake.holding(found, day, terms) is None:
        raise Refused(409, "no_brake", "Nothing holds your claims back.", cure="Nothing to do.")
    # probation has no row of its own until somebody complains
    done = connection.exec_driver_sql(
        """insert into brakes (account, since, until, complained_at) values (%(me)s, %(now)s, %(day)s, %(now)s)
        on conflict (account) do update set complained_at = excluded.complained_at, decided_at = null,
            decided_by = null, decision = null, code = null
        where brakes.complained_at is null or brakes.decided_at <= %(again)s""",
        {"me": me.id, "now": now, "day": day, "again": now - terms.lasts.exact},
    ).rowcount
    if not done:
        raise Refused(
            409, "complaint_known", "You have already complained about it.", cure="Wait for the decision, or its end."
        )


def complaints(connection: sa.Connection, after: str | None, limit: int) -> list[Row]:
    """Undecided complaints, by account."""
    return all_rows(
        connection.exec_driver_sql(
            f"""{_BRAKES} where complained_at is not null and decided_at is null and (%s::text is null or account > %s)
            order by account limit %s""",
            (after, after, limit),
        )
    )


def decide(
    connection: sa.Connection, account: str, me: Account, now: dt.datetime, terms: Brake, *, release: bool, code: str
) -> None:
    """Decide a complaint. A release lets rules decide again, for as long as a brake lasts.

    Raises:
        Refused: 403, a conflict of interest; 404, no complaint is open.
    """
    review_store.check_unbiased(connection, me, account)
    day = now.astimezone(dt.UTC).date()
    done = connection.exec_driver_sql(
        """update brakes set decided_at = %s, decided_by = %s, decision = %s, code = %s, released = %s
        where account = %s and complained_at is not null and decided_at is null""",
        (
            now,
            me.id,
            "release" if release else "confirm",
            code,
            day + terms.lasts.exact if release else None,
            account,
        ),
    ).rowcount
    if not done:
        raise not_found()
