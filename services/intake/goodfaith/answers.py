"""The answers of the good-faith mechanism."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct


class CountsOut(Struct, kw_only=True):
    """Settled items of a window: how many were upheld, had been taken down, and came back by a successful counter.

    The rates (``upheld / settled``, ``restored / taken_down``) are rounded for reading. Decisions use whole numbers.
    """

    settled: int
    upheld: int
    taken_down: int
    restored: int
    takedown_rate: float | None
    counter_rate: float | None


class MissOut(Struct, kw_only=True):
    """A rate that misses its threshold, for a reason or overall (null)."""

    reason: str | None
    rate: Literal["takedown", "counter"]
    part: int
    whole: int


class FiguresOut(Struct, kw_only=True):
    """Figures of a window, both days included, against the policy's thresholds."""

    window_from: dt.date
    window_to: dt.date
    overall: CountsOut
    reasons: dict[str, CountsOut]
    verdict: Literal["meets", "misses", "too_few"]
    misses: list[MissOut]
    takedown_rate: str
    counter_rate: str
    min_items: int
    reason_min_items: int
    policy: str


class GoodFaithOut(Struct, kw_only=True):
    """An account's standing in the good-faith mechanism, and its figures now (today's included).

    ``demote_on``: when a warned account leaves if its figures still miss; ``barred_until``: first day on which it may
    rejoin.
    """

    account: str
    member: bool
    state: Literal["out", "in", "warned"]
    how: Literal["declaration", "statistic", "staff"] | None
    since: dt.date | None
    demote_on: dt.date | None
    barred_until: dt.date | None
    figures: FiguresOut


class GoodFaithChange(Struct, kw_only=True):
    """A change of an account's standing, and the figures that it rests on."""

    id: int
    day: dt.date
    at: dt.datetime
    kind: str
    by: str
    state: Literal["out", "in", "warned"]
    demote_on: dt.date | None
    barred_until: dt.date | None
    figures: FiguresOut


class DeclarationOut(Struct, kw_only=True):
    """The declaration's text in force, for the account to execute."""

    version: str
    sha256: str
    text: str


class DeclarationExecuted(Struct, kw_only=True):
    """An executed declaration. The signatory is null once the account's key has been erased."""

    id: int
    version: str
    sha256: str
    executed_at: dt.datetime
    name: str | None
    capacity: str | None
