"""Checks of `goodfaith verify` on entities: which accounts belong together by keys, and where each entity stands."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from services.ops.verify import sanction_model as model
from services.ops.verify.evidence import Evidence, Finding, Tally
from services.ops.verify.sanction_checks import Linked, StoredGround
from services.ops.verify.sanction_checks import grounds as grounds_of
from services.ops.verify.sanction_checks import linked as linked_of
from services.ops.verify.sanction_model import Own
from shared import policy

_NOT_PARKED: Final = "not in (select key from enforcement.ledger_dead_letters where state <> 'done')"
_LATE: Final = "interval '1 minute'"
_KEYS: Final = """
    select s.seller || ': ' || k.kind from (select distinct on (d ->> 'seller') d ->> 'seller' as seller, d -> 'keys' as keys
        from (select seq, payload::jsonb -> 'data' as d from marketplace.event_log
              where type = 'goodfaith.marketplace.seller.v1') t order by d ->> 'seller', seq desc) s
    cross join lateral (
        select k ->> 'kind' as kind, k ->> 'digest' as digest from jsonb_array_elements(coalesce(s.keys, '[]')) k) k
"""


def entity_members(e: Evidence) -> list[Finding]:
    """Accounts are one business exactly where keys and policy say so, and no change of keys is left to process."""
    rules = policy.current(e.settings.penalties_profile).penalties.entity
    tally = Tally()
    holders: dict[tuple[str, str], set[str]] = {}
    for kind, digest, seller in e.rows("select kind, digest, seller from enforcement.seller_keys"):
        holders.setdefault((kind, digest), set()).add(seller)
    stored: dict[str, list[str]] = {}
    for entity, seller in e.rows("select entity, seller from enforcement.entity_members"):
        stored.setdefault(entity, []).append(seller)
    membership(stored, model.businesses(holders, rules), tally)
    found = tally.findings()
    if e.has("marketplace"):
        found += e.find(
            "lost",
            "key-untold",
            f"{_KEYS} left join enforcement.seller_keys h on h.kind = k.kind and h.digest = k.digest and h.seller = s.seller"
            f" where h.seller is null and s.seller {_NOT_PARKED}",
        )
    return [
        *found,
        *e.find("problem", "entity-uncounted", "select seller from enforcement.entity_work"),
        *e.find(
            "problem", "entity-not-taken-in", f"select seller from enforcement.relinked where seller {_NOT_PARKED}"
        ),
    ]


def membership(stored: Mapping[str, Collection[str]], wanted: Collection[tuple[str, ...]], tally: Tally) -> None:
    """Compare entities and their accounts with those that must exist."""
    there = {entity: tuple(sorted(members)) for entity, members in stored.items()}
    for entity, members in there.items():
        if members not in wanted:
            tally.add("problem", "entity-unfounded", f"{entity}: {', '.join(members[:5])}")
        elif entity != model.business_id(members):
            tally.add("problem", "entity-misnamed", entity)
    for missing in sorted(set(wanted) - set(there.values())):
        tally.add("lost", "entity-missing", ", ".join(missing[:5]))


def entity_standings(e: Evidence) -> list[Finding]:
    """Each entity stands where its accounts' violations put it, every account knows, and none is worse by itself."""
    rules = policy.current(e.settings.penalties_profile).penalties
    tally = Tally()
    warned: dict[str, set[dt.datetime]] = {}
    for entity, began in e.rows(
        "select m.entity, x.began from enforcement.entity_members m join enforcement.sanctions x on x.seller = m.seller"
        " where x.measures = '' and x.state <> 'lifted'"
    ):
        warned.setdefault(entity, set()).add(began)
    rows = e.rows(
        "select n.entity, n.counted_at, n.general_points, n.serious_strikes, n.violations, n.next_change, n.grounds, n.last,"
        " n.warned, v.seller, v.claim, v.severity, v.at, v.entry from enforcement.entities n"
        " join enforcement.entity_members m on m.entity = n.entity"
        " left join enforcement.violations v on v.seller = m.seller and v.in_force order by n.entity"
    )
    for entity, group in itertools.groupby(rows, key=lambda row: row[0]):
        history = list(group)
        _, at, *sums, text, last, known = history[0][:9]
        violations = [Own(*row[9:14]) for row in history if row[9] is not None]
        wrong = counted_wrong(sums, grounds_of.decode(text), violations, rules, at)
        if not wrong and (last, set(known)) != (
            max((own.at for own in violations), default=None),
            warned.get(entity, set()),
        ):
            wrong = "its last violation or its warnings"
        if wrong:
            tally.add("problem", "entity-wrong", f"{entity}: {wrong}")
    for sanction, ledger, level, began, linked in e.rows(
        "select x.sanction, x.ledger, x.level, x.began, s.entity_grounds from enforcement.sanctions x"
        " join enforcement.standings s on s.seller = x.seller where x.scope = 'entity' and x.state = 'in_force'"
        f" and x.seller {_NOT_PARKED} and x.seller not in (select seller from enforcement.relinked)"
    ):
        reached = [] if linked is None else linked_of.decode(linked).grounds
        if not any(
            (g.ledger, g.level) == (ledger, level) and (g.fell_at is None or g.fell_at > began) for g in reached
        ):
            tally.add("problem", "entity-sanction-unfounded", sanction)
    for seller, linked, *row in e.rows(
        "select s.seller, s.entity_grounds, n.entity, n.grounds, n.last, n.warned from enforcement.standings s"
        " join enforcement.entity_members m on m.seller = s.seller join enforcement.entities n on n.entity = m.entity"
        f" where s.entity_grounds is not null and s.seller {_NOT_PARKED}"
        " and s.seller not in (select seller from enforcement.relinked)"
    ):
        entity, text, last, known = row
        as_known = linked_of.decode(linked)
        if as_known != Linked(entity, grounds_of.decode(text), last, tuple(known)):
            tally.add("lost", "entity-untold", seller)
    now = f"'{e.now.isoformat()}'::timestamptz"
    return [
        *tally.findings(),
        *e.find(
            "problem",
            "entity-empty",
            "select n.entity from enforcement.entities n left join enforcement.entity_members m using (entity) where m.seller is null",
        ),
        *e.find(
            "lost",
            "entity-untold",
            "select coalesce(m.seller, s.seller) from enforcement.entity_members m join enforcement.entities n using (entity)"
            " full join (select * from enforcement.standings where entity is not null) s on s.seller = m.seller"
            " where (n.entity, n.general_points, n.serious_strikes, n.violations) is distinct from"
            " (s.entity, s.entity_points, s.entity_strikes, s.entity_violations)"
            f" and coalesce(m.seller, s.seller) {_NOT_PARKED}"
            " and coalesce(m.seller, s.seller) not in (select seller from enforcement.relinked)",
        ),
        *e.find(
            "problem",
            "entity-above",
            "select s.seller from enforcement.standings s join enforcement.entity_members m on m.seller = s.seller"
            " join enforcement.entities n on n.entity = m.entity"
            " where (s.general_points > n.general_points or s.serious_strikes > n.serious_strikes or s.violations > n.violations)"
            f" and (s.next_change is null or s.next_change > {now}) and (n.next_change is null or n.next_change > {now})"
            " and s.seller not in (select seller from enforcement.entity_work)",
        ),
        *e.find(
            "problem",
            "entity-overdue",
            f"select entity from enforcement.entities where next_change <= {now} - {_LATE}",
        ),
    ]


def counted_wrong(
    sums: Sequence[Any],
    stored: Collection[StoredGround],
    violations: Collection[Own],
    rules: policy.Penalties,
    at: dt.datetime,
) -> str:
    """How an entity differs from its violations, if at all. ``sums``: points, strikes, violations, next change."""
    wanted = model.counted(violations, rules, at)
    if tuple(sums) != wanted[:4]:
        return f"{list(sums[:3])}, not {list(wanted[:3])}"
    named = {(g.ledger, g.level, g.crossed_at, g.fell_at): (g.entry, g.claim) for g in stored}
    if named.keys() != wanted.spans.keys() or len(stored) != len(named):
        return "when it reached thresholds"
    if any(name not in wanted.spans[span] for span, name in named.items()):
        return "what reached thresholds"
    return ""
