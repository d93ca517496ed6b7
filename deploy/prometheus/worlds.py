"""The test files for `promtool test rules`: the cases of `cases.py`, absent series, and values of recorded figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.prometheus import faults
from deploy.prometheus.areas import REQUIRED, SLI, area_of
from deploy.prometheus.cases import CASES, Series, clock, figure, handled, oldest, open_items, up
from deploy.prometheus.model import Alert, Pace
from deploy.prometheus.rules import alerts, groups


@dataclass(frozen=True)
class Figure:
    """Expected values of recorded figures for given series, with five minutes between samples.

    Attributes:
        name: What it shows.
        series: The input series.
        at: When it is checked.
        is_: Expected value by expression; None: no result.
    """

    name: str
    series: Series
    at: str
    is_: Mapping[str, str | None]


def _moved(name: str, **labels: str) -> dict[str, str]:
    """Grows by ten every five minutes on each of two partitions; after an hour the first has no worker for a moment."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {
        f'{name}{{instance="streams.0",partition="0",{told}}}': "0+10x12 stale",
        f'{name}{{instance="streams.1",partition="0",{told}}}': "_x14 140+10x20",
        f'{name}{{instance="streams.1",partition="1",{told}}}': "0+10x40",
    }


_MET: Final = 'goodfaith:sla_outcomes:total{outcome="met"}'

