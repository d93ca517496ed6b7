"""Takes a snapshot of what Prometheus says now: every figure of the boards, and every alert.

`goodfaith top` and the status page show it. A snapshot is of one moment. A figure that could not be asked for is not
known; nothing is carried over from an earlier snapshot.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import ssl
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx

from services.observer.boards.model import Level, Panel, Query

MOST: Final = 50
"""Maximum number of series kept per query, and of alerts."""
ANSWER_MAX: Final = 2_000_000
"""Maximum size of an answer, in bytes."""
STALE_S: Final = 120.0
"""Figures are out of date this many seconds after the last scrape: eight scrapes of 15 s."""
_AT_ONCE: Final = 4
_EXISTING: Final = 'count by (__name__) ({__name__=~"goodfaith.+|process_.+"})'
_SEVERITIES: Final = ("page", "ticket")

PanelLevel = Level | Literal["unknown"]


@dataclass(frozen=True)
class Series:
    """A value of a panel, with its name by the panel's legend (empty: the panel's only value)."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What is known of a panel. With `error`: nothing. With neither series nor error: that there is nothing."""

    series: tuple[Series, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Alert:
    """A firing alert."""

    name: str
    severity: str
    summary: str
    since: dt.datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All answers, at one moment.

    Attributes:
        at: Prometheus' own time; if it is away, ours.
        error: Why nothing is known; empty: Prometheus answered.
        scraped: When a process was last scraped; None: not recently.
        answers: By the panel's key.
        alerts: Firing alerts, pages first, then by age; None: not known.
    """

    at: dt.datetime
    error: str = ""
    scraped: dt.datetime | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)
    alerts: tuple[Alert, ...] | None = None

    @property
    def trouble(self) -> str:
        """Why the figures are not current; empty: they are."""
        if self.error:
            return self.error
        if self.scraped is None:
            return "Prometheus scrapes no process"
        if (age := (self.at - self.scraped).total_seconds()) > STALE_S:
            return f"Prometheus has scraped no process for {age:.0f} s"
        return ""

    def answer(self, panel: Panel) -> Answer:
        """What is known of a panel."""
        if self.trouble:
            return Answer(error=self.trouble)
        return self.answers.get(panel.key, Answer(error="not asked"))


def level(panel: Panel, answer: Answer) -> PanelLevel:
    """The level of a panel: that of its worst series; unknown if it should have a value and has none."""
    values = [series.value for series in answer.series if not math.isnan(series.value)]
    if answer.error:
        return "unknown"
    if panel.limits is None:
        return "good"
    found = {panel.limits.level(value) for value in values}
    return next((name for name in ("bad", "warn") if name in found), "good")


@dataclass(frozen=True)
class Group:
    """Alerts of one name, as shown to people: what distinguishes them, and since when the first one fires."""

    name: str
    severity: str
    summary: str
    which: str
    since: dt.datetime
    runbook: str


def grouped(alerts: Iterable[Alert]) -> list[Group]:
    """Group alerts by name, in the order in which each name comes first."""
    found: dict[str, list[Alert]] = {}
    for alert in alerts:
        found.setdefault(alert.name, []).append(alert)
    return [
        Group(
            name=name,
            severity=same[0].severity,
            summary=same[0].summary,
            which=", ".join(dict.fromkeys(filter(None, map(_which, same)))),
            since=min(alert.since for alert in same),
            runbook=same[0].runbook,
        )
        for name, same in found.items()
    ]


def _which(alert: Alert) -> str:
    """What the alert is about: its labels, without those that decide who is told."""
    return " ".join(
        value
        for label, value in sorted(alert.labels.items())
        if label not in ("team", "layer", "area", "page", "severity")
    )


def value_of(snapshot: Snapshot, panel: Panel, name: str | None = None) -> float | None:
    """A panel's only value, or that of the named series; None: it is not known, or there is none."""
    for series in snapshot.answer(panel).series:
        if (name is None or series.name == name) and not math.isnan(series.value):
            return series.value
    return None


# ---------------------------------------------------------------------------------------------------------------- reading


class Unusable(Exception):
    """Prometheus's answer cannot be used; the message says why."""


def data_of(status: int, raw: bytes) -> Any:
    """The member `data` of an answer of Prometheus's HTTP API.

    Raises:
        Unusable: it is an error, or not an answer of Prometheus.
    """
    try:
        body = json.loads(raw)
        if body["status"] == "success":
            return body["data"]
        raise Unusable(f"Prometheus refuses: {body.get('error', status)!s}"[:300])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unusable(f"no answer of Prometheus' (HTTP {status})") from None


def series_of(panel: Panel, query: Query, data: Any) -> list[Series]:
    """The series of an instant query's answer, in the order of their names, at most `MOST`.

    Raises:
        Unusable: it is not such an answer.
    """
    try:
        if data["resultType"] == "scalar":
            return [Series(query.name({}), float(data["result"][1]))]
        found = [
            Series(query.name(one["metric"]), float(one["value"][1]), dict(one["metric"])) for one in data["result"]
        ]
    except (KeyError, TypeError, ValueError, IndexError):
        raise Unusable(f"{panel.key}: not the answer of an instant query") from None
    return sorted(found, key=lambda series: _natural(series.name))[:MOST]


def _natural(name: str) -> tuple[tuple[int, float, str], ...]:
    # "within 3600 s" before "within 10800 s"
    return tuple((0, float(word), "") if word.replace(".", "", 1).isdigit() else (1, 0, word) for word in name.split())


def alerts_of(data: Any) -> tuple[Alert, ...]:
    """The firing alerts that need a person, pages first, then the oldest.

    Raises:
        Unusable: it is not a list of alerts.
    """
    try:
        found = [
            Alert(
                name=one["labels"]["alertname"],
                severity=one["labels"].get("severity", ""),
                summary=one.get("annotations", {}).get("summary", ""),
                since=dt.datetime.fromisoformat(one["activeAt"].replace("Z", "+00:00")),
                labels={k: v for k, v in one["labels"].items() if k not in ("alertname", "severity")},
                runbook=one.get("annotations", {}).get("runbook_url", ""),
            )
            for one in data["alerts"]
            if one["state"] == "firing" and one["labels"].get("severity") in _SEVERITIES
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unusable("not a list of alerts") from None
    return tuple(sorted(found, key=lambda alert: (_SEVERITIES.index(alert.severity), alert.since, alert.name))[:MOST])


# ----------------------------------------------------------------------------------------------------------------- asking


def judged(panel: Panel, answer: Answer, existing: Container[str]) -> Answer:
    """Judge an answer without series: it means "nothing" only if what was asked for exists, else "not known".

    Args:
        existing: Names of our series that Prometheus has now.
    """
    if answer.series or answer.error:
        return answer
    # ALERTS exists only while an alert fires
    asked = {name for query in panel.queries for name in query.series()} - {"ALERTS", "up"}
    gone = sorted(name for name in asked if name not in existing)
    if gone and not panel.optional:
        # a recording rule may have no value although its inputs exist, for example because they are too young
        return Answer(error=f"the rules have no value of {gone[0]}" if ":" in gone[0] else f"nobody exports {gone[0]}")
    if not panel.may_be_empty and not panel.optional:
        return Answer(error="there is no value")
    return answer


class Observer:
    """Queries one Prometheus from an event loop."""

    def __init__(self, url: str, *, timeout_s: float = 5.0, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=_AT_ONCE),
            trust_env=False,
            transport=transport,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True,
        )
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def look(self, panels: Iterable[Panel]) -> Snapshot:
        """Take a snapshot of these panels at one moment. Takes at most three timeouts."""
        try:
            async with asyncio.timeout(3 * self._timeout_s):
                return await self._look(panels)
        except (Unusable, TimeoutError) as error:
            return Snapshot(dt.datetime.now(dt.UTC), str(error) or "Prometheus does not answer in time")

    async def _look(self, panels: Iterable[Panel]) -> Snapshot:
        moment = float((await self._query("time()", None))["result"][1])
        asked = list(panels)
        scrape, names, alerts, *answers = await asyncio.gather(
            self._query("max(timestamp(up))", moment),
            self._query(_EXISTING, moment),
            self._get("/api/v1/alerts", {}),
            *(self._ask(panel, moment) for panel in asked),
        )
        existing = {one["metric"]["__name__"] for one in names["result"]}
        scraped = [float(one["value"][1]) for one in scrape["result"]]
        return Snapshot(
            at=dt.datetime.fromtimestamp(moment, dt.UTC),
            scraped=dt.datetime.fromtimestamp(scraped[0], dt.UTC) if scraped else None,
            answers={panel.key: judged(panel, answer, existing) for panel, answer in zip(asked, answers, strict=True)},
            alerts=alerts_of(alerts),
        )

    async def _ask(self, panel: Panel, moment: float) -> Answer:
        try:
            found = [
                series
                for query in panel.queries
                for series in series_of(panel, query, await self._query(query.expr, moment))
            ]
        except Unusable as error:
            return Answer(error=str(error))
        return Answer(tuple(found[:MOST]))

    async def _query(self, expr: str, moment: float | None) -> Any:
        given = {"query": expr, "timeout": f"{self._timeout_s:g}s"}
        if moment is not None:
            given["time"] = f"{moment:.3f}"
        return await self._get("/api/v1/query", given)

    async def _get(self, path: str, given: Mapping[str, str]) -> Any:
        raw = bytearray()
        async with self._turn:
            try:
                async with self._client.stream("GET", path, params=given) as response:
                    async for part in response.aiter_bytes():
                        raw += part
                        if len(raw) > ANSWER_MAX:
                            raise Unusable(f"an answer is longer than {ANSWER_MAX} bytes")
            except httpx.HTTPError as error:
                raise Unusable(f"Prometheus does not answer ({type(error).__name__})") from error
        return data_of(response.status_code, bytes(raw))

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()


def look_once(url: str, panels: Iterable[Panel], *, timeout_s: float = 5.0) -> Snapshot:
    """Take one snapshot, for a caller without an event loop."""

    async def look() -> Snapshot:
        observer = Observer(url, timeout_s=timeout_s)
        try:
            return await observer.look(panels)
        finally:
            await observer.close()

    return asyncio.run(look())
