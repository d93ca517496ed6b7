"""Checks of `goodfaith verify` on enforcement: holds, listings at the marketplace, statements, and the ledgers."""

from __future__ import annotations

import itertools
from typing import Any, Final

from services.ops.verify.evidence import Check, Evidence, not_set_aside, quoted
from services.ops.verify.findings import Finding, Table, Tally
from services.ops.verify.penalty_model import Violation, costs, standing
from shared import policy

_UPHELD: Final = """
    (select item, claim, listing, seller, severity from v_item where upheld and seller is not null and not canary)"""
_TOLD_ENTRIES: Final = """
    (select payload::jsonb -> 'data' ->> 'entry' as entry from enforcement.ledger_event_log
    where type = 'goodfaith.penalty.entered.v1')"""
_LIVE_ENTRIES: Final = """
    (select x.* from enforcement.ledger_entries x left join enforcement.ledger_entries r on r.reverses = x.entry
    where x.kind = 'violation' and r.entry is null)"""

HOLDS: Final[Table] = {
    ("lost", "hold-missing"): f"""
        select v.item from v_item v left join enforcement.holds h on h.item = v.item
        where v.held and h.item is null and v.listing {not_set_aside("enforcement")}""",
    ("problem", "hold-differs"): """
        select h.item || case when h.held then ' held' else ' not held' end from enforcement.holds h
        left join v_item v on v.item = h.item
        where v.item is null or h.held <> v.held or h.listing <> v.listing or h.revision > v.revision""",
    # an item has one log partition
    ("problem", "hold-untold"): """
        select h.item from enforcement.holds h
        left join (select distinct on (item) item, held from v_hold order by item, seq desc) t on t.item = h.item
        where h.held is distinct from coalesce(t.held, false)""",
    ("problem", "holds-miscounted"): """
        select coalesce(l.listing, h.listing) || ': ' || coalesce(l.holds, 0) || ', not ' || coalesce(h.n, 0)
        from enforcement.listings l
        full join (select listing, count(*) filter (where held) as n from enforcement.holds group by listing) h
            on h.listing = l.listing
        where coalesce(l.holds, 0) <> coalesce(h.n, 0)""",
    ("problem", "measure-unconfirmed"): """
        select listing || ': ' || action || ' ' || seq from enforcement.listings
        where confirmed <> seq or resend_at is not null""",
    ("problem", "measure-wrong"): """
        select listing || ': ' || action || ' with ' || holds from enforcement.listings
        where (holds > 0) <> (action in ('suspend', 'remove'))""",
}
"""Enforcement's holds are those of the items, are counted by listing, and were reported back."""

VISIBILITY: Final[Table] = {
    ("problem", "visible-with-hold"): """
        select m.listing || ' ' || l.holds from marketplace.listings m
        join enforcement.listings l on l.listing = m.listing where m.measure = 'none' and l.holds > 0""",
    ("problem", "down-without-hold"): """
        select m.listing || ' ' || m.measure from marketplace.listings m
        left join enforcement.listings l on l.listing = m.listing
        where m.measure <> 'none' and coalesce(l.holds, 0) = 0""",
    ("problem", "measure-seq"): """
        select l.listing || ': ' || m.seq || ' of ' || l.seq from enforcement.listings l
        join marketplace.listings m on m.listing = l.listing where m.seq <> l.seq""",
    ("problem", "listing-unknown"): """
        select l.listing from enforcement.listings l left join marketplace.listings m on m.listing = l.listing
        where m.listing is null and l.seq > 0 and l.result = 'done'""",
}
"""A listing is down at the marketplace exactly while it has a hold, and each command was carried out once."""

SUSPENDING: Final = (
    "(select * from enforcement.sanctions where string_to_array(measures, ',') && array['frozen', 'closed'])"
)
"""Sanctions that have a statement of reasons if the penalties' policy asks for them."""


