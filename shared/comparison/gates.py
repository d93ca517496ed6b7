"""What speaks against a finding, and what it then weighs. Pure."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Final

from shared.comparison.roles import FALLBACK, base
from shared.comparison.types import Against, Content, Field, Mark, Permitted, Role, Rule

CERTAINTY: Final[dict[Rule, float]] = {
    "exact": 1.0,
    "lookalike": 0.98,
    "split": 0.95,
    "spaced": 0.95,
    "leet": 0.9,
    "edit": 0.7,
}
"""How surely each rule recognises the words of the mark."""
ROLES: Final[dict[Role, float]] = {"brand": 1.0, "stuffing": 0.8, "mention": 0.6, "descriptive": 0.2}
"""How far each role is use as a mark."""
WEIGHTS: Final[dict[Against, float]] = {
    "dictionary_word": 0.3,
    "other_class": 0.4,
    "class_unknown": 0.9,
    "other_territory": 0.3,
    "figurative": 0.5,
    "native_script": 0.2,
    "owner": 0.0,
    "licensee": 0.0,
    "reseller": 0.0,
    "invoice": 0.0,
    "reversal": 0.0,
}
"""What a reason leaves of the score. Reasons that are not named change nothing: the role has counted them already, or
they only say that a gate could not be judged."""


@cache
def dictionaries() -> dict[str, frozenset[str]]:
    """Ordinary words of four letters or more, as normalised, by language."""
    lines = gzip.decompress((files(__package__) / "words.txt.gz").read_bytes()).decode().splitlines()
    return {line.partition(" ")[0]: frozenset(line.split()[1:]) for line in lines}


@cache
def ordinary(language: str | None = None) -> frozenset[str]:
    """The words of a language that has a dictionary, and of English; of all languages if it is None."""
    known = dictionaries()
    chosen = known if language is None else {language, FALLBACK}
    return frozenset().union(*(words for name, words in known.items() if name in chosen))


def dictionary(tag: str | None) -> frozenset[str]:
    """``ordinary`` for a language's tag; of all languages if it is None or the language has no dictionary."""
    language = base(tag)
    return ordinary(language if language in dictionaries() else None)


def gates(mark: Mark, words: str, field: Field, content: Content) -> list[Against]:
    """What the mark's register and its words speak against a finding of it in a field.

    Args:
        words: the mark's, as normalised.
    """
    found: list[Against] = []
    fits = None
    if content.classes is not None and mark.classes:
        fits = not set(mark.classes).isdisjoint(content.classes)
    if not (field == "brand" and fits) and words in dictionary(content.language):
        found.append("dictionary_word")
    if fits is None:
        found.append("class_unknown")
    elif not fits:
        found.append("other_class")
    if content.territory is None or not mark.territories:
        found.append("territory_unknown")
    elif content.territory not in mark.territories:
        found.append("other_territory")
    if mark.figurative:
        found.append("figurative")
    return found


def weigh(rule: Rule, role: Role, against: tuple[Against | Permitted, ...]) -> float:
    """The score, 0 to 1."""
    score = CERTAINTY[rule] * ROLES[role]
    for reason in against:
        score *= WEIGHTS.get(reason, 1.0)
    return round(score, 4)
