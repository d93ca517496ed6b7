"""The figures that accounts are judged by for misuse: unfounded items and findings of a window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from msgspec import Struct

from services.intake.misuse import domain as misuse
from services.intake.misuse.domain import MisuseFacts, MisuseMeasure
from shared import policy

_DAY: Final = dt.timedelta(days=1)


class MeasureBasis(Struct, frozen=True, kw_only=True):
    """The figures that a measure is based on: the window (both days included), its facts, and their policy."""

    window_from: dt.date
    window_to: dt.date
    facts: MisuseFacts
    policy: str
    finding: str | None = None


_GROUNDS: Final = """
    select g.account, g.ground, g.serious, count(*) from good_faith_items g
    join unnest(%s::text[], %s::date[]) as n(account, after) on n.account = g.account
    where g.ground is not null and g.outcome is not null and g.day > n.after and g.day <= %s group by 1, 2, 3"""
_SETTLED: Final = """
    select account, sum(settled)::bigint as settled from good_faith_days where account = any(%s) and day > %s and day <= %s group by 1"""
# the ids of a claim's items are its own id with another last part (new_claim_ids)
_CLAIMS: Final = """
    select g.account, count(distinct substr(g.item, 3, 23)) as claims from good_faith_items g
    join unnest(%s::text[], %s::date[]) as n(account, after) on n.account = g.account
    where g.ground = any(%s) and g.outcome is not null and g.day > n.after and g.day <= %s group by 1"""
_AGAIN: Final = """
    select g.account, g.ground, g.serious, count(*) from good_faith_items g
    join unnest(%s::text[], %s::date[], %s::timestamptz[]) as n(account, after, since) on n.account = g.account
    join items i on i.id = g.item join claims c on c.id = i.claim
    where g.ground is not null and g.outcome is not null and g.day > n.after and g.day <= %s and c.accepted_at > n.since
    group by 1, 2, 3"""


def facts(
    connection: sa.Connection, known: Mapping[str, Sequence[MisuseMeasure]], upto: dt.date, terms: policy.Misuse
) -> dict[str, MisuseFacts]:
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
        return dict.fromkeys(accounts, MisuseFacts())
    sums = connection.exec_driver_sql(_SETTLED, (concerned, out, upto))
    settled: dict[str, int] = {row.account: row.settled for row in sums}
    filed = [account for account in concerned if account in grounds]
    found_claims = connection.exec_driver_sql(
        _CLAIMS, (filed, [after[account] for account in filed], misuse.counted(terms), upto)
    )
    claims: dict[str, int] = {row.account: row.claims for row in found_claims}
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


def _forgiven(measures: Iterable[MisuseMeasure]) -> dt.datetime | None:
    """Until when findings no longer count, because a measure based on them was reversed.

    Notices no longer count up to the day before.
    """
    return max((m.at for m in measures if m.state == "reversed" and m.finding is None), default=None)


def basis(facts: MisuseFacts, upto: dt.date, rules: policy.Policy, finding: str | None = None) -> MeasureBasis:
    """Build the basis that is kept with a measure and shown."""
    return MeasureBasis(
        window_from=upto - rules.misuse.window.exact + _DAY,
        window_to=upto,
        facts=facts,
        policy=rules.version,
        finding=finding,
    )
