"""Checks of `goodfaith verify` on entities: which accounts belong together by keys, and where each entity stands."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Mapping
from typing import Any, Final

from services.ops.verify import sanction_model as model
from services.ops.verify.evidence import Check, Evidence
from services.ops.verify.findings import Finding, Tally
from services.ops.verify.sanction_checks import (
    LATE,
    NOT_SET_ASIDE,
    StoredEntity,
    StoredGround,
    stored_entity,
    stored_grounds,
)
from services.ops.verify.sanction_model import AccountViolation
from shared import policy

# keys that the marketplace has reported last
_KEYS: Final = """
    (select s.seller, k.kind, k.digest
    from (select distinct on (d ->> 'seller') d ->> 'seller' as seller, d -> 'keys' as keys
        from (select seq, payload::jsonb -> 'data' as d from marketplace.event_log
            where type = 'goodfaith.marketplace.seller.v1') t order by d ->> 'seller', seq desc) s
    cross join lateral (select k ->> 'kind' as kind, k ->> 'digest' as digest
        from jsonb_array_elements(coalesce(s.keys, '[]')) k) k)"""
_RELINKED: Final = "(select seller from enforcement.relinked)"


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
    membership(stored, model.entities(holders, rules), tally)
    found = tally.findings()
    if e.has("marketplace"):
        found += e.find(
            {
                ("lost", "key-untold"): f"""
                    select k.seller || ': ' || k.kind from {_KEYS} k
                    left join enforcement.seller_keys h
                        on h.kind = k.kind and h.digest = k.digest and h.seller = k.seller
                    where h.seller is null and k.seller {NOT_SET_ASIDE}""",
            }
        )
    return found + e.find(
        {
            ("problem", "entity-uncounted"): "select seller from enforcement.entity_work",
            ("problem", "entity-not-taken-in"): f"""
                select seller from enforcement.relinked where seller {NOT_SET_ASIDE}""",
        }
    )


def membership(stored: Mapping[str, Collection[str]], wanted: Collection[tuple[str, ...]], tally: Tally) -> None:
    """Compare entities and their accounts with those that must exist."""
    there = {entity: tuple(sorted(members)) for entity, members in stored.items()}
    for entity, members in there.items():
        if members not in wanted:
            tally.add("problem", "entity-unfounded", f"{entity}: {', '.join(members[:5])}")
        elif entity != model.entity_id(members):
            tally.add("problem", "entity-misnamed", entity)
    for missing in sorted(set(wanted) - set(there.values())):
        tally.add("lost", "entity-missing", ", ".join(missing[:5]))


def entity_standings(e: Evidence) -> list[Finding]:
    """Each entity stands where its accounts' violations put it, every account knows, and none is worse by itself."""
    tally = Tally()
    _counted(e, tally)
    _answered(e, tally)
    now = f"'{e.now.isoformat()}'::timestamptz"
    return [
        *tally.findings(),
        *e.find(
            {
                ("problem", "entity-empty"): """
                    select n.entity from enforcement.entities n
                    left join enforcement.entity_members m using (entity) where m.seller is null""",
                ("lost", "entity-untold"): f"""
                    select coalesce(m.seller, s.seller)
                    from enforcement.entity_members m join enforcement.entities n using (entity)
                    full join (select * from enforcement.standings where entity is not null) s on s.seller = m.seller
                    where (n.entity, n.general_points, n.serious_strikes, n.violations) is distinct from
                        (s.entity, s.entity_points, s.entity_strikes, s.entity_violations)
                    and coalesce(m.seller, s.seller) {NOT_SET_ASIDE}
                    and coalesce(m.seller, s.seller) not in {_RELINKED}""",
                ("problem", "entity-above"): f"""
                    select s.seller from enforcement.standings s
                    join enforcement.entity_members m on m.seller = s.seller
                    join enforcement.entities n on n.entity = m.entity
                    where (s.general_points > n.general_points or s.serious_strikes > n.serious_strikes
                        or s.violations > n.violations)
                    and (s.next_change is null or s.next_change > {now})
                    and (n.next_change is null or n.next_change > {now})
                    and s.seller not in (select seller from enforcement.entity_work)""",
                ("problem", "entity-overdue"): f"""
                    select entity from enforcement.entities where next_change <= {now} - {LATE}""",
            }
        ),
    ]


