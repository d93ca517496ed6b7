"""Every process's common metrics, declared once (names: operating.md). No id of a party, claim or item is ever a label."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

EVENTS_CONSUMED = Counter(
    "goodfaith_events_consumed_total",
    "Records read from a topic, by what became of them (applied, duplicate, skipped, parked).",
    ["worker", "topic", "result"],
)
EVENTS_PRODUCED = Counter(
    "goodfaith_events_produced_total", "Event log rows published and acknowledged.", ["worker", "topic"]
)
EVENTS_DUPLICATE = Counter(
    "goodfaith_events_duplicate_total", "Records whose id was already in the inbox.", ["worker", "topic"]
)
BATCH_SECONDS = Histogram(
    "goodfaith_event_processing_duration_seconds", "Wall time of one batch's transaction.", ["worker"], buckets=_SECONDS
)
STAGE_SECONDS = Counter(
    "goodfaith_worker_stage_seconds_total", "Wall time spent in each stage of the worker's loop.", ["worker", "stage"]
)
BATCH_RECORDS = Histogram(
    "goodfaith_batch_records",
    "Records in one batch.",
    ["worker"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)
LAG_SECONDS = Gauge(
    "goodfaith_event_end_to_end_lag_seconds",
    "Age of the youngest record of the last batch when it was committed.",
    ["worker", "topic"],
)
OUTBOX_PENDING = Gauge(
    "goodfaith_outbox_pending", "Event log rows committed and not yet acknowledged by the broker.", ["worker"]
)
DEAD_LETTERS = Counter(
    "goodfaith_dead_letters_total", "Records parked or refused as poison.", ["worker", "topic", "reason"]
)
DEAD_LETTERS_DEPTH = Gauge("goodfaith_dead_letters_depth", "Keys that wait behind a poison record.", ["worker"])
REBALANCES = Counter("goodfaith_consumer_rebalances_total", "Assignments taken over.", ["worker"])
ASSIGNED = Gauge("goodfaith_consumer_assigned_partitions", "Partitions owned.", ["worker"])
FENCED = Counter(
    "goodfaith_fenced_total", "Transactions refused because another worker owns the partition.", ["worker"]
)
RETRIES = Counter("goodfaith_transient_failures_total", "Batches put off by a failure that passes.", ["worker", "part"])
TIMERS_FIRED = Counter("goodfaith_timers_fired_total", "Timers fired.", ["worker"])
PROGRESS = Gauge("goodfaith_worker_progress_timestamp_seconds", "When the worker's loop last came round.", ["worker"])
WATERMARK = Gauge(
    "goodfaith_watermark_timestamp_seconds", "Least watermark over the owned partitions, business time.", ["worker"]
)
SPANS = Counter("goodfaith_spans_total", "Spans by what became of them: exported, failed.", ["result"])

STAGES = ("poll", "inbox", "load", "decide", "timers", "save", "log", "publish")


def begin(worker: str, topics: Iterable[str]) -> None:
    """Show a worker's counters at 0 before anything happens: a series that is absent cannot be told from one at rest."""
    for topic in topics:
        for result in ("applied", "skipped"):
            EVENTS_CONSUMED.labels(worker, topic, result)
        for reason in ("poison", "behind", "unreadable", "refused"):
            DEAD_LETTERS.labels(worker, topic, reason)
        EVENTS_DUPLICATE.labels(worker, topic)
        LAG_SECONDS.labels(worker, topic)
    for stage in STAGES:
        STAGE_SECONDS.labels(worker, stage)
    for part in ("broker", "database"):
        RETRIES.labels(worker, part)
    for counter in (REBALANCES, FENCED, TIMERS_FIRED):
        counter.labels(worker)
    for gauge in (OUTBOX_PENDING, DEAD_LETTERS_DEPTH):
        gauge.labels(worker)
