"""The real notices as input (domain.md, "The real notices as input"): reading and checking, no I/O beyond the file."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

import deploy.demo
from shared.events import Id

SAMPLE = Path(deploy.demo.__file__).with_name("notices-2025.jsonl.gz")
"""The demo's notices."""
Link = Annotated[str, Meta(min_length=1, max_length=2000)]


class Named(Struct, frozen=True):
    """A listing that a notice names."""

    url: Link
    seller: Id


class Notice(Struct, frozen=True):
    """One line of the file."""

    notice: Id
    date: dt.date
    kind: Literal["takedown", "counter", "retraction", "reversal"]
    complainant: Id
    listings: Annotated[tuple[Named, ...], Meta(max_length=100_000)]


class NoticeError(ValueError):
    """A line of the file is wrong; the message names line and field."""


def read(path: Path, limit: int | None = None) -> Iterator[Notice]:
    """Notices of a JSON Lines file, plain or gzip (recognised by content), in the file's order.

    Raises:
        OSError: the file cannot be read.
        NoticeError: a line is not a notice.
    """
    decoder = msgspec.json.Decoder(Notice)
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        lines: BinaryIO = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        for number, line in enumerate(lines, 1):
            if limit is not None and number > limit:
                return
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise NoticeError(f"{path.name}, line {number}: {error}") from None


def parts(notice: Notice, size: int) -> list[tuple[Named, ...]]:
    """The notice's listings in claims of at most ``size``; each link once, in order."""
    once = tuple({named.url: named for named in notice.listings}.values())
    return [once[start : start + size] for start in range(0, len(once), size)]