FIGURES: Final = (
    Figure(
        "a window is exact, also while a partition moves",
        {
            **_moved("goodfaith_claim_sla_outcomes_total", outcome="met", tier="standard"),
            'goodfaith_claim_sla_outcomes_total{instance="streams.1",partition="1",outcome="missed",tier="standard"}': "0x10 5x30",
        },
        "100m",
        {
            'goodfaith:sla_outcomes:total{outcome="met"}': "400",
            'goodfaith:sla_outcomes:increase_1h{outcome="met"}': "240",
            'goodfaith:sla_outcomes:increase_1d{outcome="met"}': "400",
            "goodfaith:handled_in_time:ratio_1h": "0.9795918367346939",
            "goodfaith:handled_in_time:ratio_30d": "0.9876543209876543",
            # while no worker has the partition, its last value counts
            f"min_over_time(({_MET} - {_MET} offset 5m)[80m:5m])": "10",
        },
    ),
    Figure(
        "the interval of an error rate holds for few audits, and where no error was found",
        {
            f'goodfaith_audited_items{{instance="streams.0",partition="{partition}",outcome="{outcome}",size="{size}",found="{found}"}}': f"{count}x40"
            for partition, outcome, size, found, count in (
                (0, "upheld_by_rule", "20-199", "agrees", 60),
                (1, "upheld_by_rule", "20-199", "agrees", 36),
                (1, "upheld_by_rule", "0", "overturned", 4),
                (1, "upheld_by_rule", "0", "waiting", 7),
                (0, "upheld_by_default", "1-19", "agrees", 50),
                (0, "restored_by_default", "1-19", "waiting", 3),
            )
        },
        "100m",
        {
            'goodfaith:audit_overturned:ratio{outcome="upheld_by_rule"}': "0.04",
            'round(goodfaith:audit_overturned:low95{outcome="upheld_by_rule"}, 0.0001)': "0.0157",
            'round(goodfaith:audit_overturned:high95{outcome="upheld_by_rule"}, 0.0001)': "0.0984",
            'round(goodfaith:audit_overturned:low95{outcome="upheld_by_default"}, 0.0001)': "0",
            'round(goodfaith:audit_overturned:high95{outcome="upheld_by_default"}, 0.0001)': "0.0713",
            'goodfaith:audit_overturned:ratio{outcome="restored_by_default"}': None,
            'goodfaith:audit_overturned_by_size:ratio{outcome="upheld_by_rule",size="0"}': "1",
            'goodfaith:audit_answered_by_size:sum{outcome="upheld_by_rule",size="20-199"}': "96",
        },
    ),
    Figure(
        "an item that was declined and is taken down after all changes sides",
        {
            **figure(
                "goodfaith_takedowns_total", "10x10 9x20", outcome="declined", right_type="trademark", reason="other"
            ),
            **figure(
                "goodfaith_takedowns_total", "10x10 11x20", outcome="taken_down", right_type="trademark", reason="other"
            ),
        },
        "100m",
        {"goodfaith:takedown:ratio_30d": "0.55", "goodfaith:takedown:ratio_1h": "1"},
    ),
    Figure(
        "what is open drains at the pace of the last half hour",
        {
            **open_items("80x30"),
            **open_items("20x30", "review"),
            **open_items("50x30", "complainant"),
            **handled("0+10x30"),
        },
        "100m",
        {
            "goodfaith:items_waiting_for_us:sum": "100",
            "goodfaith:items_moving:sum": "80",
            "goodfaith:drain_seconds:forecast": "3000",
        },
    ),
    Figure(
        "nothing drains when nothing is handled",
        {**open_items("80x30"), **handled("7x30")},
        "100m",
        {"goodfaith:drain_seconds:forecast": "+Inf", "goodfaith:oldest_open_age_seconds": None},
    ),
    Figure(
        "nothing is open",
        {**open_items("0x30"), **handled("7x30"), **clock("0+300x30"), **oldest("0x30")},
        "100m",
        {"goodfaith:drain_seconds:forecast": "0", 'goodfaith:oldest_open_age_seconds{stage="review"}': "0"},
    ),
    Figure(
        "one complainant of 37 files 64 of 100 items, and its partition moves",
        {
            **figure("goodfaith_filing_items", "64x30", size="20-199"),
            **figure("goodfaith_filing_items_squares", "4096x30"),
            'goodfaith_filing_items{instance="streams.1",partition="1",size="20-199"}': "0x30",
            'goodfaith_filing_items{instance="streams.1",partition="1",size="1"}': "36x30",
            'goodfaith_filing_items_squares{instance="streams.1",partition="1"}': "36x30",
        },
        "100m",
        {
            "goodfaith:filing_concentration:hhi": "0.4132",
            'goodfaith:filing_items:share{size="20-199"}': "0.64",
            'goodfaith:filing_items:share{size="1"}': "0.36",
        },
    ),
    Figure(
        "nobody filed",
        {**figure("goodfaith_filing_items", "0x30", size="1"), **figure("goodfaith_filing_items_squares", "0x30")},
        "100m",
        {"goodfaith:filing_concentration:hhi": None, 'goodfaith:filing_items:share{size="1"}': None},
    ),
)


@dataclass
class _World:
    """Cases with no series in common, tested together: promtool's run time depends on the number of worlds."""

    file: str
    step: str
    series: dict[str, str] = field(default_factory=dict)
    looks: list[dict[str, Any]] = field(default_factory=list)
    figure: Figure | None = None

    def takes(self, file: str, step: str, series: Series, alert: str) -> bool:
        names = {_metric(selector) for selector in self.series}
        return (
            (file, step) == (self.file, self.step)
            and names.isdisjoint(map(_metric, series))
            and all(look["alertname"] != alert for look in self.looks)
        )

    def plain(self) -> dict[str, Any]:
        told = ", ".join(f"{look['alertname']} {'fires' if look['exp_alerts'] else 'is quiet'}" for look in self.looks)
        plain: dict[str, Any] = {
            "name": told if self.figure is None else self.figure.name,
            "interval": self.step,
            "input_series": [{"series": selector, "values": values} for selector, values in self.series.items()],
            "alert_rule_test": self.looks,
        }
        if self.figure is not None:
            plain["promql_expr_test"] = [
                {
                    "expr": f"sum({expression})",
                    "eval_time": self.figure.at,
                    "exp_samples": [] if value is None else [{"labels": "{}", "value": float(value)}],
                }
                for expression, value in self.figure.is_.items()
            ]
        return plain


