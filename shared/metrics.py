"""Metrics, each declared once: name, meaning, labels with their values, processes that export it, and what to do.

A module declares its metrics with ``counter``, ``gauge`` or ``histogram``, or with ``collected`` if a collector of
its own exports them, and is listed in ``DECLARING``. ``docs/reference/metrics.md`` (``python -m
tools.metrics_docs``), the ``catalogue`` that rules and dashboards are checked against, the series that a process
starts at 0, and the tests of all expositions are derived from the declarations. No id of a party, claim or item is
ever a label.
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

# they would be a second series per counter, which nobody queries
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a label that are bounded, but not known in the code.

    Attributes:
        text: what they are, for people.
        pattern: regular expression that each value matches as a whole.
    """

    text: str
    pattern: str

    def matches(self, value: str) -> bool:
        """Whether ``value`` can be one of them."""
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
    "services.notification.metrics",
    "services.notification.webhook_metrics",
    "services.notification.bounces",
    "services.observer.watch",
    "services.streams.figures",
    "services.observer.status_page",
    "services.streams.collector",
    "services.observer.canary_rounds",
    "deploy.mailbox.__main__",
)
"""Modules that declare metrics; ``load`` imports them all."""

_JOBS: Final = {"intake": "intake-worker", "enforcement": "enforcement-worker", "notification": "notification-worker"}


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric as declared.

    Attributes:
        name: full name, as used in a query; a histogram's without ``_bucket``.
        means: what it says, for the documents and the exposition's HELP. ``code`` is in Markdown.
        labels: the values of each label: a tuple of all of them, or ``Values``.
        processes: the processes that export it, as named in ``deploy/local/fleet.py``: Prometheus' label ``job``.
        do: what to do about it.
        series: label values, in the labels' order, whose series begin at 0; fewer than the product if not all occur.
        metric: the client's object; None if a collector exports it.
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
    """Declare a counter; ``Declared`` describes the parameters. Its name ends in ``_total``.

    Raises:
        ValueError: the name is already declared, or does not fit the kind.
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
    """Declare a histogram with its buckets' upper bounds; see ``counter``."""
    _check("histogram", name)
    made = Histogram(name, means, tuple(labels or ()), buckets=buckets)
    _declare("histogram", name, means, labels, of, do, series, made)
    return made


def collected(
    kind: Kind, name: str, means: str, labels: Labels | None = None, *, of: str | Iterable[str], do: str = "-"
) -> Declared:
    """Declare what a collector (``prometheus_client.registry.Collector``) exports; it makes its own series at 0."""
    return _declare(kind, name, means, labels, of, do, (), None)


def declared(process: str | None = None) -> Iterator[Declared]:
    """The metrics declared by the modules imported so far (of one process, if given), in the order of declaration."""
    return (one for one in _declared.values() if process is None or process in one.processes)


def load() -> dict[str, Declared]:
    """Import every declaring module and return all metrics of all processes by name. Not for processes that serve."""
    for module in DECLARING:
        importlib.import_module(module)
    return dict(_declared)


def catalogue() -> dict[str, tuple[Kind, tuple[str, ...]]]:
    """Kind and labels of every metric of every process, by name: what rules and dashboards may query.

    Leaves out the label ``le`` of histograms and Prometheus' own ``job`` and ``instance``.
    """
    return {name: (one.kind, tuple(one.labels)) for name, one in load().items()}


