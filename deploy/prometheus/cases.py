"""For each alert, series that make it fire and similar ones that must not: `promtool test rules` runs them.

Time begins at 0 (1970), with one sample per minute unless a case says otherwise. Values are in promtool's notation:
`0x20`, `60+1x20`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.prometheus import faults
from deploy.prometheus.model import Alert, Pace
from deploy.prometheus.rules import REQUIRED, SLI, alerts, area_of, groups

Series = Mapping[str, str]
"""Values by series."""


@dataclass(frozen=True)
class Case:
    """One alert's two tests.

    Attributes:
        alert: Its name.
        fires: Series that make it fire.
        says: Its description then, with all templates filled in.
        quiet: Similar series that must not make it fire.
        at: When it is checked.
        labels: Labels that its expression adds.
        step: Time between samples, and between evaluations.
    """

    alert: str
    fires: Series
    says: str
    quiet: Series
    at: str = "20m"
    labels: Mapping[str, str] = field(default_factory=dict)
    step: str = "1m"


def _up(*instances: str, values: str = "1x20") -> dict[str, str]:
    return {f'up{{job="{name.partition(".")[0]}",instance="{name}"}}': values for name in instances}


def _figure(name: str, values: str, **labels: str) -> dict[str, str]:
    """A figure of the stream views, exported by each of two workers that held the partition one after the other."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    comma = "," if told else ""
    return {
        f'{name}{{job="streams",instance="streams.{worker}",partition="0"{comma}{told}}}': values for worker in (0, 1)
    }


def _stages(stage: str, in_budget: str, late: str) -> dict[str, str]:
    name = "goodfaith_claim_stage_completed_total"
    return {
        **_figure(name, in_budget, stage=stage, result="in_budget"),
        **_figure(name, late, stage=stage, result="late"),
    }


def _outcomes(met: str, missed: str) -> dict[str, str]:
    name = "goodfaith_claim_sla_outcomes_total"
    return {
        **_figure(name, met, outcome="met", tier="standard"),
        **_figure(name, missed, outcome="missed", tier="standard"),
    }


def _open(values: str, stage: str = "verification") -> dict[str, str]:
    return _figure("goodfaith_claim_items_open", values, stage=stage, tier="standard")


def _handled(values: str) -> dict[str, str]:
    return _figure("goodfaith_claim_handling_duration_seconds_count", values, tier="standard")


def _passed(stage: str, values: str) -> dict[str, str]:
    return _figure("goodfaith_claim_stage_duration_seconds_count", values, stage=stage)


def _clock(values: str) -> dict[str, str]:
    return {'goodfaith_clock_timestamp_seconds{job="streams",instance="streams.0"}': values}


def _oldest(values: str, stage: str = "review") -> dict[str, str]:
    return _figure("goodfaith_claim_oldest_open_received_timestamp_seconds", values, stage=stage)


def _webhooks(opened: str, closed: str, disabled: str) -> dict[str, str]:
    states = {"open": opened, "closed": closed, "half_open": "0x20", "disabled": disabled}
    return {f'goodfaith_webhook_endpoints{{instance="a",state="{state}"}}': values for state, values in states.items()}


def _connections(active: str, idle: str) -> dict[str, str]:
    name = "goodfaith_database_connections"
    return {f'{name}{{state="active"}}': active, f'{name}{{state="idle"}}': idle, f"{name}_max": "100x20"}


def _requests(good: str, bad: str) -> dict[str, str]:
    name = "goodfaith_http_request_duration_seconds_count"
    return {
        f'{name}{{job="intake-api",method="POST",route="/v1/claims",status="2xx"}}': good,
        f'{name}{{job="intake-api",method="POST",route="/v1/claims",status="5xx"}}': bad,
    }


def _lag(*values: str) -> dict[str, str]:
    return {
        f'goodfaith_consumer_lag_seconds{{job="watch",group="verification",topic="intake.events",partition="{n}"}}': given
        for n, given in enumerate(values)
    }


def _attempts(delivered: str, failed: str) -> dict[str, str]:
    name = "goodfaith_webhook_attempts_total"
    return {f'{name}{{outcome="delivered"}}': delivered, f'{name}{{outcome="failed"}}': failed}


def _lost_partition(values: str) -> dict[str, str]:
    name = "goodfaith_claim_items_open"
    return {f'{name}{{partition="0"}}': "0x40", f'{name}{{partition="1"}}': values}


