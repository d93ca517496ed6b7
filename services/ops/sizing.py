"""Calculates from measurements what an installation needs, for `goodfaith size`. Pure.

Every figure below was measured by this project on two cores, unless its docstring says otherwise. Nothing was measured
beyond two cores: that work divides evenly over workers, and that each further core of the database does as much as the
first, are assumptions. The spare of `Wanted` allows for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CPU_US: Final[Mapping[str, int]] = {
    "database": 253,
    "verification": 104,
    "intake-worker": 89,
    "enforcement-worker": 69,
    "intake-inbound": 66,
    "broker": 54,
    "notification-worker": 51,
    "enforcement-ledger": 15,
}
"""Microseconds of processor time per item on its way in, with full batches: docs/explanation/performance.md."""
RATE: Final = 2_727
"""Items per second on two cores, until command and notice are queued."""
RATE_HANDLED: Final = 1_245
"""The same until items are handled: with receipts, sent notices, and the marketplace's stand-in on the same cores."""
EVENTS: Final = 15.6
"""Events in an item's whole life, on average over the real notices."""
EVENT_BYTES: Final = 690
MESSAGES: Final = 268_012 / 124_762
"""Messages per item, on average over the real notices."""
ITEMS: Final = 124_762 / 18_151
"""Items per claim, on average over the real notices."""
HTTP_PER_S: Final = 2_968
"""Claims per second of one `intake api`, with its client on the same cores."""
SENDER_PER_S: Final = 750
"""Messages per second of one sender."""
STREAMS_PER_S: Final = 4_136
"""Events per second of one worker of the stream views."""

