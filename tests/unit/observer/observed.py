"""Answers of a Prometheus that is not there: fixed ones, for tests of what shows them."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx

from services.observer.boards import BOARDS, PANELS
from services.observer.observing import Alert, Answer, Series, Snapshot

AT = dt.datetime(2026, 11, 25, 12, 0, 5, tzinfo=dt.UTC)
LABELS = {
    "stage": ("intake", "verification", "review", "complainant", "enforcement"),
    "within_seconds": ("3600", "10800", "21600"),
    "outcome": ("met", "missed"),
    "tier": ("1", "2", "3-5", "6+"),
}
VALUES = {"ratio": 0.9993, "seconds": 42.0, "count": 12.0, "per_second": 3.4, "bytes": 123_000_000.0, "up": 1.0}
ALERT = Alert(
    "OldestItemOld",
    "page",
    "An item is 18 hours old",
    AT - dt.timedelta(minutes=12),
    {"stage": "review", "team": "review"},
    "https://goodfaith.example/docs/runbooks/OldestItemOld.md",
)


def calm(**changed: Answer) -> Snapshot:
    """Every panel has a value, and nothing is wrong; `changed` replaces answers by the panel's key."""
    answers = {}
    for panel in PANELS.values():
        series = []
        for query in panel.queries:
            labels = re.findall(r"{{(\w+)}}", query.legend)
            names = LABELS.get(labels[0], ("one", "two")) if labels else ("",)
            value = 0.0 if panel.limits and not panel.limits.below else VALUES[panel.unit]
            series += [
                Series(query.name(dict.fromkeys(labels, name)), value, dict.fromkeys(labels, name)) for name in names
            ]
        answers[panel.key] = Answer(tuple(series))
    return Snapshot(AT, scraped=AT - dt.timedelta(seconds=5), answers=answers | changed, alerts=())


AWAY = Snapshot(AT, error="Prometheus does not answer (ConnectError)")


def transport(values: Callable[[str], list[tuple[dict[str, str], str]]], alerts: str = "[]") -> httpx.MockTransport:
    """A Prometheus whose instant queries answer by `values(expr)`: labels and value of each series."""
    moment = AT.timestamp()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/alerts":
            return httpx.Response(200, json={"status": "success", "data": {"alerts": json.loads(alerts)}})
        asked = parse_qs(request.url.query.decode())
        expr = asked["query"][0]
        if expr == "time()":
            data = {"resultType": "scalar", "result": [moment, str(moment)]}
        else:
            assert float(asked["time"][0]) == moment, "all of one moment"
            result = [{"metric": labels, "value": [moment, value]} for labels, value in values(expr)]
            data = {"resultType": "vector", "result": result}
        return httpx.Response(200, json={"status": "success", "data": data})

    return httpx.MockTransport(answer)


__all__ = ["ALERT", "AT", "AWAY", "BOARDS", "calm", "transport"]
