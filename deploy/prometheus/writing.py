"""The files that are generated from rules, cases and routes."""

from __future__ import annotations

from deploy.prometheus.model import Pace, dump
from deploy.prometheus.routing import configuration
from deploy.prometheus.rules import groups
from deploy.prometheus.worlds import tests

_BY = "Written by `python -m deploy.prometheus` from deploy/prometheus/{}: change that."


def rule_files(pace: Pace) -> dict[str, str]:
    """What Prometheus loads: text by file name."""
    return {
        f"{name}.yaml": dump(
            {"groups": [group.plain(pace) for group in those]}, _BY.format("alerts.py, figures.py, slo.py and slo.toml")
        )
        for name, those in groups(pace).items()
    }


def files(pace: Pace) -> dict[str, str]:
    """All files, by name below `deploy`. Tests are for the ordinary pace only."""
    written = {f"prometheus/rules/{name}": text for name, text in rule_files(pace).items()}
    written["alertmanager/alertmanager.yml"] = dump(configuration(pace), _BY.format("routing.py"))
    if pace.speed == 1:
        written |= {
            f"prometheus/tests/{name}": dump(content, _BY.format("cases.py and worlds.py"))
            for name, content in tests(pace).items()
        }
    return written
