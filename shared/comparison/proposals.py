"""Where marks may be in a text: rough and fast, for ``judging`` to decide. Pure.

An automaton (Aho-Corasick) has the marks as Unicode's full skeleton shows them, which is so coarse that one pass finds
all whole words and their lookalikes. The other passes read the text otherwise, each only if the text has what the pass
is for, and search the same automaton.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Final

from ahocorasick_rs import AhoCorasick, Implementation

from shared.comparison.judging import LEET, LETTERS, WORD, Words, misspelt
from shared.comparison.letters import WORDS, Letters
from shared.comparison.reading import Reading, Span
from shared.comparison.typos import Typos

_TIGHT: Final = {"1": "l", "i": "l", "0": "o", "m": "rn"}
_JOINERS: Final = "-\u2010\u2011_.\u00b7\u2022*~'\u2019`\u00b4/"
TIGHT: Final = Letters(apart=True, also=_TIGHT)
"""The skeleton of UTS #39 with ASCII: what only capitals, 0, 1 or rn tell apart becomes the same."""
JOINED: Final = Letters(apart=True, also=_TIGHT | dict.fromkeys(_JOINERS, ""))
"""The same, but punctuation inside words does not separate them."""
SPELT: Final = Letters(
    apart=True, also=_TIGHT | {sign: "l" if letters == "il" else letters for sign, letters in LEET.items()}
)
"""The same, with digits and symbols as the letters that they stand for."""
_LETTER: Final = r"[^\W\d_]"
_JOINER, _SIGN = f"[{re.escape(_JOINERS)}]", f"[{re.escape(''.join(LEET))}]"
# each begins with the rare character: the search for it is what takes time
_JOINS: Final = re.compile(rf"{_JOINER}(?<={_LETTER}.){_JOINER}*{_LETTER}")
_LEETS: Final = re.compile(rf"{_SIGN}(?:(?<={_LETTER}.){_LETTER}|(?<={_LETTER}{{3}}.)(?!\w)|(?<!\w.){_LETTER}{{3}})")
"""A sign among letters, or at one end of them; the number of a model is mostly neither."""
_NUMBERED: Final = re.compile(rf"\d(?<={_LETTER}{{4}}.)\d*(?!\w)")
"""A number right after a word: of a model, such as ``iPhone15``."""
_OUTSIDE: Final = re.compile(r"(?<!\w)[!+|]|[!+|](?!\w)")
"""Signs that stand for no letter: not between two characters."""
_APART: Final = re.compile(r"(?<![^ ])(?:rn|[a-z0-9])(?: (?:rn|[a-z0-9])){3,}(?![^ ])")
"""Letters set apart; ``m`` is ``rn`` here."""
_SPACED: Final = 24
"""Most letters of a mark that is found set apart."""
_BITS: Final = 4
_MOST: Final = 1 << _BITS
"""Most words of a mark in which edits are looked for."""

Proposal = tuple[int, Reading, int, int, bool]
"""Number of the mark; whole words of a reading, from and to; whether it is for an edit."""


class Lists:
    """Many short lists of numbers, in two arrays."""

    __slots__ = ("_items", "_starts")

    def __init__(self, lists: Iterable[Sequence[int]]) -> None:
        kept = list(lists)
        self._items = array("I", [one for numbers in kept for one in numbers])
        self._starts = array("I", accumulate(map(len, kept), initial=0))

    def __getitem__(self, index: int) -> array[int]:
        return self._items[self._starts[index] : self._starts[index + 1]]