def _metric(selector: str) -> str:
    return selector.partition("{")[0]


def tests(pace: Pace) -> dict[str, dict[str, Any]]:
    """The test files for promtool, by name: `<rule file>_<step>.yaml`."""
    rules: dict[str, list[Alert]] = {}
    for alert in alerts(pace):
        rules.setdefault(alert.name, []).append(alert)
    worlds: list[_World] = []
    for case in sorted(CASES, key=lambda case: int(case.at[:-1])):
        (rule,) = rules[case.alert]
        file = "slo" if "Burn" in case.alert else "alerts"
        fires = [_expected(rule, case.labels, case.says, pace)]
        quiet = fires if case.alert == "Watchdog" else []
        for series, expected in ((case.fires, fires), (case.quiet, quiet)):
            world = next((one for one in worlds if one.takes(file, case.step, series, case.alert)), None)
            if world is None:
                world = _World(file, case.step)
                worlds.append(world)
            world.series |= series
            world.looks.append({"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected})
    worlds += _absent(rules, pace)
    worlds.append(_aftermath(rules, pace))
    worlds += [_World("figures", "5m", dict(one.series), figure=one) for one in FIGURES]
    order = {name: [group.name for group in those] for name, those in groups(pace).items()}
    return {
        f"{file}_{step}.yaml": {
            "rule_files": [f"../rules/{name}.yaml" for name in dict.fromkeys(("recording", file)) if name in order],
            "evaluation_interval": step,
            "group_eval_order": [*order["recording"], *order.get(file, ())],
            "tests": [world.plain() for world in worlds if (world.file, world.step) == (file, step)],
        }
        for file, step in sorted({(world.file, world.step) for world in worlds})
    }


def _expected(rule: Alert, labels: Mapping[str, str], says: str, pace: Pace) -> dict[str, Any]:
    return {
        "exp_labels": {
            **rule.all_labels(),
            **labels,
            **({} if rule.area or "area" in labels else {"area": area_of(labels)}),
        },
        "exp_annotations": {**rule.annotations(pace), "description": says},
    }


def _absent(rules: Mapping[str, list[Alert]], pace: Pace) -> Iterable[_World]:
    present = {"SeriesAbsent": dict.fromkeys(SLI, "1x20"), "ProcessAbsent": up(*(f"{job}.0" for job in REQUIRED))}
    for name, series in present.items():
        expected = [
            _expected(rule, labels, rule.description.replace("{{ $labels.job }}", labels.get("job", "")), pace)
            for rule in rules[name]
            for labels in ([{"job": job} for job in REQUIRED] if name == "ProcessAbsent" else [{}])
        ]
        for given, those in ((series, []), ({}, expected)):
            yield _World("alerts", "1m", dict(given), [{"eval_time": "20m", "alertname": name, "exp_alerts": those}])


def _aftermath(rules: Mapping[str, list[Alert]], pace: Pace) -> _World:
    """The broker is down in an otherwise healthy world; a quarter of an hour after its page nothing is muted."""
    (rule,) = rules["Aftermath"]
    labels = {"page": "BrokerDown", "layer": "platform", "area": "platform"}
    fires = [_expected(rule, labels, "BrokerDown fires or has just ended. Its consequences are muted.", pace)]
    world = faults.healthy()
    world.change(lambda _: faults.steady(1, 0), "goodfaith_broker_up")
    series = {name: " ".join(parts) for name, parts in world.series.items()}
    over = faults.BEFORE + faults.DURING
    moments: tuple[tuple[int, list[dict[str, Any]]], ...] = (
        (faults.BEFORE - 5, []),
        (over - 5, fires),
        (over + 10, fires),
        (over + 20, []),
    )
    looks = [{"eval_time": f"{at}m", "alertname": "Aftermath", "exp_alerts": expected} for at, expected in moments]
    return _World("alerts", "1m", series, looks)
