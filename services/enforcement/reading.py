"""Read-only queries about sellers, for the internal API and the command line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, get_args

import sqlalchemy as sa

from services.enforcement import explain, offenders, sanctions, sanctions_store
from shared import clock
from shared.events import Measure
from shared.policy import Penalties, RepeatOffender
from shared.standing import Entry, Explanation, Figures, Record, Sanction, Sort, Standing, Violation

TIMEOUT_MS: Final = 10_000
"""Limit of one query; what takes longer is refused for now."""
_COLUMNS: Final = """s.seller, s.general_points, s.serious_strikes, s.violations, s.repeat_offender, s.general_consequence,
    s.serious_consequence, s.next_change, s.changed_at, s.measures, s.until, s.entity, s.entity_points, s.entity_strikes,
    s.entity_violations"""
_SORTS: Final[dict[Sort, str]] = {
    "violations": "s.violations",
    "points": "s.general_points",
    "strikes": "s.serious_strikes",
    "changed": "s.changed_at",
}
_ENTRIES = """
    select e.entry, e.claim, e.ledger, e.kind, e.points, e.effective_at, e.expires_at, e.reverses, r.entry as reversed_by,
        e.kind = 'violation' and r.entry is null and e.expires_at > %(now)s as counts
    from ledger_entries e left join ledger_entries r on r.reverses = e.entry
    where e.seller = %(seller)s
        and (%(number)s::bigint is null or split_part(e.entry, '.', 2)::bigint < %(number)s)
    order by split_part(e.entry, '.', 2)::bigint desc limit %(limit)s"""
_VIOLATIONS = """
    select v.claim, v.in_force, v.severity, v.at, v.entry, v.points, v.expires_at,
        (select count(distinct i.listing) from violation_items i where i.seller = v.seller and i.claim = v.claim) as listings
    from violations v
    where v.seller = %(seller)s and (%(in_force)s::bool is null or v.in_force = %(in_force)s)
        and (%(at)s::timestamptz is null or (v.at, v.claim) < (%(at)s, %(claim)s))
    order by v.at desc, v.claim desc limit %(limit)s"""
# the event log has the business time of an entry; the index by claim finds it
_RECORDS = """
    select e.entry, e.claim, e.ledger, e.kind, e.points, e.effective_at, e.expires_at, e.reverses, e.recorded_wall,
        (select min((l.payload::json ->> 'time')::timestamptz) from ledger_event_log l
            where l.claim = e.claim and l.key = e.seller and l.type = 'goodfaith.penalty.entered.v1'
                and l.payload::json ->> 'subject' = e.entry) as recorded_at
    from ledger_entries e where e.seller = %s"""
_IN_FORCE = "select at, claim, severity from violations where seller = %s and in_force"
_SANCTIONS = f"""
    select {sanctions_store.SANCTION_COLUMNS}
    from sanctions where seller = %(seller)s and (%(in_force)s::bool is null or (state = 'in_force') = %(in_force)s)
        and (%(number)s::int is null or number < %(number)s) and (%(sanction)s::text is null or sanction = %(sanction)s)
    order by number desc limit %(limit)s"""
_ACCOUNT = f"select seller, {sanctions_store.ACCOUNT_COLUMNS} from standings where seller = %s"
_UNDER = "select measures, count(*) from standings where measures <> '' group by measures"
_ENTITIES = "select count(*), count(*) filter (where violations >= %s) from entities where violations > 0"
_TIERS = "select violations, count(*) from standings where violations > 0 group by violations"
_FIGURES = """
    with one as materialized (
        select at, lag(at) over w as before, row_number() over w as n
        from violations where in_force and at <= %(now)s
        window w as (partition by seller order by at, claim)),
    gap as (select at - before as gap from one where n > 1 and at + %(within)s > %(now)s)
    select
        (select count(*) from one where n = 1 and at > %(begin)s and at <= %(middle)s),
        (select count(*) from one where n = 2 and before > %(begin)s and before <= %(middle)s and at - before < %(within)s),
        (select count(*) from one where n = 1 and at > %(middle)s),
        (select count(*) from one where n = 2 and before > %(middle)s and at - before < %(within)s),
        count(*), percentile_disc(0.5) within group (order by gap), percentile_disc(0.9) within group (order by gap),
        array(select count(g.gap) from unnest(%(low)s::interval[], %(high)s::interval[]) with ordinality as b(low, high, n)
            left join gap g on (b.low is null or g.gap > b.low) and (b.high is null or g.gap <= b.high) group by b.n order by b.n)
    from gap"""


def _bounded(connection: sa.Connection, ms: int = TIMEOUT_MS) -> None:
    connection.exec_driver_sql(f"set local statement_timeout = {ms}")


def _standing(row: Any, rules: RepeatOffender) -> Standing:
    measures = tuple(row["measures"].split(",")) if row["measures"] else ()
    return Standing(**{**row, "measures": measures}, tier=offenders.tier_of(row["violations"], rules))


def standing(connection: sa.Connection, seller: str, rules: RepeatOffender) -> Standing:
    """The standing of one seller; all zero if it never had a violation."""
    query = f"select {_COLUMNS} from standings s where seller = %s"
    row = connection.exec_driver_sql(query, (seller,)).mappings().one_or_none()
    return Standing(seller=seller) if row is None else _standing(row, rules)


def sellers(
    connection: sa.Connection,
    rules: RepeatOffender,
    *,
    sort: Sort = "violations",
    limit: int,
    after: tuple[Any, str] | None = None,
    tier: str | None = None,
    repeat_offender: bool | None = None,
    consequence: str | None = None,
    measure: str | None = None,
    entity: str | None = None,
    since: dt.datetime | None = None,
) -> list[Standing]:
    """Sellers with a standing: highest first by ``sort`` (``seller``: by id), and by id among equals.

    Args:
        after: (value of ``sort``, seller) of the last one shown.
        tier: only sellers in this tier of the policy, by name.
        consequence: only sellers whose level in either ledger has this consequence.
        measure: only sellers under this measure now.
        entity: only accounts of this entity.
        since: only sellers with a violation in force since then.

    Raises:
        ValueError: there is no such tier.
    """
    where: list[str] = []
    values: list[Any] = []

    def only(condition: str, *given: Any) -> None:
        where.append(condition)
        values.extend(given)

    if tier is not None:
        found = [bound for bound in offenders.bounds(rules) if bound[0] == tier]
        if not found:
            raise ValueError(f"no tier {tier!r}")
        only("s.violations >= %s", found[0][1])
        if found[0][2] is not None:
            only("s.violations <= %s", found[0][2])
    if repeat_offender is not None:
        only("s.repeat_offender = %s", repeat_offender)
    if consequence is not None:
        only("(s.general_consequence = %s or s.serious_consequence = %s)", consequence, consequence)
    if measure is not None:
        only("%s = any(string_to_array(s.measures, ','))", measure)
    if entity is not None:
        only("s.seller in (select m.seller from entity_members m where m.entity = %s)", entity)
    if since is not None:
        only("exists (select from violations v where v.seller = s.seller and v.in_force and v.at >= %s)", since)
    by = _SORTS.get(sort)
    if after is not None:
        if by is None:
            only("s.seller > %s", after[1])
        else:
            only(f"({by} < %s or ({by} = %s and s.seller > %s))", after[0], after[0], after[1])
    query = f"""select {_COLUMNS} from standings s {"where " if where else ""}{" and ".join(where)}
        order by {"" if by is None else f"{by} desc, "}s.seller limit %s"""
    _bounded(connection)
    rows = connection.exec_driver_sql(query, (*values, limit)).mappings()
    return [_standing(row, rules) for row in rows]


def sort_value(row: Standing, sort: Sort) -> Any:
    """The value by which a seller is sorted."""
    return {
        "violations": row.violations,
        "points": row.general_points,
        "strikes": row.serious_strikes,
        "changed": row.changed_at,
        "seller": row.seller,
    }[sort]


def entries(connection: sa.Connection, seller: str, now: dt.datetime, *, before: str | None, limit: int) -> list[Entry]:
    """A seller's ledger, latest entry first; ``before``: only entries written before that one."""
    number = None if before is None else explain.number_of(before)
    rows = connection.exec_driver_sql(
        _ENTRIES, {"seller": seller, "now": now, "number": number, "limit": limit}
    ).mappings()
    return [Entry(**row) for row in rows]


