"""The reader's language: which one is asked for, and texts in it out of the catalogues under ``shared/locale/``.

Texts are written in English, which is also the key of their translation. A text that is composed is looked up by its
template, such as ``A number has {looks}.``: what stands for a name is taken over, itself translated where it can be; a
sentence may end in a remark in brackets. What no catalogue knows stays English. The catalogues (gettext, ``goodfaith.po``) are brought up to date by ``make messages``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from babel.messages.pofile import read_po

FOLDER: Final = Path(__file__).parent / "locale"
DOMAIN: Final = "goodfaith"
SOURCE: Final = "en"
"""The language that texts are written in; it needs no catalogue."""
LANGUAGES: Final = (SOURCE, "zh", "de")
_HEADER_MOST: Final = 500
_TEXT_MOST: Final = 2000
_RANGE: Final = re.compile(r"([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]{1,35})?(?:;q=([01](?:\.[0-9]{0,3})?))?")
_PLACE: Final = re.compile(r"\{(\w+)\}")


def mark(text: str) -> str:
    """The text as it is: says that it is to be translated where it is shown (``make messages`` looks for it)."""
    return text


def file(language: str, domain: str = DOMAIN) -> Path:
    """The catalogue of a language other than English."""
    return FOLDER / language / "LC_MESSAGES" / f"{domain}.po"


def choose(accepted: str | None) -> str:
    """The language of ours that an ``Accept-Language`` header (RFC 9110) likes best; English when it names none of them.

    ``zh-Hant-TW`` and the like are taken for ``zh``. What cannot be read is passed over.
    """
    best, weight = SOURCE, 0.0
    for part in (accepted or "")[:_HEADER_MOST].replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            continue
        liked = min(float(match[2] or 1), 1.0)
        name = SOURCE if match[1] == "*" else match[1].lower()
        # the first of equals
        if name in LANGUAGES and liked > weight:
            best, weight = name, liked
    return best


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places to be filled.

    Attributes:
        literals: what stands before, between and behind the places.
        names: of the places.
        translated: the translation, with the same places.
    """

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translated: str

    def match(self, text: str) -> dict[str, str] | None:
        """What stands in the places; None when the text is no such one. In time linear in the text."""
        first, *middle, last = self.literals
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        at, end, found = len(first), len(text) - len(last), []
        for literal in middle:
            place = text.find(literal, at, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(literal)
        found.append(text[at:end])
        return dict(zip(self.names, found, strict=True))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language."""

    texts: dict[str, str]
    templates: tuple[Template, ...]

    def text(self, english: str, depth: int = 1) -> str:
        """The translation, or the text itself."""
        found = self.texts.get(english)
        if found is not None:
            return found
        if depth and len(english) <= _TEXT_MOST:
            for template in self.templates:
                values = template.match(english)
                if values is not None:
                    filled = {name: self.text(value, depth - 1) for name, value in values.items()}
                    return _PLACE.sub(lambda place: filled[place[1]], template.translated)  # noqa: B023
            said, bracket, remark = english.rpartition(" (")
            if bracket and remark.endswith(").") and (known := self.texts.get(f"{said}.")):
                return f"{known[:-1]} ({self.text(remark[:-2], 0)}){known[-1]}"
        return english


def is_template(text: str) -> bool:
    """Whether a text has places, and enough beside them to be known by."""
    literals = _PLACE.split(text)[::2]
    return len(literals) > 1 and all(literals[1:-1]) and sum(map(len, literals)) >= 5


@cache
def catalogue(language: str) -> Catalogue:
    """The catalogue of a language other than English, read once; what is not translated in it is left out.

    Raises:
        FileNotFoundError: there is none.
    """
    texts, templates = {}, []
    with file(language).open("rb") as stream:
        for message in read_po(stream, locale=language, abort_invalid=True):
            if not message.id or not message.string or message.fuzzy:
                continue
            english, translated = str(message.id), str(message.string)
            texts[english] = translated
            if is_template(english):
                parts = _PLACE.split(english)
                templates.append(Template(tuple(parts[::2]), tuple(parts[1::2]), translated))
    # what is longest in words of its own is the most certain
    templates.sort(key=lambda template: -sum(map(len, template.literals)))
    return Catalogue(texts, tuple(templates))


@lru_cache(maxsize=4096)
def translate(text: str, language: str) -> str:
    """The text in a language of ``LANGUAGES``; where there is no translation, as it is."""
    return text if language == SOURCE or not text else catalogue(language).text(text)
