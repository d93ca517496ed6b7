"""Whether a part of a text is the words of a mark, and by which rule. Pure.

The index proposes parts by rough keys; the rules here decide, so a key may propose too much but nothing wrong is found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from rapidfuzz.distance import OSA

from shared.comparison.gates import ordinary
from shared.comparison.letters import PLAIN, SKELETON, UNSPACED, Letters
from shared.comparison.types import Rule

SHORT: Final = 3
"""Marks of at most so many characters count only in the brand field; a character of a script without spaces is two."""
LETTERS: Final = 4
"""Fewest letters of a mark whose 0, 1, I and rn are read as lookalikes, and whose letters are found set apart."""
LONG: Final = 6
"""Fewest letters of a mark that is found in leetspeak, with one edit, or in two words."""
WORD: Final = 5
"""Fewest letters of a word with an edit."""
SOFT_HYPHEN: Final = "\u00ad"
JOINING: Final = re.compile("[\u0600-\u109f\u1780-\u18af]")
"""Scripts, Arabic to Mongolian, that are written with invisible joiners and breaks (U+200B to U+200D)."""

ASCII: Final[Mapping[str, str]] = MappingProxyType({"1": "il", "l": "1", "i": "1", "0": "o", "o": "0"})
"""ASCII lookalikes of UTS #39: what a character in a text may stand for. ``I``, ``l`` and ``rn``: see ``passes``."""
LEET: Final[Mapping[str, str]] = MappingProxyType(
    {"3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"}
    | {"@": "a", "$": "s", "!": "il", "|": "il", "\u20ac": "e", "+": "t"}
)


class Words:
    """A mark's words, read in the ways that the rules compare.

    Attributes:
        misspells: whether one edit applies: long enough, ASCII letters only, and no ordinary word.
        forms: the cases in which it may be written, as far as they make a difference.
        plain: as written.
        skeletons: as it reads, in each form: shapes of Greek letters depend on case.
        size: number of characters; those of scripts without spaces count twice.
    """

    __slots__ = ("forms", "misspells", "plain", "size", "skeletons")

    def __init__(self, text: str) -> None:
        self.plain = _read(text, PLAIN)
        self.forms = (text,) if text.isascii() else (text, text.lower(), text.upper(), text.title())
        self.skeletons = tuple(dict.fromkeys(_read(form, SKELETON) for form in self.forms))
        joined = self.skeletons[0].replace(" ", "")
        self.size = len(joined) + len(UNSPACED.findall(joined))
        self.misspells = (
            self.size >= LONG and joined.isascii() and joined.isalpha() and self.skeletons[0] not in ordinary()
        )


words_of = lru_cache(maxsize=20_000)(Words)


def _read(text: str, table: Letters) -> str:
    return " ".join(text.translate(table).split())


def judge(piece: str, mark: Words) -> Rule | None:
    """The rule by which a part of a text, cut at its words, is the mark; None if it is not. Edits: ``edited``."""
    if piece.lower() == mark.plain:
        return "exact"
    plain = _read(piece, PLAIN)
    hidden = not piece.isascii() and _hides(piece)
    if plain == mark.plain:
        return "lookalike" if hidden else "exact"
    joined = plain.replace(" ", "")
    if joined == mark.plain.replace(" ", ""):
        if hidden:
            return "lookalike"
        if LETTERS <= len(joined) == (len(plain) + 1) // 2:
            return "spaced"
        return "split" if mark.size >= LONG or not any(map(str.isspace, piece)) else None
    skeleton = _read(piece, SKELETON)
    if skeleton in mark.skeletons:
        return "lookalike"
    joined = skeleton.replace(" ", "")
    if mark.size < LETTERS:
        return None
    # other breaks as well as other characters: only by punctuation, for a number after a word is no letter of it
    if any(map(str.isspace, piece)) and skeleton.count(" ") != mark.skeletons[0].count(" "):
        return None
    return "lookalike" if joined in [one.replace(" ", "") for one in mark.skeletons] else passes(piece, mark)


def _hides(piece: str) -> bool:
    """Whether invisible characters stand between its letters, and neither hyphenate nor are needed by the script."""
    hidden, before = False, ""
    for char in piece:
        kind = unicodedata.category(char)
        if kind == "Cf":
            needed = char == SOFT_HYPHEN or ("\u200b" <= char <= "\u200d" and JOINING.match(before))
            hidden = hidden or (before.isalnum() and not needed)
        elif kind[0] != "M":
            if hidden and char.isalnum():
                return True
            hidden, before = False, char
    return False


def passes(piece: str, mark: Words) -> Rule | None:
    """Whether digits and symbols, or letters of another case, stand for letters of the mark; more letters stay.

    ``I`` passes for ``l`` unless all letters are capitals, and ``l`` for ``i`` only among capitals: ``mall`` is not
    ``mail``. ``rn`` passes for ``m``, not the other way. An ordinary word passes for no other: ``modern`` is not
    ``Modem``.
    """
    if _read(piece, PLAIN) in ordinary():
        return None
    shown = "".join(
        [c if c in "ILRN" or c in LEET else SKELETON[ord(c)].replace(" ", "") for c in piece if not c.isspace()]
    )
    capitals = sum(map(str.isupper, piece))
    at = swapped = 0
    leet = False
    for letter in mark.skeletons[0].replace(" ", ""):
        one = shown[at : at + 1]
        at += 1
        if one.lower() == letter:
            continue
        if letter == "m" and shown[at - 1 : at + 1] == "rn":
            at += 1
            swapped += 1
            continue
        upper_i = one == "I" and letter in "l1" and not piece.isupper()
        small_l = one == "l" and letter == "i" and capitals >= 2
        if letter in ASCII.get(one, "") or upper_i or small_l:
            swapped += 1
        elif letter in LEET.get(one, ""):
            swapped += 1
            leet = True
        else:
            return None
    if at != len(shown) or at <= 2 * swapped or (leet and mark.size < LONG):
        return None
    return "leet" if leet else "lookalike"


def edited(words: str, mark: Words) -> bool:
    """Whether words, as normalised, are the mark's but for one edit in one word: a letter more, less, other, or two
    swapped. An ordinary word is no misspelling of a mark, and a mark that is one has no misspellings.
    """
    if not mark.misspells or words == mark.skeletons[0]:
        return False
    pairs = list(zip(words.split(), mark.skeletons[0].split(), strict=False))
    other = [(one, meant) for one, meant in pairs if one != meant]
    if words.count(" ") != mark.skeletons[0].count(" ") or len(other) != 1:
        return False
    one, meant = other[0]
    return misspelt(one) and len(meant) >= WORD and OSA.distance(one, meant, score_cutoff=1) == 1


def misspelt(word: str) -> bool:
    """Whether a word may be a misspelling: long enough, of letters only, and no ordinary word."""
    return len(word) >= WORD and word.isascii() and word.isalpha() and word not in ordinary()
