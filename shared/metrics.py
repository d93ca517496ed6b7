"""Metrics, each declared once: name, meaning, labels with their values, processes that export it, and what to do.

A module declares with ``counter``, ``gauge`` or ``histogram``, or with ``collected`` what a collector of its own exports,
and is named in ``DECLARING``. Out of the declarations come ``docs/metrics.md`` (``python -m tools.metrics_docs``), the
``catalogue`` that rules and dashboards are held against, the series at 0 with which a process begins, and the tests of
every exposition. No id of a party, claim or item is ever a label.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal, TypeVar

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics

Kind = Literal["counter", "gauge", "histogram"]

# a second series for each counter, which nobody asks for
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a label that are bounded, but not known in the code.

    Attributes:
        text: what they are, for people.
        pattern: what each of them matches as a whole.
    """

    text: str
    pattern: str

    def matches(self, value: str) -> bool:
        """Whether it may be one of them."""
        return re.fullmatch(self.pattern, value) is not None


WORKER: Final = Values("worker or process", r"[a-z]+(-[a-z]+)*")
TOPIC: Final = Values("topic, `@queue` or `@timer`", r"[a-z][A-Za-z0-9._-]*|@queue|@timer")
PARTITION: Final = Values("partition", r"\d{1,5}")
GROUP: Final = Values("consumer group", r"[a-z][A-Za-z0-9._-]*")
CODE: Final = Values("code", r"[a-z][a-z0-9_]{0,39}")
ROUTE: Final = Values("route template", r"/[A-Za-z0-9_/{}:.-]*|unmatched")
HTTP_STATUS: Final = Values("HTTP status or `unreachable`", r"[1-5]\d\d|unreachable")
TIERS: Final = ("express", "standard", "bulk")
CHANNELS: Final = ("http", "kafka", "recurrence", "canary")
RIGHT_TYPES: Final = ("trademark", "copyright", "design", "utility_model", "invention", "geographical_indication")

WORKERS: Final = (
    "intake-worker",
    "intake-inbound",
    "verification",
    "enforcement-worker",
    "enforcement-ledger",
    "notification-worker",
    "marketplace",
)
"""Processes that run ``shared.runtime.worker``."""

DECLARING: Final = (
    "shared.metrics",
    "shared.security_events",
    "services.intake.kernel.metrics",
    "services.verification.worker",
    "services.enforcement.worker",
    "services.enforcement.ledger",
    "services.enforcement.entities_worker",
    "services.enforcement.delivery",
    "services.enforcement.transparency",
    "services.enforcement.api",
    "services.notification.sender",
    "services.notification.webhooks",
    "services.notification.bounces",
    "services.observer.watch",
    "services.streams.figures",
    "services.observer.status_page",
    "services.streams.collector",
    "services.observer.canary_rounds",
    "deploy.mailbox.__main__",
)
"""Modules that declare metrics: whoever wants to know all of them imports these."""