def violations(
    connection: sa.Connection,
    seller: str,
    *,
    in_force: bool | None = None,
    before: tuple[dt.datetime, str] | None = None,
    limit: int,
) -> list[Violation]:
    """A seller's violations, latest first; ``in_force``: only those that stand, or only those that no longer do."""
    at, claim = before or (None, None)
    given = {"seller": seller, "in_force": in_force, "at": at, "claim": claim, "limit": limit}
    return [Violation(**row) for row in connection.exec_driver_sql(_VIOLATIONS, given).mappings()]


def sanctioned(
    connection: sa.Connection,
    seller: str,
    rules: Penalties,
    *,
    in_force: bool | None = None,
    before: int | None = None,
    sanction: str | None = None,
    limit: int | None,
) -> list[Sanction]:
    """A seller's sanctions, latest first; ``before``: only those of lower number; ``sanction``: only that one."""
    given = {"seller": seller, "in_force": in_force, "number": before, "sanction": sanction, "limit": limit}
    rows = connection.exec_driver_sql(_SANCTIONS, given)
    return explain.shown([sanctions_store.sanction(row) for row in rows], rules)


def number_of(sanction: str) -> int:
    """Number of a sanction among its seller's; 0 if this is no sanction's id."""
    tail = sanction.rpartition(".s")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 10 else 0


