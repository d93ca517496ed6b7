"""The reader's language: which one a request asks for, and translations from the catalogues in ``shared/locale/``.

Texts are written in English, which is also the key of their translation. A composed text is looked up by its
template, such as ``A number has {looks}.``: what fills a placeholder is kept, and translated where possible. A
sentence may end in a remark in brackets. A text that is in no catalogue stays English. ``make messages`` updates the
catalogues (gettext, ``goodfaith.po``).
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
"""The language in which texts are written; it needs no catalogue."""
LANGUAGES: Final = (SOURCE, "zh", "de")
_HEADER_MOST: Final = 500
_TEXT_MOST: Final = 2000
_RANGE: Final = re.compile(r"([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]{1,35})?(?:;q=([01](?:\.[0-9]{0,3})?))?")
_PLACE: Final = re.compile(r"\{(\w+)\}")


def mark(text: str) -> str:
    """Mark a text for translation where it is shown; ``make messages`` looks for these calls. Returns it unchanged."""
    return text


def file(language: str, domain: str = DOMAIN) -> Path:
    """The catalogue file of a language other than English."""
    return FOLDER / language / "LC_MESSAGES" / f"{domain}.po"


def choose(accepted: str | None) -> str:
    """Which of our languages an ``Accept-Language`` header (RFC 9110) prefers; English if it names none of them.

    ``zh-Hant-TW`` and the like count as ``zh``. Unreadable parts are ignored.
    """
    best, weight = SOURCE, 0.0
    for part in (accepted or "")[:_HEADER_MOST].replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            continue
        liked = min(float(match[2] or 1), 1.0)
        name = SOURCE if match[1] == "*" else match[1].lower()
        # on a tie, the first one
        if name in LANGUAGES and liked > weight:
            best, weight = name, liked
    return best


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders.

    Attributes:
        literals: the text before, between and after the placeholders.
        names: the placeholders' names.
        translated: the translation, with the same placeholders.
    """

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translated: str

    def match(self, text: str) -> dict[str, str] | None:
        """What fills the placeholders; None if the text does not fit. Takes time linear in the text."""
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
        """The translation, or the text itself if it has none."""
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
    """Whether a text has placeholders, and enough text around them to be recognised by."""
    literals = _PLACE.split(text)[::2]
    return len(literals) > 1 and all(literals[1:-1]) and sum(map(len, literals)) >= 5


@cache
def catalogue(language: str) -> Catalogue:
    """The catalogue of a language other than English, read once; untranslated texts are left out.

    Raises:
        FileNotFoundError: the language has no catalogue.
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
    # the template with the most text of its own is the most certain match
    templates.sort(key=lambda template: -sum(map(len, template.literals)))
    return Catalogue(texts, tuple(templates))


@lru_cache(maxsize=4096)
def translate(text: str, language: str) -> str:
    """Translate a text into one of ``LANGUAGES``; a text without translation is returned unchanged."""
    return text if language == SOURCE or not text else catalogue(language).text(text)
