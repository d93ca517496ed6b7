"""Recording rules: the current figures of the 24-hour target, and the same over windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deploy.prometheus.model import Pace, Record

FIGURES: Final = ("1h", "1d", "30d")


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
    "goodfaith_audited_items": ("outcome", "size", "found"),
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


def increase_of(total: str, window: str, pace: Pace) -> str:
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
            yield Record(increase, increase_of(f"{total}:total", window, pace))
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


Z: Final = 1.959964
"""Quantile of the normal distribution for an interval of 95 %."""


def audit_figures(_: Pace) -> Iterable[Record]:
    """Error rates of what happens without a person: the share of answered audits that overturned it, with an interval.

    Wilson's score interval (E. B. Wilson, 1927) does not leave 0 to 1 and holds for small samples and rare errors,
    where the usual one says that no error was found, so there is none. Empty while nothing is answered.
    """
    yield Record("goodfaith:audited:sum", _sum("goodfaith_audited_items", "outcome, size, found"))
    for name, by in (("", "outcome"), ("_by_size", "outcome, size")):
        answered = f'(sum by ({by}) (goodfaith:audited:sum{{found!="waiting"}}) > 0)'
        overturned = f'sum by ({by}) (goodfaith:audited:sum{{found="overturned"}})'
        rate = f"goodfaith:audit_overturned{name}:ratio"
        yield Record(f"goodfaith:audit_answered{name}:sum", answered)
        yield Record(rate, f"({overturned} or {answered} * 0) / {answered}")
        n, square = f"goodfaith:audit_answered{name}:sum", round(Z * Z, 6)
        middle = f"({rate} + {square} / (2 * {n}))"
        half = f"{Z} * sqrt({rate} * (1 - {rate}) / {n} + {square} / (4 * {n} ^ 2))"
        for side, sign in (("low95", "-"), ("high95", "+")):
            yield Record(
                f"goodfaith:audit_overturned{name}:{side}",
                f"clamp(({middle} {sign} {half}) / (1 + {square} / {n}), 0, 1)",
            )
