"""Real notices (docs/explanation/domain.md): reads and checks a file of them."""

from __future__ import annotations

import datetime as dt
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

import deploy.demo
from shared.events import Id
from shared.failures import CommandError

SAMPLE = Path(deploy.demo.__file__).with_name("notices-2025.jsonl.gz")
"""The demo's notices."""
Link = Annotated[str, Meta(min_length=1, max_length=2000)]


class NamedListing(Struct, frozen=True):
    """A listing that a notice names."""

    url: Link
    seller: Id


class Notice(Struct, frozen=True):
    """One line of the file."""

    notice: Id
    date: dt.date
    kind: Literal["takedown", "counter", "retraction", "reversal"]
    complainant: Id
    listings: Annotated[tuple[NamedListing, ...], Meta(max_length=100_000)]


class NoticeError(CommandError):
    """A line of the file is invalid; the message names line and field."""


def read(path: Path, limit: int | None = None) -> Iterator[Notice]:
    """Read the notices of a JSON Lines file, plain or gzip (recognised by content), in the file's order.

    Args:
        path: The file.
        limit: Read only this many lines; None: all.

    Raises:
        OSError: the file cannot be read.
        NoticeError: a line is not a notice.
    """
    decoder = msgspec.json.Decoder(Notice)
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        lines: BinaryIO = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        try:
            for number, line in enumerate(lines, 1):
                if limit is not None and number > limit:
                    return
                if not line.strip():
                    continue
                try:
                    yield decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise NoticeError(f"{path.name}, line {number}: {error}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise NoticeError(f"{path.name} is not a complete gzip file: {error}") from None


def parts(notice: Notice, size: int) -> list[tuple[NamedListing, ...]]:
    """The notice's listings in claims of at most `size` listings; each link once, in order."""
    once = tuple({named.url: named for named in notice.listings}.values())
    return [once[start : start + size] for start in range(0, len(once), size)]
