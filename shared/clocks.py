"""How far clocks are apart, by readings that take time: what is not certain does not count. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offset:
    """By how many seconds another clock is ahead of this process's: between ``least`` and ``most``."""

    least: float
    most: float

    @classmethod
    def of(cls, told: float, before: float, after: float, grain: float = 0.0) -> Offset:
        """Of a reading that was taken between two of this process's clock.

        Args:
            grain: the other clock cuts off what is less.
        """
        return cls(told - after, told + grain - before)

    @property
    def certain(self) -> float:
        """What is certain of it: the end that is nearer to 0, or 0 where it may be none."""
        return max(self.least, 0.0) + min(self.most, 0.0)


def apart(offsets: Iterable[Offset]) -> float:
    """Seconds that two of the clocks differ by at the least, this process's among them."""
    all_ = [Offset(0.0, 0.0), *offsets]
    return max(0.0, max(one.least for one in all_) - min(one.most for one in all_))
