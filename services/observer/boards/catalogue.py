"""The four boards. Names of series: docs/reference/metrics.md and the recording rules in deploy/prometheus.

Series of the stream views have a label `partition`, which moves between workers: the queries take the maximum for each
partition first, then the sum. Business times are subtracted from `goodfaith_clock_timestamp_seconds`, wall times from
`time()`.
"""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Board, Limits, Panel, Query, Row

HOUR: Final = 3600.0
DAY: Final = 86_400.0
LATE_STAGE: Final = "0.99"
_CLOCK: Final = "scalar(max(goodfaith_clock_timestamp_seconds))"


def view(series: str, *by: str) -> str:
    """A figure of the stream views, summed over partitions."""
    inner = f"max by ({', '.join(('partition', *by))}) ({series})"
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def view_quantile(quantile: float, series: str, *by: str, window: str | None = None) -> str:
    """A quantile of a histogram of the stream views, over everything that they know or over a window."""
    inner = view(series, "le", *by)
    if window is not None:
        inner = f"clamp_min({inner} - ({inner.replace(series, f'{series} offset {window}')} or {inner} * 0), 0)"
    return f"histogram_quantile({quantile}, {inner})"


def wall_age(series: str, *by: str) -> str:
    """Seconds since the earliest of several wall timestamps; no value if all are 0."""
    return f"time() - min by ({', '.join(by)}) ({series} > 0)" if by else f"time() - min({series} > 0)"


def business_age(series: str, *by: str) -> str:
    """Seconds of business time since the earliest of several timestamps; no value if all are 0."""
    inner = f"min by ({', '.join(by)}) ({series} > 0)" if by else f"min({series} > 0)"
    return f"{_CLOCK} - {inner}"


def rate(series: str, *by: str) -> str:
    """How much a counter grows per second, over five minutes."""
    return f"sum by ({', '.join(by)}) (rate({series}[5m]))" if by else f"sum(rate({series}[5m]))"


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    """A panel's only query."""
    return (Query(expr, legend),)


# ------------------------------------------------------------------------------------------------ the 24-hour target

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

# ------------------------------------------------------------------------------------------------------------------ flow

