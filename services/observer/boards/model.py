"""Data model of the boards. Grafana's JSON, `goodfaith top` and the status page are made from such declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["ratio", "seconds", "count", "per_second", "bytes", "up"]
Level = Literal["good", "warn", "bad"]
Kind = Literal["number", "bars", "lines", "table"]
"""A large number per series; a bar per series; lines over time; a table row per series (alerts)."""

_NAMES: Final = re.compile(r"\b(?:goodfaith(?:_|:)[a-z0-9_:]+|process_[a-z_]+|ALERTS|up)\b")
_LEGEND: Final = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")


@dataclass(frozen=True)
class Query:
    """A query of Prometheus.

    Attributes:
        expr: PromQL without Grafana's variables, because `goodfaith top` runs the same text.
        legend: Name of each series, with labels in double braces, as in Grafana.
    """

    expr: str
    legend: str = ""

    def series(self) -> frozenset[str]:
        """Names of the series that the query asks for."""
        return frozenset(_NAMES.findall(re.sub(r'"[^"]*"', "", self.expr)))

    def name(self, labels: Mapping[str, str]) -> str:
        """The legend of a series with these labels."""
        return _LEGEND.sub(lambda found: labels.get(found[1], ""), self.legend).strip()


@dataclass(frozen=True)
class Limits:
    """From which value on a figure is a warning, or bad. `below`: small values are the bad ones."""

    warn: float
    bad: float
    below: bool = False

    def level(self, value: float) -> Level:
        """The level of a value; NaN is neither a warning nor bad."""
        for name, edge in (("bad", self.bad), ("warn", self.warn)):
            if value < edge if self.below else value >= edge:
                return name  # type: ignore[return-value]
        return "good"


@dataclass(frozen=True)
class Panel:
    """One figure of a board.

    Attributes:
        key: Its name for code, unique over all boards.
        title: Its name for people.
        help: What it means and what to do, in one to three sentences.
        queries: Queries that give its series.
        unit: Unit of its values; queries turn timestamps into ages.
        kind: How it is shown.
        limits: From which values on it is worth a look.
        runbooks: Names of the alerts (`docs/runbooks/<name>.md`) that go with it.
        width: Width in Grafana's 24 columns.
        may_be_empty: No series is a normal answer (nothing fires, nothing waits), if the series asked for exist.
        optional: The series asked for exist only where a part runs that not every installation has, or once something
            rare has happened.
    """

    key: str
    title: str
    help: str
    queries: tuple[Query, ...]
    unit: Unit = "count"
    kind: Kind = "lines"
    limits: Limits | None = None
    runbooks: tuple[str, ...] = ()
    width: int = 8
    may_be_empty: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Attributes:
        key: Its name for code and files.
        title: Its name for people.
        help: Whom it is for and what it answers.
        rows: What is on it, the most important first.
    """

    key: str
    title: str
    help: str
    rows: tuple[Row, ...]

    def panels(self) -> Iterator[Panel]:
        """All panels, in reading order."""
        for row in self.rows:
            yield from row.panels


def show(value: float, unit: Unit) -> str:
    """A value for people: `99.2 %`, `3 h 12 min`, `1,204`; NaN is `-`."""
    if value != value:
        return "-"
    if value in (float("inf"), float("-inf")):
        return "never ends" if value > 0 else "-∞"
    if unit == "ratio":
        # never rounded up to 100 %: one missed item in a million must show
        return (
            "100 %" if value == 1 else f"{min(value, 0.9999) * 100:.2f} %" if value > 0.99 else f"{value * 100:.1f} %"
        )
    if unit == "seconds":
        return duration(value)
    if unit == "bytes":
        return _bytes(value)
    if unit == "up":
        return "up" if value >= 1 else "down"
    if unit == "per_second":
        return f"{value:,.1f}/s" if value < 100 else f"{value:,.0f}/s"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def duration(seconds: float) -> str:
    """Seconds for people, in the two largest units; below a second in milliseconds."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    first = next((place for place, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
