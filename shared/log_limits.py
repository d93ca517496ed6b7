"""Lasting conditions are logged once a minute."""

from __future__ import annotations

import time
from typing import Final

AGAIN_S: Final = 60.0
"""Seconds after which a ``seldom`` text is logged again."""


_said: dict[str, float] = {}


def seldom(text: str) -> bool:
    """Whether to log a lasting condition: not if this process has logged it within the last minute."""
    now = time.monotonic()
    if now - _said.get(text, -AGAIN_S) < AGAIN_S:
        return False
    if len(_said) > 1000:  # texts are few; if they are not, forget them all
        _said.clear()
    _said[text] = now
    return True
