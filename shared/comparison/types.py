"""What is compared, and what is found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from shared.comparison.reading import Span

Field = Literal["brand", "title", "description"]
Rule = Literal["exact", "split", "spaced", "lookalike", "leet", "edit"]
"""How the words of a mark were recognised.

``exact``: the same letters and words, whatever the case, accents and punctuation. ``split``: the same letters, other
word breaks (``Play Station``). ``spaced``: letters set apart (``n.i.k.e``). ``lookalike``: other characters that look
the same (UTS #39), or invisible ones between the letters. ``leet``: digits and symbols for letters (``s@msung``).
``edit``: one letter more, fewer, different or swapped with its neighbour.
"""
OBFUSCATED: Final = frozenset[Rule]({"spaced", "lookalike", "leet"})
"""Rules by which the writing hides the mark from a search, and that nobody fulfils by accident."""
Role = Literal["brand", "descriptive", "stuffing", "mention"]
"""``brand``: names the goods. ``descriptive``: names what they fit or resemble, or is a measure. ``stuffing``: one of
three or more marks of unrelated owners. ``mention``: stands in the text, and nothing says as what."""
Permitted = Literal["owner", "licensee", "reseller", "invoice", "reversal"]
"""Why a seller may use a mark. ``invoice``: accepted proof of purchase. ``reversal``: an earlier decision."""
Against = Literal[
    Permitted,
    "compatibility",
    "comparison",
    "unit",
    "dictionary_word",
    "other_class",
    "class_unknown",
    "other_territory",
    "territory_unknown",
    "figurative",
    "native_script",
]
"""What speaks against a finding.

``dictionary_word``: an ordinary word, without the brand field and the class to say that it is meant as a mark.
``class_unknown``, ``territory_unknown``: that gate could not be judged. ``native_script``: a lookalike wholly in the
script of the words around it, such as a Russian word.
"""


class Mark(Struct, frozen=True, gc=False):
    """A word mark, or the words of a figurative one.

    Attributes:
        id: of the right; unique in an index.
        owner: marks of one owner, or of related ones, have the same.
        classes: of the Nice classification, 1 to 45; empty: not known.
        territories: codes as in ``Content.territory``, unions resolved to their countries; empty: not known.
        figurative: protected as a picture; its words alone say little.
    """

    id: str
    text: str
    owner: str
    classes: tuple[int, ...] = ()
    territories: tuple[str, ...] = ()
    figurative: bool = False


class Content(Struct, frozen=True, kw_only=True):
    """A listing's text.

    Attributes:
        classes: Nice classes of its category; None: the category is not known, or belongs to no class.
        territory: where it is offered; None: not known.
        language: tag of the title's language, such as ``de-AT``; None: not known, so cues of all languages count.
    """

    title: str = ""
    brand: str = ""
    description: str = ""
    classes: tuple[int, ...] | None = None
    territory: str | None = None
    language: str | None = None


class Permission(Struct, frozen=True):
    """Lets the listing's seller use a mark."""

    mark: str
    why: Permitted


Permissions = Iterable[Permission]


class Finding(Struct, frozen=True, order=True):
    """A mark in a listing's text.

    Attributes:
        span: in the field's original text; for people to see, and to mark.
        certainty: that these are the words of the mark, 0 to 1.
        score: certainty, weighed by the role and by what speaks against it, 0 to 1; 0 with a permission.
    """

    mark: str
    field: Field
    span: Span
    rule: Rule
    role: Role
    certainty: float
    score: float
    against: tuple[Against, ...] = ()
