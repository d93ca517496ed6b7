"""Which of our events a reader has applied: one number per log (docs/decisions/0050-linked-events.md).

Every event of ours carries `previous`: the number of the row that its log published before it to the same topic and
partition. So a reader that keeps the number of the last event it applied can tell duplicates, the next event, and
events after a gap apart without keeping ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple


class Link(NamedTuple):
    """One log as seen on one topic partition: the rows that ``writer``'s log ``log_partition`` publishes there."""

    topic: str
    partition: int
    writer: str
    log_partition: int


class Verdict(Enum):
    """What an event is to a reader."""

    NEXT = "next"
    DUPLICATE = "duplicate"
    GAP = "gap"


def judge(applied: int, seq: int, previous: int) -> Verdict:
    """Whether event ``seq`` follows the last one applied.

    Args:
        applied: number of the last event applied; 0: none.
        previous: the event's ``previous``.
    """
    if seq <= applied:
        return Verdict.DUPLICATE
    if previous == applied:
        return Verdict.NEXT
    return Verdict.GAP


class Gap(Exception):
    """Records between the last one applied and this one are missing from the topic."""


class Links:
    """What one worker has applied on all its topic partitions. Advances with each poll; reloaded at each claim."""

    def __init__(self) -> None:
        self._applied: dict[Link, int] = {}

    def begin(self, applied: Mapping[Link, int]) -> None:
        """Start from what the database says."""
        self._applied = dict(applied)

    def take(self, link: Link, seq: int, previous: int) -> bool:
        """Whether to apply the event; if so, it counts as applied from now on.

        Raises:
            Gap: events before it are missing.
        """
        applied = self._applied.get(link, 0)
        verdict = judge(applied, seq, previous)
        if verdict is Verdict.GAP:
            raise Gap(
                f"{link.writer}.{link.log_partition}.{seq} follows {previous}, and {applied} was the last one read"
            )
        if verdict is Verdict.NEXT:
            self._applied[link] = seq
        return verdict is Verdict.NEXT


_SEQ_DIGITS: Final = 18
_PARTITION_DIGITS: Final = 9


def place_of(id_: str) -> tuple[str, int, int] | None:
    """Writer, partition and number in an event's id; None if the id is not in our form."""
    writer, _, rest = id_.partition(".")
    partition, _, seq = rest.partition(".")
    if not (writer and _is_number(partition, _PARTITION_DIGITS) and _is_number(seq, _SEQ_DIGITS)):
        return None
    return writer, int(partition), int(seq)


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= most and (text == "0" or text[0] != "0")