_JOBS: Final = {"intake": "intake-worker", "enforcement": "enforcement-worker", "notification": "notification-worker"}


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric as declared.

    Attributes:
        name: full name, as asked for in a query; a histogram's without ``_bucket``.
        means: what it says; in the documents and as the exposition's HELP. With ``code`` in Markdown.
        labels: by label the values that there are: a tuple of all of them, or ``Values``.
        processes: which export it, by their names in ``deploy/local/fleet.py``: Prometheus' label ``job``.
        do: what to do about it.
        series: combinations of values, in the labels' order, that begin at 0. Fewer than the product when not all occur.
        metric: the client's object; None when a collector exports it.
    """

    name: str
    kind: Kind
    means: str
    labels: Mapping[str, tuple[str, ...] | Values]
    processes: tuple[str, ...]
    do: str
    series: tuple[tuple[str, ...], ...] = ()
    metric: Counter | Gauge | Histogram | None = field(default=None, compare=False)


_declared: dict[str, Declared] = {}
_hidden: set[str] = set()
_M = TypeVar("_M", Counter, Gauge, Histogram)
Labels = Mapping[str, Iterable[str] | Values]


def _check(kind: Kind, name: str) -> None:
    if name in _declared:
        raise ValueError(f"{name} is declared twice")
    if not re.fullmatch(r"goodfaith_[a-z][a-z0-9_]*", name) or name.endswith("_total") != (kind == "counter"):
        raise ValueError(f"{name} is no name of a {kind}")


def _declare(
    kind: Kind,
    name: str,
    means: str,
    labels: Labels | None,
    of: str | Iterable[str],
    do: str,
    series: Iterable[tuple[str, ...]] | None,
    metric: Counter | Gauge | Histogram | None,
) -> Declared:
    _check(kind, name)
    values = {label: given if isinstance(given, Values) else tuple(given) for label, given in (labels or {}).items()}
    if series is None:
        closed = [given for given in values.values() if not isinstance(given, Values)]
        series = product(*closed) if closed and len(closed) == len(values) else ()
    processes = (of,) if isinstance(of, str) else tuple(of)
    declared = Declared(name, kind, means, values, processes, do, tuple(series), metric)
    _declared[name] = declared
    return declared


def counter(
    name: str,
    means: str,
    labels: Labels | None = None,
    *,
    of: str | Iterable[str],
    do: str = "-",
    series: Iterable[tuple[str, ...]] | None = None,
) -> Counter:
    """Declare a counter; ``Declared`` has the parameters. Its name ends in ``_total``.

    Raises:
        ValueError: the name is declared already, or does not fit the kind.
    """
    _check("counter", name)
    made = Counter(name, means, tuple(labels or ()))
    _declare("counter", name, means, labels, of, do, series, made)
    return made


def gauge(
    name: str,
    means: str,
    labels: Labels | None = None,
    *,
    of: str | Iterable[str],
    do: str = "-",
    series: Iterable[tuple[str, ...]] | None = None,
) -> Gauge:
    """Declare a gauge; see ``counter``."""
    _check("gauge", name)
    made = Gauge(name, means, tuple(labels or ()))
    _declare("gauge", name, means, labels, of, do, series, made)
    return made


def histogram(
    name: str,
    means: str,
    labels: Labels | None = None,
    *,
    buckets: Sequence[float],
    of: str | Iterable[str],
    do: str = "-",
    series: Iterable[tuple[str, ...]] | None = None,
) -> Histogram:
    """Declare a histogram with its upper edges; see ``counter``."""
    _check("histogram", name)
    made = Histogram(name, means, tuple(labels or ()), buckets=buckets)
    _declare("histogram", name, means, labels, of, do, series, made)
    return made


def collected(
    kind: Kind, name: str, means: str, labels: Labels | None = None, *, of: str | Iterable[str], do: str = "-"
) -> Declared:
    """Declare what a collector (``prometheus_client.registry.Collector``) exports; it makes its own series, from 0 on."""
    return _declare(kind, name, means, labels, of, do, (), None)


def declared(process: str | None = None) -> Iterator[Declared]:
    """All metrics that the modules imported so far declare, or those of one process, in the order of declaration."""
    return (one for one in _declared.values() if process is None or process in one.processes)


def load() -> dict[str, Declared]:
    """Import every module that declares; all metrics of all processes by name. Not for processes that serve."""
    for module in DECLARING:
        importlib.import_module(module)
    return dict(_declared)


def catalogue() -> dict[str, tuple[Kind, tuple[str, ...]]]:
    """By name the kind and the labels of every metric of every process: what rules and dashboards may ask for.

    The label ``le`` of histograms, and Prometheus' own ``job`` and ``instance``, are not among them.
    """
    return {name: (one.kind, tuple(one.labels)) for name, one in load().items()}


def begin_process(process: str) -> None:
    """Show what this process exports, and nothing else: series at 0 for all label values that are known.

    Called by ``shared.runtime.health``. A series that is absent cannot be told from one at rest; and one that belongs to
    another process, whose module happens to be imported, would be taken for it.

    Args:
        process: its name in the fleet, or its worker's. One that no declaration names (a test's) shows everything.
    """
    job = _JOBS.get(process, process)
    if not any(job in one.processes for one in _declared.values()):
        return
    for one in _declared.values():
        if one.metric is None:
            continue
        if job not in one.processes:
            if one.name not in _hidden:
                _hidden.add(one.name)
                REGISTRY.unregister(one.metric)
            continue
        if one.name in _hidden:
            _hidden.discard(one.name)
            REGISTRY.register(one.metric)
        for values in one.series:
            one.metric.labels(*values)


# ----------------------------------------------------------------------------------------------------- every worker

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
STAGES = ("poll", "inbox", "load", "decide", "timers", "save", "log", "publish")
_LETTERS = ("poison", "behind", "unreadable", "refused")
_SENDERS = ("notification-sender", "notification-webhooks")
_OTHERS = (
    *_SENDERS,
    "notification-bounces",
    "notification-api",
    "enforcement-entities",
    "enforcement-delivery",
    "enforcement-statements",
    "enforcement-api",
    "intake-api",
    "watch",
)

EVENTS_CONSUMED = counter(
    "goodfaith_events_consumed_total",
    "Records read from a topic, by what became of them.",
    {"worker": WORKER, "topic": TOPIC, "result": ("applied", "skipped")},
    of=WORKERS,
    do="stands still while producers work: look at progress and logs. `skipped` grows: somebody writes types that this version does not know",
)
EVENTS_DUPLICATE = counter(
    "goodfaith_events_duplicate_total",
    "Records whose id was already in the inbox.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="a few after a crash are right; a steady stream: a producer sends again",
)
EVENTS_PRODUCED = counter(
    "goodfaith_events_produced_total",
    "Event log rows published and acknowledged.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
)
BATCH_SECONDS = histogram(
    "goodfaith_event_processing_duration_seconds",
    "Wall time of one batch's transaction.",
    {"worker": WORKER},
    buckets=_SECONDS,
    of=WORKERS,
    do="grows: the database; compare stages",
)
STAGE_SECONDS = counter(
    "goodfaith_worker_stage_seconds_total",
    "Wall time spent in each stage of the worker's loop.",
    {"worker": WORKER, "stage": STAGES},
    of=WORKERS,
    do="shows where the time goes",
)
BATCH_RECORDS = histogram(
    "goodfaith_batch_records",
    "Records in one batch.",
    {"worker": WORKER},
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
    of=WORKERS,
    do="small batches under load: more workers than the load needs, or the broker is slow",
)
LAG_SECONDS = histogram(
    "goodfaith_event_end_to_end_lag_seconds",
    "Age of a batch's oldest record, from its writing on, when the batch was committed.",
    {"worker": WORKER, "topic": TOPIC},
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600),
    of=WORKERS,
    do="above a minute: too few workers, or a slow database. It says nothing while the worker stands still: look at its position",
)
POSITION = gauge(
    "goodfaith_consumer_position_timestamp_seconds",
    "Wall time up to which a topic is consumed: of the last record, or now at its end; least over the owned partitions. 0: owns none.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="`time() - x` is the lag as the worker sees it",
)
OUTBOX_PENDING = gauge(
    "goodfaith_outbox_pending",
    "Event log rows committed and not yet acknowledged by the broker.",
    {"worker": WORKER},
    of=WORKERS,
    do="stays above 0: the broker",
)
OUTBOX_OLDEST = gauge(
    "goodfaith_outbox_oldest_timestamp_seconds",
    "When the oldest event log row was committed that is not yet acknowledged; 0: none.",
    {"worker": WORKER},
    of=WORKERS,
    do="older than a minute: the broker; see this worker's log",
)
UNREAD_GONE = gauge(
    "goodfaith_unread_gone_partitions",
    "Owned partitions of a topic that a worker has stopped reading because the records it would read next are missing.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="above 0: `goodfaith restore unread` (operating.md)",
)
MISSING_TOPICS = gauge(
    "goodfaith_missing_topics",
    "Topics that a worker reads and the broker does not have: it waits for them and reads the others.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: `goodfaith migrate` creates them; then `goodfaith restore unread` (operating.md)",
)
REJOINS = counter(
    "goodfaith_consumer_rejoins_total",
    "Times a worker left its group and joined again because it was given nothing, or not all that belongs to a partition.",
    {"worker": WORKER},
    of=WORKERS,
    do="grows: look for a member of another version in the group, and for missing topics",
)
WENT_BACK = gauge(
    "goodfaith_database_went_back",
    "1 while a worker has stopped because the database lacks what it had committed: a late follower was promoted, or a backup restored.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: [the database went back](runbooks/DatabaseWentBack.md)",
)
DEAD_LETTERS = counter(
    "goodfaith_dead_letters_total",
    "Records parked or refused as poison.",
    {"worker": WORKER, "topic": TOPIC, "reason": _LETTERS},
    of=WORKERS,
    do="any but `refused`: [dead letters](operating.md#dead-letters)",
)
DEAD_LETTERS_DEPTH = gauge(
    "goodfaith_dead_letters_depth",
    "Keys that wait behind a poison record.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: a person is needed; these items stand still",
)
DEAD_LETTERS_OLDEST = gauge(
    "goodfaith_dead_letters_oldest_timestamp_seconds",
    "When the oldest record was parked that still waits; 0: none.",
    {"worker": WORKER},
    of=WORKERS,
    do="[dead letters](operating.md#dead-letters)",
)
REBALANCES = counter(
    "goodfaith_consumer_rebalances_total",
    "Assignments taken over.",
    {"worker": WORKER},
    of=(*WORKERS, "streams"),
    do="grows steadily: workers come and go; see logs and the session timeout",
)
ASSIGNED = gauge(
    "goodfaith_consumer_assigned_partitions",
    "Partitions owned.",
    {"worker": WORKER},
    of=(*WORKERS, "streams"),
    do="the sum over the workers of a kind must be the partition count",
)
FENCED = counter(
    "goodfaith_fenced_total",
    "Transactions refused because another worker owns the partition.",
    {"worker": WORKER},
    of=WORKERS,
    do="a few around rebalances; a steady stream: two installations share a database",
)
RETRIES = counter(
    "goodfaith_transient_failures_total",
    "Batches put off by a failure that passes, by what failed; of senders also their calls to intake and to the mail server.",
    {"worker": WORKER, "part": ("broker", "database", "bug", "intake", "smtp")},
    of=(*WORKERS, *_SENDERS),
    do="`bug`: read the log entry `stuck`",
)
TIMERS_FIRED = counter("goodfaith_timers_fired_total", "Timers fired.", {"worker": WORKER}, of=WORKERS)
PROGRESS = gauge(
    "goodfaith_worker_progress_timestamp_seconds",
    "When the loop last came round, or last waited for the next try or the broker's answer.",
    {"worker": WORKER},
    of=(*WORKERS, *_OTHERS, "streams"),
    do="`time() - x` above a minute: stuck, though its port answers",
)
WATERMARK = gauge(
    "goodfaith_watermark_timestamp_seconds",
    "Least watermark over the owned partitions, in business time.",
    {"worker": WORKER},
    of="verification",
    do="falls behind the clock: deadlines stand still. Look at intake's worker and, with upstreams, at inbound",
)
SPANS = counter(
    "goodfaith_spans_total",
    "Spans of traces that were sent, by what became of them.",
    {"result": ("exported", "failed")},
    of=(*WORKERS, "intake-api", "enforcement-api", "notification-api", *_SENDERS, "enforcement-delivery", "streams"),
    do="`failed` grows: the collector is away. Nothing else suffers",
)


def begin(worker: str, topics: Iterable[str], writes: Iterable[str] = ()) -> None:
    """Show a worker's series at 0 before anything happens."""
    for topic in topics:
        for result in ("applied", "skipped"):
            EVENTS_CONSUMED.labels(worker, topic, result)
        for reason in _LETTERS:
            DEAD_LETTERS.labels(worker, topic, reason)
        EVENTS_DUPLICATE.labels(worker, topic)
        LAG_SECONDS.labels(worker, topic)
        POSITION.labels(worker, topic)
        UNREAD_GONE.labels(worker, topic)
    DEAD_LETTERS.labels(worker, "@timer", "poison")
    for topic in writes:
        EVENTS_PRODUCED.labels(worker, topic)
    for stage in STAGES:
        STAGE_SECONDS.labels(worker, stage)
    for part in ("broker", "database", "bug"):
        RETRIES.labels(worker, part)
    for one in (
        OUTBOX_OLDEST, DEAD_LETTERS_OLDEST, REBALANCES, REJOINS, MISSING_TOPICS, FENCED, TIMERS_FIRED, OUTBOX_PENDING, DEAD_LETTERS_DEPTH, ASSIGNED, BATCH_SECONDS, BATCH_RECORDS, WENT_BACK,
    ):  # fmt: skip
        one.labels(worker)


def begin_sender(process: str) -> None:
    """The same for a process that sends what is to be told."""
    for part in ("database", "intake", "smtp"):
        RETRIES.labels(process, part)
    PROGRESS.labels(process).set_to_current_time()
