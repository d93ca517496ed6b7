"""Recording rules and alerts. The runbooks explain the alerts, `docs/reference/metrics.md` the series."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from deploy.prometheus.model import AFTERMATH, Alert, Group, Pace, Record

HERE: Final = Path(__file__).parent
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
FIGURES: Final = ("1h", "1d", "30d")
HOUR: Final = 3600
"""Seconds, in business time."""
DAY: Final = 24 * HOUR

SLI: Final = {
    "goodfaith_clock_timestamp_seconds": "figures",
    "goodfaith_claim_sla_outcomes_total": "figures",
    "goodfaith_claim_items_open": "figures",
    "goodfaith_claim_oldest_open_received_timestamp_seconds": "figures",
    "goodfaith_claim_items_due_soon": "figures",
    "goodfaith_claim_handling_duration_seconds_count": "figures",
    "goodfaith_claim_stage_completed_total": "figures",
    "goodfaith_takedowns_total": "figures",
    "goodfaith_streams_position_timestamp_seconds": "figures",
    "goodfaith_reconciliation_difference": "figures",
    "goodfaith_reconciliation_last_timestamp_seconds": "figures",
    "goodfaith_canary_last_completed_timestamp_seconds": "canary",
    "goodfaith_consumer_position_timestamp_seconds": "claims",
    "goodfaith_consumer_lag_seconds": "watch",
    "goodfaith_consumer_assigned_partitions": "claims",
    "goodfaith_worker_progress_timestamp_seconds": "claims",
    "goodfaith_watermark_timestamp_seconds": "claims",
    "goodfaith_clocks_disagree": "claims",
    "goodfaith_outbox_oldest_timestamp_seconds": "claims",
    "goodfaith_dead_letters_depth": "claims",
    "goodfaith_delivery_oldest_pending_timestamp_seconds": "claims",
    "goodfaith_review_oldest_timestamp_seconds": "claims",
    "goodfaith_http_request_duration_seconds_count": "claims",
    "goodfaith_broker_up": "watch",
    "goodfaith_database_up": "watch",
    "goodfaith_watch_last_success_timestamp_seconds": "watch",
}
"""Series without which alerts would be silent for the wrong reason, each with the area whose processes export it. An
absent one raises an alert."""

AREAS: Final = {
    "claims": "intake-.*|verification|enforcement-(worker|delivery|api)|notification-(worker|sender|api)",
    "sellers": "enforcement-(ledger|entities)",
    "figures": "streams",
}
"""Processes (label `job`) by the area of the system that stops with them. Every other process is an area of its own."""
GROUPS: Final = {
    "claims": "intake|intake-inbound|verification|enforcement|notification|marketplace",
    "sellers": "enforcement-ledger",
}
"""Consumer groups by area."""
STAND_INS: Final = "marketplace|mailbox"
"""Processes of a local stack that stand in for external systems. Nobody is paged for them, only for what they cause."""

REQUIRED: Final = (
    "intake-api",
    "intake-worker",
    "verification",
    "enforcement-worker",
    "enforcement-ledger",
    "enforcement-entities",
    "enforcement-api",
    "notification-worker",
    "notification-sender",
    "notification-webhooks",
    "notification-api",
    "notification-bounces",
    "streams",
    "watch",
    "canary",
)
"""Processes (label `job`) that every installation runs; the others depend on settings or belong to the demo."""


def groups(pace: Pace) -> dict[str, tuple[Group, ...]]:
    """All groups, by the name of the file they are written to."""
    spec = tomllib.loads((HERE / "slo.toml").read_text(encoding="utf-8"))
    return {
        "recording": (
            Group("goodfaith-figures", "15s", tuple(figures(pace))),
            Group("goodfaith-windows", "30s", tuple(window_figures(pace))),
            Group("goodfaith-filings", "30s", tuple(filing_figures(pace))),
        ),
        "slo": (Group("goodfaith-slo", "30s", (*objectives(spec, pace), *burn_alerts(spec, pace))),),
        "alerts": (
            Group("goodfaith-meta", "15s", tuple(meta_alerts(pace))),
            Group("goodfaith-target", "15s", tuple(target_alerts(pace))),
            Group("goodfaith-flow", "15s", tuple(flow_alerts(pace))),
            Group("goodfaith-delivery", "15s", tuple(delivery_alerts(pace))),
            Group("goodfaith-platform", "15s", tuple(platform_alerts(pace))),
        ),
    }


def alerts(pace: Pace | None = None) -> tuple[Alert, ...]:
    """All alerts; one name may have several rules that differ by their labels."""
    return tuple(
        rule
        for files in groups(pace or Pace()).values()
        for group in files
        for rule in group.rules
        if isinstance(rule, Alert)
    )


def records(pace: Pace | None = None) -> tuple[Record, ...]:
    """All recording rules."""
    return tuple(
        rule
        for files in groups(pace or Pace()).values()
        for group in files
        for rule in group.rules
        if isinstance(rule, Record)
    )


_NOT_RECOVERING: Final = "unless on () (sum(max by (partition) (goodfaith_streams_recovering)) > 0)"
"""Partitions in recovery are missing or old for a while; StreamsRecovering reports it if that lasts."""


def area_of(labels: Mapping[str, str]) -> str:
    """The label `area` that `_of_area` gives an alert with these labels."""
    label = "job" if "job" in labels else "group"
    known = AREAS if label == "job" else GROUPS
    return next((area for area, names in known.items() if re.fullmatch(names, labels[label])), labels[label])


def _of_area(expr: str, label: str = "job") -> str:
    """`expr` with the label `area`, taken from its label `job` or `group`."""
    made = f'label_replace({expr}, "area", "$1", "{label}", "(.*)")'
    for area, names in (AREAS if label == "job" else GROUPS).items():
        made = f'label_replace({made}, "area", "{area}", "{label}", "{names}")'
    return made


def _total(series: str, keep: str, pace: Pace) -> str:
    """Sum of a total of the stream views; a partition between two workers keeps its last value."""
    by = "" if not keep else f"by ({keep}) "
    labels = ", ".join(("partition", *LABELS[series]))
    return f"sum {by}(max by ({labels}) (last_over_time({series}[{pace('5m')}])))"


def _sum(series: str, keep: str) -> str:
    """Sum of a gauge of the stream views; counts a moving partition, which two workers may export, only once."""
    by = "" if not keep else f"by ({keep}) "
    return f"sum {by}(max by ({', '.join(('partition', *LABELS[series]))}) ({series}))"


LABELS: Final = {
    "goodfaith_claim_sla_outcomes_total": ("outcome", "tier"),
    "goodfaith_takedowns_total": ("outcome", "right_type", "reason"),
    "goodfaith_claim_handling_duration_seconds_count": ("tier",),
    "goodfaith_claim_stage_completed_total": ("stage", "result"),
    "goodfaith_claim_stage_duration_seconds_count": ("stage",),
    "goodfaith_claim_items_open": ("stage", "tier"),
    "goodfaith_claim_items_due_soon": ("within_seconds",),
    "goodfaith_filing_complainants": ("size",),
    "goodfaith_filing_items": ("size",),
    "goodfaith_filing_items_squares": (),
}
"""Labels of the summed figures, besides `partition`."""


def figures(pace: Pace) -> Iterable[Record]:
    """The current figures of the 24-hour target."""
    yield Record("goodfaith:sla_outcomes:total", _total("goodfaith_claim_sla_outcomes_total", "outcome", pace))
    yield Record("goodfaith:takedowns:total", _total("goodfaith_takedowns_total", "outcome", pace))
    yield Record("goodfaith:handled:total", _total("goodfaith_claim_handling_duration_seconds_count", "", pace))
    yield Record(
        "goodfaith:stage_completed:total", _total("goodfaith_claim_stage_completed_total", "stage, result", pace)
    )
    # items that have passed, in time or late; late ones that have not passed count only in stage_completed
    yield Record("goodfaith:stage_passed:total", _total("goodfaith_claim_stage_duration_seconds_count", "stage", pace))
    yield Record("goodfaith:items_open:sum", _sum("goodfaith_claim_items_open", "stage"))
    yield Record("goodfaith:items_waiting_for_us:sum", 'sum(goodfaith:items_open:sum{stage!="complainant"})')
    # items that wait for our processes, not for a complainant or a reviewer
    yield Record(
        "goodfaith:items_moving:sum", 'sum(goodfaith:items_open:sum{stage=~"intake|verification|enforcement"})'
    )
    yield Record("goodfaith:items_due_soon:sum", _sum("goodfaith_claim_items_due_soon", "within_seconds"))
    oldest = "goodfaith_claim_oldest_open_received_timestamp_seconds"
    yield Record(
        "goodfaith:oldest_open_age_seconds",
        f"scalar(max(goodfaith_clock_timestamp_seconds)) - min by (stage) ({oldest} > 0)\nor\n0 * max by (stage) ({oldest})",
    )
    rate = f"((goodfaith:handled:total - goodfaith:handled:total offset {pace('30m')}) / {pace.seconds('30m')})"
    # +Inf: something is open and nothing was handled
    yield Record(
        "goodfaith:drain_seconds:forecast",
        f"(goodfaith:items_waiting_for_us:sum > 0) / {rate}\nor\ngoodfaith:items_waiting_for_us:sum == 0",
    )
    yield Record("goodfaith:sli_partitions:count", "count(count by (partition) (goodfaith_claim_items_open))")
    yield Record("goodfaith:assigned_partitions:sum", "sum by (job) (goodfaith_consumer_assigned_partitions)")


def _increase(total: str, window: str, pace: Pace) -> str:
    """The exact increase of a recorded sum in a window, not extrapolated as by `increase`.

    The window begins with the last value before it, up to 6 hours older, so shorter gaps in Prometheus' own data do no
    harm. Without such a value the sum began within the window.
    """
    before = f"last_over_time({total}[{pace('6h')}] offset {pace(window)})"
    return f"clamp_min({total} - ({before} or {total} * 0), 0)"


def window_figures(pace: Pace) -> Iterable[Record]:
    """The two headline figures over their windows. NaN: nothing happened in the window."""
    for name, total, good in (
        ("handled_in_time", "goodfaith:sla_outcomes", "met"),
        ("takedown", "goodfaith:takedowns", "taken_down"),
    ):
        for window in FIGURES:
            increase = f"{total}:increase_{window}"
            yield Record(increase, _increase(f"{total}:total", window, pace))
            yield Record(f"goodfaith:{name}:ratio_{window}", f'sum({increase}{{outcome="{good}"}}) / sum({increase})')


def filing_figures(pace: Pace) -> Iterable[Record]:
    """How far filings are concentrated on few complainants (`shared.concentration`). Empty if nothing was filed."""
    yield Record("goodfaith:filing_items:sum", _total("goodfaith_filing_items", "size", pace))
    yield Record("goodfaith:filing_complainants:sum", _total("goodfaith_filing_complainants", "size", pace))
    everything = "(sum(goodfaith:filing_items:sum) > 0)"
    yield Record(
        "goodfaith:filing_concentration:hhi",
        f"{_total('goodfaith_filing_items_squares', '', pace)} / {everything} ^ 2",
    )
    yield Record("goodfaith:filing_items:share", f"goodfaith:filing_items:sum / on () group_left () {everything}")


def objectives(spec: dict[str, Any], pace: Pace) -> Iterable[Record]:
    """Service level indicators over all windows, in the style of sloth."""
    for name, slo in spec["slo"].items():
        label = {"slo": name}
        yield Record("goodfaith:slo_objective:ratio", f"vector({slo['objective'] / 100:g})", label)
        yield Record("goodfaith:slo_minimum_events:count", f"vector({slo['minimum_events']})", label)
        for result in ("good", "bad"):
            yield Record("goodfaith:slo_events:total", slo[result], {**label, "result": result})
    for window in WINDOWS:
        events = f"goodfaith:slo_events:increase_{window}"
        yield Record(events, _increase("goodfaith:slo_events:total", window, pace))
        yield Record(
            f"goodfaith:slo_errors:ratio_{window}", f'sum by (slo) ({events}{{result="bad"}}) / sum by (slo) ({events})'
        )
        # 1: the budget lasts exactly its period
        yield Record(
            f"goodfaith:slo_burn:rate_{window}",
            f"goodfaith:slo_errors:ratio_{window} / on (slo) (1 - goodfaith:slo_objective:ratio)",
        )
    budget = f"{spec['budget_days']}d"
    yield Record(f"goodfaith:slo_budget_left:ratio_{budget}", f"1 - goodfaith:slo_burn:rate_{budget}")


def burn_alerts(spec: dict[str, Any], pace: Pace) -> Iterable[Alert]:
    """Alerts on burn rates over two windows each; the long window must contain enough events."""

    def holds(severity: str, slo: str) -> str:
        terms = []
        for burn in spec["burn"]:
            if burn["severity"] == severity:
                long, short, factor = burn["long"], burn["short"], burn["factor"]
                terms.append(
                    f"goodfaith:slo_burn:rate_{long}{{{slo}}} > {factor}\n"
                    f"  and on (slo) goodfaith:slo_burn:rate_{short}{{{slo}}} > {factor}\n"
                    f"  and on (slo) sum by (slo) (goodfaith:slo_events:increase_{long}) >= on (slo) goodfaith:slo_minimum_events:count"
                )
        return "\nor\n".join(terms)

    handled, stages = 'slo="handled"', 'slo!="handled"'
    value = "{{ $value | humanize }} times faster than its budget allows"
    yield Alert(
        "HandledBurnFast",
        holds("page", handled),
        "page",
        "Items miss the 24 hours, fast",
        f"Misses of the 24 hours come {value}.",
        layer="deadline",
        waits="1d",
    )
    yield Alert(
        "HandledBurnSlow",
        holds("ticket", handled),
        "ticket",
        "Items miss the 24 hours, slowly",
        f"Misses of the 24 hours come {value}.",
        layer="deadline",
        waits="1d",
    )
    yield Alert(
        "StageBurnFast",
        holds("page", stages),
        "page",
        "A stage exceeds its time, fast",
        f"Late items of stage {{{{ $labels.slo }}}} come {value}.",
        hold="21m",
        layer="target",
    )
    yield Alert(
        "StageBurnSlow",
        holds("ticket", stages),
        "ticket",
        "A stage exceeds its time, slowly",
        f"Late items of stage {{{{ $labels.slo }}}} come {value}.",
        layer="target",
    )


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
        "\nor\n".join(_of_area(f'absent(up{{job="{job}"}})') for job in REQUIRED),
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
        f"{_of_area(half, 'group')} > {limit}",
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
        f"{_of_area(f'max by (group, topic, partition) ({lag})', 'group')} > {limit}\nunless on (group) {half} > {limit}",
        "page",
        "One partition stands while others move",
        "Partition {{ $labels.partition }} of {{ $labels.topic }} has waited for {{ $labels.group }} for {{ $value | humanizeDuration }}.",
        hold="2m",
        area="",
        waits="5m",
    )
    yield Alert(
        "WorkerBehind",
        _of_area(
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
        _of_area(f"(time() - max by (job, instance, worker) ({progress} > 0) > {pace.seconds('1m')})"),
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
        _of_area(f"(goodfaith:assigned_partitions:sum < max_over_time({lasting}[{pace('1h')}:{pace('1m')}]))"),
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
        _of_area("(sum by (job, worker) (goodfaith_dead_letters_depth) > 0)"),
        "ticket",
        "Records are set aside as dead letters",
        "{{ $value }} keys of {{ $labels.worker }} wait because it cannot process a record.",
        hold="1m",
        area="",
    )
    yield Alert(
        "DeadLettersOld",
        _of_area(
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
        _of_area("(sum by (job, worker, topic) (goodfaith_unread_gone_partitions) > 0)"),
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
        _of_area(
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
        _of_area("(max by (job) (goodfaith_clocks_disagree) > 0)"),
        "page",
        "Clocks disagree, and deadlines stand still",
        "The clocks of {{ $labels.job }}, the database and the brokers differ by more than GOODFAITH_CLOCK_BOUND_MS.",
        hold="3m",
        layer="process",
        area="",
    )
    yield Alert(
        "WorkersFenced",
        _of_area(f"(sum by (job) (increase(goodfaith_fenced_total[{pace('30m')}])) > 20)"),
        "ticket",
        "Workers write to partitions of others",
        "{{ $value | humanize }} transactions of {{ $labels.job }} were refused in 30 minutes.",
        hold="15m",
        area="",
    )
    yield Alert(
        "WorkerBug",
        _of_area(f'(sum by (job) (increase(goodfaith_transient_failures_total{{part="bug"}}[{pace("15m")}])) > 0)'),
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
        _of_area(f'(count by (job) (up{{job!~"{STAND_INS}"}} == 0) == count by (job) (up))'),
        "page",
        "No instance of a process runs",
        "None of {{ $value }} instances of {{ $labels.job }} can be scraped.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "InstanceDown",
        _of_area("(up == 0)"),
        "ticket",
        "An instance of a process does not run",
        "{{ $labels.instance }} of {{ $labels.job }} cannot be scraped.",
        hold="5m",
        layer="process",
        area="",
    )
    yield Alert(
        "ProcessFlapping",
        _of_area(f"(changes(process_start_time_seconds[{pace('15m')}]) > 2)"),
        "ticket",
        "A process keeps restarting",
        "{{ $labels.instance }} of {{ $labels.job }} started {{ $value }} times in 15 minutes.",
        hold="1m",
        layer="process",
        area="",
    )
