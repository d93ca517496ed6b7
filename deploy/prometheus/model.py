"""The types that rules are made of, the pace that they run at, and how they are written. Contains no rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import yaml

RUNBOOKS: Final = "https://goodfaith.example/docs/runbooks"
"""URL of the runbooks; `python -m deploy.prometheus --runbooks URL` sets another."""

Severity = Literal["page", "ticket", "none"]
Layer = Literal["", "platform", "process", "flow", "journey", "target", "deadline", "meta"]
Team = Literal["sre", "review", "compliance"]

LAYERS: Final[tuple[Layer, ...]] = ("platform", "process", "flow", "journey", "target", "deadline")
"""From cause to consequence: a page in one layer mutes everything in later layers (docs/explanation/alerting.md, "One
fault, one page")."""
KEEP: Final = "2m"
"""How long a page keeps firing after its condition has ended, so that one that comes and goes is a single page."""
AFTERMATH: Final = "15m"
"""How long a page mutes its consequences after it has ended: until a backlog has drained and the five-minute windows of
the burn rates are empty."""

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class Pace:
    """How much faster wall time passes for rules: at 60 a rule that waits 15 minutes waits 15 seconds. For drills.

    Business time has its own clock, so thresholds in it (24 hours, 18 hours) do not change.
    """

    speed: float = 1.0
    runbooks: str = RUNBOOKS

    def __call__(self, duration: str) -> str:
        """A Prometheus duration such as `15m` at this pace; at least a millisecond."""
        found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration)
        if found is None:
            raise ValueError(f"no duration: {duration!r}")
        left = max(1, round(int(found[1]) * _UNITS[found[2]] / self.speed))
        if self.speed == 1:
            return duration
        parts = []
        for unit, size in reversed(_UNITS.items()):
            count, left = divmod(left, size)
            parts += [f"{count}{unit}"] if count else []
        return "".join(parts)

    def interval(self, duration: str) -> str:
        """The interval of rule evaluations at this pace; at least a second."""
        return duration if self.speed == 1 else f"{max(1, round(float(Pace(self.speed).seconds(duration))))}s"

    def seconds(self, duration: str) -> str:
        """A duration at this pace as a number of seconds, for comparisons with wall time."""
        found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration)
        if found is None:
            raise ValueError(f"no duration: {duration!r}")
        return f"{int(found[1]) * _UNITS[found[2]] / 1000 / self.speed:g}"


@dataclass(frozen=True)
class Record:
    """A recording rule: `level:metric:operation`."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        name: Its name, and that of its runbook.
        expr: Its condition, in PromQL.
        severity: `page` wakes somebody, `ticket` waits for the morning, `none` is for machines.
        summary: One line, without numbers.
        description: What was measured, with the value.
        hold: How long the condition must hold before it fires (`for`); empty: at once.
        layer: Its place between cause and consequence; inhibition follows the order of `LAYERS`. Empty: `expr` sets it.
        area: The part of the system it is about. A page mutes consequences in its own area only; a `platform` page
            mutes them everywhere. Empty: `expr` sets the label.
        waits: How long a fault must last before `expr` can hold at all: a window or a threshold on age.
        keeps: How long a page keeps firing after its condition has ended.
        labels: Further labels.
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    hold: str = ""
    layer: Layer = "flow"
    area: str = "claims"
    waits: str = "0s"
    keeps: str = KEEP
    team: Team = "sre"
    labels: Mapping[str, str] = field(default_factory=dict)

    def all_labels(self) -> dict[str, str]:
        """Labels that the rule adds to those of its expression."""
        labels = {"severity": self.severity, "team": self.team, "layer": self.layer, "area": self.area}
        if self.severity == "page":
            labels["page"] = self.name
        return {name: value for name, value in labels.items() if value} | dict(self.labels)

    @property
    def keep(self) -> str:
        """How long it keeps firing after its condition has ended; empty: not at all."""
        return self.keeps if self.severity == "page" else ""

    @property
    def after_s(self) -> float:
        """Seconds from the fault until it fires, at the earliest."""
        return sum(float(Pace().seconds(duration)) for duration in (self.waits, self.hold) if duration)

    def annotations(self, pace: Pace) -> dict[str, str]:
        """Annotations, with templates not filled in."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{pace.runbooks}/{self.name}.md",
        }


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, at one interval."""

    name: str
    interval: str
    rules: tuple[Record | Alert, ...]

    def plain(self, pace: Pace) -> dict[str, Any]:
        """The group as Prometheus reads it."""
        return {
            "name": self.name,
            "interval": pace.interval(self.interval),
            "rules": [_plain(rule, pace) for rule in self.rules],
        }


def _plain(rule: Record | Alert, pace: Pace) -> dict[str, Any]:
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": rule.expr} | ({"labels": dict(rule.labels)} if rule.labels else {})
    plain: dict[str, Any] = {"alert": rule.name, "expr": rule.expr}
    if rule.hold:
        plain["for"] = pace(rule.hold)
    if rule.keep:
        plain["keep_firing_for"] = pace(rule.keep)
    return plain | {"labels": rule.all_labels(), "annotations": rule.annotations(pace)}


class _Dumper(yaml.SafeDumper):
    """Indents lists, repeats what occurs twice, and writes texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # readers of YAML 1.2 take 1e3 for a number, some take y for a bool
        style = "|" if "\n" in data else "'" if re.fullmatch(r"[yYnN]|[-+.\d][\deE.xo_+-]*", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def dump(value: Any, comment: str = "") -> str:
    """YAML of dicts, lists, strings, numbers and None, in their order, after a comment."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return head + text
