"""Durations and shares as a policy writes them: `3 wd`, `24 h`, `90 %`."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from shared.calendars import Calendar

UNITS: Final = {"d": dt.timedelta(days=1), "h": dt.timedelta(hours=1), "min": dt.timedelta(minutes=1)}


class PolicyError(ValueError):
    """A policy file is invalid; the message names file and key."""


class Span:
    """A duration as written in a policy: working days, or exact time. Immutable."""

    # a plain class: msgspec would decode a dataclass from a table, but durations are text
    __slots__ = ("exact", "text", "working_days")

    def __init__(self, text: object) -> None:
        """Parse ``3 wd``, ``90 d``, ``24 h`` or ``15 min``.

        Raises:
            ValueError: anything else, or zero.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,4}) (wd|d|h|min)", text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'Expected a duration such as "3 wd", "90 d", "24 h" or "15 min", got {text!r}')
        number, unit = int(match[1]), match[2]
        self.text: Final = match[0]
        self.working_days: Final = number if unit == "wd" else 0
        self.exact: Final = dt.timedelta() if unit == "wd" else number * UNITS[unit]

    def __repr__(self) -> str:
        return f"Span({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def after(self, start: dt.datetime, calendar: Calendar) -> dt.datetime:
        """When the duration ends if it begins at ``start`` (aware, UTC)."""
        if self.working_days:
            return calendar.add_working_days(start, self.working_days)
        return start + self.exact


class Rate:
    """A share as written in a policy, ``90 %``: a fraction of integers, compared without rounding. Immutable."""

    __slots__ = ("denominator", "numerator", "text")

    def __init__(self, text: object) -> None:
        """Parse ``90 %`` or ``2.5 %``.

        Raises:
            ValueError: anything else, or more than 100 %.
        """
        match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,4}))? %", text) if isinstance(text, str) else None
        digits = "" if match is None else match[2] or ""
        denominator = 100 * 10 ** len(digits)
        numerator = 0 if match is None else int(match[1] + digits)
        if match is None or numerator > denominator:
            raise ValueError(f'Expected a share such as "90 %" or "2.5 %", got {text!r}')
        self.text: Final = match[0]
        self.numerator: Final[int] = numerator
        self.denominator: Final[int] = denominator

    def __repr__(self) -> str:
        return f"Rate({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def reached(self, part: int, whole: int) -> bool:
        """Whether part of whole is at least this share; exact, and true for 0 of 0."""
        return part * self.denominator >= self.numerator * whole

    def kept(self, part: int, whole: int) -> bool:
        """Whether part of whole is at most this share; exact, and true for 0 of 0."""
        return part * self.denominator <= self.numerator * whole