class Index:
    """The automaton, and words for edits. Marks are numbered by their place in ``texts``."""

    __slots__ = ("_automaton", "_marks", "_typos", "_uses")

    def __init__(self, texts: Iterable[str]) -> None:
        shapes: dict[str, list[int]] = {}
        words: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            mark = Words(text)
            for shape in _shapes(text, mark):
                shapes.setdefault(shape, []).append(number)
            if mark.misspells:
                own = mark.skeletons[0].split()
                for place, word in enumerate(own):
                    if len(word) >= WORD and len(own) <= _MOST:
                        words.setdefault(word, []).append(((number << _BITS) + place << _BITS) + len(own) - 1)
        self._automaton = AhoCorasick(
            [f" {shape} " for shape in shapes], store_patterns=False, implementation=Implementation.ContiguousNFA
        )
        self._marks = Lists(shapes.values())
        self._typos = Typos(words)
        self._uses = Lists(words.values())

    def propose(self, text: str, thorough: bool) -> list[Proposal]:
        """Words as they are and lookalikes; if thorough, then also what is written otherwise: in leetspeak, with other
        breaks, letters set apart, or an edit.
        """
        reading = Reading(text, TIGHT)
        known = f" {reading.text} "
        found = self._whole(reading, "")
        if thorough:
            if _JOINS.search(text):
                found += self._whole(Reading(text, JOINED), known)
            if _LEETS.search(text):
                found += self._whole(Reading(_OUTSIDE.sub(" ", text), SPELT), known)
            if _NUMBERED.search(text):
                apart = _NUMBERED.sub(lambda number: " " * len(number[0]), text)
                found += self._whole(Reading(apart, TIGHT), known)
            found += self._pairs(reading)
            for run in _APART.finditer(reading.text):
                found += self._apart(reading, run)
            found += self._edits(Reading(text, WORDS))
        return found

    def _whole(self, reading: Reading, known: str) -> list[Proposal]:
        """Whole words of a reading, but those that a text has as often that was searched before."""
        found, text = [], f" {reading.text} "
        for shape, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True):
            if known and text.count(text[start:end]) <= known.count(text[start:end]):
                continue
            found += [(number, reading, start, end - 2, False) for number in self._marks[shape]]
        return found

    def _parts(self, reading: Reading, parts: list[str], places: Callable[[int], Span]) -> list[Proposal]:
        """Parts of a reading, joined, and where each is in it."""
        haystack = f" {' '.join(parts)} "
        found = []
        for shape, start, end in self._automaton.find_matches_as_indexes(haystack, overlapping=True):
            if haystack.find(" ", start + 1) == end - 1:  # one part, not several
                first, last = places(haystack.count(" ", 0, start))
                found += [(number, reading, first, last, False) for number in self._marks[shape]]
        return found

    def _pairs(self, reading: Reading) -> list[Proposal]:
        """Two words that may be one."""
        words = reading.text.split()

        def place(number: int) -> Span:
            first = sum(map(len, words[:number])) + number
            return first, first + len(words[number]) + 1 + len(words[number + 1])

        return self._parts(reading, list(map(add, words, words[1:])), place)

    def _apart(self, reading: Reading, run: re.Match[str]) -> list[Proposal]:
        """Single letters that may be a word: any four to ``_SPACED`` that follow each other."""
        letters = list(re.finditer(r"\w+", run[0]))
        count = len(letters)
        ranges = [
            (first, last) for first in range(count) for last in range(first + LETTERS, min(first + _SPACED, count) + 1)
        ]

        def place(number: int) -> Span:
            first, last = ranges[number]
            return run.start() + letters[first].start(), run.start() + letters[last - 1].end()

        joined = ["".join([one[0] for one in letters[first:last]]) for first, last in ranges]
        return self._parts(reading, joined, place)

    def _edits(self, reading: Reading) -> list[Proposal]:
        """Words that may be misspelt, each with the words around it that belong to the mark."""
        found = []
        words = reading.text.split()
        for at, word in enumerate(words):
            if misspelt(word):
                for number in self._typos.near(word):
                    for use in self._uses[number]:
                        first = at - (use >> _BITS) % _MOST
                        after = first + use % _MOST + 1
                        if first >= 0 and after <= len(words):
                            start = sum(map(len, words[:first])) + first
                            end = start + sum(map(len, words[first:after])) + after - first - 1
                            found.append((use >> 2 * _BITS, reading, start, end, True))
        return found


def _shapes(text: str, mark: Words) -> Iterator[str]:
    """What the automaton looks for: each reading of the mark, and its words joined."""
    seen = set()
    for form in mark.forms:
        shape = " ".join(form.translate(TIGHT).split())
        joined = shape.replace(" ", "")
        for one in (shape, joined) if joined.isascii() and mark.size >= LETTERS else (shape,):
            if one and one not in seen:
                seen.add(one)
                yield one