def _folded(instance: str, values: str) -> dict[str, str]:
    name = "goodfaith_streams_position_timestamp_seconds"
    return {f'{name}{{instance="{instance}",topic="verification.events",partition="3"}}': values}


_RECOVERED: Final = {'goodfaith_streams_recovering{partition="3"}': "0x40"}
_WORKER: Final = 'job="verification",instance="verification.0",worker="verification"'
_LABELS: Final = {"job": "verification", "instance": "verification.0", "worker": "verification"}

CASES: Final = (
    Case(
        "HandledBurnFast",
        _outcomes("100+8x120", "0+2x120"),
        "Misses of the 24 hours come 20 times faster than its budget allows.",
        # twenty in a hundred are missed, but only recently, not over an hour
        _outcomes("0+100x12 1280+80x9", "0x12 20+20x9"),
        at="70m",
        labels={"slo": "handled"},
        step="5m",
    ),
    Case(
        "HandledBurnFast",
        _outcomes("100+93x40", "0+7x40"),
        "Misses of the 24 hours come 7 times faster than its budget allows.",
        # a third is missed, but of only fifteen in six hours: too few
        _outcomes("100x2 101+1x30", "0x2 1+1x4 5x30"),
        at="390m",
        labels={"slo": "handled"},
        step="30m",
    ),
    Case(
        "HandledBurnSlow",
        _outcomes("100+96x200", "0+4x200"),
        "Misses of the 24 hours come 4 times faster than its budget allows.",
        _outcomes("100+996x200", "0+4x200"),
        at="3000m",
        labels={"slo": "handled"},
        step="60m",
    ),
    Case(
        "StageBurnFast",
        _stages("notification", "100+95x120", "0+5x120"),
        "Late items of stage notification come 50 times faster than its budget allows.",
        _stages("notification", "100+1000x120", "0+1x120"),
        at="70m",
        labels={"slo": "notification"},
        step="5m",
    ),
    Case(
        "StageBurnFast",
        _stages("enforcement", "100+80x120", "0+20x120"),
        "Late items of stage enforcement come 20 times faster than its budget allows.",
        _stages("enforcement", "100+96x120", "0+4x120"),
        at="70m",
        labels={"slo": "enforcement"},
        step="5m",
    ),
    Case(
        "StageBurnSlow",
        _stages("recorded", "100+998x200", "0+2x200"),
        "Late items of stage recorded come 2 times faster than its budget allows.",
        _stages("recorded", "100+9999x200", "0+1x200"),
        at="4440m",
        labels={"slo": "recorded"},
        step="60m",
    ),
    Case("Watchdog", {}, "Always fires. If it no longer arrives, raise the alarm.", {}),
    Case(
        "FiguresIncomplete",
        {**_lost_partition("0x10 stale"), **_RECOVERED},
        "Only 1 partitions are in the figures.",
        {**_lost_partition("0x10 _x2 0x40"), **_RECOVERED},
    ),
    # the partition is missing because it is being recovered
    Case(
        "FiguresIncomplete",
        {**_lost_partition("0x10 stale"), **_RECOVERED},
        "Only 1 partitions are in the figures.",
        {**_lost_partition("0x10 stale"), 'goodfaith_streams_recovering{partition="1"}': "0x10 1x20"},
    ),
    Case(
        "RulesFail",
        {'prometheus_rule_evaluation_failures_total{rule_group="figures"}': "0+1x20"},
        "Evaluations of figures fail.",
        {'prometheus_rule_evaluation_failures_total{rule_group="figures"}': "0+1x3 4x20"},
        labels={"rule_group": "figures"},
    ),
    Case(
        "WatchOld",
        {'goodfaith_watch_last_success_timestamp_seconds{part="broker"}': "60x20"},
        "The broker was last seen 19m 0s ago.",
        {'goodfaith_watch_last_success_timestamp_seconds{part="broker"}': "0+60x20"},
        labels={"part": "broker"},
    ),
    Case(
        "ReconciliationDifference",
        _figure("goodfaith_reconciliation_difference", "3x20", view="items"),
        "View items differs by 3.",
        _figure("goodfaith_reconciliation_difference", "0x8 3x4 0x8", view="items"),
        labels={"view": "items"},
    ),
    Case(
        "ReconciliationOld",
        _figure("goodfaith_reconciliation_last_timestamp_seconds", "60x60", view="items"),
        "View items was last compared 49m 0s ago (decades: never).",
        _figure("goodfaith_reconciliation_last_timestamp_seconds", "0+200x30", view="items"),
        at="50m",
        labels={"view": "items"},
        step="5m",
    ),
    Case(
        "ClaimsStalled",
        {**_open("5x40"), **_handled("7x40")},
        "5 items or more wait for our processes, and none was handled in 15 minutes.",
        # every item waits, but one is handled now and then; and one item that came just now is no stall
        {**_open("5x40"), **_handled("7x10 8x30")},
    ),
    Case(
        "StageStalled",
        {**_open("5x40", "enforcement"), **_passed("enforcement", "7x40"), **_handled("0+1x40")},
        "5 items or more wait in stage enforcement, and none passed it in 15 minutes.",
        {**_open("5x10 0x2 5x30", "enforcement"), **_passed("enforcement", "7x40")},
        labels={"stage": "enforcement"},
    ),
    Case(
        "StageStalled",
        {**_open("5x40", "intake"), **_passed("recorded", "7x40")},
        "5 items or more wait in stage intake, and none passed it in 15 minutes.",
        {**_open("5x40", "intake"), **_passed("recorded", "7+1x40")},
        labels={"stage": "intake"},
    ),
    Case(
        "CanaryOld",
        {"goodfaith_canary_last_completed_timestamp_seconds": "360x20"},
        "The last canary came through 14m 0s ago.",
        {"goodfaith_canary_last_completed_timestamp_seconds": "0+50x20"},
    ),
    Case(
        "DrainTooSlow",
        {
            **_open("90000x30"),
            **_handled("0+300x30"),
            **_clock("100000+300x30"),
            **_oldest("100000x30", "verification"),
        },
        "At the present pace open items take 1d 1h 0m 0s, and the oldest has less time left.",
        {
            **_open("60000x30"),
            **_handled("0+300x30"),
            **_clock("100000+300x30"),
            **_oldest("100000x30", "verification"),
        },
        at="65m",
        step="5m",
    ),
    Case(
        "OldestItemOld",
        {**_clock("100000+60x20"), **_oldest("30000x20")},
        "The oldest item in stage review is 19h 46m 40s old.",
        # waits for its complainant, so its clock is stopped
        {
            **_clock("100000+60x20"),
            **_oldest("30000x20", "complainant"),
            **_oldest("40000x20"),
            **_oldest("0x20", "intake"),
        },
        labels={"stage": "review"},
    ),
    Case(
        "ItemsDueSoon",
        _figure("goodfaith_claim_items_due_soon", "2x20", within_seconds="3600"),
        "2 items are due within an hour.",
        {
            **_figure("goodfaith_claim_items_due_soon", "0x20", within_seconds="3600"),
            **_figure("goodfaith_claim_items_due_soon", "9x20", within_seconds="10800"),
        },
        labels={"within_seconds": "3600"},
    ),
    Case(
        "ReviewQueueOld",
        {
            **_clock("100000+60x20"),
            'goodfaith_review_oldest_timestamp_seconds{state="UNDER_REVIEW",tier="express"}': "50000x20",
        },
        "The oldest undecided case in express has waited for 14h 13m 20s.",
        {
            **_clock("100000+60x20"),
            'goodfaith_review_oldest_timestamp_seconds{state="UNDER_REVIEW",tier="express"}': "60000x20",
            'goodfaith_review_oldest_timestamp_seconds{state="UNDER_REVIEW",tier="bulk"}': "0x20",
            'goodfaith_review_oldest_timestamp_seconds{state="PLATFORM_REVIEW",tier="express"}': "50000x20",
        },
        labels={"tier": "express"},
    ),
    Case(
        "IntakeErrors",
        _requests("0+90x20", "0+10x20"),
        "10% of the requests are answered 5xx.",
        # a tenth of very few
        _requests("0+1x20", "0+0.1x20"),
    ),
    Case(
        "ConsumerLag",
        _lag("400x20", "900x20", "400x20"),
        "Half the partitions of intake.events have waited for verification for 6m 40s or longer.",
        _lag("0x20", "900x20", "20x20"),
        labels={"group": "verification", "topic": "intake.events"},
    ),
    Case(
        "PartitionStuck",
        _lag("0x20", "900x20", "20x20"),
        "Partition 1 of intake.events has waited for verification for 15m 0s.",
        _lag("400x20", "900x20", "400x20"),
        labels={"group": "verification", "topic": "intake.events", "partition": "1"},
    ),
    Case(
        "WorkerBehind",
        {f'goodfaith_consumer_position_timestamp_seconds{{{_WORKER},topic="intake.events"}}': "600x20"},
        "verification.0 is behind on intake.events by 10m 0s.",
        {
            f'goodfaith_consumer_position_timestamp_seconds{{{_WORKER},topic="intake.events"}}': "60+50x20",
            f'goodfaith_consumer_position_timestamp_seconds{{{_WORKER},topic="notification.events"}}': "0x20",
        },
        labels={**_LABELS, "topic": "intake.events"},
    ),
    Case(
        "WorkerStuck",
        {f"goodfaith_worker_progress_timestamp_seconds{{{_WORKER}}}": "600x20"},
        "The loop of verification.0 last came round 10m 0s ago.",
        {f"goodfaith_worker_progress_timestamp_seconds{{{_WORKER}}}": "0+59x20"},
        labels=_LABELS,
    ),
    Case(
        "PartitionsUnowned",
        {
            'goodfaith_consumer_assigned_partitions{job="verification",instance="verification.0"}': "3x40",
            'goodfaith_consumer_assigned_partitions{job="verification",instance="verification.1"}': "3x10 stale",
        },
        "The workers of verification own only 3 partitions.",
        {
            # both count the three moving partitions for two minutes
            'goodfaith_consumer_assigned_partitions{job="verification",instance="verification.0"}': "3x8 6x40",
            'goodfaith_consumer_assigned_partitions{job="verification",instance="verification.1"}': "3x10 stale",
        },
        labels={"job": "verification"},
    ),
    Case(
        "StreamsBehind",
        {**_folded("a", "600x20"), **_RECOVERED},
        "Partition 3 of verification.events is folded up to 10m 0s ago.",
        {**_folded("a", "600x20"), **_folded("b", "0+60x20"), **_RECOVERED},
        labels={"topic": "verification.events", "partition": "3"},
    ),
    Case(
        "StreamsBehind",
        {**_folded("a", "600x20"), **_RECOVERED},
        "Partition 3 of verification.events is folded up to 10m 0s ago.",
        {**_folded("a", "600x20"), 'goodfaith_streams_recovering{partition="3"}': "0x11 1x20"},
        labels={"topic": "verification.events", "partition": "3"},
    ),
    Case(
        "StreamsRecovering",
        {'goodfaith_streams_recovering{partition="3"}': "1x20"},
        "1 partitions of the streams are recovering.",
        {'goodfaith_streams_recovering{partition="3"}': "1x12 0x8"},
    ),
    Case(
        "StreamsFailedEvents",
        {'goodfaith_streams_failed_events{partition="3"}': "2x20"},
        "2 events could not be folded, and are kept.",
        {'goodfaith_streams_failed_events{partition="3"}': "2x10 0x10"},
    ),
    Case(
        "DeadLetters",
        {f"goodfaith_dead_letters_depth{{{_WORKER}}}": "1x20"},
        "1 keys of verification wait because it cannot process a record.",
        {f"goodfaith_dead_letters_depth{{{_WORKER}}}": "1x10 0x10"},
        labels={"job": "verification", "worker": "verification"},
    ),
    Case(
        "DeadLettersOld",
        {f"goodfaith_dead_letters_oldest_timestamp_seconds{{{_WORKER}}}": "60x300"},
        "The oldest dead letter of verification is 4h 59m 0s old.",
        {f"goodfaith_dead_letters_oldest_timestamp_seconds{{{_WORKER}}}": "0x300"},
        at="300m",
        labels={"job": "verification", "worker": "verification"},
        step="30m",
    ),
    Case(
        "UnreadGone",
        {f'goodfaith_unread_gone_partitions{{{_WORKER},topic="intake.events"}}': "2x20"},
        "verification has stopped reading 2 partitions of intake.events.",
        {f'goodfaith_unread_gone_partitions{{{_WORKER},topic="intake.events"}}': "1x10 0x10"},
        labels={"job": "verification", "worker": "verification", "topic": "intake.events"},
    ),
    Case(
        "DatabaseWentBack",
        {f"goodfaith_database_went_back{{{_WORKER}}}": "0x5 1x20"},
        "verification has stopped: the database went back in time.",
        {f"goodfaith_database_went_back{{{_WORKER}}}": "0x20"},
        labels={"job": "verification", "worker": "verification"},
    ),
    Case(
        "OutboxOld",
        {f"goodfaith_outbox_oldest_timestamp_seconds{{{_WORKER}}}": "600x20"},
        "The oldest event in the outbox of verification.0 has waited for 10m 0s.",
        {f"goodfaith_outbox_oldest_timestamp_seconds{{{_WORKER}}}": "0+59x20"},
        labels=_LABELS,
    ),
    Case(
        "WatermarkBehind",
        {**_clock("100000+60x20"), f"goodfaith_watermark_timestamp_seconds{{{_WORKER}}}": "100000x20"},
        "Deadlines of verification fire only up to 20m 0s ago.",
        {**_clock("100000+60x20"), f"goodfaith_watermark_timestamp_seconds{{{_WORKER}}}": "99800+60x20"},
        labels={"job": "verification"},
    ),
    Case(
        "ClocksDisagree",
        {'goodfaith_clocks_disagree{job="intake-worker",instance="intake-worker.0"}': "1x20"},
        "The clocks of intake-worker, the database and the brokers differ by more than GOODFAITH_CLOCK_BOUND_MS.",
        {'goodfaith_clocks_disagree{job="intake-worker",instance="intake-worker.0"}': "0x5 1 0x20"},
        labels={"job": "intake-worker"},
    ),
    Case(
        "WorkersFenced",
        {f"goodfaith_fenced_total{{{_WORKER}}}": "0+10x30"},
        "60 transactions of verification were refused in 30 minutes.",
        {f"goodfaith_fenced_total{{{_WORKER}}}": "0x4 10x20"},
        at="50m",
        labels={"job": "verification"},
        step="5m",
    ),
    Case(
        "WorkerBug",
        {f'goodfaith_transient_failures_total{{{_WORKER},part="bug"}}': "0x10 1x30"},
        "verification put off batches because of an error in its code.",
        {f'goodfaith_transient_failures_total{{{_WORKER},part="broker"}}': "0+1x40"},
        labels={"job": "verification"},
    ),
    Case(
        "DeliveryLate",
        {'goodfaith_delivery_oldest_pending_timestamp_seconds{instance="a",channel="email"}': "60x30"},
        "The oldest message by email has waited for 24m 0s.",
        {
            'goodfaith_delivery_oldest_pending_timestamp_seconds{instance="a",channel="email"}': "0+50x30",
            'goodfaith_delivery_oldest_pending_timestamp_seconds{instance="a",channel="webhook"}': "60x30",
        },
        at="25m",
        labels={"channel": "email"},
    ),
    Case(
        "MessagesFailed",
        {'goodfaith_deliveries_total{channel="email",result="failed"}': "0x5 1x20"},
        "Messages by email failed because of an error in a template.",
        {'goodfaith_deliveries_total{channel="email",result="later"}': "0+1x20"},
        labels={"channel": "email"},
    ),
    Case(
        "WebhooksFailing",
        _attempts("0+2x20", "0+6x20"),
        "75% of the calls to webhooks fail.",
        _attempts("0+6x20", "0+2x20"),
    ),
    Case(
        "WebhookCircuitsOpen",
        _webhooks("6x20", "2x20", "9x20"),
        "75% of the webhooks are not called.",
        _webhooks("2x20", "0x20", "9x20"),
    ),
    Case(
        "MarketplaceSilent",
        {'goodfaith_marketplace_commands_resent_total{job="enforcement-worker"}': "0+1x40"},
        "15 commands on listings were sent again in 15 minutes.",
        {'goodfaith_marketplace_commands_resent_total{job="enforcement-worker"}': "0x10 1x40"},
        at="30m",
    ),
    Case(
        "SellerCommandsUnanswered",
        {'goodfaith_seller_commands_resent_total{job="enforcement-ledger"}': "0+1x40"},
        "15 commands on sellers were sent again in 15 minutes.",
        {'goodfaith_seller_commands_resent_total{job="enforcement-ledger"}': "0x10 1x40"},
        at="30m",
    ),
    Case(
        "StatementsRefused",
        {'goodfaith_statements_refused{job="enforcement-statements"}': "4x20"},
        "4 statements of reasons were refused.",
        {'goodfaith_statements_refused{job="enforcement-statements"}': "0x20"},
    ),
    Case(
        "StatementsOld",
        {"goodfaith_statements_oldest_timestamp_seconds": "60x500"},
        "The oldest statement of reasons has waited for 6h 59m 0s.",
        {"goodfaith_statements_oldest_timestamp_seconds": "0x500"},
        at="420m",
        step="30m",
    ),
    Case(
        "BrokerDown",
        {"goodfaith_broker_up": "1x10 0x10"},
        "No node of the broker answers.",
        {"goodfaith_broker_up": "1x19 0x1"},
    ),
    Case(
        "BrokerOfflinePartitions",
        {"goodfaith_broker_offline_partitions": "2x20"},
        "2 partitions have no leader.",
        {"goodfaith_broker_offline_partitions": "0x19 2x1"},
    ),
    Case(
        "BrokerUnderReplicated",
        {"goodfaith_broker_under_replicated_partitions": "2x20"},
        "2 partitions have fewer replicas in sync than they should.",
        {"goodfaith_broker_under_replicated_partitions": "0x16 2x4"},
    ),
    Case(
        "DatabaseDown",
        {"goodfaith_database_up": "1x10 0x10"},
        "The database does not answer.",
        {"goodfaith_database_up": "1x19 0x1"},
    ),
    Case(
        "DatabaseConnectionsHigh",
        _connections("20x20", "65x20"),
        "85% of the connections are taken.",
        _connections("20x20", "55x20"),
    ),
    Case(
        "DatabaseOldTransaction",
        {"goodfaith_database_oldest_transaction_timestamp_seconds": "60x20"},
        "The oldest transaction has been open for 19m 0s.",
        {"goodfaith_database_oldest_transaction_timestamp_seconds": "0x20"},
    ),
    Case(
        "DatabaseTransactionIds",
        {"goodfaith_database_transaction_ids_used": "600000000x40"},
        "600M of some 2.1 billion transaction ids are in use.",
        {"goodfaith_database_transaction_ids_used": "450000000x40"},
        at="30m",
    ),
    Case(
        "ProcessDown",
        _up("verification.0", "verification.1", values="1x10 0x20"),
        "None of 2 instances of verification can be scraped.",
        {**_up("verification.0", values="1x10 0x20"), **_up("verification.1")},
        labels={"job": "verification"},
    ),
    Case(
        "InstanceDown",
        {**_up("verification.0", values="1x10 0x20"), **_up("verification.1")},
        "verification.0 of verification cannot be scraped.",
        _up("verification.0", values="1x10 0x3 1x20"),
        labels={"job": "verification", "instance": "verification.0"},
    ),
    Case(
        "ProcessFlapping",
        {'process_start_time_seconds{job="verification",instance="verification.0"}': "10x5 20x2 30x2 40x2 50x9"},
        "verification.0 of verification started 4 times in 15 minutes.",
        {'process_start_time_seconds{job="verification",instance="verification.0"}': "10x5 20x15"},
        at="19m",
        labels={"job": "verification", "instance": "verification.0"},
    ),
)
"""All but `SeriesAbsent` and `ProcessAbsent`, generated from lists, and `Aftermath`, which needs all the others."""


