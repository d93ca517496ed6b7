"""Checks of `goodfaith verify` on claim items: state, deadlines, the 24-hour target, duplicates, and the read model."""

from __future__ import annotations

from typing import Final

from services.ops.verify.evidence import Check, Evidence, not_set_aside, quoted
from services.ops.verify.findings import Finding
from services.ops.verify.item_state import ENDED, UPHELD


def folds(e: Evidence) -> list[Finding]:
    """The stored items are the fold of verification's log (compared while the log was read)."""
    return e.folding.findings()


_WITHOUT_TAKEDOWN: Final = quoted(ENDED - {"DUPLICATE"})
_RECURRENCE_CLAIMS: Final = """
    (select id, terms::jsonb ->> 'recurs' as recurs from intake.claims where channel = 'recurrence')"""

CHECKS: Final[dict[str, Check]] = {
    "folds": folds,
    # no item is open past its deadline, and no window waits for a notice that was sent
    "deadlines": {
        ("problem", "deadline-passed"): f"""
            select i.item || ' in ' || i.state from verification.items i
            join verification.partitions p on p.partition = i.partition
            where i.next_due <= p.watermark and i.listing {not_set_aside("verification")}""",
        ("problem", "window-not-begun"): f"""
            select v.item || ' in ' || v.state from v_item v join verification.items i on i.item = v.item
            where v.state in ('NOTIFIED', 'NEEDS_INFO', 'HOLDER_RESPONSE') and v.awaits
            and i.body::jsonb -> 'unreached' is null and v.listing {not_set_aside("verification")}""",
        ("problem", "no-exit"): f"""
            select item || ' in ' || state from verification.items where next_due is null and state not in
            ({quoted([*UPHELD, *ENDED, "UNDER_REVIEW", "NOTIFIED", "NEEDS_INFO", "HOLDER_RESPONSE"])})""",
    },
    # each handled item met or missed the 24-hour target, once, and was reported overdue at most once
    "sla": {
        ("problem", "sla-open"): "select item from v_item where handled_at is not null and sla is null",
        ("doubled", "sla-twice"): """
            select item from v_change where rule = '5-overdue' group by item having count(*) > 1""",
        ("problem", "hold-without-receipt"): f"""
            select item from v_item where held and handled_at is null and listing {not_set_aside("verification")}""",
    },
    # no duplicate is left waiting after its original has ended without a takedown
    "duplicates": {
        ("lost", "duplicate-not-reopened"): f"""
            select d.item || ' of ' || o.item || ' in ' || o.state from verification.items d
            join verification.items o on o.item = d.original
            where d.state = 'DUPLICATE' and o.state in ({_WITHOUT_TAKEDOWN})""",
    },
    # each near copy was found once; claims filed for them, and no others, link to the items they recur from
    "recurrences": {
        ("doubled", "recurrence-twice"): """
            select listing || ' ' || right_id from v_recurrence group by listing, right_id having count(*) > 1""",
        ("problem", "recurrence-untold"): """
            select coalesce(v.listing, r.listing) || ' ' || coalesce(v.right_id, r.right_id) from v_recurrence v
            full join (select * from verification.recurrences where item is not null) r
                on r.listing = v.listing and r.right_id = v.right_id
            where v.item is distinct from r.item""",
        ("problem", "recurrence-unfounded"): f"""
            select c.id from {_RECURRENCE_CLAIMS} c join intake.items i on i.claim = c.id
            left join v_recurrence v on v.item = c.recurs and v.listing = i.listing where v.item is null""",
        ("problem", "recurrence-unlinked"): f"""
            select i.item || ' of ' || i.recurs
            from (select distinct item, claim, recurs from v_change where recurs is not null) i
            left join {_RECURRENCE_CLAIMS} c on c.id = i.claim where i.recurs is distinct from c.recurs""",
        ("problem", "recurrence-known"): f"""
            select u.item || ' in ' || coalesce(i.state, 'nothing') from verification.upheld u
            left join verification.items i on i.item = u.item
            where i.item is null or i.state not in ({quoted(UPHELD)})""",
    },
    # what items are judged on is kept: the present content of their listings, or one before
    "snapshots": {
        ("lost", "snapshot-lost"): """
            select v.item || ' of ' || v.listing from v_item v
            left join verification.listings l on l.listing = v.listing and l.digest = v.content
            left join verification.snapshots s on s.listing = v.listing and s.digest = v.content
            where v.content is not null and l.listing is null and s.listing is null""",
    },
    # what intake shows of items is what verification holds, and timelines have no gaps
    "read_model": {
        ("problem", "read-model-item"): """
            select v.item || ': ' || coalesce(i.state || '/' || i.revision, 'nothing') || ', not '
                || v.state || '/' || v.revision
            from v_item v left join intake.items i on i.id = v.item
            where i.state is distinct from v.state or i.revision <> v.revision or i.listing <> v.listing
            or i.claim <> v.claim or i.seller is distinct from v.seller
            union all
            select i.id from intake.items i left join v_item v on v.item = i.id
            where v.item is null and i.revision > 0""",
        ("lost", "timeline-gap"): f"""
            select c.item || '/' || c.revision from v_change c
            left join intake.timeline t on t.item = c.item and t.revision = c.revision
            where t.item is null and c.listing {not_set_aside("intake")}""",
        ("problem", "timeline-differs"): """
            select t.item || '/' || t.revision from intake.timeline t
            left join v_change c on c.item = t.item and c.revision = t.revision
            where c.item is null or c.type <> t.type or c.state <> t.state or c.at <> t.at""",
    },
}
