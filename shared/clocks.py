"""How far clocks are apart. A reading takes time, so only the part that is certain counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offset:
    """How many seconds another clock is ahead of this process's: between ``least`` and ``most``."""

    least: float
    most: float

    @classmethod
    def of(cls, told: float, before: float, after: float, grain: float = 0.0) -> Offset:
        """The offset from a reading of the other clock, taken between two readings of this process's.

        Args:
            told: the other clock's reading; ``before`` and ``after`` are this process's.
            grain: the other clock's resolution in seconds: it cuts off anything smaller.
        """
        return cls(told - after, told + grain - before)

    @property
    def certain(self) -> float:
        """The certain part of the offset: the end nearer to 0, or 0 if there may be no offset."""
        return max(self.least, 0.0) + min(self.most, 0.0)


def apart(offsets: Iterable[Offset]) -> float:
    """Seconds by which two of the clocks, this process's included, differ at least."""
    all_ = [Offset(0.0, 0.0), *offsets]
    return max(0.0, max(one.least for one in all_) - min(one.most for one in all_))