def _account(connection: sa.Connection, seller: str) -> sanctions.Account | None:
    """Everything that is stored about a seller's sanctions."""
    row = connection.exec_driver_sql(_ACCOUNT, (seller,)).one_or_none()
    if row is None:
        return None
    account = sanctions_store.account(row)
    given = {"seller": seller, "in_force": None, "number": None, "sanction": None, "limit": None}
    found = [sanctions_store.sanction(one) for one in connection.exec_driver_sql(_SANCTIONS, given)]
    account.sanctions = sorted(found, key=lambda one: one.number)
    return account


def records(connection: sa.Connection, seller: str) -> list[Record]:
    """All entries of a seller with the business time at which they were entered."""
    anchors = clock.History.load(connection)
    return [
        Record(
            entry=row.entry,
            claim=row.claim,
            ledger=row.ledger,
            kind=row.kind,
            points=row.points,
            effective_at=row.effective_at,
            expires_at=row.expires_at,
            reverses=row.reverses,
            recorded_at=anchors.at(row.recorded_wall) if row.recorded_at is None else row.recorded_at,
        )
        for row in connection.exec_driver_sql(_RECORDS, (seller,))
    ]


def why(
    connection: sa.Connection,
    seller: str,
    rules: Penalties,
    policy: str,
    now: dt.datetime,
    *,
    at: dt.datetime | None = None,
    most: int | None = explain.STEPS_MOST,
) -> Explanation:
    """How a seller's standing came about, replayed from its ledger (``explain.explain``)."""
    _bounded(connection)
    found = records(connection, seller)
    in_force: Sequence[Any] = [tuple(row) for row in connection.exec_driver_sql(_IN_FORCE, (seller,))]
    stored = standing(connection, seller, rules.repeat_offender)
    account = _account(connection, seller)
    return explain.explain(seller, found, in_force, stored, rules, policy, now, account=account, at=at, most=most)


def figures(connection: sa.Connection, rules: RepeatOffender, now: dt.datetime) -> Figures:
    """All figures as of ``now``, equal to what ``offenders.figures`` makes of the single violations in force."""
    _bounded(connection, 12 * TIMEOUT_MS)
    begin, middle = offenders.cohorts(now, rules)
    edges = [dt.timedelta(days=days) for days in offenders.SPANS]
    whole, again, young, young_again, count, median, p90, spans = connection.exec_driver_sql(
        _FIGURES,
        {
            "now": now,
            "within": rules.within.exact,
            "begin": begin,
            "middle": middle,
            "low": [None, *edges],
            "high": [*edges, None],
        },
    ).one()
    under: dict[str, int] = {}
    for measures, sellers in connection.exec_driver_sql(_UNDER):
        for measure in measures.split(","):
            under[measure] = under.get(measure, 0) + sellers
    entities, repeating = connection.exec_driver_sql(_ENTITIES, (rules.violations,)).one()
    counted = dict(map(tuple, connection.exec_driver_sql(_TIERS)))
    return Figures(
        at=now,
        sellers=sum(counted.values()),
        repeat_offenders=sum(sellers for many, sellers in counted.items() if many >= rules.violations),
        tiers=offenders.tiers(counted, rules),
        recidivism=offenders.recidivism(begin, middle, whole, again),
        recidivism_young=offenders.recidivism(middle, now, young, young_again),
        between=offenders.between(count, median, p90, spans),
        entities=entities,
        repeat_entities=repeating,
        measures={measure: under.get(measure, 0) for measure in sorted(get_args(Measure))},
    )
