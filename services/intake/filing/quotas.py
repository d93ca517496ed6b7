"""What an account under a measure against misuse may file: its daily quota, and claims held during a suspension.

Quota: a claim that begins within the quota is accepted whole. If it goes beyond the quota, all of it waits in the bulk
lane. Once the quota is used up, an HTTP request gets 429 with the time to try again, and nothing of it is accepted. A
record of an upstream's topic cannot be told so, and is accepted into the bulk lane.

Suspension: claims are accepted, durable, and enter the admission queue when it ends. Once ``held_max`` items wait, an
HTTP request is told to try again later. A record of a topic waits with the others: its offset moves on, so refusing it
would lose it.

What the system files by itself (row 20) is not the account's notice and is not limited. ``held_max`` is not exact:
waiting items are counted without a lock, so processes that accept at the same time may each go up to it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import sqlalchemy as sa

from services.intake.kernel.domain import Account
from services.intake.misuse import domain as misuse
from shared.refusals import Refused

Route = Literal["usual", "bulk", "held"]
ASKS_LATER: Final = frozenset({"http"})
"""Channels whose clients can be told to try again later."""


class FilingLimits:
    """Limits of the accounts in one commit. ``used`` and ``held`` are counted at its start and grow as it accepts."""

    def __init__(self, now: dt.datetime, used: Mapping[str, int], held: Mapping[str, int], held_max: int) -> None:
        self.now = now
        self.day: Final = now.astimezone(dt.UTC).date()
        self.used = dict(used)
        self.held = dict(held)
        self._held_max = held_max

    def route(self, account: Account, items: int, channel: str) -> Route:
        """Decide where a claim of so many items goes.

        Raises:
            Refused: 429, the day's quota is used up, or too many items wait already.
        """
        if account.under("suspension", self.day):
            held = self.held.get(account.id, 0)
            if channel in ASKS_LATER and held + items > self._held_max:
                until, most = account.misuse_until, self._held_max
                free = None if until is None else dt.datetime.combine(until, dt.time(), dt.UTC)
                raise Refused(
                    429,
                    "too_many_held",
                    f"The processing of your claims is suspended until {until}, and {held} items wait for its end; at most {most} may.",
                    field="listings",
                    cure="File again from that day on, or complain about the measure: GET /v1/misuse.",
                    retry_after=self._seconds(free),
                )
            return "held"
        if account.misuse_items is None or not account.under("quota", self.day):
            return "usual"
        used = self.used.get(account.id, 0)
        if used < account.misuse_items:
            return "usual" if used + items <= account.misuse_items else "bulk"
        if channel not in ASKS_LATER:
            return "bulk"
        again = misuse.resumes(self.day)
        again_on = again.date()
        limit, until = account.misuse_items, account.misuse_until
        raise Refused(
            429,
            "quota_used",
            f"Your account has a quota of {limit} items a day (UTC) until {until}; {used} were filed today."
            if until is not None
            else f"Your account has a quota of {limit} items a day (UTC); {used} were filed today.",
            field="listings",
            cure=f"File again from {again_on} on, or complain about the measure: GET /v1/misuse.",
            retry_after=self._seconds(again),
        )

    def took(self, account: Account, items: int, route: Route) -> None:
        """Count an accepted claim."""
        if route == "held":
            self.held[account.id] = self.held.get(account.id, 0) + items
        elif account.under("quota", self.day):
            self.used[account.id] = self.used.get(account.id, 0) + items

    def _seconds(self, at: dt.datetime | None) -> int | None:
        return None if at is None else max(math.ceil((at - self.now).total_seconds()), 1)


def load(
    connection: sa.Connection, accounts: Iterable[Account], now: dt.datetime, held_max: int
) -> FilingLimits | None:
    """Load the limits of the accounts that have one; None, without a query, if none has.

    Until the commit, nobody else files for accounts under a quota.
    """
    day = now.astimezone(dt.UTC).date()
    concerned = {account.id: account for account in accounts if account.misuse in ("quota", "suspension")}
    limited = sorted(id for id, account in concerned.items() if account.under("quota", day))
    halted = sorted(id for id, account in concerned.items() if account.under("suspension", day))
    if not limited and not halted:
        return None
    used: dict[str, int] = {}
    if limited:
        rows = connection.exec_driver_sql(
            """insert into misuse_usage (account, day, items) select account, %s, 0 from unnest(%s::text[]) as n(account) order by account
            on conflict (account, day) do update set items = misuse_usage.items returning account, items""",
            (day, limited),
        )
        used = {row.account: row.items for row in rows}
    held: dict[str, int] = {}
    for account in halted:
        held[account] = connection.exec_driver_sql(
            "select count(*) from (select from held_items where complainant = %s limit %s) as found",
            (account, held_max + 1),
        ).scalar_one()
    return FilingLimits(now, used, held, held_max)


def write(connection: sa.Connection, day: dt.date, filed: Mapping[str, int]) -> None:
    """Add what accounts under a quota have filed to the day's usage."""
    if filed:
        connection.exec_driver_sql(
            """update misuse_usage u set items = u.items + n.items from unnest(%s::text[], %s::int[]) as n(account, items)
            where u.account = n.account and u.day = %s""",
            (list(filed), list(filed.values()), day),
        )