def _counted(e: Evidence, tally: Tally) -> None:
    """Each entity is counted from its accounts' violations in force."""
    rules = policy.current(e.settings.penalties_profile).penalties
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
    for entity, group in itertools.groupby(rows, key=lambda row: row.entity):
        history = list(group)
        standing = history[0]
        violations = [
            AccountViolation(row.seller, row.claim, row.severity, row.at, row.entry)
            for row in history
            if row.seller is not None
        ]
        wrong = counted_wrong(standing, stored_grounds.decode(standing.grounds), violations, rules, standing.counted_at)
        last = max((one.at for one in violations), default=None)
        if not wrong and (standing.last, set(standing.warned)) != (last, warned.get(entity, set())):
            wrong = "its last violation or its warnings"
        if wrong:
            tally.add("problem", "entity-wrong", f"{entity}: {wrong}")


def _answered(e: Evidence, tally: Tally) -> None:
    """Sanctions on entities have a ground, and accounts know their entity as it is."""
    for row in e.rows(
        "select x.sanction, x.ledger, x.level, x.began, s.entity_grounds from enforcement.sanctions x"
        " join enforcement.standings s on s.seller = x.seller where x.scope = 'entity' and x.state = 'in_force'"
        f" and x.seller {NOT_SET_ASIDE} and x.seller not in {_RELINKED}"
    ):
        reached = () if row.entity_grounds is None else stored_entity.decode(row.entity_grounds).grounds
        if not any(
            (one.ledger, one.level) == (row.ledger, row.level) and (one.fell_at is None or one.fell_at > row.began)
            for one in reached
        ):
            tally.add("problem", "entity-sanction-unfounded", row.sanction)
    for row in e.rows(
        "select s.seller, s.entity_grounds, n.entity, n.grounds, n.last, n.warned from enforcement.standings s"
        " join enforcement.entity_members m on m.seller = s.seller join enforcement.entities n on n.entity = m.entity"
        f" where s.entity_grounds is not null and s.seller {NOT_SET_ASIDE} and s.seller not in {_RELINKED}"
    ):
        entity = StoredEntity(row.entity, stored_grounds.decode(row.grounds), row.last, tuple(row.warned))
        if stored_entity.decode(row.entity_grounds) != entity:
            tally.add("lost", "entity-untold", row.seller)


def counted_wrong(
    stored: Any,
    grounds: Collection[StoredGround],
    violations: Collection[AccountViolation],
    rules: policy.Penalties,
    at: dt.datetime,
) -> str:
    """How an entity differs from its violations, if at all.

    Args:
        stored: with the sums: ``general_points``, ``serious_strikes``, ``violations``, ``next_change``.
        grounds: stored with it.
    """
    wanted = model.counted(violations, rules, at)
    for name in ("general_points", "serious_strikes", "violations", "next_change"):
        if getattr(stored, name) != getattr(wanted, name):
            return f"{name} {getattr(stored, name)}, not {getattr(wanted, name)}"
    named = {(one.ledger, one.level, one.crossed_at, one.fell_at): (one.entry, one.claim) for one in grounds}
    if named.keys() != wanted.grounds.keys() or len(grounds) != len(named):
        return "when it reached thresholds"
    if any(name not in wanted.grounds[during] for during, name in named.items()):
        return "what reached thresholds"
    return ""


CHECKS: Final[dict[str, Check]] = {"entity_members": entity_members, "entity_standings": entity_standings}
