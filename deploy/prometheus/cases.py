"""For each alert, series that make it fire and similar ones that must not: `promtool test rules` runs them.

Time begins at 0 (1970), with one sample per minute unless a case says otherwise. Values are in promtool's notation:
`0x20`, `60+1x20`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

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


def up(*instances: str, values: str = "1x20") -> dict[str, str]:
    """Whether instances, named `<process>.<number>`, can be scraped."""
    return {f'up{{job="{name.partition(".")[0]}",instance="{name}"}}': values for name in instances}


def figure(name: str, values: str, **labels: str) -> dict[str, str]:
    """A figure of the stream views, exported by each of two workers that held the partition one after the other."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    comma = "," if told else ""
    return {
        f'{name}{{job="streams",instance="streams.{worker}",partition="0"{comma}{told}}}': values for worker in (0, 1)
    }


def _stages(stage: str, in_budget: str, late: str) -> dict[str, str]:
    name = "goodfaith_claim_stage_completed_total"
    return {
        **figure(name, in_budget, stage=stage, result="in_budget"),
        **figure(name, late, stage=stage, result="late"),
    }


def _outcomes(met: str, missed: str) -> dict[str, str]:
    name = "goodfaith_claim_sla_outcomes_total"
    return {
        **figure(name, met, outcome="met", tier="standard"),
        **figure(name, missed, outcome="missed", tier="standard"),
    }


def open_items(values: str, stage: str = "verification") -> dict[str, str]:
    """Items open in a stage."""
    return figure("goodfaith_claim_items_open", values, stage=stage, tier="standard")


def handled(values: str) -> dict[str, str]:
    """Items handled so far."""
    return figure("goodfaith_claim_handling_duration_seconds_count", values, tier="standard")


def _passed(stage: str, values: str) -> dict[str, str]:
    return figure("goodfaith_claim_stage_duration_seconds_count", values, stage=stage)


def clock(values: str) -> dict[str, str]:
    """Business time."""
    return {'goodfaith_clock_timestamp_seconds{job="streams",instance="streams.0"}': values}


def oldest(values: str, stage: str = "review") -> dict[str, str]:
    """When the oldest item in a stage was received."""
    return figure("goodfaith_claim_oldest_open_received_timestamp_seconds", values, stage=stage)


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
        figure("goodfaith_reconciliation_difference", "3x20", view="items"),
        "View items differs by 3.",
        figure("goodfaith_reconciliation_difference", "0x8 3x4 0x8", view="items"),
        labels={"view": "items"},
    ),
    Case(
        "ReconciliationOld",
        figure("goodfaith_reconciliation_last_timestamp_seconds", "60x60", view="items"),
        "View items was last compared 49m 0s ago (decades: never).",
        figure("goodfaith_reconciliation_last_timestamp_seconds", "0+200x30", view="items"),
        at="50m",
        labels={"view": "items"},
        step="5m",
    ),
    Case(
        "ClaimsStalled",
        {**open_items("5x40"), **handled("7x40")},
        "5 items or more wait for our processes, and none was handled in 15 minutes.",
        # every item waits, but one is handled now and then; and one item that came just now is no stall
        {**open_items("5x40"), **handled("7x10 8x30")},
    ),
    Case(
        "StageStalled",
        {**open_items("5x40", "enforcement"), **_passed("enforcement", "7x40"), **handled("0+1x40")},
        "5 items or more wait in stage enforcement, and none passed it in 15 minutes.",
        {**open_items("5x10 0x2 5x30", "enforcement"), **_passed("enforcement", "7x40")},
        labels={"stage": "enforcement"},
    ),
    Case(
        "StageStalled",
        {**open_items("5x40", "intake"), **_passed("recorded", "7x40")},
        "5 items or more wait in stage intake, and none passed it in 15 minutes.",
        {**open_items("5x40", "intake"), **_passed("recorded", "7+1x40")},
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
            **open_items("90000x30"),
            **handled("0+300x30"),
            **clock("100000+300x30"),
            **oldest("100000x30", "verification"),
        },
        "At the present pace open items take 1d 1h 0m 0s, and the oldest has less time left.",
        {
            **open_items("60000x30"),
            **handled("0+300x30"),
            **clock("100000+300x30"),
            **oldest("100000x30", "verification"),
        },
        at="65m",
        step="5m",
    ),
    Case(
        "OldestItemOld",
        {**clock("100000+60x20"), **oldest("30000x20")},
        "The oldest item in stage review is 19h 46m 40s old.",
        # waits for its complainant, so its clock is stopped
        {
            **clock("100000+60x20"),
            **oldest("30000x20", "complainant"),
            **oldest("40000x20"),
            **oldest("0x20", "intake"),
        },
        labels={"stage": "review"},
    ),
    Case(
        "ItemsDueSoon",
        figure("goodfaith_claim_items_due_soon", "2x20", within_seconds="3600"),
        "2 items are due within an hour.",
        {
            **figure("goodfaith_claim_items_due_soon", "0x20", within_seconds="3600"),
            **figure("goodfaith_claim_items_due_soon", "9x20", within_seconds="10800"),
        },
        labels={"within_seconds": "3600"},
    ),
    Case(
        "ReviewQueueOld",
        {
            **clock("100000+60x20"),
            'goodfaith_review_oldest_timestamp_seconds{state="UNDER_REVIEW",tier="express"}': "50000x20",
        },
        "The oldest undecided case in express has waited for 14h 13m 20s.",
        {
            **clock("100000+60x20"),
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
        {**clock("100000+60x20"), f"goodfaith_watermark_timestamp_seconds{{{_WORKER}}}": "100000x20"},
        "Deadlines of verification fire only up to 20m 0s ago.",
        {**clock("100000+60x20"), f"goodfaith_watermark_timestamp_seconds{{{_WORKER}}}": "99800+60x20"},
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
        up("verification.0", "verification.1", values="1x10 0x20"),
        "None of 2 instances of verification can be scraped.",
        {**up("verification.0", values="1x10 0x20"), **up("verification.1")},
        labels={"job": "verification"},
    ),
    Case(
        "InstanceDown",
        {**up("verification.0", values="1x10 0x20"), **up("verification.1")},
        "verification.0 of verification cannot be scraped.",
        up("verification.0", values="1x10 0x3 1x20"),
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
