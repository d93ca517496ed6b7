"""How much of what an installation needs, reckoned from what was measured. Pure.

Every figure below is one of this project's own measurements, on two cores; what it is multiplied with is said beside it.
Beyond two cores nothing was measured: that work divides evenly over workers, and that the database gives as much on more
cores as on one, are assumptions, and the spare of `Wanted` is there for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CPU_US: Final[Mapping[str, int]] = {
    "database": 253,
    "verification": 104,
    "intake-worker": 89,
    "enforcement-worker": 69,
    "intake-inbound": 66,
    "broker": 54,
    "notification-worker": 51,
    "enforcement-ledger": 15,
}
"""Processor time of an item on its way in, with full batches: docs/performance.md."""
RATE: Final = 2_727
"""Items a second on two cores, until command and notice are queued."""
RATE_HANDLED: Final = 1_245
"""The same until they are handled: with receipts, notices sent, and the stand-in for the marketplace on the same cores."""
EVENTS: Final = 15.6
"""Events of an item's whole life, over the real notices."""
EVENT_BYTES: Final = 690
MESSAGES: Final = 268_012 / 124_762
"""Messages an item, over the real notices."""
ITEMS: Final = 124_762 / 18_151
"""Items a claim, over the real notices."""
DOOR_PER_S: Final = 2_968
"""Claims a second of one `intake api`, with its client on the same cores."""
SENDER_PER_S: Final = 750
"""Messages a second of one sender."""
STREAMS_PER_S: Final = 5_473
"""Events a second of one worker of the stream views."""

BROKER_MB_S: Final = 60
"""Megabytes a second that a broker is given to write. Not measured: a third of what a common network disk takes."""
CONNECTIONS: Final = {"worker": 6, "api": 12, "other": 4}
"""Connections to the database of one process, at most (docs/operating.md, "Capacity")."""
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes:
        peak: Items a second that must be kept up with.
        mean: Items a second over a day and night: what disks fill by.
        claims_by_http: Share of the claims that come by HTTP, one a request; the rest comes by topic.
        spare: Share of every core that stays free at the peak.
        replication: Replicas of each topic.
        topic_days: Days for which topics keep records.

    Raises:
        ValueError: a figure is out of its bounds; it names which.
    """

    peak: float
    mean: float
    claims_by_http: float = 1.0
    spare: float = 0.4
    replication: int = 3
    topic_days: int = 30

    def __post_init__(self) -> None:
        bounds = {
            "peak": (self.peak, 0.001, 1_000_000),
            "mean": (self.mean, 0.0, self.peak),
            "claims_by_http": (self.claims_by_http, 0.0, 1.0),
            "spare": (self.spare, 0.0, 0.9),
            "replication": (self.replication, 1, 7),
            "topic_days": (self.topic_days, 1, 3650),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:  # also what is no number
                raise ValueError(f"{name} is {value:g}: it must be from {least:g} to {most:g}")