@dataclass(frozen=True)
class Figure:
    """Expected values of recorded figures for given series, with five minutes between samples.

    Attributes:
        name: What it shows.
        series: The input series.
        at: When it is checked.
        is_: Expected value by expression; None: no result.
    """

    name: str
    series: Series
    at: str
    is_: Mapping[str, str | None]


def _moved(name: str, **labels: str) -> dict[str, str]:
    """Grows by ten every five minutes on each of two partitions; after an hour the first has no worker for a moment."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {
        f'{name}{{instance="streams.0",partition="0",{told}}}': "0+10x12 stale",
        f'{name}{{instance="streams.1",partition="0",{told}}}': "_x14 140+10x20",
        f'{name}{{instance="streams.1",partition="1",{told}}}': "0+10x40",
    }


_MET: Final = 'goodfaith:sla_outcomes:total{outcome="met"}'

FIGURES: Final = (
    Figure(
        "a window is exact, also while a partition moves",
        {
            **_moved("goodfaith_claim_sla_outcomes_total", outcome="met", tier="standard"),
            'goodfaith_claim_sla_outcomes_total{instance="streams.1",partition="1",outcome="missed",tier="standard"}': "0x10 5x30",
        },
        "100m",
        {
            'goodfaith:sla_outcomes:total{outcome="met"}': "400",
            'goodfaith:sla_outcomes:increase_1h{outcome="met"}': "240",
            'goodfaith:sla_outcomes:increase_1d{outcome="met"}': "400",
            "goodfaith:handled_in_time:ratio_1h": "0.9795918367346939",
            "goodfaith:handled_in_time:ratio_30d": "0.9876543209876543",
            # while no worker has the partition, its last value counts
            f"min_over_time(({_MET} - {_MET} offset 5m)[80m:5m])": "10",
        },
    ),
    Figure(
        "an item that was declined and is taken down after all changes sides",
        {
            **_figure(
                "goodfaith_takedowns_total", "10x10 9x20", outcome="declined", right_type="trademark", reason="other"
            ),
            **_figure(
                "goodfaith_takedowns_total", "10x10 11x20", outcome="taken_down", right_type="trademark", reason="other"
            ),
        },
        "100m",
        {"goodfaith:takedown:ratio_30d": "0.55", "goodfaith:takedown:ratio_1h": "1"},
    ),
    Figure(
        "what is open drains at the pace of the last half hour",
        {**_open("80x30"), **_open("20x30", "review"), **_open("50x30", "complainant"), **_handled("0+10x30")},
        "100m",
        {
            "goodfaith:items_waiting_for_us:sum": "100",
            "goodfaith:items_moving:sum": "80",
            "goodfaith:drain_seconds:forecast": "3000",
        },
    ),
    Figure(
        "nothing drains when nothing is handled",
        {**_open("80x30"), **_handled("7x30")},
        "100m",
        {"goodfaith:drain_seconds:forecast": "+Inf", "goodfaith:oldest_open_age_seconds": None},
    ),
    Figure(
        "nothing is open",
        {**_open("0x30"), **_handled("7x30"), **_clock("0+300x30"), **_oldest("0x30")},
        "100m",
        {"goodfaith:drain_seconds:forecast": "0", 'goodfaith:oldest_open_age_seconds{stage="review"}': "0"},
    ),
    Figure(
        "one complainant of 37 files 64 of 100 items, and its partition moves",
        {
            **_figure("goodfaith_filing_items", "64x30", size="10-99"),
            **_figure("goodfaith_filing_items_squares", "4096x30"),
            'goodfaith_filing_items{instance="streams.1",partition="1",size="10-99"}': "0x30",
            'goodfaith_filing_items{instance="streams.1",partition="1",size="1"}': "36x30",
            'goodfaith_filing_items_squares{instance="streams.1",partition="1"}': "36x30",
        },
        "100m",
        {
            "goodfaith:filing_concentration:hhi": "0.4132",
            'goodfaith:filing_items:share{size="10-99"}': "0.64",
            'goodfaith:filing_items:share{size="1"}': "0.36",
        },
    ),
    Figure(
        "nobody filed",
        {**_figure("goodfaith_filing_items", "0x30", size="1"), **_figure("goodfaith_filing_items_squares", "0x30")},
        "100m",
        {"goodfaith:filing_concentration:hhi": None, 'goodfaith:filing_items:share{size="1"}': None},
    ),
)


@dataclass
class _World:
    """Cases with no series in common, tested together: promtool's run time depends on the number of worlds."""

    file: str
    step: str
    series: dict[str, str] = field(default_factory=dict)
    looks: list[dict[str, Any]] = field(default_factory=list)
    figure: Figure | None = None

    def takes(self, file: str, step: str, series: Series, alert: str) -> bool:
        names = {_metric(selector) for selector in self.series}
        return (
            (file, step) == (self.file, self.step)
            and names.isdisjoint(map(_metric, series))
            and all(look["alertname"] != alert for look in self.looks)
        )

    def plain(self) -> dict[str, Any]:
        told = ", ".join(f"{look['alertname']} {'fires' if look['exp_alerts'] else 'is quiet'}" for look in self.looks)
        plain: dict[str, Any] = {
            "name": told if self.figure is None else self.figure.name,
            "interval": self.step,
            "input_series": [{"series": selector, "values": values} for selector, values in self.series.items()],
            "alert_rule_test": self.looks,
        }
        if self.figure is not None:
            plain["promql_expr_test"] = [
                {
                    "expr": f"sum({expression})",
                    "eval_time": self.figure.at,
                    "exp_samples": [] if value is None else [{"labels": "{}", "value": float(value)}],
                }
                for expression, value in self.figure.is_.items()
            ]
        return plain


