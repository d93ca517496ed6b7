"""Declarations that parties execute, one file per version: ``<version>.md``. An executed version is never edited."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from msgspec import Struct

FOLDER: Final = Path(__file__).parent


class Declaration(Struct, frozen=True):
    """A text as executed; ``sha256`` is over exactly its bytes in UTF-8."""

    version: str
    text: str
    sha256: str


@lru_cache(maxsize=16)
def load(version: str) -> Declaration:
    """The declaration of that version.

    Raises:
        KeyError: no such version exists.
    """
    # only files found in the folder are opened
    for path in FOLDER.glob("*.md"):
        if path.stem == version:
            raw = path.read_bytes()
            return Declaration(version, raw.decode(), hashlib.sha256(raw).hexdigest())
    raise KeyError(version)