def statements(e: Evidence) -> list[Finding]:
    """Every hold taken under a policy with statements of reasons has exactly one statement, and that was sent."""
    asking = [version for version in policy.versions() if (rules := policy.load(version).statements) and rules.enabled]
    # a statement's policy must be its item's, so it is compared too
    due = f"""
        (select * from (select c.item, c.revision, c.listing,
                split_part(split_part(i.body, '"policy":"', 2), '"', 1) as policy
            from (select item, revision, listing, held,
                    lag(held, 1, false) over (partition by item order by revision) as before
                from v_change where not canary) c
            join verification.items i on i.item = c.item where c.held and not c.before) t
        where {f"policy in ({quoted(asking)})" if asking else "false"})"""
    same = "s.item = d.item and s.revision = d.revision and s.policy = d.policy"
    found = e.find(
        {
            ("lost", "statement-missing"): f"""
                select d.item || '/' || d.revision from {due} d left join enforcement.statements s on {same}
                where s.puid is null and d.listing {not_set_aside("enforcement")}""",
            ("problem", "statement-unfounded"): f"""
                select s.puid from enforcement.statements s left join {due} d on {same}
                left join {SUSPENDING} x on x.sanction = s.item
                where d.item is null and (x.sanction is null or s.revision <> 1)""",
            ("problem", "statement-refused"): """
                select puid || ': ' || left(coalesce(error, ''), 120) from enforcement.statements
                where state = 'refused'""",
        }
    )
    on_accounts = policy.current(e.settings.penalties_profile).statements
    if on_accounts is not None and on_accounts.enabled and on_accounts.accounts is not None:
        # the policy may have begun to ask for them at some time; from then on, each sanction has one
        found += e.find(
            {
                ("lost", "statement-missing"): f"""
                    select x.sanction from {SUSPENDING} x
                    left join enforcement.statements s on s.item = x.sanction
                    where s.puid is null and x.began > (select min(y.began) from {SUSPENDING} y
                        join enforcement.statements t on t.item = y.sanction)""",
            }
        )
    if e.settings.statements_url:
        found += e.find(
            {("problem", "statement-unsent"): "select puid from enforcement.statements where state = 'waiting'"}
        )
    return found


VIOLATIONS: Final[Table] = {
    ("lost", "violation-missing"): f"""
        select u.item from {_UPHELD} u
        left join enforcement.violation_items i on i.item = u.item and i.claim = u.claim and i.seller = u.seller
            and i.in_force
        where i.item is null and u.seller {not_set_aside("enforcement", "ledger_")}
        and u.listing {not_set_aside("enforcement")}""",
    ("problem", "violation-unfounded"): f"""
        select i.item || ' of ' || i.seller from enforcement.violation_items i
        left join {_UPHELD} u on u.item = i.item and u.claim = i.claim and u.seller = i.seller
        where i.in_force and (u.item is null or u.severity <> i.severity)""",
    ("problem", "violation-differs"): """
        select v.seller || ' x ' || v.claim from enforcement.violations v
        left join (select seller, claim, bool_or(in_force) as in_force, min(at) filter (where in_force) as at,
                case when bool_or(severity = 'serious' and in_force) then 'serious' else 'general' end as severity
            from enforcement.violation_items group by seller, claim) i on i.seller = v.seller and i.claim = v.claim
        where v.in_force is distinct from i.in_force
        or (v.in_force and (v.at <> i.at or v.severity <> i.severity)) or v.in_force <> (v.entry is not null)
        union all
        select distinct i.seller || ' x ' || i.claim from enforcement.violation_items i
        left join enforcement.violations v on v.seller = i.seller and v.claim = i.claim where v.seller is null""",
    ("problem", "hold-violation-differs"): f"""
        select h.item from enforcement.holds h left join {_UPHELD} u on u.item = h.item
        where h.violation <> (u.item is not null)""",
}
"""Violations in force match the upheld items, by seller and claim."""

