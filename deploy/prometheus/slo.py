"""Objectives of `slo.toml`: their indicators over all windows, and the alerts on how fast they use up their budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from deploy.prometheus.figures import increase_of
from deploy.prometheus.model import Alert, Pace, Record

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")


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
        yield Record(events, increase_of("goodfaith:slo_events:total", window, pace))
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
