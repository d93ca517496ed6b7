"""The answers of evidence."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct


class EvidenceOut(Struct, kw_only=True):
    """A document. ``named_in``: claims, rights and accounts that name it, shown to its owner and staff."""

    id: str
    owner: str
    kinds: list[str]
    media_type: str
    name: str | None
    size: int
    sha256: str
    uploaded_at: dt.datetime
    named_in: list[str] = []


class EvidenceLink(Struct, kw_only=True):
    """A link to a file, relative to this API's address. Anyone who has it can fetch the file until it expires."""

    url: str
    expires: dt.datetime


class EvidenceRead(Struct, kw_only=True):
    """A link or file that was given out, at a wall time."""

    id: int
    reader: str
    what: Literal["link", "file"]
    at: dt.datetime


class EvidenceNamed(Struct, kw_only=True):
    """Documents that were named, and in what."""

    about: str
    documents: list[str]
