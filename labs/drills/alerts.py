"""Alerts of a local stack: Prometheus' answers, and how fast the rules' clock may run on this machine."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import httpx

from deploy.local import prometheus
from deploy.local.children import StackError
from deploy.prometheus import model, rules
from labs.pager import Pager

SPEED: Final = 12
"""The most that the rules' clock is sped up. A worker may wait 20 s for a lock, which is not scaled: at this speed it
stays below the five minutes after which WorkerStuck fires."""
SCRAPE_S: Final = 15.0
"""Seconds, on the rules' clock, between two scrapes of each process: as in an installation."""
SHARE: Final = 0.5
"""A scrape takes at most this share of the time between two."""
SLOWEST: Final = tuple(
    f"quantile(0.9, quantile_over_time(0.9, {series}[1m]))"
    for series in ("scrape_duration_seconds", "prometheus_rule_group_last_duration_seconds")
)
"""How long most scrapes and evaluations of rules take, most of the time. A process that is frozen, as the canary is
during a proof, says nothing about the machine."""
STARTS: Final = 2.0
"""A process can start this many times before ProcessDown fires, so that a restart by a runbook is not an outage."""
ALERTS: Final = {alert.name: alert for alert in rules.alerts()}


class PrometheusClient:
    """Queries a stack's Prometheus."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series.

        Raises:
            StackError: the query is refused.
        """
        answer = self._http.get("/api/v1/query", params={"query": query}).json()
        if answer["status"] != "success":
            raise StackError(f"{query}: {answer.get('error')}")
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """All rules, recording rules and alerts, with their health."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> list[str]:
        """Names of the alerts that page, muted or not."""
        rows = self.query('ALERTS{severity="page",alertstate="firing"}')
        return sorted({labels["alertname"] for labels, _ in rows})

    def noisy(self, layer: model.Layer) -> list[str]:
        """Names of the alerts that page, and of those that ended and may still mute an alert of this layer."""
        causes = "|".join(itertools.takewhile(lambda one: one != layer, model.LAYERS))
        rows = self.query(f'ALERTS{{alertname="Aftermath",alertstate="firing",layer=~"{causes}"}}')
        return sorted({*self.firing(), *(labels["page"] for labels, _ in rows)})

    def scraped(self) -> bool:
        """Whether every process was scraped, successfully or not, since Prometheus started."""
        targets = self._http.get("/api/v1/targets", params={"state": "active"}).json()["data"]["activeTargets"]
        pools = {target["scrapePool"] for target in targets}
        return "goodfaith" in pools and all(target["health"] != "unknown" for target in targets)

    def scrape_s(self) -> float:
        """Seconds that a scrape or an evaluation of rules takes, whichever takes longer.

        Raises:
            StackError: nothing was scraped.
        """
        slowest = 0.0
        for query in SLOWEST:
            rows = self.query(query)
            if not rows:
                raise StackError(f"Prometheus does not say how long scrapes and rules take: {query}")
            slowest = max(slowest, rows[0][1])
        return slowest


def pace(scrape_s: float, start_s: float, most: float = SPEED) -> float:
    """How many times faster than in an installation the rules' clock may run on this machine.

    Args:
        scrape_s: Wall seconds that the slowest scrape takes.
        start_s: Wall seconds that a process takes to start.
        most: The limit.
    """
    scrapes = SCRAPE_S * SHARE / scrape_s if scrape_s else most
    starts = ALERTS["ProcessDown"].after_s / (STARTS * start_s) if start_s else most
    return max(1.0, math.floor(10 * min(most, scrapes, starts)) / 10)


def observed_at(speed: float, pager: Pager) -> prometheus.Plan:
    """How a stack is observed when the rules' clock runs at this speed."""
    return prometheus.Plan(SCRAPE_S / speed, speed, pager.url)
