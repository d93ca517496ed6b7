"""Words within one edit of a given word, among many: by the words that remain when one letter is left out. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from itertools import accumulate
from typing import Final
from zlib import crc32

from rapidfuzz.distance import OSA

_PER_BUCKET: Final = 4
_REMEMBERED: Final = 1 << 14
"""Answers that are kept at most, and no more than there are words: those of titles repeat."""


def _keys(word: str) -> set[int]:
    """Hashes of the word, and of it without each letter. Words one edit or swap apart have one in common."""
    text = word.encode()
    keys = {crc32(text[:at] + text[at + 1 :]) for at in range(len(text))}
    keys.add(crc32(text))
    return keys


class Typos:
    """An immutable index of ASCII words, numbered by their place; about 10 bytes a letter."""

    __slots__ = ("_ends", "_keys", "_most", "_numbers", "_remembered", "_shift", "_starts", "_text")

    def __init__(self, words: Collection[str]) -> None:
        self._text = "".join(words)
        self._most = min(_REMEMBERED, len(words))
        self._ends = array("I", accumulate(map(len, words), initial=0))
        # one integer for key and number sorts ten times faster than a pair, and takes a third of the memory
        found = sorted([key << 32 | number for number, word in enumerate(words) for key in _keys(word)])
        self._shift = max(0, 32 - (len(found) // _PER_BUCKET).bit_length())
        self._keys = array("I", [one >> 32 for one in found])
        self._numbers = array("I", [one & 0xFFFFFFFF for one in found])
        counts = [0] * ((1 << 32 - self._shift) + 1)
        for one in found:
            counts[(one >> 32 + self._shift) + 1] += 1
        self._starts = array("I", accumulate(counts))
        self._remembered: dict[str, tuple[int, ...]] = {}

    def near(self, word: str) -> tuple[int, ...]:
        """Numbers of the words that are one edit from the word: a letter more, less, other, or two swapped."""
        numbers = self._remembered.get(word)
        if numbers is None:
            if len(self._remembered) >= self._most:
                self._remembered.clear()
            numbers = self._remembered[word] = self._look(word)
        return numbers

    def _look(self, word: str) -> tuple[int, ...]:
        keys, starts, shift, ends = self._keys, self._starts, self._shift, self._ends
        near = set()
        for key in _keys(word):
            bucket = key >> shift
            for at in range(starts[bucket], starts[bucket + 1]):
                if keys[at] == key:
                    near.add(self._numbers[at])
        return tuple(
            number
            for number in sorted(near)
            if OSA.distance(word, self._text[ends[number] : ends[number + 1]], score_cutoff=1) == 1
        )
