"""The marks in a listing's text. Pure.

    marks = Marks.build([Mark(id="r-1", text="Nike", owner="nike", classes=(25,))])
    marks.find(Content(title="N1ke shoes", classes=(25,)))

The index proposes, ``judging`` decides, ``roles`` and ``gates`` say how much a finding weighs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Final, Self

from msgspec.structs import replace

from shared.comparison.gates import CERTAINTY, gates, weigh
from shared.comparison.judging import SHORT, edited, judge, words_of
from shared.comparison.proposals import Index
from shared.comparison.reading import Span, normalise
from shared.comparison.roles import Setting
from shared.comparison.types import Against, Content, Field, Finding, Mark, Permissions, Permitted, Rule

STUFFED: Final = 3
"""Marks of so many unrelated owners in one field, each used as a mark, are stuffing."""
UNCOUNTED: Final = frozenset[Against](
    {"dictionary_word", "native_script", "owner", "licensee", "reseller", "invoice", "reversal"}
)
"""Findings with one of these against them do not count as stuffing."""

PLACES: Final = 64
"""Most places of a mark in one field; a title of 300 characters has no more."""
REMEMBERED: Final = 1 << 12
"""Brand fields whose marks are remembered at most, and no more than there are marks."""

Allowed = Mapping[str, Collection[Permitted]]


class Marks:
    """An immutable index of marks. What it finds does not depend on the order in which they were given."""

    __slots__ = ("_brands", "_index", "_marks", "_remembered", "_short")

    def __init__(self, marks: tuple[Mark, ...]) -> None:
        self._marks: Final = marks
        self._index = Index(mark.text for mark in marks)
        self._short = bytes(words_of.__wrapped__(mark.text).size <= SHORT for mark in marks)
        self._remembered = min(REMEMBERED, len(marks))
        self._brands: dict[str, dict[int, list[tuple[Span, Rule]]]] = {}

    @classmethod
    def build(cls, marks: Iterable[Mark]) -> Self:
        """Index marks. Those without a letter or digit are never found.

        Raises:
            ValueError: two marks have the same id.
        """
        ordered = sorted(marks, key=lambda mark: mark.id)
        for one, other in pairwise(ordered):
            if one.id == other.id:
                raise ValueError(f"two marks with id {one.id}")
        return cls(tuple(ordered))

    def __len__(self) -> int:
        return len(self._marks)

    def find(self, content: Content, permissions: Permissions = ()) -> tuple[Finding, ...]:
        """The marks in a listing's text, by field, place and mark.

        A mark is found, or not, whatever the other marks are; only stuffing depends on them. Descriptions are searched
        for whole words and their lookalikes only.
        """
        allowed: dict[str, set[Permitted]] = {}
        for one in permissions:
            allowed.setdefault(one.mark, set()).add(one.why)
        return (
            *self._field("brand", content.brand, content, allowed),
            *self._field("title", content.title, content, allowed),
            *self._field("description", content.description, content, allowed),
        )

    def _field(self, field: Field, text: str, content: Content, allowed: Allowed) -> list[Finding]:
        places = self._brand(text) if field == "brand" else self._places(field, text)
        if not places:
            return []
        setting = Setting(field, content)
        found = [
            _finding(self._marks[number], rule, span, setting, allowed.get(self._marks[number].id, ()))
            for number, those in places.items()
            for span, rule in those
        ]
        if field != "brand" and len(found) >= STUFFED:
            owners = {self._marks[number].id: self._marks[number].owner for number in places}
            found = _stuffing(found, owners)
        if len(found) > 1:
            found.sort(key=lambda one: (one.span, one.mark))
        return found

    def _brand(self, text: str) -> dict[int, list[tuple[Span, Rule]]]:
        """The places in a brand field. They are remembered, for many listings have the same brand."""
        places = self._brands.get(text)
        if places is None:
            if len(self._brands) >= self._remembered:
                self._brands.clear()
            places = self._brands[text] = self._places("brand", text)
        return places

    def _places(self, field: Field, text: str) -> dict[int, list[tuple[Span, Rule]]]:
        """Where each mark is, by its number; a place that a surer pass has found is not found again."""
        found: dict[int, list[tuple[Span, Rule]]] = {}
        if not text:
            return found
        for number, reading, start, end, for_edit in self._index.propose(text, field != "description"):
            if field != "brand" and self._short[number]:
                continue
            places = found.get(number, ())
            if len(places) >= PLACES:
                continue
            mark = words_of(self._marks[number].text)
            if for_edit and not edited(reading.text[start:end], mark):
                continue
            span = reading.span(start, end)
            if any(span[0] < place[1] and place[0] < span[1] for place, _ in places):
                continue
            rule: Rule | None = "edit" if for_edit else judge(text[span[0] : span[1]], mark)
            if rule is not None:
                found.setdefault(number, []).append((span, rule))
        return found


def _finding(mark: Mark, rule: Rule, span: Span, setting: Setting, allowed: Collection[Permitted]) -> Finding:
    """With its role, and with what speaks against it."""
    against: list[Against] = sorted(allowed)
    role, cue = setting.role(span)
    if cue is not None:
        against.append(cue)
    if rule == "lookalike" and setting.native(span):
        against.append("native_script")
    against += gates(mark, words_of(mark.text).skeletons[0], setting.field, setting.content)
    reasons = tuple(against)
    return Finding(mark.id, setting.field, span, rule, role, CERTAINTY[rule], weigh(rule, role, reasons), reasons)


def _stuffing(found: list[Finding], owners: Mapping[str, str]) -> list[Finding]:
    """The findings of one field, those that are stuffing marked as such.

    Marks within others count only once: "Air" and "Air Max" are one place.
    """
    used = [
        one for one in found if one.role != "descriptive" and one.rule != "edit" and UNCOUNTED.isdisjoint(one.against)
    ]
    here: dict[Span, set[str]] = {}
    for one in used:
        here.setdefault(one.span, set()).add(owners[one.mark])
    places: list[Span] = []
    counted: set[str] = set()
    count = 0
    for span in sorted(here, key=lambda span: (span[0] - span[1], span)):
        if count == STUFFED:
            break
        # a place of owners who are all counted adds nothing, but covers what is within it
        if any(span[0] < other[1] and other[0] < span[1] for other in places):
            continue
        places.append(span)
        count += here[span].isdisjoint(counted)
        counted |= here[span]
    if count < STUFFED:
        return found
    stuffed = {id(one) for one in used}
    return [
        replace(one, role="stuffing", score=weigh(one.rule, "stuffing", one.against)) if id(one) in stuffed else one
        for one in found
    ]


@lru_cache(maxsize=1_024)
def _alone(mark: Mark) -> Marks:
    return Marks((mark,))


def compare(mark: Mark, content: Content, permissions: Permissions = ()) -> tuple[Finding, ...]:
    """One mark in a listing's text, as a claim names it: what an index of this mark alone finds."""
    return _alone(mark).find(content, permissions)


def comparable(text: str, content: Content) -> bool:
    """Whether the words of a mark could be found in a title at all: both have some, and the mark's are long enough."""
    return words_of(text).size > SHORT and bool(normalise(content.title).text)
