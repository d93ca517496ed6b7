"""As what a mark stands in a text: by the words around it (``cues.toml``), never by other marks. Pure."""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

from msgspec import Struct

from shared.comparison.letters import WORDS
from shared.comparison.reading import Span
from shared.comparison.types import Content, Field, Role

Cue = Literal["compatibility", "comparison", "unit"]
NEAR: Final = 2
"""A cue reaches over at most this many words to the mark, and in a list within each of its entries."""
HEAD: Final = 2
"""The mark at the head of a title comes after at most this many other words."""
AFTER: Final = 40
"""Characters after a mark in which a cue is looked for."""
REACH: Final = 50
"""Characters that the head of a title has at most."""
CLAUSE: Final = re.compile(r"[;|)\]•!?]|\s[-–—]\s|\.\s")
"""Ends what a cue reaches; an opening bracket does not."""
ENTRY: Final = re.compile(r"[,/&+、，]")
FALLBACK: Final = "en"
"""Titles in any language use English cues too."""
CUES: Final = ("compatible", "compatible_after", "alike", "alike_after")
KINDS: Final = (*CUES, "people", "maker", "list", "filler")


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


def languages() -> tuple[str, ...]:
    """The languages that have cues."""
    return tuple(sorted(name for name, value in data().items() if isinstance(value, dict)))


@lru_cache(256)
def cues(language: str | None) -> Cues:
    """The cues that count for a language (its tag): its own and English; of all languages if it is None or has none."""
    known, language = languages(), base(language)
    chosen = sorted({language, FALLBACK}) if language in known else known

    def any_of(kind: str) -> str:
        found = {words(text) for one in chosen if one is not None for text in data()[one][kind]}
        return "|".join(sorted(map(re.escape, found), key=lambda text: (-len(text), text)))

    def cue(kind: str) -> re.Pattern[str]:
        return re.compile(rf"(?:^|.* )(?:{any_of(kind)})(?: (?!(?:{any_of('people')})(?: |$))(.*))?$")

    return Cues(
        frozenset(
            words(text).split()[0] for one in chosen if one is not None for kind in CUES for text in data()[one][kind]
        ),
        (("compatibility", cue("compatible")), ("comparison", cue("alike"))),
        re.compile(rf"(?:{any_of('compatible_after')})(?: |$)"),
        re.compile(rf"(?:{any_of('alike_after')})(?: |$)"),
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

    __slots__ = ("_cued", "_rules", "content", "field", "text")

    def __init__(self, field: Field, content: Content) -> None:
        self.field, self.content = field, content
        self.text: Final[str] = getattr(content, field)
        self._rules = cues(content.language)
        self._cued = field != "brand" and not self._rules.first.isdisjoint(words(self.text).split())

    def role(self, span: Span) -> tuple[Role, Cue | None]:
        """As what the part stands there, and what shows that it is descriptive."""
        if self.field == "brand":
            return "brand", None
        cue = self._cue(span)
        if cue is not None:
            return "descriptive", cue
        return "brand" if self.field == "title" and self._heads(span) else "mention", None

    def _heads(self, span: Span) -> bool:
        """Whether the part stands at the head, apart from words such as "new"."""
        if span[0] > REACH:
            return False
        before = words(self.text[: span[0]])
        return before.count(" ") < HEAD or len(self._rules.filler.sub("", before).split()) <= HEAD

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
        return self._reached(CLAUSE.split(self.text[:start])[-1])

    def _measures(self, span: Span) -> bool:
        piece, (measure, unit) = words(self.text[span[0] : span[1]]), _measure()
        number = piece.replace(" ", "").isdigit()
        return bool(measure.fullmatch(piece) or (number and unit.match(words(self.text[span[1] : span[1] + AFTER]))))

    def _reached(self, clause: str) -> Cue | None:
        """The cue in the clause before a mark that reaches it, directly or as an entry of a list."""
        rules = self._rules
        entries = [part for entry in ENTRY.split(clause) for part in rules.entries.split(words(entry))]
        last = len(entries[-1].split())
        for index, entry in enumerate(reversed(entries)):
            made = rules.maker.match(entry)
            rest = entry if made is None else entry[made.end() :]
            for kind, pattern in rules.before:
                found = pattern.match(rest)
                if found is not None and (last if index else len((found[1] or "").split())) <= NEAR:
                    return kind
            if made is not None:
                return None
        return None
