"""Ids: a prefix, and 26 characters that sort by time."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from shared.ids import NUMBERS, PAIRS


def new_id(prefix: str, wall_ms: int, random: Callable[[int], int] = secrets.randbits) -> str:
    """``<prefix>-`` and 26 characters: 48 bits of time and 80 random bits. Sorts by time."""
    return f"{prefix}-{_base32(wall_ms, 48)}{_base32(random(80), 80)}"


def new_claim_ids(wall_ms: int, size: int, random: Callable[[int], int] = secrets.randbits) -> tuple[str, list[str]]:
    """(claim, items). The items' ids are the claim's with a different last part, so that they form one key range."""
    base = _base32(wall_ms, 48) + _base32(random(65), 65)
    return f"c-{base}000", [f"i-{base}{NUMBERS[number]}" for number in range(1, size + 1)]


def item_range(claim: str) -> tuple[str, str]:
    """Lowest and highest id that an item of the claim can have."""
    base = claim[2:-3]
    return f"i-{base}000", f"i-{base}ZZZ"


def _base32(value: int, bits: int) -> str:
    characters = (bits + 4) // 5
    text = "".join(PAIRS[value >> shift & 1023] for shift in range((characters - 1) // 2 * 10, -1, -10))
    return text[-characters:]
