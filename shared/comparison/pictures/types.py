"""What is compared, and what is found."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

Kind = Literal["work", "goods", "design", "logo"]
"""What a right's picture is: a protected work, a picture of the genuine goods, a view of a design, a figurative mark."""
AIDS: Final = frozenset[Kind]({"design", "logo"})
"""Kinds whose likeness only a person can judge: a finding of them helps that person, and never weighs anything."""
Rule = Literal["same_file", "same_picture", "same_parts", "alike"]
"""How a right's picture was recognised.

``same_file``: the same bytes. ``same_picture``: the hashes are near, and the details lie where they should.
``same_parts``: the details do, and the hashes are not near: cut, framed, tilted, or a part of a larger picture.
``alike``: only the hashes are near.
"""
Against = Literal[
    "aid", "stock", "low_quality", "few_details", "details_differ", "details_unknown", "small_part", "other_colours"
]
"""What speaks against a finding.

``aid``: see ``AIDS``. ``stock``: unrelated sellers show the picture, too. ``low_quality``: a picture has too little in
it for its hash to mean anything. ``small_part``: only a small part of the right's picture is there. ``few_details``, ``details_differ``, ``details_unknown``: why ``alike`` is no more
than that.
"""


class Box(Struct, frozen=True, order=True):
    """A part of a picture, in shares of its width and height from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE: Final = Box(0.0, 0.0, 1.0, 1.0)


class Finding(Struct, frozen=True):
    """A right's picture in a picture of a listing.

    Attributes:
        picture, reference: their ids.
        box: where it is in the listing's picture.
        mirrored: it is there as in a mirror.
        distance: bits of 256 in which the hashes differ; None: not compared.
        inliers: details that lie where they should; None: not compared.
        colours: how alike the colours are, 0 to 1; None: not compared.
        certainty: that this is the right's picture, or a part of it, 0 to 1.
        score: certainty, weighed by what speaks against it, 0 to 1.
    """

    picture: str
    reference: str
    rule: Rule
    box: Box
    mirrored: bool
    certainty: float
    score: float
    against: tuple[Against, ...] = ()
    distance: int | None = None
    inliers: int | None = None
    colours: float | None = None
