"""Checks of `goodfaith verify` about sanctions: they are what the ledgers ask for, and the marketplace follows them."""

from __future__ import annotations

import itertools
from typing import Final

from services.enforcement import entities_store, sanctions, sanctions_store
from services.enforcement.penalties import NEVER, Entry, Penalty
from services.enforcement.sanctions import Account, Ground, Sanction
from services.operator.evidence import Evidence, Finding, Tally
from shared import policy

_NOT_PARKED: Final = "not in (select key from enforcement.ledger_parked where state <> 'done')"
_LATE: Final = "interval '1 minute'"
"""The ledger's worker looks for ends once a second: what is due since a moment ago is not late."""


def sanctioned(e: Evidence) -> list[Finding]:
    """Each threshold that a seller's entries reach is answered once, by what the policy says, and nothing else is in force."""
    newest = policy.current(e.settings.penalties_profile)
    tally = Tally()
    rows = e.connection.exec_driver_sql(
        "select seller, number, scope, ledger, level, measures, withheld, entry, claim, began, ends, state, cause, over_at,"
        " stands, reason, after from enforcement.sanctions order by seller, number"
    )
    answers: dict[str, list[Sanction]] = {}
    for row in rows:
        answers.setdefault(row[0], []).append(sanctions_store.sanction(row))
    columns = [*sanctions_store.ACCOUNT_COLUMNS.split(", "), "violations", "entity_grounds"]
    found = e.rows(
        f"select s.seller, s.changed_at, {', '.join('s.' + name for name in columns)},"
        " v.entry, v.claim, v.ledger, v.points, v.effective_at, v.expires_at from enforcement.standings s"
        " left join enforcement.violations v on v.seller = s.seller and v.entry is not null"
        f" where s.seller {_NOT_PARKED} order by s.seller"
    )
    for seller, group in itertools.groupby(found, key=lambda row: row[0]):
        history = list(group)
        _, at, *stored = history[0][:11]
        account = sanctions_store.account(seller, stored)
        account.sanctions = answers.get(seller, [])
        violations, entity = history[0][11:13]
        entries = [Entry(entry, Penalty(*penalty)) for entry, *penalty in (row[13:] for row in history) if entry]
        own = sanctions.grounds(entries, newest.penalties, at)
        _told(account, tally)
        if account.front.rules == newest.version:
            _agrees(account, own, newest.penalties, tally)
            last = max((entry.penalty.effective_at for entry in entries), default=NEVER)
            linked = None if entity is None else entities_store.entity(entity)
            # once decided there is nothing to decide
            facts = sanctions.Facts(own, True, last, violations > 0, linked)
            for change in sanctions.decide(account, facts, newest.penalties, at):
                name = f"{seller}: {change.ledger} {change.level} would be {change.change} ({change.cause})"
                tally.add("problem", "sanction-undecided", name)
    return [
        *tally.findings(),
        *e.find(
            "problem", "sanction-overdue",
            f"select seller from enforcement.standings where due_at <= '{e.now.isoformat()}'::timestamptz - {_LATE} and seller {_NOT_PARKED}",
        ),
        *e.find(
            "problem", "sanction-without-standing",
            "select distinct x.seller from enforcement.sanctions x left join enforcement.standings s on s.seller = x.seller where s.seller is null",
        ),
    ]  # fmt: skip


def _agrees(account: Account, own: tuple[Ground, ...], rules: policy.Penalties, tally: Tally) -> None:
    """The seller's own grounds and its sanctions, in other words than ``decide``'s."""
    open_ = {(ground.ledger, ground.level) for ground in own if ground.fell_at is None}
    standing = [(s.ledger, s.level) for s in account.sanctions if s.stands]
    for ledger, level in sorted(open_ - set(standing)):
        tally.add("lost", "sanction-missing", f"{account.seller}: {ledger} {level}")
    for ledger, level in sorted({key for key in standing if standing.count(key) > 1}):
        tally.add("doubled", "sanctioned-twice", f"{account.seller}: {ledger} {level}")
    for s in account.sanctions:
        name = f"{s.sanction}: {s.ledger} {s.level}"
        reached = any(
            (g.ledger, g.level) == (s.ledger, s.level) and (g.fell_at is None or g.fell_at > s.began) for g in own
        )
        if s.scope == "own" and (s.in_force or s.stands) and not reached:
            tally.add("problem", "sanction-unfounded", name)
        steps = sanctions.thresholds(rules, s.ledger)
        if not s.in_force or s.level > len(steps):
            continue
        threshold = steps[s.level - 1]
        if s.asked not in (sanctions.measures(threshold), sanctions.entity_measures(threshold)):
            tally.add("problem", "sanction-wrong", f"{name}: {','.join(s.asked)}")
        elif s.ends is not None and (s.ends - s.began).days != threshold.days:
            tally.add("problem", "sanction-wrong", f"{name}: until {s.ends}")


