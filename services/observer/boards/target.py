"""The board "24-hour target"."""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Board, Limits, Panel, Query, Row
from services.observer.boards.promql import DAY, HOUR, one, view, view_quantile

TARGET: Final = Board(
    key="target",
    title="24-hour target",
    help="Are claims handled within 24 hours, and will they be? For those on call and those answerable for the target.",
    rows=(
        Row(
            "Handled within 24 hours",
            (
                Panel(
                    "handled_1d",
                    "Handled in time, last day",
                    "Of the items whose 24 hours ended in the last day, the share that was handled by then; pauses "
                    "for the complainant do not count. Below the target: look at the oldest items first and what "
                    "they wait for.",
                    one("goodfaith:handled_in_time:ratio_1d"),
                    "ratio",
                    "number",
                    Limits(0.99, 0.97, below=True),
                    runbooks=("HandledBurnFast", "HandledBurnSlow"),
                    width=6,
                ),
                Panel(
                    "handled_30d",
                    "Handled in time, 30 days",
                    "The same over 30 days: the 24-hour target is measured by this. It is by nature a day late, so "
                    "act on what is open instead.",
                    one("goodfaith:handled_in_time:ratio_30d"),
                    "ratio",
                    "number",
                    Limits(0.99, 0.97, below=True),
                    width=6,
                ),
                Panel(
                    "handled_1h",
                    "Handled in time, last hour",
                    "The same over an hour. Few items end in a quiet hour: one that is missed then is a large share.",
                    one("goodfaith:handled_in_time:ratio_1h"),
                    "ratio",
                    "number",
                    Limits(0.99, 0.9, below=True),
                    width=6,
                    may_be_empty=True,
                ),
                Panel(
                    "outcomes_1d",
                    "Items whose 24 hours ended, last day",
                    "How many were handled in time, and how many were missed. An item that never ends is counted as missed "
                    "at its deadline.",
                    one("goodfaith:sla_outcomes:increase_1d", "{{outcome}}"),
                    "count",
                    "number",
                    width=6,
                ),
            ),
        ),
        Row(
            "Open now",
            (
                Panel(
                    "open",
                    "Open items",
                    "Items received and not handled yet. Read it together with the forecast: many open items do no "
                    "harm as long as they are handled in time.",
                    one("sum(goodfaith:items_open:sum)"),
                    "count",
                    "number",
                    width=4,
                ),
                Panel(
                    "oldest",
                    "Oldest open item",
                    "Age in business time. At 18 hours the operator on call is paged, with 6 hours left to act.",
                    one("max(goodfaith:oldest_open_age_seconds)"),
                    "seconds",
                    "number",
                    Limits(12 * HOUR, 18 * HOUR),
                    runbooks=("OldestItemOld",),
                    width=5,
                ),
                Panel(
                    "forecast",
                    "Worked off in",
                    "Open items divided by the pace of the last half hour. More than the time that is left: items "
                    "will miss their deadline unless the pace rises, whatever the age of the oldest is now.",
                    one("goodfaith:drain_seconds:forecast"),
                    "seconds",
                    "number",
                    Limits(6 * HOUR, 18 * HOUR),
                    runbooks=("DrainTooSlow",),
                    width=5,
                    may_be_empty=True,
                ),
                Panel(
                    "due_soon",
                    "Due soon",
                    "Open items whose deadline is within one, three and six hours. If anything is due within an "
                    "hour, look at what it waits for.",
                    one("goodfaith:items_due_soon:sum", "within {{within_seconds}} s"),
                    "count",
                    "number",
                    Limits(1, 100),
                    runbooks=("ItemsDueSoon",),
                    width=6,
                ),
                Panel(
                    "paused",
                    "Clock paused",
                    "Items whose 24 hours are paused while the complainant is asked. Shown so that pauses cannot hide "
                    "missed deadlines.",
                    one(view("goodfaith_claim_clock_paused", "reason"), "{{reason}}"),
                    "count",
                    "number",
                    width=4,
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    "open_by_stage",
                    "Open items by stage",
                    "Where items are: intake, verification, review (by people), complainant (paused), enforcement. "
                    "Look at the stage that grows.",
                    one("goodfaith:items_open:sum", "{{stage}}"),
                    width=12,
                ),
                Panel(
                    "oldest_by_stage",
                    "Oldest open item by stage",
                    "Age of the oldest item in each stage. A line that rises by one hour per hour is an item that is "
                    "stuck.",
                    one("goodfaith:oldest_open_age_seconds", "{{stage}}"),
                    "seconds",
                    limits=Limits(12 * HOUR, 18 * HOUR),
                    runbooks=("OldestItemOld", "ClaimsStalled"),
                    width=12,
                    may_be_empty=True,
                ),
                Panel(
                    "burn",
                    "Budget burnt, times too fast",
                    "How fast missed items use up the misses that the objective allows in 30 days, over the last "
                    "hour: 1 uses them up exactly. At 14.4 the operator on call is paged.",
                    one("goodfaith:slo_burn:rate_1h", "{{slo}}"),
                    "count",
                    limits=Limits(1, 14.4),
                    runbooks=("HandledBurnFast", "StageBurnFast"),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "budget",
                    "Budget left of 30 days",
                    "What is left of the share of items that may be missed. Below 0 the objective is missed until the "
                    "window has moved on.",
                    one("goodfaith:slo_budget_left:ratio_30d", "{{slo}}"),
                    "ratio",
                    limits=Limits(0.25, 0, below=True),
                    runbooks=("HandledBurnSlow", "StageBurnSlow"),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "handling",
                    "Time to handle",
                    "Times within which half of the items, and 99 % of them, were handled (last day).",
                    tuple(
                        Query(
                            view_quantile(q, "goodfaith_claim_handling_duration_seconds_bucket", window="1d"),
                            f"p{q * 100:g}",
                        )
                        for q in (0.5, 0.99)
                    ),
                    "seconds",
                    limits=Limits(18 * HOUR, DAY),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "takedown",
                    "Takedown rate",
                    "Share of the handled items that were taken down, over a day and 30 days. If it jumps, check "
                    "whether a policy or a triage rule changed, or one complainant's filings did.",
                    (
                        Query("goodfaith:takedown:ratio_1d", "last day"),
                        Query("goodfaith:takedown:ratio_30d", "30 days"),
                    ),
                    "ratio",
                    "lines",
                    width=12,
                ),
                Panel(
                    "takedowns_by_right",
                    "Outcomes by kind of right",
                    "Items that were taken down or declined, by the kind of right claimed; everything that the views "
                    "know.",
                    one(
                        f"{view('goodfaith_takedowns_total', 'right_type', 'outcome')} > 0",
                        "{{right_type}}: {{outcome}}",
                    ),
                    "count",
                    "bars",
                    width=12,
                    may_be_empty=True,
                ),
                Panel(
                    "audits",
                    "Errors of what happens without a person",
                    "Share of audited items on which people, who were not shown it, decided otherwise than a rule or a "
                    "silence had, and its 95 % interval; everything that the views know. Above 5 %, look at the rule.",
                    (
                        Query("goodfaith:audit_overturned:low95", "{{outcome}}: at least"),
                        Query("goodfaith:audit_overturned:ratio", "{{outcome}}"),
                        Query("goodfaith:audit_overturned:high95", "{{outcome}}: at most"),
                    ),
                    "ratio",
                    "bars",
                    width=12,
                    may_be_empty=True,
                    optional=True,
                ),
                Panel(
                    "audits_by_size",
                    "The same by size of complainant",
                    "Upper ends of the 95 % intervals, by how many settled items the complainant had when it filed. A "
                    "class with few audits has a high one: it is not known to be good.",
                    one("goodfaith:audit_overturned_by_size:high95", "{{outcome}}, {{size}} items"),
                    "ratio",
                    "bars",
                    width=12,
                    may_be_empty=True,
                    optional=True,
                ),
                Panel(
                    "alerts",
                    "Alerts that fire",
                    "What needs a person now. Each alert has a runbook under docs/runbooks.",
                    one('ALERTS{alertstate="firing", severity=~"page|ticket"}', "{{severity}}: {{alertname}}"),
                    "count",
                    "table",
                    width=12,
                    may_be_empty=True,
                ),
            ),
        ),
    ),
)
