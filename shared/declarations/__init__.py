"""Texts that parties execute, by version: ``<version>.md``. A version that somebody has executed is never edited."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from msgspec import Struct

FOLDER: Final = Path(__file__).parent


class Declaration(Struct, frozen=True):
    """A text as it is executed: ``sha256`` is over exactly these bytes, in UTF-8."""

    version: str
    text: str
    sha256: str


@lru_cache(maxsize=16)
def load(version: str) -> Declaration:
    """The declaration of that version.

    Raises:
        KeyError: there is none.
    """
    # only names that are in the folder are opened
    for path in FOLDER.glob("*.md"):
        if path.stem == version:
            raw = path.read_bytes()
            return Declaration(version, raw.decode(), hashlib.sha256(raw).hexdigest())
    raise KeyError(version)