def _told(account: Account, tally: Tally) -> None:
    """What the marketplace was told last is what is in force."""
    wanted, until = sanctions.in_force(account.sanctions)
    if (wanted, until) != (account.measures, account.until):
        tally.add(
            "problem", "measures-untold", f"{account.seller}: {','.join(wanted)}, told {','.join(account.measures)}"
        )


def sellers_told(e: Evidence) -> list[Finding]:
    """Every change of a sanction was told once, every command was given once and answered, and the marketplace follows."""
    told = (
        "(select d ->> 'sanction' as sanction, d ->> 'change' as change from (select payload::jsonb -> 'data' as d"
        " from enforcement.ledger_event_log where type = 'goodfaith.sanction.changed.v1') t)"
    )
    given = (
        "(select distinct key as seller, (d ->> 'seq')::int as seq, d ->> 'command' as command, d as data"
        " from (select key, payload::jsonb -> 'data' as d from enforcement.ledger_event_log"
        " where type = 'goodfaith.marketplace.seller_command.v1') t)"
    )
    found = [
        *e.find(
            "lost", "sanction-untold",
            f"select x.sanction from enforcement.sanctions x left join {told} t on t.sanction = x.sanction and t.change ="
            " case when x.state = 'in_force' then 'imposed' else x.state end where t.sanction is null",
        ),
        *e.find(
            "doubled", "sanction-told-twice",
            f"select sanction from {told} t group by sanction having count(*) filter (where change = 'imposed') <> 1"
            " or count(*) filter (where change <> 'imposed') > 1",
        ),
        *e.find(
            "problem", "sanction-unwritten",
            f"select t.sanction from {told} t left join enforcement.sanctions x on x.sanction = t.sanction"
            " where x.sanction is null or (t.change <> 'imposed' and t.change <> x.state)",
        ),
        *e.find(
            "doubled", "seller-command-twice",
            f"select seller || ' ' || seq from {given} t group by seller, seq having count(*) > 1",
        ),
        *e.find(
            "problem", "seller-command-unconfirmed",
            "select seller || ': ' || seq from enforcement.standings where confirmed <> seq or resend_at is not null",
        ),
    ]  # fmt: skip
    if e.settings.marketplace == "kafka":
        found += e.find(
            "lost",
            "seller-command-missing",
            f"select s.seller || ': ' || s.seq from enforcement.standings s left join (select seller, max(seq) as seq, count(*) as n"
            f" from {given} t group by seller) g on g.seller = s.seller where s.seq <> coalesce(g.seq, 0) or s.seq <> coalesce(g.n, 0)",
        )
    if e.has("marketplace"):
        found += e.find(
            "problem",
            "seller-differs",
            "select coalesce(s.seller, m.seller) || ': ' || coalesce(m.measures, '') || ' ' || coalesce(m.seq, 0) || ', told '"
            " || coalesce(s.measures, '') || ' ' || coalesce(s.seq, 0) from (select * from enforcement.standings where seq > 0"
            " and result = 'done' and confirmed = seq) s full join (select * from marketplace.sellers where seq > 0) m on m.seller = s.seller"
            " where (s.measures, s.until, s.seq) is distinct from (m.measures, m.until, m.seq)"
            " and coalesce(s.seller, m.seller) not in (select seller from enforcement.standings where confirmed <> seq or result <> 'done')",
        )
    return found
