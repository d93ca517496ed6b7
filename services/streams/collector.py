"""The metrics of the views. Every value is made of the states in the tables: a restart or a rebalance loses and doubles nothing.

Every series has the label ``partition``. While a partition moves two workers may export it: rules take ``max by (partition,
...)`` first and sum then. Names and label values are declared here; all of them are there at 0 from the start.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.streams import items, sellers
from services.streams.fold import Partition
from services.streams.views import SECOND, Histogram
from shared import policy

TIERS: Final = ("express", "standard", "bulk")
OTHER: Final = "other"
"""Reasons that no policy has, or not for that kind of right."""


def reasons() -> dict[str, tuple[str, ...]]:
    """By kind of right, the reasons that any policy has for it, and ``other``."""
    found: dict[str, set[str]] = {}
    for version in policy.versions():
        for code, reason in policy.load(version).reasons.items():
            for right in reason.rights:
                found.setdefault(right, set()).add(code)
    return {right: (*sorted(codes), OTHER) for right, codes in sorted(found.items())}


class Views(Collector):
    """Exports the figures of the partitions that this process owns.

    Args:
        partitions: those that are recovered and owned, now; may be called from any thread.
        now: business time.
    """

    def __init__(self, partitions: Callable[[], Iterable[Partition]], now: Callable[[], dt.datetime]) -> None:
        self._partitions = partitions
        self._now = now
        self._reasons = reasons()
        self._reconciled: dict[tuple[str, int], tuple[int, float]] = {}

    def reconciled(self, view: str, partition: int, difference: int, wall: float) -> None:
        """Show what a reconciliation found. ``wall``: when, seconds since 1970."""
        self._reconciled[view, partition] = (difference, wall)

    def describe(self) -> Iterable[Metric]:
        """The families without a sample, so that registering asks for no figures."""
        return list(self._families().values())

    def collect(self) -> Iterable[Metric]:
        """All series of all partitions owned."""
        now = self._now()
        families = self._families()
        families["clock"].add_metric((), now.timestamp())
        owned = list(self._partitions())
        for partition in owned:
            number = str(partition.number)
            figures = partition.figures(now)
            self._items(families, number, figures["items"])
            self._sellers(families, number, figures["violations"])
        numbers = {partition.number for partition in owned}
        for (view, number_), (difference, wall) in list(self._reconciled.items()):
            if number_ in numbers:
                families["difference"].add_metric((str(number_), view), difference)
                families["reconciled"].add_metric((str(number_), view), wall)
        return list(families.values())

    def _families(self) -> dict[str, Any]:
        return {
            name: kind(f"goodfaith_{full}", text, labels=labels)
            for name, (kind, full, text, labels) in FAMILIES.items()
        }

    def _items(self, families: Mapping[str, Any], number: str, told: items.Figures) -> None:
        for tier in TIERS:
            for outcome in ("met", "missed"):
                families["outcomes"].add_metric((number, outcome, tier), told.outcomes.get((outcome, tier), 0))
            for place in items.WHERE:
                families["open"].add_metric((number, place, tier), told.open.get((place, tier), 0))
            _histogram(families["handling"], (number, tier), told.handling.get(tier), items.HANDLING)
        for place in items.WHERE:
            families["oldest"].add_metric((number, place), told.oldest.get(place, 0) / SECOND)
        for seconds in items.WITHIN:
            families["due_soon"].add_metric((number, str(seconds)), told.due_soon[seconds])
        for state in sorted(items.PAUSING):
            families["paused"].add_metric((number, state.lower()), told.paused.get(state, 0))
        for stage in items.BUDGETS:
            _histogram(families["durations"], (number, stage), told.durations[stage], items.STAGES)
            for result in ("in_budget", "late"):
                families["completed"].add_metric((number, stage, result), told.completed.get((stage, result), 0))
        takedowns = self._by_reason(told.takedowns)
        for right, codes in self._reasons.items():
            for reason in codes:
                for outcome in ("taken_down", "declined"):
                    families["takedowns"].add_metric(
                        (number, outcome, right, reason), takedowns.get((outcome, right, reason), 0)
                    )

    def _sellers(self, families: Mapping[str, Any], number: str, told: sellers.Offenders) -> None:
        for tier, count in told.tiers.items():
            families["offenders"].add_metric((number, tier), count)
        for cohort, count in told.first.items():
            families["first"].add_metric((number, cohort), count)
            families["again"].add_metric((number, cohort), told.again[cohort])
        _histogram(families["intervals"], (number,), told.intervals, sellers.INTERVALS)

    def _by_reason(self, counts: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str, str], int]:
        found: dict[tuple[str, str, str], int] = {}
        for (outcome, right, reason), count in counts.items():
            place = (outcome, right, reason if reason in self._reasons.get(right, ()) else OTHER)
            found[place] = found.get(place, 0) + count
        return found


def _histogram(family: Any, labels: Sequence[str], histogram: Histogram | None, edges: tuple[int, ...]) -> None:
    counts = [0] * (len(edges) + 1) if histogram is None else histogram.buckets
    family.add_metric(
        labels, list(_cumulative(edges, counts)), sum_value=0 if histogram is None else histogram.total / SECOND
    )


def _cumulative(edges: tuple[int, ...], counts: Sequence[int]) -> Iterator[tuple[str, int]]:
    total = 0
    for edge, count in zip((*(f"{edge:.1f}" for edge in edges), "+Inf"), counts, strict=True):
        total += count
        yield edge, total


_P: Final = "partition"
FAMILIES: Final[dict[str, tuple[Any, str, str, tuple[str, ...]]]] = {
    "clock": (GaugeMetricFamily, "clock_timestamp_seconds", "Business time now: what business timestamps are subtracted from.", ()),
    "outcomes": (
        CounterMetricFamily, "claim_sla_outcomes", "Items handled in time or not, each once, at the earlier of handled and deadline.",
        (_P, "outcome", "tier"),
    ),
    "open": (
        GaugeMetricFamily, "claim_items_open",
        "Items not handled and not over: by who they wait for (intake: submitted, not recorded; complainant: the clock stands still).",
        (_P, "stage", "tier"),
    ),
    "oldest": (
        GaugeMetricFamily, "claim_oldest_open_received_timestamp_seconds",
        "When the oldest open item of the stage was received, business time; 0: none.", (_P, "stage"),
    ),
    "due_soon": (
        GaugeMetricFamily, "claim_items_due_soon",
        "Open items whose clock runs and that come due within so many seconds, or are due; to the minute.", (_P, "within_seconds"),
    ),
    "handling": (
        HistogramMetricFamily, "claim_handling_duration_seconds",
        "From receipt to handled, less pauses, business time: what the promise counts. At most 86400: met.", (_P, "tier"),
    ),
    "durations": (
        HistogramMetricFamily, "claim_stage_duration_seconds",
        "Business time of a stage: recorded (receipt to verification's first event), notification (decision to the seller's notice), "
        "enforcement (hold to the marketplace's receipt). An edge lies at each budget.", (_P, "stage"),
    ),
    "completed": (
        CounterMetricFamily, "claim_stage_completed",
        "Stages done in their budget (60, 300, 3600 s) or late; one that is under way beyond its budget is late already.",
        (_P, "stage", "result"),
    ),
    "paused": (
        GaugeMetricFamily, "claim_clock_paused", "Open items whose 24 hours stand still, by why.", (_P, "reason"),
    ),
    "takedowns": (
        CounterMetricFamily, "takedowns", "Handled items, duplicates and dead links left out: ever taken down, or not.",
        (_P, "outcome", "right_type", "reason"),
    ),
    "offenders": (
        GaugeMetricFamily, "repeat_offenders", "Sellers with two violations in force or more of the last 365 days, by tier.",
        (_P, "tier"),
    ),
    "first": (
        GaugeMetricFamily, "recidivism_sellers",
        "Sellers whose first violation in force is one to two years old (whole: what the rate is of) or younger (young).",
        (_P, "cohort"),
    ),
    "again": (
        GaugeMetricFamily, "recidivism_sellers_again", "Of them, those with a further one less than 365 days after the first.",
        (_P, "cohort"),
    ),
    "intervals": (
        HistogramMetricFamily, "offence_interval_seconds",
        "From a violation in force to the seller's next, where the later one is of the last 365 days: as it is now, it may shrink.",
        (_P,),
    ),
    "difference": (
        GaugeMetricFamily, "reconciliation_difference",
        "Sum of the differences between a view's counts and the database's at a common position; 0 is right.", (_P, "view"),
    ),
    "reconciled": (
        GaugeMetricFamily, "reconciliation_last_timestamp_seconds", "Wall time at which that was last counted.", (_P, "view"),
    ),
}  # fmt: skip
"""Family, name without prefix (and ``_total``), help, labels."""
