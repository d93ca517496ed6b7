"""Named working-day calendars: a country's public holidays, a time zone and a weekend.

The calendars are declared in ``shared/policies/calendars.toml``. The package ``holidays`` knows the holidays; a day
that is worked in exchange for a bridge day (China) counts as a working day.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays

FILE: Final = Path(__file__).parent / "policies" / "calendars.toml"
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CACHED: Final = 10_000
"""Most steps that a calendar caches; about 200 bytes each."""
KEYS: Final = {"country", "subdivision", "zone", "weekend"}


class CalendarError(ValueError):
    """A calendar is declared wrongly; the message names file, calendar and key."""


class Calendar:
    """Working days of one place."""

    __slots__ = ("_holidays", "_steps", "_weekend", "name", "zone")

    def __init__(
        self, name: str, country: str, zone: ZoneInfo, weekend: frozenset[int], subdivision: str | None = None
    ) -> None:
        """``weekend`` holds days as ``date.weekday()`` numbers them.

        Raises:
            NotImplementedError: ``holidays`` does not know the country or subdivision.
        """
        self.name = name
        self.zone = zone
        self._weekend = weekend
        self._holidays = holidays.country_holidays(country, subdiv=subdivision)
        self._steps: dict[tuple[float, int], dt.timedelta] = {}

    def is_working_day(self, day: dt.date) -> bool:
        """Whether ``day`` (local) is a working day."""
        if day in self._holidays:  # also makes the package compute the year, exchanged days included
            return False
        return day.weekday() not in self._weekend or day in self._holidays.weekend_workdays

    def add_working_days(self, start: dt.datetime, n: int) -> dt.datetime:
        """The same local time of day on the n-th working day after ``start``'s local day; in ``start``'s zone (UTC).

        The day of ``start`` never counts, even if it is a working day. If a clock change repeats or skips the time of
        day, the later instant is taken, in favour of the party that has to act.

        Raises:
            ValueError: ``n`` < 1, or ``start`` is naive.
        """
        if start.tzinfo is None:
            raise ValueError("start: needs a time zone")
        # Zones change their offset and date only on quarter hours (all of them since 1973), so every start within a
        # quarter moves by the same step. Steady load asks for the same quarter again and again.
        key = (start.timestamp() // 900, n)
        step = self._steps.get(key)
        if step is None:
            if len(self._steps) >= CACHED:
                self._steps.clear()
            step = self._steps[key] = self._count(start, n)
        return start + step

    def _count(self, start: dt.datetime, n: int) -> dt.timedelta:
        if n < 1:
            raise ValueError(f"working days: expected at least 1, got {n}")
        wall = start.astimezone(self.zone).replace(tzinfo=None, fold=0)
        left = n
        while left:
            wall += dt.timedelta(days=1)
            left -= self.is_working_day(wall.date())
        there = wall.replace(tzinfo=self.zone)
        first, second = there.utcoffset(), there.replace(fold=1).utcoffset()
        assert first is not None
        assert second is not None
        # the smaller offset is the later instant, in a repeated hour as in a skipped one
        return wall.replace(tzinfo=dt.UTC) - min(first, second) - start


@cache
def _declared() -> dict[str, Calendar]:
    return parse(FILE.read_text(encoding="utf-8"), str(FILE.name))


def parse(text: str, file: str) -> dict[str, Calendar]:
    """Read the calendars that a TOML document declares.

    Raises:
        CalendarError: naming ``file``, the calendar and the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalendarError(f"{file}: {error}") from None
    return {name: _build(name, declared, f"{file}: {name}") for name, declared in document.items()}


def _build(name: str, declared: Any, where: str) -> Calendar:
    if not isinstance(declared, dict):
        raise CalendarError(f"{where}: expected a table")
    for key in sorted(declared.keys() - KEYS):
        raise CalendarError(f"{where}.{key}: unknown key; known are {', '.join(sorted(KEYS))}")
    for key in ("country", "zone"):
        if not isinstance(declared.get(key), str):
            raise CalendarError(f"{where}.{key}: expected a string")
    weekend = declared.get("weekend")
    if not isinstance(weekend, list) or not set(weekend) <= set(WEEKDAYS) or len(set(weekend)) > 6:
        raise CalendarError(f"{where}.weekend: expected a list of {', '.join(WEEKDAYS)}, at most six")
    try:
        zone = ZoneInfo(declared["zone"])
    except (ZoneInfoNotFoundError, ValueError):
        raise CalendarError(f"{where}.zone: unknown time zone {declared['zone']!r}") from None
    try:
        days = frozenset(WEEKDAYS.index(day) for day in weekend)
        return Calendar(name, declared["country"], zone, days, declared.get("subdivision"))
    except NotImplementedError as error:
        raise CalendarError(f"{where}.country: {error}") from None


def calendar(name: str) -> Calendar:
    """The calendar of that name.

    Raises:
        CalendarError: no calendar has that name.
    """
    found = _declared().get(name)
    if found is None:
        raise CalendarError(f"{FILE.name}: no calendar {name!r}; declared are {', '.join(sorted(_declared()))}")
    return found
