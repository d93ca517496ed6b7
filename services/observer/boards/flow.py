"""The board "Flow"."""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Board, Limits, Panel, Row
from services.observer.boards.promql import CLOCK, HOUR, business_age, one, rate, view, view_quantile, wall_age

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
                    one(f"{CLOCK} - min by (worker) (goodfaith_watermark_timestamp_seconds > 0)", "{{worker}}"),
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
