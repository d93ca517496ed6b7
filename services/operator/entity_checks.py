"""Checks of `goodfaith verify` about entities: who hangs together by keys, and where they stand by their accounts' violations."""

from __future__ import annotations

import itertools
from typing import Final

from services.enforcement import entities, entities_store
from services.enforcement.entities import Own
from services.operator.evidence import Evidence, Finding, Tally
from shared import policy
from shared.events import SellerKey

_NOT_PARKED: Final = "not in (select key from enforcement.ledger_parked where state <> 'done')"
_LATE: Final = "interval '1 minute'"
_KEYS: Final = """
    select s.seller || ': ' || k.kind from (select distinct on (d ->> 'seller') d ->> 'seller' as seller, d -> 'keys' as keys
        from (select seq, payload::jsonb -> 'data' as d from marketplace.event_log
              where type = 'goodfaith.marketplace.seller.v1') t order by d ->> 'seller', seq desc) s
    cross join lateral (
        select k ->> 'kind' as kind, k ->> 'digest' as digest from jsonb_array_elements(coalesce(s.keys, '[]')) k) k
"""


def entity_members(e: Evidence) -> list[Finding]:
    """Accounts are one business exactly where the marketplace's keys and the policy say so, and all is taken in."""
    rules = policy.current(e.settings.penalties_profile).penalties.entity
    tally = Tally()
    holders: dict[SellerKey, set[str]] = {}
    for kind, digest, seller in e.rows("select kind, digest, seller from enforcement.seller_keys"):
        holders.setdefault(SellerKey(kind, digest), set()).add(seller)
    wanted = set(entities.components(holders, rules))
    stored: dict[str, list[str]] = {}
    for entity, seller in e.rows('select entity, seller from enforcement.entity_members order by seller collate "C"'):
        stored.setdefault(entity, []).append(seller)
    for entity, members in stored.items():
        if tuple(members) not in wanted:
            tally.add("problem", "entity-unfounded", f"{entity}: {', '.join(members[:5])}")
        elif entity != entities.entity_id(members):
            tally.add("problem", "entity-misnamed", entity)
    for missing in wanted - {tuple(members) for members in stored.values()}:
        tally.add("lost", "entity-missing", ", ".join(missing[:5]))
    found = tally.findings()
    if e.has("marketplace"):
        found += e.find(
            "lost", "key-untold",
            f"{_KEYS} left join enforcement.seller_keys h on h.kind = k.kind and h.digest = k.digest and h.seller = s.seller"
            f" where h.seller is null and s.seller {_NOT_PARKED}",
        )  # fmt: skip
    return [
        *found,
        *e.find("problem", "entity-uncounted", "select seller from enforcement.entity_work"),
        *e.find(
            "problem", "entity-not-taken-in", f"select seller from enforcement.relinked where seller {_NOT_PARKED}"
        ),
    ]


def entity_standings(e: Evidence) -> list[Finding]:
    """Each entity stands where its accounts' violations put it, every account knows, and none stands worse by itself."""
    rules = policy.current(e.settings.penalties_profile).penalties
    tally = Tally()
    rows = e.rows(
        "select n.entity, n.counted_at, n.general_points, n.serious_strikes, n.violations, n.next_change, n.grounds, n.last,"
        " n.warned, v.seller, v.claim, v.severity, v.at, v.entry from enforcement.entities n"
        " join enforcement.entity_members m on m.entity = n.entity"
        " left join enforcement.violations v on v.seller = m.seller and v.in_force order by n.entity"
    )
    for entity, group in itertools.groupby(rows, key=lambda row: row[0]):
        history = list(group)
        stored = entities_store.counted(history[0][2:9])
        violations = [Own(*row[9:14]) for row in history if row[9] is not None]
        sums, grounds = entities.count(violations, rules, history[0][1])
        if (stored.sums, stored.grounds) != (sums, grounds):
            tally.add("problem", "entity-wrong", f"{entity}: {stored.sums}, not {sums}")
    for sanction, ledger, level, began, linked in e.rows(
        "select x.sanction, x.ledger, x.level, x.began, s.entity_grounds from enforcement.sanctions x"
        " join enforcement.standings s on s.seller = x.seller where x.scope = 'entity' and x.state = 'in_force'"
        f" and x.seller {_NOT_PARKED} and x.seller not in (select seller from enforcement.relinked)"
    ):
        reached = [] if linked is None else entities_store.entity(linked).grounds
        if not any(
            (g.ledger, g.level) == (ledger, level) and (g.fell_at is None or g.fell_at > began) for g in reached
        ):
            tally.add("problem", "entity-sanction-unfounded", sanction)
    now = f"'{e.now.isoformat()}'::timestamptz"
    return [
        *tally.findings(),
        *e.find(
            "problem", "entity-empty",
            "select n.entity from enforcement.entities n left join enforcement.entity_members m using (entity) where m.seller is null",
        ),
        *e.find(
            "lost", "entity-untold",
            "select coalesce(m.seller, s.seller) from enforcement.entity_members m join enforcement.entities n using (entity)"
            " full join (select * from enforcement.standings where entity is not null) s on s.seller = m.seller"
            " where (n.entity, n.general_points, n.serious_strikes, n.violations) is distinct from"
            " (s.entity, s.entity_points, s.entity_strikes, s.entity_violations)"
            f" and coalesce(m.seller, s.seller) {_NOT_PARKED}"
            " and coalesce(m.seller, s.seller) not in (select seller from enforcement.relinked)",
        ),
        *e.find(
            "problem", "entity-above",
            "select s.seller from enforcement.standings s join enforcement.entity_members m on m.seller = s.seller"
            " join enforcement.entities n on n.entity = m.entity"
            " where (s.general_points > n.general_points or s.serious_strikes > n.serious_strikes or s.violations > n.violations)"
            f" and (s.next_change is null or s.next_change > {now}) and (n.next_change is null or n.next_change > {now})"
            " and s.seller not in (select seller from enforcement.entity_work)",
        ),
        *e.find(
            "problem", "entity-overdue",
            f"select entity from enforcement.entities where next_change <= {now} - {_LATE}",
        ),
    ]  # fmt: skip
