"""The metrics of the views.

Every value is computed from the states in the tables, so a restart or rebalance neither loses nor duplicates
anything. Every series has the label ``partition``. While a partition moves, two workers may export it, so rules take
``max by (partition, ...)`` first and then sum. Names and label values are declared here; all series exist from the
start, at 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.streams import accounts, filings, items, sellers
from services.streams.fold import Partition
from services.streams.registry import VIEWS as VIEWS_
from services.streams.views import SECOND, Histogram
from shared import metrics, policy
from shared.concentration import SIZES
from shared.events import RecordSize
from shared.standing import bounds

AUDIT_SIZES: Final[tuple[str, ...]] = get_args(RecordSize)
OTHER: Final = "other"
"""Label for reasons that no policy has for that kind of right."""


def reasons() -> dict[str, tuple[str, ...]]:
    """By kind of right, the reasons that any policy has for it, plus ``other``."""
    found: dict[str, set[str]] = {}
    for version in policy.versions():
        for code, reason in policy.load(version).reasons.items():
            for right in reason.rights:
                found.setdefault(right, set()).add(code)
    return {right: (*sorted(codes), OTHER) for right, codes in sorted(found.items())}


class ViewsCollector(Collector):
    """Exports the figures of the partitions that this process owns.

    Args:
        partitions: the recovered and owned partitions; called from any thread.
        now: business time.
    """

    def __init__(self, partitions: Callable[[], Iterable[Partition]], now: Callable[[], dt.datetime]) -> None:
        self._partitions = partitions
        self._now = now
        self._reasons = reasons()
        self._reconciled: dict[tuple[str, int], tuple[int, float]] = {}

    def reconciled(self, view: str, partition: int, difference: int, wall: float) -> None:
        """Export the result of a reconciliation. ``wall``: its time, in seconds since 1970."""
        self._reconciled[view, partition] = (difference, wall)

    def describe(self) -> Iterable[Metric]:
        """The families without samples, so that registering computes no figures."""
        return list(self._families().values())

    def collect(self) -> Iterable[Metric]:
        """All series of all owned partitions."""
        now = self._now()
        families = self._families()
        families["clock"].add_metric((), now.timestamp())
        owned = list(self._partitions())
        for partition in owned:
            number = str(partition.number)
            figures = partition.figures(now)
            self._items(families, number, figures["items"])
            self._sellers(families, number, figures["violations"])
            for state in accounts.STATES:
                families["good_faith"].add_metric((number, state), figures["accounts"].get(state, 0))
            self._filings(families, number, figures["filings"])
            for view in VIEWS:
                difference, wall = self._reconciled.get((view, partition.number), (0, 0.0))
                families["difference"].add_metric((number, view), difference)
                families["reconciled"].add_metric((number, view), wall)
        return list(families.values())

    def _families(self) -> dict[str, Any]:
        return {
            name: _KINDS[one.kind](one.name.removesuffix("_total"), one.means, labels=tuple(one.labels))
            for name, one in FAMILIES.items()
        }

    def _items(self, families: Mapping[str, Any], number: str, figures: items.ItemFigures) -> None:
        for tier in metrics.TIERS:
            for outcome in ("met", "missed"):
                families["outcomes"].add_metric((number, outcome, tier), figures.outcomes.get((outcome, tier), 0))
            for waits_for in items.WHERE:
                families["open"].add_metric((number, waits_for, tier), figures.open.get((waits_for, tier), 0))
            _histogram(families["handling"], (number, tier), figures.handling.get(tier), items.HANDLING)
        for waits_for in items.WHERE:
            families["oldest"].add_metric((number, waits_for), figures.oldest.get(waits_for, 0) / SECOND)
        for seconds in items.WITHIN:
            families["due_soon"].add_metric((number, str(seconds)), figures.due_soon[seconds])
        for state in sorted(items.PAUSING):
            families["paused"].add_metric((number, state.lower()), figures.paused.get(state, 0))
        for stage in items.BUDGETS:
            _histogram(families["durations"], (number, stage), figures.durations[stage], items.STAGES)
            for result in ("in_budget", "late"):
                families["completed"].add_metric((number, stage, result), figures.completed.get((stage, result), 0))
        for outcome in items.AUDITED:
            for size in AUDIT_SIZES:
                for found in items.FOUND:
                    count = figures.audits.get(f"{outcome}/{size}/{found}", 0)
                    families["audits"].add_metric((number, outcome, size, found), count)
        takedowns = self._by_reason(figures.takedowns)
        for right, codes in self._reasons.items():
            for reason in codes:
                for outcome in ("taken_down", "declined"):
                    families["takedowns"].add_metric(
                        (number, outcome, right, reason), takedowns.get((outcome, right, reason), 0)
                    )

    def _sellers(self, families: Mapping[str, Any], number: str, figures: sellers.OffenderFigures) -> None:
        for tier, count in figures.tiers.items():
            families["offenders"].add_metric((number, tier), count)
        for cohort, count in figures.first.items():
            families["first"].add_metric((number, cohort), count)
            families["again"].add_metric((number, cohort), figures.again[cohort])
        _histogram(families["intervals"], (number,), figures.intervals, sellers.INTERVALS)

    def _filings(self, families: Mapping[str, Any], number: str, figures: filings.FilingFigures) -> None:
        for size in SIZES:
            families["complainants"].add_metric((number, size), figures.complainants[size])
            families["filed"].add_metric((number, size), figures.items[size])
        families["squares"].add_metric((number,), figures.squares)

    def _by_reason(self, counts: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str, str], int]:
        found: dict[tuple[str, str, str], int] = {}
        for (outcome, right, reason), count in counts.items():
            key = (outcome, right, reason if reason in self._reasons.get(right, ()) else OTHER)
            found[key] = found.get(key, 0) + count
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


def _declare(kind: metrics.Kind, name: str, means: str, do: str = "-", **labels: tuple[str, ...]) -> metrics.Declared:
    given: metrics.Labels = {}
    if name != "clock_timestamp_seconds":
        given = {"partition": metrics.PARTITION, **labels}
    return metrics.collected(kind, f"goodfaith_{name}", means, given, of="streams", do=do)


VIEWS: Final = tuple(view.name for view in VIEWS_)
FAMILIES: Final = {
    "clock": _declare(
        "gauge",
        "clock_timestamp_seconds",
        "Business time now, from which to subtract business timestamps.",
        "does not advance outside of replays: somebody stopped the clock",
    ),
    "outcomes": _declare(
        "counter",
        "claim_sla_outcomes_total",
        "Items by whether they were handled in time; each counts once, when handled or at the deadline if earlier.",
        "`missed` grows: work on the oldest items first; what are they waiting for (look-ups, receipts, reviewers)?",
        outcome=("met", "missed"),
        tier=metrics.TIERS,
    ),
    "open": _declare(
        "gauge",
        "claim_items_open",
        "Items neither handled nor ended, by what they wait for: verification to take them (`intake`), its rules or a "
        "look-up (`verification`), a person (`review`), the `complainant` (the clock is paused), the marketplace "
        "(`enforcement`).",
        "grows: the stage says which part is slow",
        stage=items.WHERE,
        tier=metrics.TIERS,
    ),
    "oldest": _declare(
        "gauge",
        "claim_oldest_open_received_timestamp_seconds",
        "When the stage's oldest open item was received, plus the pauses of its clock, in **business time**; 0: none.",
        "18 h before the clock: six hours are left to act",
        stage=items.WHERE,
    ),
    "due_soon": _declare(
        "gauge",
        "claim_items_due_soon",
        "Open items with a running clock that are due within so many seconds, or overdue and not yet counted as "
        "missed; to the minute.",
        within_seconds=tuple(map(str, items.WITHIN)),
    ),
    "handling": _declare(
        "histogram",
        "claim_handling_duration_seconds",
        "From receipt to handled, less pauses, in business time: what the 24-hour target measures. Up to 86400: met, "
        "if the policy sets 24 h.",
        tier=metrics.TIERS,
    ),
    "durations": _declare(
        "histogram",
        "claim_stage_duration_seconds",
        "Business time of a stage: `recorded` (receipt to verification's first event), `notification` (takedown to the seller's "
        "notice), `enforcement` (hold to the marketplace's receipt). Each budget is a bucket bound.",
        stage=tuple(items.BUDGETS),
    ),
    "completed": _declare(
        "counter",
        "claim_stage_completed_total",
        "Stages completed within their budget (60, 300, 3600 s) or late. A stage still under way after its budget "
        "counts as late already; one that the item left unfinished (withdrawn) does not count.",
        "`late` grows: check the stage's workers and their lag in seconds",
        stage=tuple(items.BUDGETS),
        result=("in_budget", "late"),
    ),
    "paused": _declare(
        "gauge",
        "claim_clock_paused",
        "Open items whose 24-hour clock is paused, by reason.",
        "grows: do pauses hide items that would be missed?",
        reason=tuple(state.lower() for state in sorted(items.PAUSING)),
    ),
    "takedowns": _declare(
        "counter",
        "takedowns_total",
        "Handled items without duplicates and dead links, by whether they were ever taken down: the basis of the "
        "takedown rate.",
        outcome=("taken_down", "declined"),
        right_type=metrics.RIGHT_TYPES,
        reason=tuple(sorted({code for codes in reasons().values() for code in codes})),
    ),
    "audits": _declare(
        "gauge",
        "audited_items",
        "Items at which a person was asked to look without seeing what a rule or a silence had made of them, by that "
        "outcome, the complainant's settled items when it filed, and the finding (`waiting`: none yet).",
        "`overturned` is the rules' error rate: [what it says](policies.md#audits); `waiting` grows: "
        "reviewers do not get to the sample",
        outcome=items.AUDITED,
        size=AUDIT_SIZES,
        found=items.FOUND,
    ),
    "offenders": _declare(
        "gauge",
        "repeat_offenders",
        "Sellers with two or more violations in force within the last 365 days, by tier.",
        "rises: sanctions do not deter, or a business opens new accounts",
        tier=tuple(name for name, _, _ in bounds(sellers.rules())),
    ),
    "first": _declare(
        "gauge",
        "recidivism_sellers",
        "Sellers whose first violation in force is one to two years old (`whole`: the basis of the rate) or younger "
        "(`young`).",
        cohort=("whole", "young"),
    ),
    "again": _declare(
        "gauge",
        "recidivism_sellers_again",
        "Those of `goodfaith_recidivism_sellers` with another violation less than 365 days after the first; the ratio "
        "of the two is the recidivism rate.",
        "rises: warnings do not reach sellers, or do not matter to them",
        cohort=("whole", "young"),
    ),
    "intervals": _declare(
        "histogram",
        "offence_interval_seconds",
        "From a violation in force to the seller's next one, if that is within the last 365 days. Current state: it "
        "may shrink.",
    ),
    "good_faith": _declare(
        "gauge",
        "good_faith_complainants",
        "Accounts in the good-faith mechanism (`in`; `warned`: demoted soon unless their figures improve), and those "
        "that left it and may not rejoin yet (`barred`).",
        "many `warned` at once: did the policy or the reviewers change?",
        state=accounts.STATES,
    ),
    "complainants": _declare(
        "gauge",
        "filing_complainants",
        "Accounts that filed in the last 30 business days (UTC, including today), by how many items they filed.",
        size=SIZES,
    ),
    "filed": _declare(
        "gauge",
        "filing_items",
        "Items filed in the last 30 business days, by their complainant's size class, without near copies filed by "
        "the system.",
        "the share of `1000+` rises: the programme serves only a few; check lanes and quotas before another one comes",
        size=SIZES,
    ),
    "squares": _declare(
        "gauge",
        "filing_items_squares",
        "Sum of the squares of each complainant's items. Divided by the square of the total, it is the "
        "Herfindahl-Hirschman index.",
    ),
    "difference": _declare(
        "gauge",
        "reconciliation_difference",
        "Sum of the differences between a view's counts and the database's at a common position. It must be 0.",
        "above 0: the view is wrong (rebuild it) or the database was changed by hand; the log names the counts",
        view=VIEWS,
    ),
    "reconciled": _declare(
        "gauge",
        "reconciliation_last_timestamp_seconds",
        "Wall time at which a view was last compared with the database; 0: not yet.",
        "an hour ago: the database cannot be read, or the view has stalled",
        view=VIEWS,
    ),
}
_KINDS: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