def _metric(selector: str) -> str:
    return selector.partition("{")[0]


def tests(pace: Pace) -> dict[str, dict[str, Any]]:
    """The test files for promtool, by name: `<rule file>_<step>.yaml`."""
    rules: dict[str, list[Alert]] = {}
    for alert in alerts(pace):
        rules.setdefault(alert.name, []).append(alert)
    worlds: list[_World] = []
    for case in sorted(CASES, key=lambda case: int(case.at[:-1])):
        (rule,) = rules[case.alert]
        file = "slo" if "Burn" in case.alert else "alerts"
        fires = [_expected(rule, case.labels, case.says, pace)]
        quiet = fires if case.alert == "Watchdog" else []
        for series, expected in ((case.fires, fires), (case.quiet, quiet)):
            world = next((one for one in worlds if one.takes(file, case.step, series, case.alert)), None)
            if world is None:
                world = _World(file, case.step)
                worlds.append(world)
            world.series |= series
            world.looks.append({"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected})
    worlds += _absent(rules, pace)
    worlds.append(_aftermath(rules, pace))
    worlds += [_World("figures", "5m", dict(one.series), figure=one) for one in FIGURES]
    order = {name: [group.name for group in those] for name, those in groups(pace).items()}
    return {
        f"{file}_{step}.yaml": {
            "rule_files": [f"../rules/{name}.yaml" for name in dict.fromkeys(("recording", file)) if name in order],
            "evaluation_interval": step,
            "group_eval_order": [*order["recording"], *order.get(file, ())],
            "tests": [world.plain() for world in worlds if (world.file, world.step) == (file, step)],
        }
        for file, step in sorted({(world.file, world.step) for world in worlds})
    }


def _expected(rule: Alert, labels: Mapping[str, str], says: str, pace: Pace) -> dict[str, Any]:
    return {
        "exp_labels": {
            **rule.all_labels(),
            **labels,
            **({} if rule.area or "area" in labels else {"area": area_of(labels)}),
        },
        "exp_annotations": {**rule.annotations(pace), "description": says},
    }


def _absent(rules: Mapping[str, list[Alert]], pace: Pace) -> Iterable[_World]:
    present = {"SeriesAbsent": dict.fromkeys(SLI, "1x20"), "ProcessAbsent": _up(*(f"{job}.0" for job in REQUIRED))}
    for name, series in present.items():
        expected = [
            _expected(rule, labels, rule.description.replace("{{ $labels.job }}", labels.get("job", "")), pace)
            for rule in rules[name]
            for labels in ([{"job": job} for job in REQUIRED] if name == "ProcessAbsent" else [{}])
        ]
        for given, those in ((series, []), ({}, expected)):
            yield _World("alerts", "1m", dict(given), [{"eval_time": "20m", "alertname": name, "exp_alerts": those}])


def _aftermath(rules: Mapping[str, list[Alert]], pace: Pace) -> _World:
    """The broker is down in an otherwise healthy world; a quarter of an hour after its page nothing is muted."""
    (rule,) = rules["Aftermath"]
    labels = {"page": "BrokerDown", "layer": "platform", "area": "platform"}
    fires = [_expected(rule, labels, "BrokerDown fires or has just ended. Its consequences are muted.", pace)]
    world = faults.healthy()
    world.change(lambda _: faults.steady(1, 0), "goodfaith_broker_up")
    series = {name: " ".join(parts) for name, parts in world.series.items()}
    over = faults.BEFORE + faults.DURING
    moments: tuple[tuple[int, list[dict[str, Any]]], ...] = (
        (faults.BEFORE - 5, []),
        (over - 5, fires),
        (over + 10, fires),
        (over + 20, []),
    )
    looks = [{"eval_time": f"{at}m", "alertname": "Aftermath", "exp_alerts": expected} for at, expected in moments]
    return _World("alerts", "1m", series, looks)
