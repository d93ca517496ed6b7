"""What a character reads as: case, accents and lookalike letters evened out, one character at a time.

Lookalikes are those of Unicode's UTS #39 (``confusables.txt``, the whole list). Its skeleton is made for equality, not
for reading: it maps ``m`` to ``rn``, and ``0``, ``1`` and ``I`` to letters. Here ASCII stays as it is, so that ordinary
text stays readable; ``TIGHT`` adds those four. Three further decisions:

* A prototype is looked up by the letter as written, since shapes depend on case: Greek ``Ν`` is ``n``, ``ν`` is ``v``.
  A letter without a Latin prototype takes that of its other case, so that most words fold alike in any case.
* Digits of any script become ASCII digits. Punctuation and bars separate words, even those that look like a letter.
* Enclosed letters and small capitals, which the list leaves out, are read by their names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

VOICED: Final = "\u3099\u309a"
"""Combining marks that make another letter, and are kept: the voicing of kana."""
FILLERS: Final = "\u115f\u1160\u3164\uffa0"
"""Letters that show nothing."""
JAMO: Final = range(0x1100, 0x1200)
"""What Korean syllables are decomposed into. They look like Han characters only when they stand alone."""
UNSPACED: Final = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u3400-\u9fff\U00020000-\U0003ffff]")
"""Scripts that write no spaces: Thai, Lao, Tibetan, Burmese, Khmer, kana and Han. Each character is a word."""
SIGNS: Final = "\u2120\u2122\U0001f16a\U0001f16b\U0001f16c"
"""Signs of a mark, such as ™: compatibility forms of letters that do not belong to the word before."""
EUROPEAN: Final = range(0xC0, 0x180)
"""Latin letters of European languages. Those without a decomposition, such as ø and ł, are simplified like accents."""
BARS: Final = frozenset({"l", "ll", "x"})
"""What separators between words look like."""
_NAMED: Final = re.compile(
    r"(?:LATIN LETTER SMALL CAPITAL|REGIONAL INDICATOR SYMBOL LETTER|NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL LETTER)"
    r" ([A-Z])"
)
_ROUNDS: Final = 5
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})


@cache
def confusables() -> dict[str, str]:
    """Unicode's list: character to prototype."""
    found = {}
    for line in (files(__package__) / "confusables.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            source, *target = line.split()
            found[chr(int(source, 16))] = "".join([chr(int(point, 16)) for point in target])
    return found


def _bare(text: str) -> str:
    """Decomposed, without combining marks."""
    return "".join([c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) not in ("Mn", "Me")])


def _latin(char: str) -> str | None:
    """The ASCII letters or digits that one character, as written, looks like."""
    named = _NAMED.fullmatch(unicodedata.name(char, ""))
    if named is not None:
        return named[1]
    found = confusables().get(char)
    if found is None:
        return None
    found = _bare(found.replace("rn", "m"))
    kind = unicodedata.category(char)[0]
    if not (found.isascii() and found.isalnum()) or kind in "PZ" or (kind == "S" and found.lower() in BARS):
        return None
    return found


def prototype(char: str) -> str:
    """What a single decomposed character looks like; itself if like nothing else."""
    if char.isascii() or char in VOICED or ord(char) in JAMO:
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    lower, upper = char.lower(), char.upper()
    own, other = _latin(char), (_latin(upper if char == lower else lower) if len(lower) == len(upper) == 1 else None)
    if own == "l" and other is not None and other.lower() == "i":
        return other
    # a letter looks like a letter before it looks like a digit
    for one in (own, other):
        if one is not None and one.isalpha():
            return one
    if own or other:
        return own or other or char
    found = confusables().get(lower, char)
    return found if char.isalnum() and found.isalnum() else char


def _kept(char: str) -> str:
    if char in FILLERS:
        return ""
    if char.isalnum() or char in VOICED:
        return char
    kind = unicodedata.category(char)
    if kind == "Mc":
        return char
    return "" if kind in ("Mn", "Me", "Cf") else " "


class Letters(dict[int, str]):
    """A table for ``str.translate``, filled as characters occur: each becomes letters and digits, nothing, or a space.

    Args:
        skeleton: fold lookalikes of all scripts; otherwise only case, accents and compatibility forms.
        apart: put spaces around each character of the scripts that write none.
        also: further replacements, of characters as given or as folded.
    """

    def __init__(self, *, skeleton: bool = True, apart: bool = False, also: Mapping[str, str] = EMPTY) -> None:
        self._skeleton, self._apart, self._also = skeleton, apart, also

    def __missing__(self, point: int) -> str:
        char = chr(point)
        if unicodedata.category(char) in ("Cn", "Co", "Cs") and char not in confusables():
            return " "  # not kept: most of Unicode's million code points are no characters
        found = " " if char in SIGNS else self._also.get(char)
        if found is None:
            found = "".join([self._also.get(c, c) for c in self._fold(char)])
        if self._apart:
            found = UNSPACED.sub(r" \g<0> ", found)
        self[point] = found
        return found

    def _fold(self, char: str) -> str:
        text = char
        for _ in range(_ROUNDS):
            parts = unicodedata.normalize("NFKD", text)
            parts = "".join([prototype(c) if self._skeleton or ord(c) in EUROPEAN else c for c in parts])
            folded = "".join([_kept(c) for c in unicodedata.normalize("NFKD", parts.casefold())])
            if folded == text:
                break
            text = folded
        return text


SKELETON: Final = Letters()
"""As it reads: Unicode's skeleton of everything but ASCII."""
PLAIN: Final = Letters(skeleton=False)
"""As it is written: lookalikes stay apart."""
WORDS: Final = Letters(apart=True)
"""``SKELETON``, with each character of the scripts without spaces as a word."""
