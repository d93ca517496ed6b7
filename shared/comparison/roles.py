"""As what a mark stands in a text: by the words around it (``cues.toml``), never by other marks. Pure."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from msgspec import Struct

from shared.comparison.letters import WORDS
from shared.comparison.reading import Span
from shared.comparison.types import Content, Field, Role

Cue = Literal["compatibility", "comparison", "unit"]
NEAR: Final = 2
"""A cue reaches over at most this many words to the mark, without fillers, and in a list within each of its entries."""
HEAD: Final = 2
"""The mark at the head of a title comes after at most this many other words."""
BEFORE: Final = 300
AFTER: Final = 40
"""Characters before and after a mark in which a cue is looked for. A title is not longer than that."""
REACH: Final = 50
"""Characters that the head of a title has at most."""
CLAUSE: Final = re.compile(r"[;|)\]•!?]|\s[-–—]\s|\.\s")
"""Ends what a cue reaches; an opening bracket does not."""
ENTRY: Final = re.compile(r"[,/&+、，]")
FALLBACK: Final = "en"
"""Titles in any language use English cues too."""
CUES: Final = ("compatible", "compatible_after", "alike", "alike_after")
KINDS: Final = (*CUES, "people", "maker", "list", "filler")
OTHER_SCRIPTS: Final = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "HEBREW", "ARABIC"})
"""Scripts with letters that look like Latin ones, and words that read as Latin ones by accident."""


class Cues(Struct, frozen=True):
    """Patterns for words folded by ``words``; ``first`` has the words that cues begin with."""

    first: frozenset[str]
    before: tuple[tuple[Cue, re.Pattern[str]], ...]
    compatible_after: re.Pattern[str]
    alike_after: re.Pattern[str]
    maker: re.Pattern[str]
    entries: re.Pattern[str]
    filler: re.Pattern[str]


def words(text: str) -> str:
    """The text's words, folded, separated by single spaces."""
    return " ".join(text.translate(WORDS).split())


@cache
def data() -> dict[str, Any]:
    """The file as it is."""
    return tomllib.loads((files(__package__) / "cues.toml").read_text(encoding="utf-8"))


@cache
def languages() -> tuple[str, ...]:
    """The languages that have cues."""
    return tuple(sorted(name for name, value in data().items() if isinstance(value, dict)))


def cues(tag: str | None) -> Cues:
    """The cues that count for a language (its tag): its own and English; of all languages if it is None or has none."""
    language = base(tag)
    return _cues(language if language in languages() else None)


@cache
def _cues(language: str | None) -> Cues:
    chosen = languages() if language is None else sorted({language, FALLBACK})

    def any_of(kind: str) -> str:
        found = {words(text) for one in chosen for text in data()[one][kind]}
        return "|".join(sorted(map(re.escape, found), key=lambda text: (-len(text), text)))

    def words_of(kind: str) -> str:
        # "like new" is no comparison
        return rf"(?!(?:{any_of('filler')})(?: |$))(?:{any_of(kind)})"

    def cue(kind: str) -> re.Pattern[str]:
        return re.compile(rf"(?:^|.* ){words_of(kind)}(?: (?!(?:{any_of('people')})(?: |$))(.*))?$")

    return Cues(
        frozenset(words(text).split()[0] for one in chosen for kind in CUES for text in data()[one][kind]),
        (("compatibility", cue("compatible")), ("comparison", cue("alike"))),
        re.compile(rf"{words_of('compatible_after')}(?: |$)"),
        re.compile(rf"{words_of('alike_after')}(?: |$)"),
        re.compile(rf"(?:^|.* )(?:{any_of('maker')})(?= |$)"),
        re.compile(rf"(?:^| )(?:{any_of('list')})(?= |$)"),
        re.compile(rf"(?:^| )(?:{any_of('filler')}|\d+)(?= |$)"),
    )


@cache
def _measure() -> tuple[re.Pattern[str], re.Pattern[str]]:
    units = "|".join(sorted((re.escape(words(unit)) for unit in data()["units"]), key=lambda unit: (-len(unit), unit)))
    return re.compile(rf"[\d ]*\d ?(?:{units})"), re.compile(rf"(?:{units})(?: |$)")


def base(tag: str | None) -> str | None:
    """The language of a tag, such as ``de`` of ``de-AT``."""
    return None if tag is None else tag.replace("_", "-").partition("-")[0].lower()


class Setting:
    """A field in which marks are found, and the cues that count there."""

    __slots__ = ("_cued", "_rules", "_scripts", "content", "field", "text")

    def __init__(self, field: Field, content: Content) -> None:
        self.field, self.content = field, content
        self.text: Final[str] = getattr(content, field)
        self._rules = cues(content.language)
        self._cued = not self._rules.first.isdisjoint(words(self.text).split())
        self._scripts: Counter[str] | None = None

    def role(self, span: Span) -> tuple[Role, Cue | None]:
        """As what the part stands there, and what shows that it is descriptive: in a brand field only cues before it."""
        cue = self._before(span[0]) if self.field == "brand" else self._cue(span)
        if cue is not None:
            return "descriptive", cue
        return "brand" if self.field == "brand" or (self.field == "title" and self._heads(span)) else "mention", None

    def native(self, span: Span) -> bool:
        """Whether the part is wholly in one script other than Latin, and words around it are in the same."""
        here = _scripts(self.text[slice(*span)])
        if len(here) != 1 or not here.keys() <= OTHER_SCRIPTS:
            return False
        if self._scripts is None:
            self._scripts = _scripts(self.text)
        return any(self._scripts[script] > count for script, count in here.items())

    def _heads(self, span: Span) -> bool:
        """Whether the part stands at the head, apart from words such as "new"."""
        if span[0] > REACH:
            return False
        before = words(self.text[: span[0]])
        return before.count(" ") < HEAD or self._count(before) <= HEAD

    def _count(self, text: str) -> int:
        """Words that are no fillers."""
        return len(self._rules.filler.sub("", text).split())

    def _cue(self, span: Span) -> Cue | None:
        start, end = span
        if self.text[start].isdecimal() and self._measures(span):
            return "unit"
        if not self._cued:
            return None
        after = words(self.text[end : end + AFTER])
        if self._rules.compatible_after.match(after):
            return "compatibility"
        if self._rules.alike_after.match(after):
            return "comparison"
        return self._before(start)

    def _before(self, start: int) -> Cue | None:
        return self._reached(CLAUSE.split(self.text[max(0, start - BEFORE) : start])[-1]) if self._cued else None

    def _measures(self, span: Span) -> bool:
        piece, (measure, unit) = words(self.text[span[0] : span[1]]), _measure()
        number = piece.replace(" ", "").isdigit()
        return bool(measure.fullmatch(piece) or (number and unit.match(words(self.text[span[1] : span[1] + AFTER]))))

    def _reached(self, clause: str) -> Cue | None:
        """The cue in the clause before a mark that reaches it, directly or as an entry of a list."""
        rules = self._rules
        entries = [part for entry in ENTRY.split(clause) for part in rules.entries.split(words(entry))]
        last = self._count(entries[-1])
        for index, entry in enumerate(reversed(entries)):
            made = rules.maker.match(entry)
            rest = entry if made is None else entry[made.end() :]
            for kind, pattern in rules.before:
                found = pattern.match(rest)
                if found is not None and (last if index else self._count(found[1] or "")) <= NEAR:
                    return kind
            if made is not None:
                return None
        return None


def _scripts(text: str) -> Counter[str]:
    """Letters by script, the first word of their names."""
    return Counter(unicodedata.name(char, "").partition(" ")[0] for char in text if char.isalpha())
