"""How admission divides its room among lanes and complainants. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.intake.kernel.domain import LANES
from shared.events import Lane

_Key = TypeVar("_Key")


@dataclass(slots=True)
class Shares:
    """Divides room among lanes by weight, and keeps what rounding left over (deficit round robin)."""

    weights: Mapping[Lane, int]
    credit: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(LANES, 0.0))

    def split(self, room: int, lanes: Collection[Lane]) -> dict[Lane, int]:
        """Room for each lane that has something waiting. Adds up to ``room``, except for fractions carried over."""
        total = sum(self.weights[lane] for lane in lanes)
        result: dict[Lane, int] = {}
        left = room
        for lane in (lane for lane in LANES if lane in lanes):
            self.credit[lane] += room * self.weights[lane] / total
            # the epsilon is for sums of thirds
            result[lane] = max(min(int(self.credit[lane] + 1e-9), left), 0)
            left -= result[lane]
        return result

    def paused(self, lane: Lane, taken: int, lanes: Collection[Lane]) -> int:
        """Room for a paused lane: its weight's share of what the open lanes got."""
        self.credit[lane] += taken * self.weights[lane] / max(sum(self.weights[other] for other in lanes), 1)
        return int(self.credit[lane] + 1e-9)

    def took(self, lane: Lane, count: int, *, exhausted: bool) -> None:
        """Record what the lane took. A lane that had no more keeps no credit."""
        self.credit[lane] = 0.0 if exhausted else max(self.credit[lane] - count, 0.0)


def level(waiting: Mapping[_Key, int], room: int) -> dict[_Key, int]:
    """Divide room as evenly as what each has waiting allows."""
    result = dict.fromkeys(waiting, 0)
    open_ = [name for name, count in waiting.items() if count]
    while open_ and room > 0:
        each = max(room // len(open_), 1)
        for name in open_:
            more = min(each, waiting[name] - result[name], room)
            result[name] += more
            room -= more
        open_ = [name for name in open_ if result[name] < waiting[name]]
    return result


def share_out(waiting: Sequence[tuple[str, int]], room: int) -> list[int]:
    """Rows to take for each (complainant, rows waiting) pair: evenly between complainants, then between their pairs."""
    by_complainant: dict[str, dict[int, int]] = {}
    for index, (complainant, count) in enumerate(waiting):
        by_complainant.setdefault(complainant, {})[index] = count
    fair = level({complainant: sum(counts.values()) for complainant, counts in by_complainant.items()}, room)
    sizes = [0] * len(waiting)
    for complainant, counts in by_complainant.items():
        for index, size in level(counts, fair[complainant]).items():
            sizes[index] = size
    return sizes
