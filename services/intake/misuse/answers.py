"""The answers of misuse by complainants."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct


class MisuseFigures(Struct, kw_only=True):
    """What an account's notices are weighed by, over a window with both days included.

    ``notices``: claims with an unfounded item, and findings; ``number``: unfounded items, and findings; ``share``: of
    the settled items those that were unfounded, rounded for reading; ``weight``: gravity and intent together;
    ``knowingly``: a finding says that it was done knowingly; ``again``: items filed, and findings, since the last step
    began or ended; ``grounds``: how many for which ground.
    """

    window_from: dt.date
    window_to: dt.date
    settled: int
    unfounded: int
    notices: int
    number: int
    share: float | None
    weight: int
    knowingly: bool
    again: int
    grounds: dict[str, int]
    policy: str


class MisuseRule(Struct, kw_only=True):
    """When a measure follows: all of ``notices``, ``number``, ``share`` and ``weight`` are reached, and ``again`` and
    ``after`` since the last step."""

    measure: Literal["warning", "quota", "suspension"]
    notices: int
    number: int
    share: str
    weight: int
    again: int
    after: str
    lasts: str | None
    items: int | None


class MeasureOut(Struct, kw_only=True):
    """A measure against misuse, and the figures that it rests on.

    ``until``: first day (UTC) on which it no longer applies, null: until the record is good again; ``items``: items
    per day under a quota; ``complain_until``: deadline for a complaint (``POST /v1/misuse/{measure}/complaint``).
    """

    id: str
    kind: Literal["warning", "quota", "suspension"]
    state: Literal["on", "over", "lifted", "reversed", "fallen"]
    day: dt.date
    at: dt.datetime
    until: dt.date | None
    items: int | None
    prior: str | None
    finding: str | None
    ended: dt.date | None
    complain_until: dt.datetime
    complaint: Literal["open", "confirmed", "reversed"] | None
    complained_at: dt.datetime | None
    complaint_code: str | None
    decided_at: dt.datetime | None
    figures: MisuseFigures


class MisuseOut(Struct, kw_only=True):
    """Where an account stands, by which rules, and its last 50 measures, latest first (``history`` has all).

    ``used``: items filed today, if there is a quota; ``held``: items that wait for the end of a suspension.
    """

    account: str
    state: Literal["clear", "warning", "quota", "suspension"]
    until: dt.date | None
    items: int | None
    used: int | None
    held: int
    figures: MisuseFigures
    rules: list[MisuseRule]
    measures: list[MeasureOut]


class FindingOut(Struct, kw_only=True):
    """A reviewer's finding, and what rests on the document: ``rights`` that are not lost, and ``claims`` with items
    that have not ended (up to 200 each). Have the rights refused or lost (``/v1/rights/{right_id}``), and decide the
    claims again.

    ``state``: ``proposed`` waits for a second reviewer; ``measure``: the one that began with it at once.
    """

    id: str
    account: str
    kind: Literal["forged_document", "knowingly_false", "none"]
    state: Literal["proposed", "in_force", "refused", "reversed"]
    document: str | None
    claim: str | None
    code: str
    by: str
    second: str | None
    day: dt.date
    at: dt.datetime
    measure: str | None
    rights: list[str]
    claims: list[str]


class MeasureComplaint(Struct, kw_only=True):
    """An open complaint against a measure. ``statement`` is null if there is none or the account's key was erased."""

    measure: str
    account: str
    kind: Literal["warning", "quota", "suspension"]
    finding: str | None
    at: dt.datetime
    statement: str | None


class MisuseChange(Struct, kw_only=True):
    """What happened to a measure, and the figures that it rests on."""

    id: int
    measure: str
    day: dt.date
    at: dt.datetime
    kind: str
    by: str
    figures: MisuseFigures
