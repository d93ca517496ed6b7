"""The alerts but for those on burn rates (`slo.py`). Each has a runbook in `docs/runbooks/` under its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deploy.prometheus.areas import REQUIRED, SLI, STAND_INS, of_area
from deploy.prometheus.model import AFTERMATH, Alert, Pace

HOUR: Final = 3600
"""Seconds, in business time."""
DAY: Final = 24 * HOUR

_NOT_RECOVERING: Final = "unless on () (sum(max by (partition) (goodfaith_streams_recovering)) > 0)"
"""Partitions in recovery are missing or old for a while; StreamsRecovering reports it if that lasts."""


def meta_alerts(pace: Pace) -> Iterable[Alert]:
    """Alerts about the alerting: what would make the others silent."""
    yield Alert(
        "Watchdog",
        "vector(1)",
        "none",
        "Alerting works",
        "Always fires. If it no longer arrives, raise the alarm.",
        layer="meta",
        area="watch",
    )
    yield Alert(
        "Aftermath",
        f'max by (layer, area, page) (max_over_time(ALERTS{{alertstate="firing",severity="page"}}[{pace(AFTERMATH)}]))',
        "none",
        "Something pages, or did until just now",
        "{{ $labels.page }} fires or has just ended. Its consequences are muted.",
        layer="",
        area="",
    )
    for series, area in SLI.items():
        yield Alert(
            "SeriesAbsent",
            f"absent({series})",
            "page",
            "A series that alerts need is missing",
            f"Nothing exports {series}.",
            hold="7m",
            area=area,
            labels={"series": series},
        )
    yield Alert(
        "ProcessAbsent",
        "\nor\n".join(of_area(f'absent(up{{job="{job}"}})') for job in REQUIRED),
        "page",
        "A process is not scraped at all",
        "Prometheus has no target of {{ $labels.job }}.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "FiguresIncomplete",
        f"goodfaith:sli_partitions:count < max_over_time(goodfaith:sli_partitions:count[{pace('1h')}])\n{_NOT_RECOVERING}",
        "page",
        "Figures leave partitions out",
        "Only {{ $value }} partitions are in the figures.",
        hold="7m",
        area="figures",
    )
    yield Alert(
        "RulesFail",
        f"sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[{pace('5m')}])) > 0",
        "page",
        "Prometheus cannot evaluate rules",
        "Evaluations of {{ $labels.rule_group }} fail.",
        hold="5m",
        layer="meta",
        area="watch",
    )
    yield Alert(
        "WatchOld",
        f"time() - max by (part) (goodfaith_watch_last_success_timestamp_seconds) > {pace.seconds('2m')}",
        "page",
        "The broker or the database is not watched",
        "The {{ $labels.part }} was last seen {{ $value | humanizeDuration }} ago.",
        hold="5m",
        area="watch",
        waits="2m",
    )
    yield Alert(
        "ReconciliationDifference",
        "sum by (view) (max by (partition, view) (goodfaith_reconciliation_difference)) > 0",
        "ticket",
        "Figures differ from the database",
        "View {{ $labels.view }} differs by {{ $value }}.",
        hold="10m",
        area="figures",
    )
    last = "max by (partition, view) (goodfaith_reconciliation_last_timestamp_seconds)"
    yield Alert(
        "ReconciliationOld",
        f"time() - min by (view) ({last}) > {pace.seconds('30m')}",
        "ticket",
        "Figures are not compared with the database",
        "View {{ $labels.view }} was last compared {{ $value | humanizeDuration }} ago (decades: never).",
        hold="15m",
        area="figures",
        waits="30m",
    )


def target_alerts(pace: Pace) -> Iterable[Alert]:
    """Alerts before the 24-hour target is missed, earliest first."""
    window = pace("15m")
    yield Alert(
        "ClaimsStalled",
        f"min_over_time(goodfaith:items_moving:sum[{window}]) > 0\n"
        f"and\n(goodfaith:handled:total - goodfaith:handled:total offset {window}) == 0",
        "page",
        "Items are open and none is handled",
        "{{ $value }} items or more wait for our processes, and none was handled in 15 minutes.",
        hold="1m",
        layer="target",
        waits="15m",
    )

    def stalled(stage: str, completed: str) -> str:
        passed = f'goodfaith:stage_passed:total{{stage="{completed}"}}'
        return (
            f'min_over_time(goodfaith:items_open:sum{{stage="{stage}"}}[{window}]) > 0\n'
            f"and on ()\n({passed} - {passed} offset {window}) == 0"
        )

    yield Alert(
        "StageStalled",
        f"{stalled('intake', 'recorded')}\nor\n{stalled('enforcement', 'enforcement')}",
        "page",
        "Items wait before a stage and none passes it",
        "{{ $value }} items or more wait in stage {{ $labels.stage }}, and none passed it in 15 minutes.",
        hold="4m",
        layer="target",
        waits="15m",
    )
    yield Alert(
        "CanaryOld",
        f"time() - max(goodfaith_canary_last_completed_timestamp_seconds) > {pace.seconds('5m')}",
        "page",
        "No canary claim came through",
        "The last canary came through {{ $value | humanizeDuration }} ago.",
        hold="7m",
        layer="journey",
        waits="5m",
    )
    yield Alert(
        "DrainTooSlow",
        "goodfaith:drain_seconds:forecast > "
        f'clamp_min({DAY} - max(goodfaith:oldest_open_age_seconds{{stage!="complainant"}}), {HOUR})\n'
        "and goodfaith:drain_seconds:forecast < +Inf\n"
        "and goodfaith:items_waiting_for_us:sum >= 50",
        "page",
        "Open items will not be handled in time",
        "At the present pace open items take {{ $value | humanizeDuration }}, and the oldest has less time left.",
        hold="24m",
        layer="target",
    )
    yield Alert(
        "OldestItemOld",
        f'goodfaith:oldest_open_age_seconds{{stage!="complainant"}} > {18 * HOUR}',
        "page",
        "An item has been open for 18 hours",
        "The oldest item in stage {{ $labels.stage }} is {{ $value | humanizeDuration }} old.",
        hold="5m",
        layer="deadline",
        waits="18h",
    )
    yield Alert(
        "ItemsDueSoon",
        f'goodfaith:items_due_soon:sum{{within_seconds="{HOUR}"}} > 0',
        "page",
        "Items are due within an hour",
        "{{ $value }} items are due within an hour.",
        hold="5m",
        layer="deadline",
        waits="23h",
    )
    yield Alert(
        "ReviewQueueOld",
        "scalar(max(goodfaith_clock_timestamp_seconds)) - "
        f'min by (tier) (goodfaith_review_oldest_timestamp_seconds{{state="UNDER_REVIEW"}} > 0) > {12 * HOUR}',
        "ticket",
        "A case has waited for a reviewer for 12 hours",
        "The oldest undecided case in {{ $labels.tier }} has waited for {{ $value | humanizeDuration }}.",
        hold="5m",
        layer="target",
        waits="12h",
        team="review",
    )
    http = "goodfaith_http_request_duration_seconds_count"
    five = pace("5m")
    yield Alert(
        "IntakeErrors",
        f'sum(rate({http}{{job="intake-api",status="5xx"}}[{five}])) / sum(rate({http}{{job="intake-api"}}[{five}])) > 0.05\n'
        f'and sum(increase({http}{{job="intake-api"}}[{five}])) > 20',
        "page",
        "Intake's API answers with errors",
        "{{ $value | humanizePercentage }} of the requests are answered 5xx.",
        hold="7m",
    )


def flow_alerts(pace: Pace) -> Iterable[Alert]:
    """Alerts on topics, workers, outboxes and dead letters."""
    # without the stream views, which export their own position: StreamsBehind covers them, here and in WorkerStuck
    lag = 'goodfaith_consumer_lag_seconds{group!="streams"}'
    half = f"quantile by (group, topic) (0.5, max by (group, topic, partition) ({lag}))"
    limit = pace.seconds("5m")
    yield Alert(
        "ConsumerLag",
        f"{of_area(half, 'group')} > {limit}",
        "page",
        "A group is behind on a topic",
        "Half the partitions of {{ $labels.topic }} have waited for {{ $labels.group }} for {{ $value | humanizeDuration }} or longer.",
        hold="2m",
        area="",
        waits="5m",
    )
    yield Alert(
        "PartitionStuck",
        # not for a group that is behind on a whole topic: that is another fault, which ConsumerLag reports
        f"{of_area(f'max by (group, topic, partition) ({lag})', 'group')} > {limit}\nunless on (group) {half} > {limit}",
        "page",
        "One partition stands while others move",
        "Partition {{ $labels.partition }} of {{ $labels.topic }} has waited for {{ $labels.group }} for {{ $value | humanizeDuration }}.",
        hold="2m",
        area="",
        waits="5m",
    )
    yield Alert(
        "WorkerBehind",
        of_area(
            f"(time() - min by (job, instance, worker, topic) (goodfaith_consumer_position_timestamp_seconds > 0) > {limit})"
        ),
        "ticket",
        "A worker reports that it is behind",
        "{{ $labels.instance }} is behind on {{ $labels.topic }} by {{ $value | humanizeDuration }}.",
        hold="2m",
        area="",
        waits="5m",
    )
    progress = 'goodfaith_worker_progress_timestamp_seconds{job!="streams"}'
    yield Alert(
        "WorkerStuck",
        of_area(f"(time() - max by (job, instance, worker) ({progress} > 0) > {pace.seconds('1m')})"),
        "page",
        "A worker makes no progress though its port answers",
        "The loop of {{ $labels.instance }} last came round {{ $value | humanizeDuration }} ago.",
        # longer than a statement may wait for a lock, and than a pause between retries
        hold="4m",
        layer="process",
        area="",
        waits="1m",
    )
    lasting = f"min_over_time(goodfaith:assigned_partitions:sum[{pace('5m')}])"
    yield Alert(
        "PartitionsUnowned",
        # a partition that moves is counted twice or not at all for a moment
        of_area(f"(goodfaith:assigned_partitions:sum < max_over_time({lasting}[{pace('1h')}:{pace('1m')}]))"),
        "page",
        "Partitions without a worker",
        "The workers of {{ $labels.job }} own only {{ $value }} partitions.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "StreamsBehind",
        f"time() - max by (topic, partition) (goodfaith_streams_position_timestamp_seconds) > {limit}\n{_NOT_RECOVERING}",
        "page",
        "Figures are old",
        "Partition {{ $labels.partition }} of {{ $labels.topic }} is folded up to {{ $value | humanizeDuration }} ago.",
        # a worker that is started again exports nothing for some time: one fault is one page all the same
        hold="2m",
        area="figures",
        waits="5m",
        keeps="5m",
    )
    yield Alert(
        "StreamsRecovering",
        "sum(max by (partition) (goodfaith_streams_recovering)) > 0",
        "page",
        "Figures take long to recover",
        "{{ $value }} partitions of the streams are recovering.",
        hold="13m",
        area="figures",
    )
    yield Alert(
        "StreamsFailedEvents",
        "sum(max by (partition) (goodfaith_streams_failed_events)) > 0",
        "ticket",
        "Events are missing from the figures",
        "{{ $value }} events could not be folded, and are kept.",
        hold="1m",
        area="figures",
    )
    yield Alert(
        "DeadLetters",
        of_area("(sum by (job, worker) (goodfaith_dead_letters_depth) > 0)"),
        "ticket",
        "Records are set aside as dead letters",
        "{{ $value }} keys of {{ $labels.worker }} wait because it cannot process a record.",
        hold="1m",
        area="",
    )
    yield Alert(
        "DeadLettersOld",
        of_area(
            f"(time() - min by (job, worker) (goodfaith_dead_letters_oldest_timestamp_seconds > 0) > {pace.seconds('4h')})"
        ),
        "page",
        "Dead letters are old",
        "The oldest dead letter of {{ $labels.worker }} is {{ $value | humanizeDuration }} old.",
        hold="1m",
        layer="target",
        area="",
        waits="4h",
    )
    yield Alert(
        "UnreadGone",
        of_area("(sum by (job, worker, topic) (goodfaith_unread_gone_partitions) > 0)"),
        "page",
        "Records are missing from a topic",
        "{{ $labels.worker }} has stopped reading {{ $value }} partitions of {{ $labels.topic }}.",
        hold="3m",
        layer="process",
        area="",
    )
    yield Alert(
        # every worker stops, so it mutes everything else, like a database that is down
        "DatabaseWentBack",
        "max by (job, worker) (goodfaith_database_went_back) > 0",
        "page",
        "The database lacks what it had committed",
        "{{ $labels.worker }} has stopped: the database went back in time.",
        hold="1m",
        layer="platform",
        area="platform",
    )
    yield Alert(
        "OutboxOld",
        of_area(
            f"(time() - min by (job, instance, worker) (goodfaith_outbox_oldest_timestamp_seconds > 0) > {pace.seconds('2m')})"
        ),
        "page",
        "Events are committed and not published",
        "The oldest event in the outbox of {{ $labels.instance }} has waited for {{ $value | humanizeDuration }}.",
        hold="5m",
        area="",
        waits="2m",
    )
    yield Alert(
        "WatermarkBehind",
        f"scalar(max(goodfaith_clock_timestamp_seconds)) - min by (job) (goodfaith_watermark_timestamp_seconds > 0) > {HOUR // 12}",
        "page",
        "Deadlines stand still",
        "Deadlines of {{ $labels.job }} fire only up to {{ $value | humanizeDuration }} ago.",
        hold="5m",
        waits="5m",
    )
    yield Alert(
        # watermarks are held on purpose, so everything that depends on a deadline waits
        "ClocksDisagree",
        of_area("(max by (job) (goodfaith_clocks_disagree) > 0)"),
        "page",
        "Clocks disagree, and deadlines stand still",
        "The clocks of {{ $labels.job }}, the database and the brokers differ by more than GOODFAITH_CLOCK_BOUND_MS.",
        hold="3m",
        layer="process",
        area="",
    )
    yield Alert(
        "WorkersFenced",
        of_area(f"(sum by (job) (increase(goodfaith_fenced_total[{pace('30m')}])) > 20)"),
        "ticket",
        "Workers write to partitions of others",
        "{{ $value | humanize }} transactions of {{ $labels.job }} were refused in 30 minutes.",
        hold="15m",
        area="",
    )
    yield Alert(
        "WorkerBug",
        of_area(f'(sum by (job) (increase(goodfaith_transient_failures_total{{part="bug"}}[{pace("15m")}])) > 0)'),
        "ticket",
        "A worker meets an error in its own code",
        "{{ $labels.job }} put off batches because of an error in its code.",
        hold="5m",
        area="",
    )


def delivery_alerts(pace: Pace) -> Iterable[Alert]:
    """Alerts on what is sent to others: mail, webhooks, the marketplace, statements of reasons."""
    window = pace("15m")
    yield Alert(
        "DeliveryLate",
        # email only: a party's webhook that is down delays its messages by design, until email takes over
        'time() - min by (channel) (goodfaith_delivery_oldest_pending_timestamp_seconds{channel="email"} > 0) > '
        + pace.seconds("15m"),
        "page",
        "Parties are not told",
        "The oldest message by {{ $labels.channel }} has waited for {{ $value | humanizeDuration }}.",
        hold="3m",
        layer="target",
        waits="15m",
    )
    yield Alert(
        "MessagesFailed",
        f'sum by (channel) (increase(goodfaith_deliveries_total{{result="failed"}}[{pace("1h")}])) > 0',
        "ticket",
        "Messages cannot be made",
        "Messages by {{ $labels.channel }} failed because of an error in a template.",
    )
    attempts = "goodfaith_webhook_attempts_total"
    yield Alert(
        "WebhooksFailing",
        f'sum(increase({attempts}{{outcome=~"failed|unknown"}}[{window}])) / sum(increase({attempts}[{window}])) > 0.5\n'
        f"and sum(increase({attempts}[{window}])) > 20",
        "ticket",
        "Most calls to webhooks fail",
        "{{ $value | humanizePercentage }} of the calls to webhooks fail.",
        hold="5m",
        layer="target",
        area="notification-webhooks",
    )
    opened = 'sum(max by (state) (goodfaith_webhook_endpoints{state="open"}))'
    called = 'sum(max by (state) (goodfaith_webhook_endpoints{state!="disabled"}))'
    yield Alert(
        "WebhookCircuitsOpen",
        f"{opened} / {called} > 0.5\nand {opened} >= 3",
        "page",
        "Most webhooks are not called for now",
        "{{ $value | humanizePercentage }} of the webhooks are not called.",
        hold="15m",
        layer="target",
        area="notification-webhooks",
    )
    yield Alert(
        "MarketplaceSilent",
        f"sum(increase(goodfaith_marketplace_commands_resent_total[{window}])) > 0",
        "ticket",
        "The marketplace does not answer commands",
        "{{ $value | humanize }} commands on listings were sent again in 15 minutes.",
        hold="10m",
    )
    yield Alert(
        "SellerCommandsUnanswered",
        f"sum(increase(goodfaith_seller_commands_resent_total[{window}])) > 0",
        "ticket",
        "The marketplace does not answer commands on sellers",
        "{{ $value | humanize }} commands on sellers were sent again in 15 minutes.",
        hold="10m",
        area="sellers",
    )
    yield Alert(
        "StatementsRefused",
        "max(goodfaith_statements_refused) > 0",
        "ticket",
        "Statements of reasons were refused",
        "{{ $value }} statements of reasons were refused.",
        hold="5m",
        area="enforcement-statements",
        team="compliance",
    )
    yield Alert(
        "StatementsOld",
        f"time() - min(goodfaith_statements_oldest_timestamp_seconds > 0) > {pace.seconds('6h')}",
        "ticket",
        "Statements of reasons are not sent",
        "The oldest statement of reasons has waited for {{ $value | humanizeDuration }}.",
        hold="5m",
        area="enforcement-statements",
        team="compliance",
    )


def platform_alerts(pace: Pace) -> Iterable[Alert]:
    """Alerts on broker, database and processes."""
    yield Alert(
        "BrokerDown",
        "max(goodfaith_broker_up) == 0",
        "page",
        "The broker cannot be reached",
        "No node of the broker answers.",
        hold="1m",
        layer="platform",
        area="platform",
    )
    yield Alert(
        "BrokerOfflinePartitions",
        "max(goodfaith_broker_offline_partitions) > 0",
        "page",
        "Partitions without a leader",
        "{{ $value }} partitions have no leader.",
        hold="1m",
        layer="platform",
        area="platform",
    )
    yield Alert(
        "BrokerUnderReplicated",
        "max(goodfaith_broker_under_replicated_partitions) > 0",
        "ticket",
        "Partitions lack replicas",
        "{{ $value }} partitions have fewer replicas in sync than they should.",
        hold="5m",
        layer="process",
        area="platform",
    )
    yield Alert(
        "DatabaseDown",
        "max(goodfaith_database_up) == 0",
        "page",
        "The database cannot be reached",
        "The database does not answer.",
        hold="1m",
        layer="platform",
        area="platform",
    )
    yield Alert(
        "DatabaseConnectionsHigh",
        "sum(max by (state) (goodfaith_database_connections)) / max(goodfaith_database_connections_max) > 0.8",
        "ticket",
        "Connections to the database run out",
        "{{ $value | humanizePercentage }} of the connections are taken.",
        hold="5m",
        layer="process",
        area="platform",
    )
    yield Alert(
        "DatabaseOldTransaction",
        f"time() - max(goodfaith_database_oldest_transaction_timestamp_seconds > 0) > {pace.seconds('5m')}",
        "ticket",
        "A transaction has been open for too long",
        "The oldest transaction has been open for {{ $value | humanizeDuration }}.",
        hold="2m",
        layer="process",
        area="platform",
    )
    yield Alert(
        "DatabaseTransactionIds",
        "max(goodfaith_database_transaction_ids_used) > 500e6",
        "ticket",
        "Transaction ids are not being freed",
        "{{ $value | humanize }} of some 2.1 billion transaction ids are in use.",
        hold="15m",
        layer="process",
        area="platform",
    )
    yield Alert(
        "ProcessDown",
        of_area(f'(count by (job) (up{{job!~"{STAND_INS}"}} == 0) == count by (job) (up))'),
        "page",
        "No instance of a process runs",
        "None of {{ $value }} instances of {{ $labels.job }} can be scraped.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "InstanceDown",
        of_area("(up == 0)"),
        "ticket",
        "An instance of a process does not run",
        "{{ $labels.instance }} of {{ $labels.job }} cannot be scraped.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "ProcessFlapping",
        of_area(f"(changes(process_start_time_seconds[{pace('15m')}]) > 2)"),
        "ticket",
        "A process keeps restarting",
        "{{ $labels.instance }} of {{ $labels.job }} started {{ $value }} times in 15 minutes.",
        hold="1m",
        layer="process",
        area="",
    )
