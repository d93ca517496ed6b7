"""The form of ids, as far as code outside intake's API needs to know it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits of base 32."""
PAIRS: Final = [a + b for a in CROCKFORD for b in CROCKFORD]
NUMBERS: Final = [a + b for a in CROCKFORD[:16] for b in PAIRS]
"""Last part of an id: a claim has the first, its items have the ones that follow."""
_CLAIM: Final = re.compile(r"c-[0-9A-HJKMNP-TV-Z]{23}000")


def items_of(claim: str, most: int) -> Iterator[str]:
    """The first ``most`` ids that a claim's items can have, in order; none if ``claim`` is not a claim's id."""
    if _CLAIM.fullmatch(claim):
        base = claim[2:-3]
        for number in NUMBERS[1 : most + 1]:
            yield f"i-{base}{number}"
