"""PDQ hashes: 256 bits, by which a picture is found again after it was resized, recompressed or recoloured. Pure.

Turned and mirrored pictures have other hashes, so the hash of one of two is known in eight forms. Why not more is
built on hashes alone: simple pictures collide, and a cut or a tilt of six degrees changes too many bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

_HEX: Final = re.compile(r"[0-9a-f]{64}")
NEAR: Final = 31
"""Bits up to which two hashes may belong to one picture, as PDQ's authors recommend."""
QUALITY: Final = 50
"""Least quality of a hash that tells something, as they recommend."""
STOCK: Final = 3
"""A picture of so many unrelated sellers proves nothing about any of them."""

Form = Literal["as_is", "quarter", "half", "three_quarters", "upside_down", "mirrored", "transposed", "transverse"]
"""How a picture was turned: by quarters anticlockwise, or mirrored on one of four axes.

``upside_down``: top and bottom changed places; ``mirrored``: left and right did; ``transposed``, ``transverse``: on
the diagonal from the upper left, from the upper right.
"""
FORMS: Final[tuple[Form, ...]] = (
    "as_is",
    "quarter",
    "half",
    "three_quarters",
    "upside_down",
    "mirrored",
    "transposed",
    "transverse",
)
MIRRORED: Final = frozenset[Form]({"upside_down", "mirrored", "transposed", "transverse"})


class Hashed(Struct, frozen=True):
    """The hash of a picture.

    Attributes:
        forms: of the picture turned as ``FORMS`` says, in that order; only the first if nobody saw the picture itself.
        quality: 0 to 100.
    """

    forms: tuple[int, ...]
    quality: int

    @property
    def pdq(self) -> str:
        """As published: 64 hex digits."""
        return f"{self.forms[0]:064x}"

    @classmethod
    def published(cls, pdq: str, quality: int) -> Hashed:
        """A hash that somebody else computed.

        Raises:
            ValueError: not 64 hex digits.
        """
        if not _HEX.fullmatch(pdq):
            raise ValueError("a PDQ hash has 64 hex digits")
        return cls((int(pdq, 16),), quality)


def distance(one: int, other: int) -> int:
    """Bits in which two hashes differ."""
    return (one ^ other).bit_count()


def nearest(one: Hashed, other: Hashed) -> tuple[int, Form | None]:
    """The least distance of two pictures, however one of them was turned. Symmetric in the distance.

    Returns:
        the form of ``one`` that is nearest; None instead if only ``other`` is known in all forms, and was turned.
    """
    if len(one.forms) > 1:
        bits, at = min((distance(form, other.forms[0]), at) for at, form in enumerate(one.forms))
        return bits, FORMS[at]
    bits, at = min((distance(form, one.forms[0]), at) for at, form in enumerate(other.forms))
    return bits, None if at else FORMS[0]


def candidates(one: Hashed, others: Iterable[tuple[str, Hashed]], within: int = NEAR) -> list[tuple[int, str]]:
    """Which of ``others`` may be the same picture, nearest first. A hash of low quality has no candidates."""
    if one.quality < QUALITY:
        return []
    found = ((nearest(one, other)[0], id) for id, other in others if other.quality >= QUALITY)
    return sorted(pair for pair in found if pair[0] <= within)


def stock(sellers: Iterable[str]) -> bool:
    """Whether a picture is a stock picture.

    Args:
        sellers: who shows it, without the right's owner and those with its permission; those of one business count
            once, so they must be given by its key.
    """
    return len(set(sellers)) >= STOCK