LEDGER_ENTRIES: Final[Table] = {
    ("problem", "reversal-unfounded"): """
        select r.entry from enforcement.ledger_entries r left join enforcement.ledger_entries x on x.entry = r.reverses
        where r.kind = 'reversal' and (x.entry is null or x.kind <> 'violation' or x.seller <> r.seller
            or x.claim <> r.claim or x.ledger <> r.ledger or x.points <> -r.points or x.expires_at <> r.expires_at)""",
    ("doubled", "reversed-twice"): """
        select reverses from enforcement.ledger_entries where reverses is not null
        group by reverses having count(*) > 1""",
    ("problem", "entry-differs"): f"""
        select coalesce(v.entry, x.entry) from (select * from enforcement.violations where in_force) v
        full join {_LIVE_ENTRIES} x on x.entry = v.entry
        where v.entry is null or x.entry is null or v.seller <> x.seller or v.claim <> x.claim
        or v.ledger <> x.ledger or v.points <> x.points or v.effective_at <> x.effective_at
        or v.expires_at <> x.expires_at""",
    ("doubled", "punished-twice"): f"""
        select seller || ' x ' || claim from {_LIVE_ENTRIES} x group by seller, claim having count(*) > 1""",
    ("lost", "entry-untold"): f"""
        select x.entry from enforcement.ledger_entries x left join {_TOLD_ENTRIES} t on t.entry = x.entry
        where t.entry is null""",
    ("doubled", "entry-told-twice"): f"select entry from {_TOLD_ENTRIES} t group by entry having count(*) > 1",
    ("problem", "entry-unwritten"): f"""
        select t.entry from {_TOLD_ENTRIES} t left join enforcement.ledger_entries x on x.entry = t.entry
        where x.entry is null""",
    ("problem", "standing-missing"): """
        select distinct v.seller from enforcement.violations v
        left join enforcement.standings s on s.seller = v.seller where s.seller is null""",
}
"""Reversals undo existing entries once; violations in force point to unreversed ones; each was published once."""


def standings(e: Evidence) -> list[Finding]:
    """Each seller's entries and standing are what the rules make of its violations in force."""
    rules = policy.current(e.settings.penalties_profile).penalties
    tally = Tally()
    rows = e.rows(
        "select s.seller, s.changed_at, s.general_points, s.serious_strikes, s.violations, s.repeat_offender,"
        " s.general_level, s.serious_level, s.general_consequence, s.serious_consequence, s.next_change, s.entity_violations,"
        " v.claim, v.severity, v.at, v.ledger, v.points, v.effective_at, v.expires_at"
        " from enforcement.standings s left join enforcement.violations v on v.seller = s.seller and v.in_force order by s.seller"
    )
    for _, group in itertools.groupby(rows, key=lambda row: row.seller):
        _standing(list(group), rules, tally)
    return tally.findings()


def _standing(rows: list[Any], rules: policy.Penalties, tally: Tally) -> None:
    """Compare one seller's rows: its standing with each of its violations in force."""
    stored = rows[0]
    in_force = [row for row in rows if row.claim is not None]
    violations = [Violation(row.at, row.claim, row.severity) for row in in_force]
    wanted = costs(violations, rules)
    for row in in_force:
        cost = wanted[row.claim]
        if (row.ledger, row.points, row.effective_at, row.expires_at) != cost:
            case = f"{stored.seller} x {row.claim}"
            tally.add("problem", "penalty-wrong", f"{case}: {row.points} {row.ledger}, not {cost.points} {cost.ledger}")
    # the standing is exact as of when it was last counted; next_change says when it will have to be counted again
    counted = standing(violations, rules, stored.changed_at)
    repeats = max(counted.violations, stored.entity_violations) >= rules.repeat_offender.violations
    expected = {**counted._asdict(), "repeat_offender": repeats}
    wrong = [
        f"{name} {getattr(stored, name)}, not {value}"
        for name, value in expected.items()
        if getattr(stored, name) != value
    ]
    if wrong:
        tally.add("problem", "standing-wrong", f"{stored.seller}: {'; '.join(wrong)}")


CHECKS: Final[dict[str, Check]] = {
    "holds": HOLDS,
    "visibility": VISIBILITY,
    "statements": statements,
    "violations": VIOLATIONS,
    "ledger_entries": LEDGER_ENTRIES,
    "standings": standings,
}
