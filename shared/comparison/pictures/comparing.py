"""A right's picture in a picture of a listing: which rule recognises it, and what speaks against that. Pure.

Needs neither NumPy nor OpenCV as long as only hashes are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.comparison.pictures.hashes import MIRRORED, NEAR, QUALITY, Hashed, nearest
from shared.comparison.pictures.types import AIDS, WHOLE, Against, Box, Finding, Kind, Rule

if TYPE_CHECKING:
    from shared.comparison.pictures.colours import Shades
    from shared.comparison.pictures.details import Agreement, Details

FEW: Final = 50
"""With fewer details, that none agree says little."""
ENOUGH: Final = 12
"""Agreeing details that are no accident: unrelated pictures had at most five."""
SURE: Final = 25
"""Agreeing details with which no doubt is left that a part is the same."""
SMALL: Final = 0.05
"""Agreeing details that span less of the right's picture may be a logo, a banner or a text in it."""
OTHER_COLOURS: Final = 0.5
CERTAINTY: Final[dict[Rule, tuple[float, float]]] = {
    "same_file": (1.0, 1.0),
    "same_picture": (0.98, 0.98),
    "same_parts": (0.7, 0.9),
    "alike": (0.3, 0.6),
}
"""How surely each rule recognises a picture, from and to: ``same_parts`` rises with the agreeing details from
``ENOUGH`` to ``SURE``, ``alike`` falls with the distance."""
WEIGHTS: Final[dict[Against, float]] = {
    "aid": 0.0,
    "stock": 0.0,
    "low_quality": 0.3,
    "details_differ": 0.3,
    "small_part": 0.5,
    "other_colours": 0.7,
}
"""What a reason leaves of the score. ``few_details`` and ``details_unknown`` change nothing: the rule counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is known of a picture; None: nobody saw it.

    Attributes:
        hashed: of a picture that nobody saw, what was published of it.
        stock: see ``hashes.stock``.
    """

    id: str
    sha256: str
    hashed: Hashed | None = None
    details: Details | None = None
    shades: Shades | None = None
    stock: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture of a right."""

    picture: Picture
    kind: Kind


def compare(picture: Picture, reference: Reference) -> Finding | None:
    """What a picture of a listing has of a right's picture; None: nothing."""
    other = reference.picture
    same = picture.sha256 == other.sha256
    distance, near, turned = _hashes(picture, other)
    telling = _telling(picture, other)
    agreed = None if same else _agreement(picture, other)
    against: list[Against] = []
    if same:
        rule: Rule = "same_file"
    elif agreed is not None and agreed.inliers >= ENOUGH:
        rule = "same_picture" if near and telling else "same_parts"
        if agreed.share < SMALL:
            against.append("small_part")
    elif near:
        rule = "alike"
        against.append(_doubt(picture, other))
    else:
        return None
    if rule in ("same_file", "alike") and not telling:
        against.append("low_quality")
    seen = rule in ("same_picture", "same_parts") and agreed is not None
    box = agreed.box if seen and agreed is not None else WHOLE
    colours = _colours(picture, other, box)
    if colours is not None and colours < OTHER_COLOURS:
        against.append("other_colours")
    if reference.kind in AIDS:
        against.append("aid")
    if picture.stock or other.stock:
        against.append("stock")
    certainty = _certainty(rule, 0 if agreed is None else agreed.inliers, distance)
    score = certainty
    for reason in against:
        score *= WEIGHTS.get(reason, 1.0)
    return Finding(
        picture=picture.id,
        reference=other.id,
        rule=rule,
        box=box,
        mirrored=agreed.mirrored if seen and agreed is not None else turned and not same,
        certainty=certainty,
        score=round(score, 4),
        against=tuple(against),
        distance=distance,
        inliers=None if agreed is None else agreed.inliers,
        colours=colours,
    )


def find(pictures: Iterable[Picture], references: Iterable[Reference]) -> tuple[Finding, ...]:
    """Every picture of a right in every picture of a listing, the surest first."""
    rights = tuple(references)
    found = [compare(picture, reference) for picture in pictures for reference in rights]
    return tuple(sorted(filter(None, found), key=lambda one: (-one.score, -one.certainty, one.picture, one.reference)))


def _hashes(one: Picture, other: Picture) -> tuple[int | None, bool, bool]:
    """The distance, whether it is near, and whether one of the two is then mirrored."""
    if one.hashed is None or other.hashed is None:
        return None, False, False
    bits, form = nearest(one.hashed, other.hashed)
    return bits, bits <= NEAR, form in MIRRORED


def _telling(one: Picture, other: Picture) -> bool:
    return all(known.hashed is None or known.hashed.quality >= QUALITY for known in (one, other))


def _agreement(one: Picture, other: Picture) -> Agreement | None:
    if one.details is None or other.details is None:
        return None
    from shared.comparison.pictures.details import agreement

    return agreement(one.details, other.details)


def _doubt(one: Picture, other: Picture) -> Against:
    if one.details is None or other.details is None:
        return "details_unknown"
    return "few_details" if min(one.details.count, other.details.count) < FEW else "details_differ"


def _colours(one: Picture, other: Picture, box: Box) -> float | None:
    if one.shades is None or other.shades is None:
        return None
    from shared.comparison.pictures.colours import alike

    return alike(one.shades, other.shades, box)


def _certainty(rule: Rule, inliers: int, distance: int | None) -> float:
    low, high = CERTAINTY[rule]
    if rule == "same_parts":
        share = min(1.0, (inliers - ENOUGH) / (SURE - ENOUGH))
    elif rule == "alike":
        share = 1 - (NEAR if distance is None else distance) / NEAR
    else:
        share = 1.0
    return round(low + share * (high - low), 4)