def begin_process(process: str) -> None:
    """Expose what this process exports and nothing else, with series at 0 for all known label values.

    Called by ``shared.runtime.health``. An absent series cannot be told from one that does not change; and a series of
    another process, whose module happens to be imported, would be mistaken for this one's.

    Args:
        process: its name in the fleet, or its worker's. A name in no declaration (a test's) exposes everything.
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
    "verification-api",
    "intake-api",
    "intake-pictures",
    "intake-registers",
    "watch",
)

EVENTS_CONSUMED = counter(
    "goodfaith_events_consumed_total",
    "Records read from a topic, by what became of them.",
    {"worker": WORKER, "topic": TOPIC, "result": ("applied", "skipped")},
    of=WORKERS,
    do="does not grow although producers write: look at progress and logs. `skipped` grows: somebody writes types that"
    " this version does not know",
)
EVENTS_DUPLICATE = counter(
    "goodfaith_events_duplicate_total",
    "Records whose id was already in the inbox.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="a few after a crash are normal; a steady stream: a producer sends records again",
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
    do="grows: the database is slow; compare stages",
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
    "Time from the writing of a batch's oldest record to the batch's commit.",
    {"worker": WORKER, "topic": TOPIC},
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600),
    of=WORKERS,
    do="above a minute: too few workers, or a slow database. It says nothing while the worker is stuck: look at its"
    " position",
)
POSITION = gauge(
    "goodfaith_consumer_position_timestamp_seconds",
    "Wall time up to which a topic is consumed: that of the last record, or now at the end; least of all owned"
    " partitions. 0: owns none.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="`time() - x` is the lag as the worker sees it",
)
OUTBOX_PENDING = gauge(
    "goodfaith_outbox_pending",
    "Event log rows committed but not yet acknowledged by the broker.",
    {"worker": WORKER},
    of=WORKERS,
    do="stays above 0: look at the broker",
)
OUTBOX_OLDEST = gauge(
    "goodfaith_outbox_oldest_timestamp_seconds",
    "When the oldest event log row that is not yet acknowledged was committed; 0: none.",
    {"worker": WORKER},
    of=WORKERS,
    do="older than a minute: look at the broker and this worker's log",
)
UNREAD_GONE = gauge(
    "goodfaith_unread_gone_partitions",
    "Owned partitions of a topic that a worker has stopped reading because the records it would read next are missing.",
    {"worker": WORKER, "topic": TOPIC},
    of=WORKERS,
    do="above 0: [repair topics](../how-to/repair-topics.md) with `goodfaith restore unread`",
)
MISSING_TOPICS = gauge(
    "goodfaith_missing_topics",
    "Topics that a worker reads but the broker does not have: the worker waits for them and reads the others.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: `goodfaith migrate` creates them; then [repair topics](../how-to/repair-topics.md) with"
    " `goodfaith restore unread`",
)
REJOINS = counter(
    "goodfaith_consumer_rejoins_total",
    "Times a worker left its group and rejoined because it was assigned nothing, or only some topics of a partition.",
    {"worker": WORKER},
    of=WORKERS,
    do="grows: look for group members of another version and for missing topics",
)
WENT_BACK = gauge(
    "goodfaith_database_went_back",
    "1 while a worker has stopped because the database lacks what it had committed: a late follower was promoted, or a backup restored.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: [the database went back](../runbooks/DatabaseWentBack.md)",
)
DEAD_LETTERS = counter(
    "goodfaith_dead_letters_total",
    "Records set aside as dead letters, by reason; `refused`: unreadable ones from outside.",
    {"worker": WORKER, "topic": TOPIC, "reason": _LETTERS},
    of=WORKERS,
    do="any but `refused`: [handle dead letters](../how-to/handle-dead-letters.md)",
)
DEAD_LETTERS_DEPTH = gauge(
    "goodfaith_dead_letters_depth",
    "Keys whose records wait for a dead letter.",
    {"worker": WORKER},
    of=WORKERS,
    do="above 0: a person is needed; these items do not move",
)
DEAD_LETTERS_OLDEST = gauge(
    "goodfaith_dead_letters_oldest_timestamp_seconds",
    "When the oldest record that still waits was set aside as a dead letter; 0: none.",
    {"worker": WORKER},
    of=WORKERS,
    do="[handle dead letters](../how-to/handle-dead-letters.md)",
)
REBALANCES = counter(
    "goodfaith_consumer_rebalances_total",
    "Partition assignments taken over.",
    {"worker": WORKER},
    of=(*WORKERS, "streams"),
    do="grows steadily: workers come and go; check logs and the session timeout",
)
ASSIGNED = gauge(
    "goodfaith_consumer_assigned_partitions",
    "Partitions owned.",
    {"worker": WORKER},
    of=(*WORKERS, "streams"),
    do="the sum over all workers of a kind must be the partition count",
)
FENCED = counter(
    "goodfaith_fenced_total",
    "Transactions refused because another worker owns the partition.",
    {"worker": WORKER},
    of=WORKERS,
    do="a few around rebalances are normal; a steady stream: two installations share a database",
)
RETRIES = counter(
    "goodfaith_transient_failures_total",
    "Batches delayed by a transient failure, by what failed; for senders also calls to intake and the mail server.",
    {"worker": WORKER, "part": ("broker", "database", "bug", "intake", "smtp")},
    of=(*WORKERS, *_SENDERS),
    do="`bug`: read the log entry `stuck`",
)
TIMERS_FIRED = counter("goodfaith_timers_fired_total", "Timers fired.", {"worker": WORKER}, of=WORKERS)
PROGRESS = gauge(
    "goodfaith_worker_progress_timestamp_seconds",
    "When the loop last completed a turn, or last waited for the next try or the broker's answer.",
    {"worker": WORKER},
    of=(*WORKERS, *_OTHERS, "streams"),
    do="`time() - x` above a minute: stuck, even if its port answers",
)
WATERMARK = gauge(
    "goodfaith_watermark_timestamp_seconds",
    "Lowest watermark of the owned partitions, in business time.",
    {"worker": WORKER},
    of="verification",
    do="falls behind the clock: deadlines do not fire. Look at `intake-worker` and, with upstreams, `intake-inbound`",
)
SPANS = counter(
    "goodfaith_spans_total",
    "Trace spans sent to the collector, by result.",
    {"result": ("exported", "failed")},
    of=(
        *WORKERS,
        "intake-api",
        "verification-api",
        "enforcement-api",
        "notification-api",
        *_SENDERS,
        "enforcement-delivery",
        "streams",
    ),
    do="`failed` grows: the collector cannot be reached. Nothing else is affected",
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
        OUTBOX_OLDEST,
        DEAD_LETTERS_OLDEST,
        REBALANCES,
        REJOINS,
        MISSING_TOPICS,
        FENCED,
        TIMERS_FIRED,
        OUTBOX_PENDING,
        DEAD_LETTERS_DEPTH,
        ASSIGNED,
        BATCH_SECONDS,
        BATCH_RECORDS,
        WENT_BACK,
    ):
        one.labels(worker)


def begin_sender(process: str) -> None:
    """Show a sending process's series at 0 before anything happens."""
    for part in ("database", "intake", "smtp"):
        RETRIES.labels(process, part)
    PROGRESS.labels(process).set_to_current_time()
