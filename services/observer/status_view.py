"""The content of the status page, as a function of a snapshot of Prometheus and the oldest items: no HTML.

The figures are those of the boards (`deploy.grafana`). What is not known is shown as not known, with the reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from services.observer.boards import PANELS, Panel
from services.observer.boards.model import duration, show
from services.observer.observing import PanelLevel, Snapshot, grouped, level, value_of

WORDS: Final[dict[PanelLevel, str]] = {"good": "ok", "warn": "worth a look", "bad": "bad", "unknown": "not known"}
"""Words shown next to the colours."""
STAGES: Final = {
    "intake": "Taken in, not recorded yet",
    "verification": "With the rules, or waiting for the listing",
    "review": "With reviewers",
    "complainant": "With the complainant, clock paused",
    "enforcement": "Takedown sent, no receipt yet",
}
TARGET: Final = 0.99
"""Objective `handled` of deploy/prometheus/slo.toml; a test keeps the two equal."""
_VITAL: Final = ("handled_1d", "oldest", "forecast", "due_soon", "canary_age", "dead_letters", "broker", "database")
"""Panels that make the verdict when no alert fires."""
_FLOW: Final = (
    "canary_age",
    "received",
    "lag_outside",
    "lag_streams",
    "outbox_oldest",
    "delivery_oldest",
    "review_oldest",
    "dead_letters",
    "broker",
    "database",
    "down",
    "reconciliation",
)
SHOWN: Final = tuple(
    PANELS[key]
    for key in dict.fromkeys(
        (
            *_VITAL,
            *_FLOW,
            "handled_1h",
            "handled_30d",
            "outcomes_1d",
            "takedown",
            "open",
            "paused",
            "open_by_stage",
            "oldest_by_stage",
        )
    )
)
"""The panels that the page needs."""


@dataclass(frozen=True)
class Figure:
    """A figure: its label, its value, a note on how to read it, and its level."""

    label: str
    value: str
    note: str
    level: PanelLevel

    @property
    def word(self) -> str:
        """The level in words; empty if all is well, or if the value already says it."""
        return "" if self.level in ("good", "unknown") else WORDS[self.level]


@dataclass(frozen=True)
class Place:
    """A stage, how many open items it has, and how old the oldest is."""

    stage: str
    open: str
    oldest: str
    level: PanelLevel

    @property
    def word(self) -> str:
        """The level in words."""
        return "" if self.level == "good" else WORDS[self.level]


@dataclass(frozen=True)
class Waiting:
    """An open item. `item` is its id, for operators; empty for everyone else."""

    item: str
    stage: str
    age: str


@dataclass(frozen=True)
class Old:
    """An open item, as its source gives it.

    Attributes:
        item: Its id.
        stage: Where it is, one of `STAGES`.
        age_s: Seconds of business time since it was received.
    """

    item: str
    stage: str
    age_s: float


@dataclass(frozen=True)
class Firing:
    """A firing alert."""

    name: str
    severity: str
    summary: str
    which: str
    since: str
    runbook: str


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        level: The overall level.
        verdict: The overall level in a few words; `because` gives the reason in a sentence.
        at: Time of the figures.
        target, now: Large figures.
        places: Open items by stage.
        waiting: The oldest open items; None: not known.
        alerts: Firing alerts; None: not known.
        flow: Table of the parts that move claims.
        unknown: What is not known, and why, in one sentence each.
    """

    level: PanelLevel
    verdict: str
    because: str
    at: dt.datetime
    target: tuple[Figure, ...]
    now: tuple[Figure, ...]
    places: tuple[Place, ...]
    waiting: tuple[Waiting, ...] | None
    alerts: tuple[Firing, ...] | None
    flow: tuple[Figure, ...]
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For `/status.json`."""
        return {**asdict(self), "at": self.at.isoformat()}


def page(snapshot: Snapshot, oldest: Sequence[Old] | str, *, ids: bool = False) -> Page:
    """Build the page.

    Args:
        oldest: The oldest open items, or why they are not known.
        ids: Whether the reader may see items' ids.
    """
    alerts = None if snapshot.trouble or snapshot.alerts is None else tuple(_firing(snapshot))
    unknown = _unknown(snapshot, oldest)
    stands, verdict, because = _verdict(snapshot, alerts, unknown)
    return Page(
        level=stands,
        verdict=verdict,
        because=because,
        at=snapshot.at,
        target=(
            _figure(snapshot, "handled_1d", label="In time, last day", note=f"target {TARGET:.0%}; {_ended(snapshot)}"),
            _figure(snapshot, "handled_1h", label="In time, last hour"),
            _figure(snapshot, "handled_30d", label="In time, 30 days", note=f"target {TARGET:.0%}"),
            _figure(
                snapshot, "takedown", "last day", label="Taken down, last day", note="of the items that were handled"
            ),
            _figure(
                snapshot, "takedown", "30 days", label="Taken down, 30 days", note="of the items that were handled"
            ),
        ),
        now=(
            _figure(snapshot, "open", note=_paused(snapshot)),
            _figure(snapshot, "oldest", note="somebody is paged at 18 h"),
            _figure(snapshot, "forecast", note="at the pace of the last half hour"),
            *(
                _figure(snapshot, "due_soon", f"within {seconds} s", label=f"Due within {duration(seconds)}")
                for seconds in (3600, 10_800, 21_600)
            ),
        ),
        places=tuple(_place(snapshot, stage, words) for stage, words in STAGES.items()),
        waiting=None
        if isinstance(oldest, str)
        else tuple(
            Waiting(old.item if ids else "", STAGES.get(old.stage, old.stage), duration(old.age_s)) for old in oldest
        ),
        alerts=alerts,
        flow=tuple(_figure(snapshot, key) for key in _FLOW),
        unknown=unknown,
    )


def _figure(snapshot: Snapshot, key: str, name: str | None = None, *, label: str = "", note: str = "") -> Figure:
    """A panel's value, or the worst of several with the name of its series."""
    panel = PANELS[key]
    answer = snapshot.answer(panel)
    if answer.error:
        return Figure(label or panel.title, "not known", note, "unknown")
    values = [one for one in answer.series if one.value == one.value and name in (None, one.name)]
    if not values:
        return Figure(label or panel.title, "none", note, "good")
    below = panel.limits is not None and panel.limits.below
    worst = min(values, key=lambda one: one.value if below else -one.value)
    stands = panel.limits.level(worst.value) if panel.limits else "good"
    if name is None and len(values) > 1 and worst.name and stands != "good":
        note = f"{note}; {worst.name}" if note else worst.name
    return Figure(label or panel.title, show(worst.value, panel.unit), note, stands)