BROKER_MB_S: Final = 60
"""Megabytes per second to plan per broker. Not measured: what a common network disk takes with room to spare."""
BROKER_TB: Final = 8
"""Terabytes of topics to plan per broker. Not measured: what a common disk holds and a day suffices to copy."""
WORKER_CONNECTIONS: Final = 6
CONNECTIONS: Final[Mapping[str, int]] = {
    "intake-api": 12,
    "verification-api": 8,
    "enforcement-api": 8,
    "notification-api": 8,
    "notification-bounces": 8,
    "intake-worker": 8,
    "intake-inbound": 7,
    "streams": 7,
    "watch": 2,
}
"""Maximum database connections of one process (docs/how-to/size-an-installation.md); others: as a worker."""
ALWAYS: Final[Mapping[str, int]] = {
    "verification-api": 2,
    "enforcement-api": 2,
    "notification-api": 2,
    "notification-webhooks": 2,
    "notification-bounces": 2,
    "enforcement-entities": 2,
    "watch": 1,
}
"""Further processes of every installation, and how many. Their work is small and was not measured separately."""
DAY_S: Final = 86_400
WORKERS: Final = (
    "intake-worker",
    "intake-inbound",
    "verification",
    "enforcement-worker",
    "enforcement-ledger",
    "notification-worker",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The load to size for.

    Attributes:
        peak: Items per second that the installation must keep up with.
        mean: Mean items per second over a day, by which disks fill.
        claims_by_http: Share of claims filed by HTTP, one per request; the rest come by topic.
        spare: Share of every core that stays free at the peak.
        replication: Replicas of each topic.
        topic_days: Days that topics keep records (`GOODFAITH_TOPIC_DAYS`).

    Raises:
        ValueError: a figure is out of bounds; the message names it.
    """

    peak: float
    mean: float
    claims_by_http: float = 1.0
    spare: float = 0.4
    replication: int = 3
    topic_days: int = 30

    def __post_init__(self) -> None:
        bounds = {
            "peak": (self.peak, 0.001, 1_000_000),
            "mean": (self.mean, 0.0, self.peak),
            "claims_by_http": (self.claims_by_http, 0.0, 1.0),
            "spare": (self.spare, 0.0, 0.9),
            "replication": (self.replication, 1, 7),
            "topic_days": (self.topic_days, 7, 30),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:  # true for NaN as well
                raise ValueError(f"{name} is {value:g}: it must be from {least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class Need:
    """One part of an installation.

    Attributes:
        name: Process, or `database`, `broker`.
        cores: Processor time at the peak, in cores.
        count: How many to run.
        why: The arithmetic, in words.
    """

    name: str
    cores: float
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Size:
    """What an installation needs."""

    wanted: Wanted
    needs: tuple[Need, ...]
    partitions: int
    connections: int
    log_gb_a_day: float
    topics_gb: float

    def __getitem__(self, name: str) -> Need:
        return next(need for need in self.needs if need.name == name)

    @property
    def cores(self) -> float:
        """Processor time of all parts at the peak."""
        return sum(need.cores for need in self.needs)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "peak": self.wanted.peak,
            "mean": self.wanted.mean,
            "partitions": self.partitions,
            "connections": self.connections,
            "cores": round(self.cores, 1),
            "log_gb_a_day": round(self.log_gb_a_day, 1),
            "topics_gb": round(self.topics_gb),
            "needs": {need.name: {"cores": round(need.cores, 2), "count": need.count} for need in self.needs},
        }


HANDLED: Final = RATE / RATE_HANDLED
"""Cost of an item until it is handled, as a multiple of its way in. An upper bound: the stand-in is included."""
LATER: Final = 1.0
"""Cost of the rest of an item's life (windows that end, counters, outcomes), as a multiple of its cost until then.

Not measured: about as many events again. They come at the mean rate, weeks later.
"""


def size(wanted: Wanted) -> Size:
    """Calculate what is needed to keep up with the peak, and to store what comes in."""
    full = 1 - wanted.spare
    work = (wanted.peak + LATER * wanted.mean) * HANDLED
    claims = wanted.peak / ITEMS
    by_http = claims * wanted.claims_by_http
    needs = []

    def count(cores: float, least: int = 2) -> int:
        # a worker uses at most one core
        return max(least, math.ceil(cores / full - 1e-9))

    for name in WORKERS:
        share = 1 - wanted.claims_by_http if name == "intake-inbound" else 1.0
        cores = work * share * CPU_US[name] / 1e6
        if share:
            needs.append(Need(name, cores, count(cores), f"{CPU_US[name]} us, {full:.0%} of a core each"))

    apis = by_http / HTTP_PER_S
    needs.append(Need("intake-api", apis, count(apis), f"{HTTP_PER_S:,} claims/s each, of {ITEMS:.1f} items"))
    mails = wanted.peak * MESSAGES / SENDER_PER_S
    needs.append(
        Need("notification-sender", mails, count(mails), f"{MESSAGES:.2f} messages an item, {SENDER_PER_S}/s each")
    )
    folds = wanted.peak * EVENTS / STREAMS_PER_S
    needs.append(Need("streams", folds, count(folds), f"{EVENTS} events an item, {STREAMS_PER_S:,}/s each"))

    database = work * CPU_US["database"] / 1e6
    machine = max(2, math.ceil(database / full))
    needs.append(Need("database", database, 1, f"one primary of {machine} cores: {CPU_US['database']} us"))
    broker = work * CPU_US["broker"] / 1e6
    written = wanted.peak * EVENTS * EVENT_BYTES * wanted.replication / 1e6
    a_day = wanted.mean * DAY_S * EVENTS * EVENT_BYTES / 1e9
    kept = a_day * wanted.topic_days * wanted.replication
    brokers = max(wanted.replication, math.ceil(written / BROKER_MB_S), math.ceil(kept / (1000 * BROKER_TB)))
    why = f"{written:.0f} MB/s with replicas, {BROKER_MB_S} MB/s each; {kept / 1000:.1f} TB, {BROKER_TB} TB each"
    needs.append(Need("broker", broker, brokers, why))

    # twice the workers, because the number of partitions cannot change later
    most = max(need.count for need in needs if need.name in (*WORKERS, "streams"))
    partitions = max(24, 2 ** math.ceil(math.log2(2 * most)))
    processes = {**ALWAYS, **{need.name: need.count for need in needs if need.name not in ("database", "broker")}}
    # one more of each during a rollout
    connections = sum((count + 1) * CONNECTIONS.get(name, WORKER_CONNECTIONS) for name, count in processes.items())
    return Size(
        wanted=wanted,
        needs=tuple(needs),
        partitions=partitions,
        connections=connections,
        log_gb_a_day=a_day,
        topics_gb=kept,
    )


def table(rates: tuple[tuple[float, float], ...]) -> list[list[str]]:
    """What several rates (peak, mean) need, side by side, as rows of text with the header first."""
    sizes = [size(Wanted(peak, mean)) for peak, mean in rates]
    shorter = [size(Wanted(peak, mean, topic_days=7)) for peak, mean in rates]
    rows = [["", *(f"{peak:,.0f} items/s" for peak, _ in rates)]]
    rows.append(["mean over a day, items/s", *(f"{mean:,.0f}" for _, mean in rates)])
    rows += [
        [f"`{name}`", *(str(one[name].count) for one in sizes)]
        for name in (need.name for need in sizes[0].needs)
        if name not in ("database", "broker")
    ]
    rows += [
        ["partitions", *(str(one.partitions) for one in sizes)],
        ["brokers", *(str(one["broker"].count) for one in sizes)],
        ["the same with `GOODFAITH_TOPIC_DAYS=7`", *(str(one["broker"].count) for one in shorter)],
        [
            "cores of the database",
            *(str(max(2, math.ceil(one["database"].cores / (1 - one.wanted.spare)))) for one in sizes),
        ],
        ["connections to it, at most", *(f"{one.connections:,}" for one in sizes)],
        ["cores of all, at the peak", *(f"{one.cores:,.1f}" for one in sizes)],
        ["event logs grow by, GB a day", *(f"{one.log_gb_a_day:,.1f}" for one in sizes)],
        ["topics, 30 days and 3 replicas, GB", *(f"{one.topics_gb:,.0f}" for one in sizes)],
    ]
    return rows
