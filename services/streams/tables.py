"""The contents of a partition's table.

A partition has one table (RocksDB) and one changelog for all views, so one atomic batch of the changelog holds all
results of a batch of events:

- ``<view> 0x00 <key>``: a state; ``positions 0x00 <source>``: how far a source is folded (``fold.POSITIONS``);
- ``0x00 read``: the next record of each topic;
- ``0x00 failed 0x00 <topic> <offset> <view>``: an event that could not be folded, with what is needed to try again.

So wherever a write is interrupted, the table never marks an event as read without its states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.streams.fold import POSITIONS, Change, Position
from services.streams.views import View

READ: Final = b"\0read"
FAILED: Final = b"\0failed\0"
OFFSET: Final = b"__faust\0offset__"
"""Key under which Faust keeps the changelog's offset in a table."""
ERROR_MAX: Final = 300
RAW_MAX: Final = 400_000
"""Most bytes of an event kept with its failure; a longer one (none of ours is) must be read from its topic again."""
Row = tuple[bytes, bytes | None]
"""Key and value; None deletes."""
encode: Final = msgspec.msgpack.Encoder().encode


class ReadPositions(Struct, array_like=True, omit_defaults=True):
    """How far a partition's topics are read.

    Attributes:
        next: by topic, the next offset.
        wall: by topic, the timestamp of the last record read, in seconds.
        missed: number of records that the broker had deleted before they were read.
    """

    next: dict[str, int] = {}
    wall: dict[str, float] = {}
    missed: int = 0

    def copy(self) -> ReadPositions:
        """A copy that may be changed."""
        return ReadPositions(dict(self.next), dict(self.wall), self.missed)


class FailedEvent(Struct, array_like=True, omit_defaults=True):
    """An event that a view could not fold, or (``view`` empty) that could not be read."""

    topic: str
    offset: int
    wall: float
    view: str
    error: str
    raw: bytes

    @property
    def key(self) -> bytes:
        """Its key in the table."""
        return FAILED + f"{self.topic}\0{self.offset:020d}\0{self.view}".encode()


def failed(topic: str, offset: int, wall: float, view: str, error: BaseException, raw: bytes) -> FailedEvent:
    """The record of a failure."""
    text = f"{type(error).__name__}: {error}"[:ERROR_MAX]
    return FailedEvent(topic, offset, wall, view, text, raw if len(raw) <= RAW_MAX else b"")


class Codec:
    """Converts states to bytes and back."""

    def __init__(self, views: Iterable[View]) -> None:
        self._decoders: Mapping[str, Callable[[bytes], Any]] = {
            POSITIONS: msgspec.msgpack.Decoder(Position).decode,
            **{view.name: msgspec.msgpack.Decoder(view.state).decode for view in views},
        }
        self._prefixes: Mapping[str, bytes] = {name: name.encode() + b"\0" for name in self._decoders}

    def key(self, table: str, key: str) -> bytes:
        """Key of a state in the table."""
        return self._prefixes[table] + key.encode()

    def state(self, table: str, raw: bytes) -> Any:
        """A state from its bytes."""
        return self._decoders[table](raw)

    def rows(
        self, changes: Sequence[Change], read: ReadPositions, kept: Iterable[FailedEvent], mended: Iterable[bytes]
    ) -> list[Row]:
        """All rows of a batch, the read positions last."""
        rows: list[Row] = [(self.key(change.table, change.key), encode(change.state)) for change in changes]
        rows += [(failure.key, encode(failure)) for failure in kept]
        rows += [(key, None) for key in mended]
        rows.append((READ, encode(read)))
        return rows

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str, Any]]:
        """(table, key, state) of all rows that are states of a known table."""
        decoders = self._decoders
        for key, raw in rows:
            table, _, rest = key.partition(b"\0")
            decode = decoders.get(table.decode())
            if decode is not None:
                yield table.decode(), rest.decode(), decode(raw)


def read_of(raw: bytes | None) -> ReadPositions:
    """The read positions from their row; empty without a row."""
    return ReadPositions() if raw is None else msgspec.msgpack.decode(raw, type=ReadPositions)


def failed_of(raw: bytes) -> FailedEvent:
    """A failure from its row."""
    return msgspec.msgpack.decode(raw, type=FailedEvent)