def _ended(snapshot: Snapshot) -> str:
    met, missed = (value_of(snapshot, PANELS["outcomes_1d"], name) for name in ("met", "missed"))
    if met is None or missed is None:
        return "items whose 24 hours ended: not known"
    return f"{show(met, 'count')} in time, {show(missed, 'count')} missed"


def _paused(snapshot: Snapshot) -> str:
    answer = snapshot.answer(PANELS["paused"])
    if answer.error:
        return "paused: not known"
    return f"{show(sum(one.value for one in answer.series), 'count')} of them with the clock paused"


def _place(snapshot: Snapshot, stage: str, words: str) -> Place:
    many, old = PANELS["open_by_stage"], PANELS["oldest_by_stage"]
    count, age = value_of(snapshot, many, stage), value_of(snapshot, old, stage)
    if count is None:
        return Place(words, "not known", "not known", "unknown")
    if age is None:
        return Place(words, show(count, "count"), "not known" if count else "-", "unknown" if count else "good")
    paused = stage == "complainant"  # its clock stands still: no age is too old
    stands: PanelLevel = old.limits.level(age) if old.limits and not paused else "good"
    return Place(words, show(count, "count"), show(age, "seconds") if count else "-", stands)


def _firing(snapshot: Snapshot) -> list[Firing]:
    return [
        Firing(
            name=alert.name,
            severity=alert.severity,
            summary=alert.summary,
            which=alert.which,
            since=duration((snapshot.at - alert.since).total_seconds()),
            runbook=alert.runbook if alert.runbook.startswith(("https://", "http://")) else "",
        )
        for alert in grouped(snapshot.alerts or ())
    ]


def _unknown(snapshot: Snapshot, oldest: Sequence[Old] | str) -> tuple[str, ...]:
    found = [f"The oldest items: {oldest}."] if isinstance(oldest, str) else []
    if snapshot.trouble:
        return (f"All figures and alerts: {snapshot.trouble}.", *found)
    reasons: dict[str, list[str]] = {}
    for panel in SHOWN:
        if error := snapshot.answer(panel).error:
            reasons.setdefault(error, []).append(panel.title)
    return (*(f"{', '.join(titles)}: {reason}." for reason, titles in reasons.items()), *found)


def _verdict(
    snapshot: Snapshot, alerts: Sequence[Firing] | None, unknown: Sequence[str]
) -> tuple[PanelLevel, str, str]:
    if alerts is None:
        return (
            "unknown",
            "Nothing is known",
            f"{snapshot.trouble or 'alerts are not known'}. Claims may well be in order.",
        )
    pages = [alert for alert in alerts if alert.severity == "page"]
    if pages:
        return "bad", "A person is needed now", f"{_number(len(pages), 'alert')}: {', '.join(a.name for a in pages)}."
    stands = {panel.title: level(panel, snapshot.answer(panel)) for panel in map(PANELS.__getitem__, _VITAL)}
    if bad := [title for title, how in stands.items() if how == "bad"]:
        return "bad", "The 24-hour target is at risk", f"{'; '.join(bad)}."
    if alerts:
        names = ", ".join(alert.name for alert in alerts)
        return "warn", "Claims flow; something waits for a person", f"{_number(len(alerts), 'ticket')}: {names}."
    # the forecast needs half an hour of history: until then, its absence is no cause for alarm
    forecast = PANELS["forecast"].title
    if blind := [title for title, how in stands.items() if how == "unknown" and title != forecast]:
        return "unknown", "Not all is known", f"Not known: {'; '.join(blind)}."
    if warn := [title for title, how in stands.items() if how == "warn"]:
        return "warn", "Claims are handled in time", f"Worth a look: {'; '.join(warn)}."
    return (
        "good",
        "Claims are handled in time",
        "No alert fires." + (" A part is not known, see below." if unknown else ""),
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def panels() -> tuple[Panel, ...]:
    """The panels that a snapshot for this page must have."""
    return SHOWN
