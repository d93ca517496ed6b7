"""A text as it reads, and the way back: which part of the original a part of it comes from."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import Final

from shared.comparison.letters import SKELETON, Letters

Span = tuple[int, int]
"""First character and the one after the last; in a Finding always of the original text."""
_WORD: Final = re.compile("[^ ]+")


class Reading:
    """A text folded by a table, its words separated by single spaces.

    Attributes:
        original: as given.
        text: what it reads as; empty if nothing of it is a letter or digit.
    """

    __slots__ = ("_ends", "_folded", "_table", "_words", "original", "text")

    def __init__(self, original: str, table: Letters) -> None:
        self.original: Final = original
        self._table = table
        self._folded = original.translate(table)
        self.text: Final = " ".join(self._folded.split())
        self._ends: list[int] | None = None
        self._words: list[int] = []

    def span(self, start: int, end: int) -> Span:
        """The part of the original that ``text[start:end]`` comes from, with the marks and invisible ones after it.

        Raises:
            ValueError: the part is empty or out of range.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"no part of the text: {start} to {end}")
        ends = self._ends
        if ends is None:
            # only for texts in which something is found: where each character ends in the folded text, and words begin
            ends = self._ends = list(accumulate(map(len, map(self._table.__getitem__, map(ord, self.original)))))
            self._words = [word.start() for word in _WORD.finditer(self._folded)]
        first, last = bisect_right(ends, self._place(start)), bisect_right(ends, self._place(end - 1)) + 1
        while last < len(ends) and ends[last] == ends[last - 1]:
            last += 1
        return first, last

    def _place(self, position: int) -> int:
        """A position of the text in the folded text, in which words may be further apart."""
        return self._words[self.text.count(" ", 0, position)] + position - self.text.rfind(" ", 0, position) - 1


def normalise(text: str) -> Reading:
    """A text as it reads: compatibility forms, case, accents, lookalikes and invisible characters evened out.

    Follows UTS #39 except for ASCII, which stays as it is (``letters``). Normalising what is normalised changes nothing.
    """
    return Reading(text, SKELETON)