FLOW: Final = Board(
    key="flow",
    title="Flow",
    help="Do claims move through the services? Where do they wait? For those who were paged, and for planning.",
    rows=(
        Row(
            "At a glance",
            (
                Panel(
                    "canary_age",
                    "Canary, last completed",
                    "Age of the last marked claim that went through all services. Above a few minutes something is "
                    "stuck, even if all else looks well; the canary's steps show where.",
                    one("time() - max(goodfaith_canary_last_completed_timestamp_seconds > 0)"),
                    "seconds",
                    "number",
                    Limits(180, 300),
                    runbooks=("CanaryOld",),
                    width=6,
                ),
                Panel(
                    "received",
                    "Items received",
                    "Items that intake accepts per second, without the canary's.",
                    one(rate('goodfaith_items_received_total{channel!="canary"}')),
                    "per_second",
                    "number",
                    width=6,
                ),
                Panel(
                    "completed",
                    "Items handled or past their deadline",
                    "Items per second whose 24 hours ended. Zero for long while items are open: the flow has stalled.",
                    one("rate(goodfaith:sla_outcomes:total[5m])", "{{outcome}}"),
                    "per_second",
                    "number",
                    runbooks=("ClaimsStalled",),
                    width=6,
                ),
                Panel(
                    "dead_letters",
                    "Keys behind a dead letter",
                    "Above 0 a person is needed: these items stand still until the cause is fixed and the record is "
                    "processed again (goodfaith dlq list).",
                    one("sum(goodfaith_dead_letters_depth)"),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("DeadLetters",),
                    width=6,
                ),
            ),
        ),
        Row(
            "Stages",
            (
                Panel(
                    "stage_in_budget",
                    "In budget, last hour",
                    "Share of the items that passed each stage within its budget: recorded 60 s, notification 5 min, "
                    "enforcement 1 h.",
                    one('1 - goodfaith:slo_errors:ratio_1h{slo!="handled"}', "{{slo}}"),
                    "ratio",
                    "number",
                    Limits(0.999, 0.99, below=True),
                    runbooks=("StageBurnFast", "StageBurnSlow", "StageStalled"),
                    width=12,
                    may_be_empty=True,
                ),
                Panel(
                    "stage_duration",
                    "Time in stages, 95 of a hundred",
                    "How long items took from receipt until recorded, notified and enforced (last hour).",
                    one(
                        view_quantile(0.95, "goodfaith_claim_stage_duration_seconds_bucket", "stage", window="1h"),
                        "{{stage}}",
                    ),
                    "seconds",
                    width=12,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Lag",
            (
                Panel(
                    "lag_outside",
                    "Lag seen from outside",
                    "Age of the oldest record that a group has not consumed, measured by watch at the broker, so it "
                    "is right even if a worker is dead or stuck. Above a minute: look at that group's processes.",
                    one("max by (group) (goodfaith_consumer_lag_seconds)", "{{group}}"),
                    "seconds",
                    limits=Limits(60, 300),
                    runbooks=("ConsumerLag", "PartitionStuck"),
                    width=12,
                ),
                Panel(
                    "lag_inside",
                    "Lag as workers see it",
                    "Age of the youngest record of the last batch when it was committed.",
                    one("max by (worker) (time() - goodfaith_consumer_position_timestamp_seconds)", "{{worker}}"),
                    "seconds",
                    limits=Limits(60, 300),
                    width=12,
                    may_be_empty=True,
                ),
                Panel(
                    "lag_streams",
                    "Lag of the stream views",
                    "How far the figures on these boards are behind the topics. Above a minute they are out of date.",
                    one("time() - min by (topic) (goodfaith_streams_position_timestamp_seconds)", "{{topic}}"),
                    "seconds",
                    limits=Limits(60, 300),
                    runbooks=("StreamsBehind",),
                    width=12,
                ),
                Panel(
                    "watermark",
                    "Watermarks behind the clock",
                    "Deadlines fire only up to the watermark. If it is far behind, no deadline passes and nobody is "
                    "late because of that; look at intake's worker and inbound.",
                    one(f"{_CLOCK} - min by (worker) (goodfaith_watermark_timestamp_seconds > 0)", "{{worker}}"),
                    "seconds",
                    limits=Limits(60, 300),
                    runbooks=("WatermarkBehind",),
                    width=12,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Intake and queues",
            (
                Panel(
                    "lanes",
                    "Admitted by lane",
                    "If standard or bulk is flat while claims come in, that is back-pressure: verification cannot "
                    "keep up.",
                    one(rate("goodfaith_admitted_total", "tier"), "{{tier}}"),
                    "per_second",
                ),
                Panel(
                    "under_way",
                    "Under way between intake and verification",
                    "Above the windows (4,000 standard, 1,000 bulk) for long: add verification workers.",
                    one("max(goodfaith_admission_under_way)"),
                    "count",
                    limits=Limits(1000, 4000),
                ),
                Panel(
                    "refused",
                    "Refused at intake",
                    "By reason. If one jumps, a client has changed, or does not read the answers.",
                    one(f"topk(5, {rate('goodfaith_requests_refused_total', 'reason')} > 0)", "{{reason}}"),
                    "per_second",
                    may_be_empty=True,
                ),
                Panel(
                    "outbox_oldest",
                    "Oldest unpublished event",
                    "Events wait in the log while the broker is away, and are published in order when it is back.",
                    one(wall_age("goodfaith_outbox_oldest_timestamp_seconds", "worker"), "{{worker}}"),
                    "seconds",
                    limits=Limits(60, 300),
                    runbooks=("OutboxOld",),
                    may_be_empty=True,
                ),
                Panel(
                    "dead_letters_oldest",
                    "Oldest dead letter",
                    "How long the oldest dead letter has waited for a person.",
                    one(wall_age("goodfaith_dead_letters_oldest_timestamp_seconds", "worker"), "{{worker}}"),
                    "seconds",
                    limits=Limits(1, HOUR),
                    runbooks=("DeadLettersOld",),
                    may_be_empty=True,
                ),
                Panel(
                    "review",
                    "Cases for people",
                    "Cases in the review queue, by state. If the free ones grow, there are too few reviewers, or a "
                    "conflict of interest bars them.",
                    one(
                        "max by (state, status) (sum by (state, status, instance) (goodfaith_review_cases)) > 0",
                        "{{state}} {{status}}",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "review_oldest",
                    "Oldest case for people",
                    "In business time. Near 24 hours under review, the 24-hour target is at risk.",
                    one(business_age("goodfaith_review_oldest_timestamp_seconds", "state"), "{{state}}"),
                    "seconds",
                    limits=Limits(12 * HOUR, 18 * HOUR),
                    runbooks=("ReviewQueueOld",),
                    may_be_empty=True,
                ),
                Panel(
                    "canary_steps",
                    "Canary's steps",
                    "Which step of the marked claim failed or timed out in the last hour.",
                    one(
                        "round(sum by (step, result) (increase(goodfaith_canary_steps_total[1h]))) > 0",
                        "{{step}}: {{result}}",
                    ),
                    "count",
                    "bars",
                    runbooks=("CanaryOld",),
                    may_be_empty=True,
                ),
                Panel(
                    "streams_failed",
                    "Events that the views could not fold",
                    "They are kept, and tried again when a worker takes over their partition. Above 0 the figures "
                    "lack them.",
                    one(view("goodfaith_streams_failed_events")),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("StreamsFailedEvents",),
                ),
            ),
        ),
    ),
)

# ------------------------------------------------------------------------------------------------------ repeat offenders

OFFENDERS: Final = Board(
    key="offenders",
    title="Repeat offenders",
    help="Do sanctions keep sellers from offending again, and how do complainants stand? For the programme's owners. "
    "Counts only: goodfaith standing list and the API name the sellers.",
    rows=(
        Row(
            "Sellers",
            (
                Panel(
                    "tiers",
                    "Sellers by violations in 365 days",
                    "One, two, three to five, six and more. If the last grows, sanctions do not stop them "
                    "(goodfaith standing list --tier 6+).",
                    one(view("goodfaith_repeat_offenders", "tier"), "{{tier}}"),
                    "count",
                    "number",
                    width=12,
                ),
                Panel(
                    "recidivism",
                    "Recidivism",
                    "Of the sellers whose first violation was one to two years ago, the share that had a further one "
                    "within 365 days. If it rises, warnings do not reach sellers, or do not matter to them.",
                    one(
                        'sum(max by (partition) (goodfaith_recidivism_sellers_again{cohort="whole"}))'
                        ' / (sum(max by (partition) (goodfaith_recidivism_sellers{cohort="whole"})) > 0)'
                    ),
                    "ratio",
                    "number",
                    width=6,
                    may_be_empty=True,
                ),
                Panel(
                    "interval",
                    "Time between offences",
                    "Times since the previous offence within which half, and 90 %, of the repeated offences came.",
                    tuple(
                        Query(view_quantile(q, "goodfaith_offence_interval_seconds_bucket"), f"p{q * 100:g}")
                        for q in (0.5, 0.9)
                    ),
                    "seconds",
                    "number",
                    width=6,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Sanctions",
            (
                Panel(
                    "under",
                    "Sellers under a measure",
                    "If it jumps, did the policy or the reviewers change? goodfaith standing list --measure closed "
                    "names them.",
                    one("max by (measure) (goodfaith_sellers_under)", "{{measure}}"),
                    "count",
                    "bars",
                ),
                Panel(
                    "sanctions",
                    "Sanctions in the last day",
                    "Begun and ended, by cause. If many are lifted by reversal, decisions are overturned.",
                    one(
                        "round(sum by (change, cause) (increase(goodfaith_sanctions_total[1d]))) > 0",
                        "{{change}} ({{cause}})",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "entries",
                    "Penalty entries in the last day",
                    "By ledger and kind; many reversals mean that decisions are overturned.",
                    one(
                        "round(sum by (ledger, kind) (increase(goodfaith_penalty_entries_total[1d]))) > 0",
                        "{{ledger}}: {{kind}}",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Complainants",
            (
                Panel(
                    "good_faith",
                    "Good-faith complainants",
                    "Accounts by their standing in the good-faith mechanism.",
                    one(view("goodfaith_good_faith_complainants", "state"), "{{state}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "concentration",
                    "Concentration of filings",
                    "Herfindahl-Hirschman index of the items filed in 30 days; at 100 % one complainant files "
                    "everything. Above 18 % a few cause most of the work: GET /internal/streams/filings names them.",
                    one("goodfaith:filing_concentration:hhi"),
                    "ratio",
                    "number",
                    may_be_empty=True,
                ),
                Panel(
                    "filed_by",
                    "Items filed, by size of complainant",
                    "Share of the items of 30 days whose complainant filed this many of them. If 1000+ rises, the "
                    "programme works for few: look at lanes and quotas.",
                    one("goodfaith:filing_items:share", "{{size}}"),
                    "ratio",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "misuse",
                    "Measures against misuse, last day",
                    "By kind of change. If many are reversed, findings or the policy are too strict.",
                    one("round(sum by (kind) (increase(goodfaith_misuse_changes_total[1d]))) > 0", "{{kind}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
    ),
)

# -------------------------------------------------------------------------------------------------------- infrastructure

INFRASTRUCTURE: Final = Board(
    key="infrastructure",
    title="Infrastructure",
    help="Do the broker, the database and the processes work, and does what is sent out arrive?",
    rows=(
        Row(
            "Broker and database",
            (
                Panel(
                    "broker",
                    "Broker",
                    "Seen by watch from outside. Down: intake still accepts, no deadline passes, workers wait.",
                    one("min(goodfaith_broker_up)"),
                    "up",
                    "number",
                    Limits(1, 1, below=True),
                    runbooks=("BrokerDown",),
                    width=4,
                ),
                Panel(
                    "broker_partitions",
                    "Partitions at risk",
                    "Under-replicated: a node is away or behind. Offline: these partitions can be neither read nor "
                    "written.",
                    (
                        Query("max(goodfaith_broker_under_replicated_partitions)", "under-replicated"),
                        Query("max(goodfaith_broker_offline_partitions)", "offline"),
                    ),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("BrokerUnderReplicated", "BrokerOfflinePartitions"),
                    width=8,
                ),
                Panel(
                    "database",
                    "Database",
                    "Seen by watch from outside. Down: intake answers 503; workers wait, and later continue from "
                    "their cursors.",
                    one("min(goodfaith_database_up)"),
                    "up",
                    "number",
                    Limits(1, 1, below=True),
                    runbooks=("DatabaseDown",),
                    width=4,
                ),
                Panel(
                    "connections",
                    "Connections in use",
                    "Share of the database's connections. Near 100 %: run fewer workers, or put a pooler in front.",
                    one("sum(goodfaith_database_connections) / max(goodfaith_database_connections_max)"),
                    "ratio",
                    "number",
                    Limits(0.7, 0.9),
                    runbooks=("DatabaseConnectionsHigh",),
                    width=4,
                ),
                Panel(
                    "transaction",
                    "Oldest transaction",
                    "A transaction that stays open holds locks and keeps old rows from being removed.",
                    one(wall_age("goodfaith_database_oldest_transaction_timestamp_seconds")),
                    "seconds",
                    "number",
                    Limits(60, 600),
                    runbooks=("DatabaseOldTransaction",),
                    width=4,
                    may_be_empty=True,
                ),
                Panel(
                    "database_size",
                    "Size of the database",
                    "It grows with the load; goodfaith prune deletes what is no longer needed (docs/how-to/prune.md).",
                    one("max(goodfaith_database_size_bytes)"),
                    "bytes",
                    width=8,
                ),
                Panel(
                    "reconciliation",
                    "Views against the database",
                    "Differences between the stream views and PostgreSQL, counted at one position. Must always be 0, "
                    "else the figures on these boards are wrong; goodfaith streams rebuild corrects them.",
                    one("max by (view) (goodfaith_reconciliation_difference)", "{{view}}"),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("ReconciliationDifference",),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "reconciliation_age",
                    "Last compared",
                    "How long ago each view was last compared with the database.",
                    one(wall_age("goodfaith_reconciliation_last_timestamp_seconds", "view"), "{{view}}"),
                    "seconds",
                    "number",
                    Limits(600, 1800),
                    runbooks=("ReconciliationOld",),
                    width=8,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "up",
                    "Processes that answer",
                    "All processes that are scraped and answer.",
                    one("sum(up)"),
                    "count",
                    "number",
                    width=4,
                ),
                Panel(
                    "down",
                    "Processes that do not answer",
                    "By job. The supervisor restarts them; look at their logs. While one is down, its figures are "
                    "not known.",
                    one("count by (job) (up == 0)", "{{job}}"),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("ProcessDown", "InstanceDown"),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "progress",
                    "Loops that do not come round",
                    "Seconds since a worker's loop last came round. Above a minute it is stuck, even if its port "
                    "answers.",
                    one("max by (worker) (time() - goodfaith_worker_progress_timestamp_seconds)", "{{worker}}"),
                    "seconds",
                    limits=Limits(30, 60),
                    runbooks=("WorkerStuck",),
                ),
                Panel(
                    "batch",
                    "Time of a batch, 99 of a hundred",
                    "Time of one transaction, by kind of worker. If it grows, look at the database.",
                    one(
                        "histogram_quantile(0.99, sum by (worker, le) "
                        "(rate(goodfaith_event_processing_duration_seconds_bucket[5m])))",
                        "{{worker}}",
                    ),
                    "seconds",
                    limits=Limits(1, 5),
                    may_be_empty=True,
                ),
                Panel(
                    "memory",
                    "Memory",
                    "Resident memory of the largest process of each job, the eight largest. Growth without end is a leak.",
                    one("topk(8, max by (job) (process_resident_memory_bytes))", "{{job}}"),
                    "bytes",
                ),
                Panel(
                    "cpu",
                    "Processor",
                    "Cores used by each job, the eight busiest. A job that uses one core per process is bound by "
                    "that: start another worker.",
                    one("topk(8, sum by (job) (rate(process_cpu_seconds_total[5m])))", "{{job}}"),
                    "count",
                ),
                Panel(
                    "rebalances",
                    "Rebalances in the last hour",
                    "Assignments taken over. If it grows steadily, workers come and go: look at logs and the session "
                    "timeout.",
                    one("round(sum by (worker) (increase(goodfaith_consumer_rebalances_total[1h])))", "{{worker}}"),
                    "count",
                    "bars",
                    Limits(50, 500),
                ),
                Panel(
                    "transient",
                    "Batches put off",
                    "By the part that failed for a while: broker, database. A bug is shown as part bug, and needs a "
                    "person.",
                    one(
                        "round(sum by (worker, part) (increase(goodfaith_transient_failures_total[1h]))) > 0",
                        "{{worker}}: {{part}}",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "fenced",
                    "Fenced writes in the last hour",
                    "A few around rebalances are normal. A steady stream means that two installations share a "
                    "database.",
                    one("round(sum by (worker) (increase(goodfaith_fenced_total[1h]))) > 0", "{{worker}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "What leaves the house",
            (
                Panel(
                    "deliveries",
                    "Messages",
                    "By channel and result. Failed: look at the template. Later: the mail server refuses for now.",
                    one(f"{rate('goodfaith_deliveries_total', 'channel', 'result')} > 0", "{{channel}}: {{result}}"),
                    "per_second",
                    may_be_empty=True,
                ),
                Panel(
                    "delivery_oldest",
                    "Oldest message still to be told",
                    "No window begins before its notice is sent. If it is old, look at the mail server, a webhook, "
                    "or intake's internal API.",
                    one(wall_age("goodfaith_delivery_oldest_pending_timestamp_seconds")),
                    "seconds",
                    limits=Limits(300, 900),
                    runbooks=("DeliveryLate", "MessagesFailed"),
                    may_be_empty=True,
                ),
                Panel(
                    "webhooks",
                    "Webhooks by circuit",
                    "If many are open at once, look at our own network.",
                    one("max by (state) (goodfaith_webhook_endpoints)", "{{state}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "resent",
                    "Commands sent again to the marketplace",
                    "For lack of a receipt, in the last hour. If it grows, the marketplace does not answer, and "
                    "items are not handled.",
                    (
                        Query("round(sum(increase(goodfaith_marketplace_commands_resent_total[1h])))", "listings"),
                        Query("round(sum(increase(goodfaith_seller_commands_resent_total[1h])))", "sellers"),
                    ),
                    "count",
                    "number",
                    Limits(1, 100),
                    runbooks=("MarketplaceSilent", "SellerCommandsUnanswered"),
                ),
                Panel(
                    "statements",
                    "Statements of reasons refused",
                    "They wait for a person: goodfaith statements list.",
                    one("max(goodfaith_statements_refused)"),
                    "count",
                    "number",
                    Limits(1, 10),
                    runbooks=("StatementsRefused",),
                    optional=True,
                ),
                Panel(
                    "statements_waiting",
                    "Statements of reasons waiting",
                    "They wait to be sent to the EU's database. If they grow while a sender runs, that database is "
                    "away.",
                    one("max(goodfaith_statements_waiting)"),
                    "count",
                    "number",
                    Limits(1000, 10_000),
                    optional=True,
                ),
            ),
        ),
    ),
)

BOARDS: Final = (TARGET, FLOW, OFFENDERS, INFRASTRUCTURE)
PANELS: Final = {panel.key: panel for board in BOARDS for panel in board.panels()}
