"""Rates by key: an allowance that refills steadily, such as requests per address (a leaky bucket, counted by GCRA)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

KEYS_MAX: Final = 100_000
"""Most keys that are remembered; those that have been quiet longest are forgotten first."""


class Rates:
    """What each key may still take, in this process only.

    Args:
        per_s: how many each key gets back per second; 0: no limit.
        burst: how many at once, 1 or more.
    """

    def __init__(self, per_s: float, burst: float, *, keys_max: int = KEYS_MAX) -> None:
        self._interval = 1 / per_s if per_s else 0.0
        self._room = (max(burst, 1.0) - 1) * self._interval
        self._keys_max = keys_max
        # when each key's allowance is full again; the least recently used key comes first
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until the key may take one; 0: now."""
        return max(self._full_at.get(key, now) - now - self._room, 0.0)

    def take(self, key: str, now: float) -> float:
        """Take one if possible and return 0; else take nothing and return the seconds until it is.

        Args:
            now: seconds, never going back.
        """
        if not self._interval or (wait := self.wait(key, now)):
            return wait if self._interval else 0.0
        self._full_at[key] = max(self._full_at.pop(key, now), now) + self._interval
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)
        return 0.0

    def give_back(self, key: str) -> None:
        """Undo a ``take`` that succeeded."""
        if key in self._full_at:
            self._full_at[key] -= self._interval
