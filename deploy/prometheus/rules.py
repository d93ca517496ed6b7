"""All rules by group, for Prometheus: `figures.py`, `slo.py` and `alerts.py` have them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from deploy.prometheus.alerts import delivery_alerts, flow_alerts, meta_alerts, platform_alerts, target_alerts
from deploy.prometheus.figures import audit_figures, figures, filing_figures, window_figures
from deploy.prometheus.model import Alert, Group, Pace, Record
from deploy.prometheus.slo import burn_alerts, objectives

HERE: Final = Path(__file__).parent


def groups(pace: Pace) -> dict[str, tuple[Group, ...]]:
    """All groups, by the name of the file they are written to."""
    spec = tomllib.loads((HERE / "slo.toml").read_text(encoding="utf-8"))
    return {
        "recording": (
            Group("goodfaith-figures", "15s", tuple(figures(pace))),
            Group("goodfaith-windows", "30s", tuple(window_figures(pace))),
            Group("goodfaith-filings", "30s", tuple(filing_figures(pace))),
            Group("goodfaith-audits", "30s", tuple(audit_figures(pace))),
        ),
        "slo": (Group("goodfaith-slo", "30s", (*objectives(spec, pace), *burn_alerts(spec, pace))),),
        "alerts": (
            Group("goodfaith-meta", "15s", tuple(meta_alerts(pace))),
            Group("goodfaith-target", "15s", tuple(target_alerts(pace))),
            Group("goodfaith-flow", "15s", tuple(flow_alerts(pace))),
            Group("goodfaith-delivery", "15s", tuple(delivery_alerts(pace))),
            Group("goodfaith-platform", "15s", tuple(platform_alerts(pace))),
        ),
    }


def alerts(pace: Pace | None = None) -> tuple[Alert, ...]:
    """All alerts; one name may have several rules that differ by their labels."""
    return tuple(
        rule
        for files in groups(pace or Pace()).values()
        for group in files
        for rule in group.rules
        if isinstance(rule, Alert)
    )


def records(pace: Pace | None = None) -> tuple[Record, ...]:
    """All recording rules."""
    return tuple(
        rule
        for files in groups(pace or Pace()).values()
        for group in files
        for rule in group.rules
        if isinstance(rule, Record)
    )
